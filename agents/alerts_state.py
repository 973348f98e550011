"""The alerts agent's state of one partition: the desk, and what it has decided to say and is not known to be said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import msgspec

from agents.dead_letters import dead_letter
from agents.decoding import BadRecord, bad_record
from agents.desk_commands import Acknowledge, Command, EndSilence, PutSilence, decode_command
from agents.metrics import Metrics
from agents.outbox import Outbox
from agents.partition_state import Changes, Outgoing, PartitionState
from agents.transports.batch import Batch
from alerting.alert import Alert, printable
from alerting.desk.desk import Decision, Desk, Reason
from alerting.desk.policy import AlertingPolicy
from alerting.desk.silences import Silence
from alerting.notification import Notification
from tables.errors import ConfigError, InputError, StoreError

log = logging.getLogger("tidemark.alerts")

RENEW_MS: Final = 3_600_000
"""A checkpoint dies by itself after a day; an incident may be open for longer, without anything happening."""


@dataclass(frozen=True, slots=True)
class AlertsSetting:
    """What all partitions of a worker share."""

    policy: Callable[[], AlertingPolicy]
    alerts: str
    commands: str
    dead_letters: str
    metrics: Metrics
    now_ms: Callable[[], int]
    """The desk's clock."""


class AlertsState(PartitionState):
    """One partition of the alerts and of the commands."""

    def __init__(self, partition: int, setting: AlertsSetting) -> None:
        self.partition = partition
        self.desk = Desk(setting.policy())
        self.caught_up = False
        """Whether all has been read that was there when the partition was taken over: before, an incident may be over
        or acknowledged, and the desk does not know."""
        self.read_until: dict[str, int] | None = None
        """Topic -> the offset up to which that is; None: not known yet."""
        self._setting = setting
        self._outbox = Outbox(setting.metrics.desk_decisions.labels(Reason.COVERED.value).inc)
        self._out: list[Outgoing] = []
        self._offsets: dict[str, int] = {}
        self._next = {setting.alerts: 0, setting.commands: 0}
        self._touched = False
        self._changed_at = setting.now_ms()

    def apply(self, batch: Batch, skip_before: Mapping[str, int]) -> None:
        """See PartitionState. What is read again was told before: it opens incidents, and nothing is said."""
        now = self._setting.now_ms()
        for section in batch.sections:
            again = skip_before.get(section.topic, 0)
            take = self._take_alert if section.topic == self._setting.alerts else self._take_command
            for place, (offset, value) in enumerate(zip(section.offsets, section.values, strict=True)):
                told = offset < again
                try:
                    self._carry_out(take(value or b"", offset, now, told), told=told)
                except (InputError, ConfigError) as error:
                    if not told:
                        self._bury(bad_record(section, batch.partition, place, f"not_usable: {error}"))
            self._next[section.topic] = section.next_offset
        self._touched = True

    def tick(self) -> None:
        """Let time pass."""
        now = self._setting.now_ms()
        if now - self._changed_at >= RENEW_MS:
            self._touched = True
        due = self.desk.next_due()
        if due is not None and due <= now:
            self._carry_out(self.desk.tick(now))
            self._touched = True

    def replace_policy(self, policy: AlertingPolicy) -> None:
        """Go on under another policy."""
        self._carry_out(self.desk.replace_policy(policy, self._setting.now_ms()))
        self._touched = True

    def take_saved(self, number: int) -> list[Notification]:
        """What may be said now: checkpoints up to `number` hold it."""
        return self._outbox.take_saved(number)

    # -- what became of a notification that was handed out; `here`: on the channel that stands in, if one does

    def trim(self, submitted: Notification, here: Notification) -> tuple[Notification | None, Reason]:
        """What of it, or of what is said in its place, still has to be said."""
        now = self._outbox.look_at(submitted)
        if now is None:
            return None, Reason.COVERED
        return self.desk.trim(now.like(here), self._setting.now_ms())

    def sent(self, submitted: Notification, here: Notification) -> None:
        """It was delivered."""
        said = self._outbox.settle(submitted)
        if said is not None:
            self.desk.sent(said.like(here), self._setting.now_ms())
            self._touched = True

    def sent_in_part(self, submitted: Notification, here: Notification, alert_id: str) -> None:
        """The other side has heard of one of its alerts."""
        said = self._outbox.look_at(submitted)
        if said is not None:
            alerts = tuple(alert for alert in said.alerts if alert.alert_id == alert_id)
            self.desk.sent(replace(said.like(here), alerts=alerts), self._setting.now_ms())
            self._touched = True

    def dropped(self, submitted: Notification) -> None:
        """Nothing of it had to be said any more."""
        if self._outbox.settle(submitted) is not None:
            self._touched = True

    def failed(self, submitted: Notification, reason: str) -> None:
        """No channel could deliver it: its alerts become dead letters."""
        lost = self._outbox.settle(submitted)
        if lost is None:
            return
        self.desk.failed(lost, self._setting.now_ms())
        for alert in lost.alerts:
            self._bury(
                BadRecord(
                    topic=self._setting.alerts,
                    partition=self.partition,
                    offset=self._offsets.get(alert.alert_id, -1),
                    reason=f"undelivered: {lost.channel}: {reason}",
                    value=alert.to_json(),
                )
            )
        self._touched = True

    # -- see PartitionState

    def changes(self, epoch: int, number: int) -> Changes | None:
        if not self._touched:
            return None
        self._touched = False
        self._changed_at = self._setting.now_ms()
        out, self._out = tuple(self._out), []
        self._outbox.seal(number)
        alive = {incident.alert.alert_id for incident in self.desk.incidents()}
        alive |= {silence.id for silence in self.desk.silences()}
        self._offsets = {name: offset for name, offset in self._offsets.items() if name in alive}
        return Changes(
            state={
                "desk": self.desk.state(),
                "outbox": [notification.state() for notification in self._outbox],
                "offsets": dict(self._offsets),
                "next": dict(self._next),
            },
            rebuild=self._rebuild_offsets(),
            rebuild_state={},
            before=out,
        )

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        try:
            self.desk.restore(state["desk"], self._setting.now_ms())
            outbox = [Notification.restore(each) for each in state["outbox"]]
        except (StoreError, msgspec.ValidationError) as error:
            raise ValueError(f"alerts of another version: {error}") from error
        self._outbox.fill(outbox, saved=True)
        self._offsets = dict(state["offsets"])
        self._next = dict(state["next"])

    def restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        """Nothing is kept there."""

    def inherit(self, former: Self) -> bool:
        """See PartitionState. What is read again from here on the desk knows already."""
        self.desk.restore(former.desk.state(), self._setting.now_ms())
        self._outbox.fill(former._outbox, saved=False)
        self._out = list(former._out)
        self._offsets = dict(former._offsets)
        self._next = dict(former._next)
        self._touched = True
        return True

    def rebuilt(self) -> None:
        self._touched = True

    # -- inside

    def _take_alert(self, value: bytes, offset: int, now: int, told: bool) -> list[Decision]:
        alert = Alert.from_json(value)
        self._offsets.setdefault(alert.alert_id, offset)
        return self.desk.observe(alert, now, told=told)

    def _take_command(self, value: bytes, offset: int, now: int, told: bool) -> list[Decision]:
        command: Command = decode_command(value)
        match command:
            case Acknowledge():
                return self.desk.acknowledge(command.alert_id, command.by, now, command.comment)
            case PutSilence():
                silence = Silence.from_json(command.silence)
                self._offsets[silence.id] = offset
                return self.desk.put_silence(silence, now)
            case EndSilence():
                return self.desk.end_silence(command.silence_id, now)

    def _carry_out(self, decisions: Iterable[Decision], *, told: bool = False) -> None:
        for decision in decisions:
            self._setting.metrics.desk_decisions.labels(decision.reason.value).inc()
            note = f" ({printable(decision.note)})" if decision.note else ""
            log.info("alert %s: %s%s", printable(decision.alert_id), decision.reason.value, note)
            if told:
                if decision.notification is not None:
                    self.desk.sent(decision.notification, self._setting.now_ms())
                continue
            if decision.notification is not None:
                self._outbox.add(decision.notification)
            if decision.alert is not None:
                alert = decision.alert
                self._out.append(
                    Outgoing(self._setting.alerts, alert.model_id.encode(), alert.to_json(), self.partition)
                )

    def _bury(self, bad: BadRecord) -> None:
        self._out.append(dead_letter(self._setting.dead_letters, bad))
        self._setting.metrics.dead_letters.labels(bad.topic, bad.reason.partition(":")[0]).inc()

    def _rebuild_offsets(self) -> dict[str, int]:
        silences = {silence.id for silence in self.desk.silences()}
        offsets = dict(self._next)
        for name, offset in self._offsets.items():
            topic = self._setting.commands if name in silences else self._setting.alerts
            offsets[topic] = min(offsets[topic], offset)
        return offsets
