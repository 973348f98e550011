"""tidemark: its alerts agent's state of a partition, its desk, notifier and webhook channel, as a worker runs them.

Left out are Kafka, from which the records come, and Redis, in which checkpoints and the ledger lie: the harness hands
over the records, keeps the last checkpoint, and lets the ledger outlive a worker.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never, cast

import msgspec

from agents.alerts_agent import PartitionGate
from agents.alerts_state import AlertsSetting, AlertsState
from agents.custodian import Held
from agents.desk_commands import Acknowledge as AcknowledgeCommand
from agents.desk_commands import EndSilence as EndSilenceCommand
from agents.desk_commands import PutSilence, encode_command
from agents.metrics import Metrics
from agents.transports.batch import Batch, Section
from alerting.alert import Alert, Severity, alert_id_of, fingerprint_of
from alerting.channels.webhook import WebhookChannel
from alerting.desk.calendars import Calendar
from alerting.desk.matchers import parse_matcher
from alerting.desk.policy import AlertingPolicy
from alerting.desk.silences import Silence as DeskSilence
from alerting.sending.backoff import Backoff
from alerting.sending.notifier import Notifier
from benchmarks.alertmanager.our_policy import matcher, mute_calendar, policy_of
from benchmarks.alertmanager.scenario import (
    Acknowledge,
    Action,
    EndSilence,
    HandOver,
    Labels,
    Push,
    Reload,
    Scenario,
    Sent,
    Silence,
    Stop,
)
from benchmarks.alertmanager.webhooks import Inbox
from tables.checkpoint import Lease, Scope
from tables.memory_ledger import MemoryLedger

ROUND_S: Final = 0.05
ALERTS: Final = "tidemark.alerts"
COMMANDS: Final = "tidemark.commands"
#: Alertmanager's first retry comes after half a second; the default of a worker is up to one second.
BACKOFF: Final = Backoff(base_s=0.3, cap_s=0.6, tries=1000)


def now_ms() -> int:
    """The desk's clock."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Store:
    """What outlives a worker."""

    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    saved: bytes | None = None
    records: list[tuple[str, bytes]] = field(default_factory=list)
    """Of all topics."""
    position: int = 0
    """Of the first record that the checkpoint does not hold."""
    epoch: int = 0


