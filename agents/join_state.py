"""The join agent's state of one partition: the join table, and where its windows began in the broker."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from agents.dead_letters import dead_letter, reason_code
from agents.decoding import JoinDecoder, JoinInput
from agents.metrics import Metrics
from agents.partition_state import Changes, Outgoing, PartitionState
from agents.transports.batch import Batch
from tables.join import JoinTable, Outcomes, Step, WindowCount
from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.partials import Partial, PartialRow, encode_partial
from tables.watermark import CLICKS, IMPRESSIONS, UNKNOWN

ROWS_A_MESSAGE = 4_000
"""Keeps a partial far below the megabyte that Kafka takes at once."""

HEARTBEAT_MS = 10_000
"""A partition that has nothing to tell repeats its watermark so often; its keys in the store live on with that."""


@dataclass(frozen=True, slots=True)
class JoinTopics:
    """The topics that the join agent reads and writes."""

    impressions: str
    clicks: str
    partials: str
    dead_letters: str


@dataclass(frozen=True, slots=True)
class JoinSetting:
    """What all partitions of a worker share."""

    policy: JoinPolicy
    topics: JoinTopics
    hash_key: bytes
    now_ms: Callable[[], int]
    """Wall clock, for the check that events are not from the future."""
    metrics: Metrics
    sources: Callable[[], int]
    """How many partitions the join has over all workers."""
    targets: Callable[[], int]
    """How many partitions the partials topic has."""

    @property
    def hash_key_id(self) -> str:
        """Tells one hash key from another, and nothing about it."""
        return blake2b(self.hash_key, digest_size=8, person=b"tidemark-key-id").hexdigest()


class JoinState(PartitionState):
    """One partition of impressions and clicks."""

    def __init__(self, partition: int, setting: JoinSetting, clock_ms: int) -> None:
        self.partition = partition
        self.clock_ms = clock_ms
        self.table = JoinTable(setting.policy, clock_ms)
        self._setting = setting
        self._decoder = JoinDecoder(setting.topics.clicks, setting.hash_key)
        self._dead: list[Outgoing] = []
        # First offset that matters to each minute of event time, by topic: from there a rebuild must read again.
        self._first_offset: dict[str, dict[int, int]] = {
            setting.topics.impressions: {},
            setting.topics.clicks: {},
        }
        self._next_offset: dict[str, int] = {}
        self._told = UNKNOWN
        self._told_at_ms: int | None = None
        self._touched = True
        self.has_data = False
        """Whether an event has ever been applied."""
        self._counted = Outcomes()

    def apply(self, batch: Batch, skip_before: Mapping[str, int]) -> None:
        """See PartitionState; times of arrival come from the batch, or else from `tick`."""
        setting = self._setting
        decoded = self._decoder.decode(batch, self.table.models, setting.now_ms())
        clock: Any = self.clock_ms if decoded.clock is None else np.maximum.accumulate(decoded.clock)
        if decoded.clock is not None and len(decoded.clock):
            self.clock_ms = max(self.clock_ms, int(clock[-1]))
        self._remember_offsets(decoded)
        applied = self.table.apply(decoded.events, clock)
        bad = [
            *decoded.bad,
            *(decoded.as_bad(int(k), "late") for k in applied.late),
            *(decoded.as_bad(int(k), "no_room: the limit of live rows or models is reached") for k in applied.no_room),
        ]
        fresh = [record for record in bad if record.offset >= skip_before.get(record.topic, 0)]
        self._dead += [dead_letter(setting.topics.dead_letters, record) for record in fresh]
        for section in batch.sections:
            self._next_offset[section.topic] = section.next_offset
            setting.metrics.events.labels(section.topic).inc(len(section))
        for record in fresh:
            setting.metrics.dead_letters.labels(record.topic, reason_code(record.reason)).inc()
            if record.reason == "late":
                setting.metrics.late.labels(record.topic).inc()
        self._touched = self.has_data = True

    def tick(self, clock_ms: int, others: int) -> None:
        """Let time pass; `others` is the watermark that the other partitions have reached."""
        self.clock_ms = max(self.clock_ms, clock_ms)
        before = self.table.watermark.value
        self.table.tick(self.clock_ms, others)
        self._touched |= self.table.watermark.value != before or self._is_silent()

    def begin(self, clock_ms: int) -> None:
        """The clock of a replay starts here: no input has been idle before."""
        self.clock_ms = clock_ms
        for side in (IMPRESSIONS, CLICKS):
            self.table.watermark.touch(side, clock_ms)

    def adopt(self, others: int) -> None:
        """Begin where the other partitions are: nothing has been heard of this one so far."""
        self.table.watermark.lift(others)

    def touch(self, topic: str) -> None:
        """The topic's partition is not known to be read to its end, so it is not idle."""
        self.table.watermark.touch(CLICKS if topic == self._setting.topics.clicks else IMPRESSIONS, self.clock_ms)

    @property
    def watermark(self) -> int:
        """How far event time has come, ms."""
        return self.table.watermark.value

    @property
    def idle(self) -> bool:
        """Whether both inputs are idle."""
        return self.table.watermark.is_idle(self.clock_ms)

    def finish(self) -> None:
        """The input has ended: all windows become final."""
        self.table.finish()
        self._touched = True

    def changes(self, epoch: int, number: int) -> Changes | None:
        """See PartitionState."""
        if not self._touched:
            return None
        # Asked first: where there is no answer, nothing has been taken out of the table yet.
        sources, targets = self._setting.sources(), self._setting.targets()
        self._touched = False
        steps = self.table.settle()
        append, drop = self.table.take_changes()
        dead, self._dead = tuple(self._dead), []
        self._forget_offsets()
        self._count()
        return Changes(
            state={
                "table": self.table.state(),
                "first_offset": self._first_offset,
                "next_offset": self._next_offset,
                "hash_key": self._setting.hash_key_id,
            },
            rebuild={
                topic: min(minutes.values(), default=self._next_offset.get(topic, 0))
                for topic, minutes in self._first_offset.items()
            },
            rebuild_state={
                "watermark": self.table.watermark.state(),
                "first_open": self.table.first_open,
            },
            append=append,
            drop=frozenset(drop),
            before=dead,
            after=tuple(self._partials(steps, epoch, number, sources, targets)),
        )

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """See PartitionState; ValueError also where the ids were hashed with another key."""
        if state["hash_key"] != self._setting.hash_key_id:
            raise ValueError("the checkpoint was made with another hash key")
        self.table.restore(state["table"], chunks, self.clock_ms)
        self._first_offset = {topic: dict(state["first_offset"].get(topic, {})) for topic in self._first_offset}
        self._next_offset = dict(state["next_offset"])

    def restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        """See PartitionState."""
        self.table.restore_time(rebuild_state, self.clock_ms)
        self.table.watermark.frozen = True

    def rebuilt(self) -> None:
        """See PartitionState."""
        self.table.watermark.frozen = False
        self.table.tick(self.clock_ms)
        self._touched = True

    def _remember_offsets(self, decoded: JoinInput) -> None:
        events = decoded.events
        if not len(events):
            return
        minutes, offsets = events.time // WINDOW_MS * WINDOW_MS, decoded.offsets()
        for topic, mine in (
            (self._setting.topics.clicks, events.is_click),
            (self._setting.topics.impressions, ~events.is_click),
        ):
            first = self._first_offset[topic]
            starts, where = np.unique(minutes[mine], return_inverse=True)
            lowest = np.full(len(starts), np.iinfo(np.int64).max)
            np.minimum.at(lowest, where, offsets[mine])
            for minute, offset in zip(starts.tolist(), lowest.tolist(), strict=True):
                if minute >= self.table.first_open:
                    first[minute] = min(offset, first.get(minute, offset))

    def _forget_offsets(self) -> None:
        for topic, minutes in self._first_offset.items():
            self._first_offset[topic] = {m: o for m, o in minutes.items() if m >= self.table.first_open}

    def _count(self) -> None:
        """Bring the metrics up to what the table knows."""
        metrics, partition, table = self._setting.metrics, str(self.partition), self.table
        for outcome in ("matched", "expired", "duplicate"):
            value = getattr(table.outcomes, outcome)
            metrics.joined.labels(outcome).inc(value - getattr(self._counted, outcome))
            setattr(self._counted, outcome, value)
        metrics.live_rows.labels(partition, "impressions").set(table.live_impressions)
        metrics.live_rows.labels(partition, "clicks").set(table.live_clicks)
        if table.watermark.value > UNKNOWN:
            lag = self._setting.now_ms() - table.watermark.value
            metrics.watermark_lag.labels(partition).set(lag / 1000)

    def _is_silent(self) -> bool:
        return self._told_at_ms is None or self.clock_ms - self._told_at_ms >= HEARTBEAT_MS

    def _partials(self, steps: list[Step], epoch: int, number: int, sources: int, targets: int) -> list[Outgoing]:
        messages: list[Outgoing] = []
        silent = self._is_silent()
        for step in steps:
            if not step.counts and step.watermark == self._told and not silent:
                continue
            # Only the last part of a step may move time on: the windows that it closes must have been told before.
            before = self._told
            self._told, self._told_at_ms = step.watermark, self.clock_ms
            rows: list[list[PartialRow]] = [[] for _ in range(targets)]
            for count in step.counts:
                row = PartialRow(*count.model, count.start, count.impressions, count.clicks)
                rows[target_of(count, targets)].append(row)
            for target, mine in enumerate(rows):
                last = max(0, len(mine) - 1) // ROWS_A_MESSAGE * ROWS_A_MESSAGE
                for begin in range(0, last + 1, ROWS_A_MESSAGE):
                    partial = Partial(
                        self.partition,
                        sources,
                        epoch,
                        number,
                        step.watermark if begin == last else before,
                        mine[begin : begin + ROWS_A_MESSAGE],
                        part=len(messages),
                    )
                    messages.append(Outgoing(self._setting.topics.partials, None, encode_partial(partial), target))
        return messages


def target_of(count: WindowCount, targets: int) -> int:
    """The partition of the partials topic where a model's windows are merged; the same for all its versions."""
    return zlib.crc32(count.model[0].encode()) % targets
