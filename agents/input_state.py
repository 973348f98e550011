"""What the states of all input partitions have in common: time, offsets, dead letters, and what is told of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from agents.dead_letters import dead_letter, reason_code
from agents.decoding import BadRecord
from agents.feature_intake import FeatureIntake
from agents.metrics import Metrics
from agents.minute_offsets import MinuteOffsets
from agents.partition_state import Outgoing, PartitionState
from agents.telling import Speaker, Telling, Words
from agents.transports.batch import Batch
from tables.feature_counts import FeatureCounts, FeatureTable, pack_counts
from tables.join_policy import JoinPolicy
from tables.models import Model
from tables.partials import FeatureRow
from tables.watermark import UNKNOWN, Watermark


class OutTopics(Protocol):
    """Where every input writes."""

    @property
    def partials(self) -> str: ...

    @property
    def dead_letters(self) -> str: ...


class InputSetting(Protocol):
    """What all partitions of an input share on a worker."""

    @property
    def policy(self) -> JoinPolicy: ...

    @property
    def topics(self) -> OutTopics: ...

    @property
    def now_ms(self) -> Callable[[], int]:
        """Wall clock, for the check that events are not from the future."""

    @property
    def metrics(self) -> Metrics: ...

    @property
    def sources(self) -> Callable[[], int]:
        """How many partitions the input has over all workers."""

    @property
    def targets(self) -> Callable[[], int]:
        """How many partitions the partials topic has."""

    @property
    def intake(self) -> FeatureIntake: ...


SettingT = TypeVar("SettingT", bound=InputSetting)


class InputState(PartitionState, Generic[SettingT]):
    """One partition of one or more co-partitioned input topics."""

    def __init__(self, partition: int, topics: Sequence[str], group: int, setting: SettingT, clock_ms: int) -> None:
        self.partition = partition
        self.clock_ms = clock_ms
        self.has_data = False
        """Whether an event has ever been applied."""
        self._topics = tuple(topics)
        self._setting = setting
        self._features = FeatureTable()
        self._offsets = MinuteOffsets(topics)
        self._telling = Telling(partition, group, setting.topics.partials)
        self._dead: list[Outgoing] = []
        self._touched = True
        self._replays = False

    # -- time

    @property
    @abstractmethod
    def _time(self) -> Watermark: ...

    @abstractmethod
    def _let_pass(self, others: int) -> None:
        """The clock has moved."""

    @abstractmethod
    def finish(self) -> None:
        """The input has ended: all windows become final."""

    @property
    def watermark(self) -> int:
        """How far event time has come, ms."""
        return self._time.value

    @property
    def idle(self) -> bool:
        """Whether all inputs are idle."""
        return self._time.is_idle(self.clock_ms)

    def tick(self, clock_ms: int, others: int) -> None:
        """Let time pass; `others` is the watermark that the other partitions have reached."""
        self.clock_ms = max(self.clock_ms, clock_ms)
        before = self._time.value
        self._let_pass(others)
        self._touched |= self._time.value != before or self._telling.is_due(self.clock_ms)

    def begin(self, clock_ms: int) -> None:
        """The clock of a replay starts here: no input has been idle before."""
        self.clock_ms = clock_ms
        self._replays = True
        for topic in self._topics:
            self.touch(topic)

    def adopt(self, others: int) -> None:
        """Begin where the other partitions are: nothing has been heard of this one so far."""
        self._time.lift(others)

    def touch(self, topic: str) -> None:
        """The topic's partition is not known to be read to its end, so it is not idle."""
        self._time.touch(self._topics.index(topic), self.clock_ms)

    # -- what a batch leaves behind

    def _note_batch(self, batch: Batch, bad: Iterable[BadRecord], skip_before: Mapping[str, int]) -> None:
        """Count a batch that was applied, and keep its dead letters for the next checkpoint."""
        metrics = self._setting.metrics
        for section in batch.sections:
            self._offsets.read_up_to(section.topic, section.next_offset)
            metrics.events.labels(section.topic).inc(len(section))
        for record in bad:
            if record.offset < skip_before.get(record.topic, 0):
                continue
            self._dead.append(dead_letter(self._setting.topics.dead_letters, record))
            metrics.dead_letters.labels(record.topic, reason_code(record.reason)).inc()
            if record.reason == "late":
                metrics.late.labels(record.topic).inc()
        self._touched = self.has_data = True

    # -- what is told

    def _speaker(self, epoch: int, number: int) -> Speaker:
        """Raises BrokerUnavailable: ask before anything is taken out of the state."""
        sources, targets = self._setting.sources(), self._setting.targets()
        idle_for_ms = 0 if self._replays else self._time.idle_for(self.clock_ms)
        return Speaker(epoch, number, sources, targets, self.idle, idle_for_ms)

    def _feature_words(self) -> list[Words]:
        """To be told before all else, with the time as it was: what follows may close the windows of these rows."""
        rows = [_feature_row(start, model, found) for start, model, found in self._features.take_untold()]
        return [Words(self._telling.told, rows)] if rows else []

    def _take_dead(self) -> tuple[Outgoing, ...]:
        dead, self._dead = tuple(self._dead), []
        return dead

    # -- rebuilding

    def restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        """See PartitionState."""
        self._restore_time(rebuild_state)
        self._time.frozen = True

    @abstractmethod
    def _restore_time(self, rebuild_state: Mapping[str, Any]) -> None: ...

    def rebuilt(self) -> None:
        """See PartitionState."""
        self._time.frozen = False
        self._let_pass(UNKNOWN)
        self._touched = True


def _feature_row(start: int, model: Model, found: FeatureCounts) -> FeatureRow:
    return FeatureRow(*model, start, found.bins, pack_counts(found.counts))