class Worker:
    """The one owner of the partition; as AlertsAgent.round, without what is about Kafka."""

    def __init__(self, store: Store, policy: AlertingPolicy, inbox: Inbox, hooks: set[str]) -> None:
        store.epoch += 1
        self._store = store
        self.policy = policy
        metrics = Metrics()
        state = AlertsState(
            0, AlertsSetting(lambda: self.policy, ALERTS, COMMANDS, "tidemark.dead_letters", metrics, now_ms)
        )
        if store.saved is not None:
            state.restore(msgspec.msgpack.decode(store.saved), {})
        state.caught_up = True
        lease = Lease(Scope("alerts", 0), store.epoch, 0)
        self._held = Held(0, state, lease, incarnation=0, positions={}, skip_before={}, drop=frozenset())
        self._gate = PartitionGate(self._held, metrics)
        self._notifier = Notifier(
            {hook: WebhookChannel(inbox.url + hook, name=hook, format="alertmanager") for hook in hooks},
            ledger=store.ledger,
            backoff=BACKOFF,
            rng=random.Random(0),
        )
        self._position = store.position
        self.read()
        self._task = asyncio.create_task(self._run())

    def read(self) -> None:
        """Take in all records that it has not read."""
        for offset, (topic, value) in enumerate(self._store.records[self._position :], self._position):
            self._held.state.apply(Batch(0, (Section(topic, (offset,), (value,), offset + 1),)), {})
        self._position = len(self._store.records)

    def replace_policy(self, policy: AlertingPolicy) -> None:
        """As after a reload."""
        self.policy = policy
        self._held.state.replace_policy(policy)

    async def stop(self, *, kill: bool) -> None:
        """End; `kill`: what is not in a checkpoint is lost."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if not kill:
            self._round()
            await self._notifier.drain(1.0)
            self._checkpoint()
        await self._notifier.close()

    async def _run(self) -> None:
        while True:
            self._round()
            await asyncio.sleep(ROUND_S)

    def _round(self) -> None:
        self._held.state.tick()
        self._checkpoint()
        for notification in self._held.state.take_saved(self._held.lease.number):
            self._notifier.submit(notification, self._gate)

    def _checkpoint(self) -> None:
        lease = self._held.lease
        if lease.epoch < self._store.epoch:
            return  # fenced: the store takes nothing more from it
        changes = self._held.state.changes(lease.epoch, lease.number + 1)
        if changes is not None:
            self._store.saved, self._store.position = msgspec.msgpack.encode(changes.state), self._position
            self._held.lease = Lease(lease.scope, lease.epoch, lease.number + 1)


class Tidemark:
    """One scenario's tidemark."""

    def __init__(self, scenario: Scenario, inbox: Inbox) -> None:
        self._scenario = scenario
        self._inbox = inbox
        self._store = Store()
        self._setting = scenario.setting
        self._workers: list[Worker] = []
        self._open: dict[str, Alert] = {}
        self._silences: list[str] = []
        self._mute: Calendar | None = None

    async def start(self, minute: datetime | None) -> None:
        """Start; `minute` is when the mute time ends."""
        self._mute = mute_calendar(minute)
        self._workers.append(self._new_worker())

    async def do(self, action: Action) -> None:
        """Carry out one action."""
        match action:
            case Push(alerts=alerts):
                self._produce(ALERTS, *(self._record(sent).to_json() for sent in alerts))
            case Silence():
                self._silence(action)
            case EndSilence():
                for id_ in self._silences:
                    self._produce(COMMANDS, encode_command(EndSilenceCommand(id_)))
            case Reload(setting=setting):
                self._setting = setting
                self._workers[-1].replace_policy(policy_of(setting, self._mute))
            case Stop(kill=kill):
                await self._workers.pop().stop(kill=kill)
                self._workers.append(self._new_worker())
            case HandOver():
                self._workers.append(self._new_worker())
            case Acknowledge(labels=labels):
                command = AcknowledgeCommand(self._open[_name(labels)].alert_id, "somebody")
                self._produce(COMMANDS, encode_command(command))
            case _:
                assert_never(action)

    async def stop(self) -> None:
        """End all workers."""
        for worker in self._workers:
            await worker.stop(kill=True)

    def _produce(self, topic: str, *values: bytes) -> None:
        self._store.records += [(topic, value) for value in values]
        self._workers[-1].read()

    def _new_worker(self) -> Worker:
        hooks = {hook for receiver in self._scenario.setting.receivers.values() for hook in receiver.hooks}
        return Worker(self._store, policy_of(self._setting, self._mute), self._inbox, hooks)

    def _record(self, sent: Sent) -> Alert:
        """As the windows agent writes it."""
        name, now = _name(sent.labels), now_ms()
        known = self._open.get(name)
        if known is None or sent.is_anew:
            known = self._open[name] = _alert(sent, now)
        if not sent.is_over:
            return known
        del self._open[name]
        return replace(known, status="resolved", resolved_at=now)

    def _silence(self, silence: Silence) -> None:
        now = now_ms()
        self._silences.append(f"silence-{len(self._silences)}")
        one = DeskSilence(
            id=self._silences[-1],
            matchers=(parse_matcher(matcher(silence.match)),),
            starts_at=now,
            ends_at=now + round(1000 * (silence.until - self._inbox.now)),
            created_by="somebody",
            created_at=now,
        )
        self._produce(COMMANDS, encode_command(PutSilence(one.to_json())))


def _name(labels: Labels) -> str:
    return str(sorted(labels.items()))


def _alert(sent: Sent, now: int) -> Alert:
    own = {name: value for name, value in sent.labels.items() if name not in ("alertname", "severity", "model_id")}
    rule, model_id = sent.labels["alertname"], sent.labels["model_id"]
    # A rule has one severity here; to Alertmanager it is a label like any other.
    fingerprint = fingerprint_of(rule, model_id, "", {**own, "severity": sent.labels["severity"]})
    return Alert(
        alert_id=alert_id_of(fingerprint, now),
        fingerprint=fingerprint,
        rule=rule,
        severity=cast(Severity, sent.labels["severity"]),
        status="firing",
        model_id=model_id,
        model_version="",
        labels=own,
        value=None,
        threshold=None,
        started_at=now,
        fired_at=now,
        resolved_at=None,
        summary=sent.summary,
        causes=(),
        related={},
    )
