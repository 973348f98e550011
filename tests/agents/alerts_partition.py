"""One partition of the alerts agent on lists and dictionaries, and records to feed it with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from agents.alerts_state import AlertsSetting, AlertsState
from agents.desk_commands import Acknowledge, Command, EndSilence, PutSilence, encode_command
from agents.metrics import Metrics
from agents.partition_state import Changes, Outgoing
from agents.transports.batch import Batch, Section
from alerting.alert import Alert
from alerting.desk.policy import AlertingPolicy, Route
from tests.alerting.desk.desk_world import a_policy, a_route, a_silence
from tests.alerting.samples import TEN_O_CLOCK

ALERTS, COMMANDS, DEAD = "alerts", "commands", "dead"


def at_once(**changes: Any) -> Route:
    """Everything is told when it comes."""
    return a_route(group_wait_ms=0, **changes)


class Partition:
    """A state, the records that it was given, and a clock that is moved by hand."""

    def __init__(self, policy: AlertingPolicy | None = None) -> None:
        self.now = TEN_O_CLOCK
        self.metrics = Metrics()
        self.policy = policy or a_policy(at_once())
        self.ends = {ALERTS: 0, COMMANDS: 0}
        self.number = 0
        self.state = self.fresh()

    def fresh(self) -> AlertsState:
        """A state that knows nothing."""
        return AlertsState(
            3, AlertsSetting(lambda: self.policy, ALERTS, COMMANDS, DEAD, self.metrics, lambda: self.now)
        )

    def take(self, topic: str, *values: bytes | None) -> None:
        """Records that come now."""
        begin = self.ends[topic]
        self.ends[topic] += len(values)
        self.again(topic, *values, first=begin)

    def again(self, topic: str, *values: bytes | None, first: int, skip: Mapping[str, int] | None = None) -> None:
        """Records at these offsets."""
        offsets = range(first, first + len(values))
        self.state.apply(Batch(3, (Section(topic, offsets, values, offsets.stop),)), skip or {})

    def hear(self, *alerts: Alert) -> None:
        self.take(ALERTS, *(alert.to_json() for alert in alerts))

    def command(self, *commands: Command) -> None:
        self.take(COMMANDS, *map(encode_command, commands))

    def checkpoint(self) -> Changes:
        """The next one; it must have something to say."""
        self.number += 1
        changes = self.state.changes(1, self.number)
        assert changes is not None
        assert not changes.after and not changes.append and not changes.drop
        return changes

    def restored(self, changes: Changes) -> None:
        """Another owner goes on from a checkpoint, as it lies in the store."""
        self.state = self.fresh()
        self.state.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(changes.state)), {})

    def ready(self) -> list[str]:
        """What may be said after the last checkpoint: stage and alerts."""
        return [f"{note.stage} {' '.join(note.alert_ids)}" for note in self.state.take_saved(self.number)]


def acked(name: str, by: str = "ann") -> Acknowledge:
    return Acknowledge(name, by)


def silenced(*matchers: str, name: str = "s") -> PutSilence:
    return PutSilence(a_silence(*matchers, name=name).to_json())


def unsilenced(name: str = "s") -> EndSilence:
    return EndSilence(name)


def told(messages: tuple[Outgoing, ...], topic: str) -> list[dict[str, Any]]:
    return [orjson.loads(message.value or b"") for message in messages if message.topic == topic]
