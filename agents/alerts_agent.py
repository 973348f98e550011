"""The alerts agent: lets the desk of each partition decide, and hands what is to be said to the notifier."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from aiokafka.errors import KafkaError
from faust.types import TP

from agents.alerts_state import AlertsState
from agents.custodian import Custodian, Held
from agents.metrics import Metrics
from agents.transports.consumer import BatchConsumer
from alerting.alert import Severity, printable
from alerting.desk.policy import AlertingPolicy
from alerting.notification import Notification
from alerting.sending.notifier import Notifier
from tables.checkpoint import Lease

log = logging.getLogger("tidemark.alerts")

NO_LIMITS: Final[Mapping[str, Severity]] = MappingProxyType({})
ANSWER_S = 3.0
REST_SHARE, REST_S = 4, 1.0
"""Of what a round took, until the next one; but a round may also have waited for a store that was away."""


class PartitionGate:
    """What the notifier asks about one held partition; see `alerting.sending.notifier.Gate`."""

    def __init__(
        self, held: Held[AlertsState], metrics: Metrics, min_severity_of: Mapping[str, Severity] = NO_LIMITS
    ) -> None:
        """`min_severity_of`: see AlertsAgent."""
        self.held = held
        self._metrics = metrics
        self._min_severity_of = min_severity_of

    @property
    def lease(self) -> Lease:
        return self.held.lease

    @property
    def given_up(self) -> bool:
        return self.held.given_up

    def trim(self, submitted: Notification, here: Notification) -> Notification | None:
        rest, reason = self.held.state.trim(submitted, here)
        if rest != here:
            self._metrics.desk_decisions.labels(reason.value).inc()
        if rest is not None and (rest := self._wanted(submitted, rest)) is None:
            self._metrics.notifications.labels(here.channel, "below_severity").inc()
            self.held.state.dropped(submitted)
        elif rest is None:
            ids = ", ".join(map(printable, here.alert_ids[:3]))
            log.info("alert %s: %s is not said on %s: %s", ids, here.stage, here.channel, reason.value)
            self.held.state.dropped(submitted)
        return rest

    def sent(self, submitted: Notification, here: Notification) -> None:
        self.held.state.sent(submitted, here)

    def sent_in_part(self, submitted: Notification, here: Notification, alert_id: str) -> None:
        self.held.state.sent_in_part(submitted, here, alert_id)

    def failed(self, submitted: Notification, reason: str) -> None:
        self.held.state.failed(submitted, reason)

    def _wanted(self, submitted: Notification, rest: Notification) -> Notification | None:
        """Without what is less urgent than the channel wants: where it does not begin there, it does not end there."""
        least = self._min_severity_of.get(submitted.channel)
        if least is None:
            return rest
        alerts = tuple(alert for alert in rest.alerts if alert.is_at_least(least))
        return replace(rest, alerts=alerts) if alerts else None


class AlertsAgent:
    """Keeps the desks of this worker's partitions going."""

    def __init__(
        self,
        custodian: Custodian[AlertsState],
        consumer: Callable[[], BatchConsumer],
        notifier: Notifier,
        metrics: Metrics,
        min_severity_of: Mapping[str, Severity],
    ) -> None:
        """`min_severity_of`: what channels let through at all, by name; the others let everything through."""
        self.custodian = custodian
        self.notifier = notifier
        self._min_severity_of = min_severity_of
        self._consumer = consumer
        self._metrics = metrics
        self._gates: dict[int, PartitionGate] = {}
        self._rest_until = 0.0

    async def run(self, stream: Any) -> None:
        """The agent's body: acknowledgements come with the checkpoints."""
        async for event in stream.noack().events():
            self.custodian.take(event.message)

    async def round(self, *, at_once: bool = False) -> None:
        """Let time pass, checkpoint what has changed, and say what a checkpoint holds."""
        began = time.monotonic()
        if began < self._rest_until and not at_once:
            return
        await self._look_whether_caught_up()
        for held in self._caught_up():
            held.state.tick()
        await self.custodian.checkpoint_all()
        # Thousands of incidents are a large checkpoint: the loop is for others too.
        self._rest_until = time.monotonic() + min(REST_S, REST_SHARE * (time.monotonic() - began))
        self._forget_gates()
        for held in self._caught_up():
            for notification in held.state.take_saved(held.lease.number):
                least = self._min_severity_of.get(notification.channel)
                if least is None or any(alert.is_at_least(least) for alert in notification.alerts):
                    self.notifier.submit(notification, self._gate(held))
                else:
                    self._metrics.notifications.labels(notification.channel, "below_severity").inc()
                    held.state.sent(notification, notification)  # nobody waits for it

    def replace_policy(self, policy: AlertingPolicy) -> None:
        """Go on under another policy."""
        for held in self.custodian.held.values():
            held.state.replace_policy(policy)

    def revoked(self) -> None:
        """The partitions are somebody else's: nothing is said for them any more."""
        self.custodian.revoked()
        self._forget_gates()

    async def close(self, within_s: float) -> None:
        """Send what is on its way, as far as that is possible in time, and close the channels.

        What is left is said by whoever takes the partitions over.
        """
        await self.notifier.drain(within_s)
        await self.notifier.close()

    def _caught_up(self) -> list[Held[AlertsState]]:
        return [held for held in list(self.custodian.held.values()) if held.state.caught_up and not held.given_up]

    async def _look_whether_caught_up(self) -> None:
        behind = [held for held in self.custodian.held.values() if not held.state.caught_up and not held.rebuilding]
        for held in behind:
            if held.state.read_until is None:
                held.state.read_until = await self._ends_of(held.partition)
            ends = held.state.read_until
            if ends is not None and all(held.positions[topic] >= end for topic, end in ends.items()):
                held.state.caught_up = True
                log.info("alerts partition %s: all is read that came before", held.partition)

    async def _ends_of(self, partition: int) -> dict[str, int] | None:
        tps = [TP(topic, partition) for topic in self.custodian.topics]
        try:
            ends = await asyncio.wait_for(self._consumer().end_offsets(tps), ANSWER_S)
        except (KafkaError, TimeoutError) as error:
            log.debug("not known how far the alerts are: %r", error)
            return None
        return {tp.topic: end for tp, end in ends.items()}

    def _gate(self, held: Held[AlertsState]) -> PartitionGate:
        gate = self._gates.get(held.partition)
        if gate is None or gate.held is not held:
            gate = self._gates[held.partition] = PartitionGate(held, self._metrics, self._min_severity_of)
        return gate

    def _forget_gates(self) -> None:
        for partition, gate in list(self._gates.items()):
            if gate.given_up:
                self.notifier.withdraw(gate)
                del self._gates[partition]
