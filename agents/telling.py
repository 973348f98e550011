"""What an input partition tells the windows agent, cut into messages."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agents.partition_state import Outgoing
from tables.join_policy import WINDOW_MS
from tables.partials import FeatureRow, Partial, PartialRow, ServingRow, encode_partial
from tables.watermark import UNKNOWN

BYTES_A_MESSAGE = 250_000
"""Keeps a partial far below the megabyte that Kafka takes at once."""

HEARTBEAT_MS = 10_000
"""A partition that has nothing to tell repeats its watermark so often; its keys in the store live on with that."""

Row: TypeAlias = PartialRow | ServingRow | FeatureRow


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks: one checkpoint of one partition."""

    epoch: int
    number: int
    sources: int
    """How many partitions the group has over all workers."""
    targets: int
    """How many partitions the partials topic has."""
    idle: bool = False
    """Whether the partition is silent, and so holds nobody else back."""
    idle_for_ms: int = 0
    """For how long, on a live broker."""


@dataclass(frozen=True, slots=True)
class Words:
    """A moment in event time: the rows that changed since the moment before, which may close windows."""

    watermark: int
    rows: Sequence[Row]


class Telling:
    """The words of one partition, one after the other."""

    def __init__(self, partition: int, group: int, topic: str) -> None:
        self._partition = partition
        self._group = group
        self._topic = topic
        self.told = UNKNOWN
        """The watermark that was told last."""
        self._told_at_ms: int | None = None
        self._heard: dict[int, int] = {}
        """The watermark that each partition of the topic was told last."""

    def is_due(self, clock_ms: int) -> bool:
        """Whether nothing has been told for so long that the watermark must be repeated."""
        return self._told_at_ms is None or clock_ms - self._told_at_ms >= HEARTBEAT_MS

    def messages(self, words: Sequence[Words], speaker: Speaker, clock_ms: int) -> list[Outgoing]:
        """All that there is to tell, in order."""
        messages: list[Outgoing] = []
        due = self.is_due(clock_ms)
        untold: dict[int, int] = {}
        for moment, word in enumerate(words):
            by_target: list[list[Row]] = [[] for _ in range(speaker.targets)]
            for row in word.rows:
                by_target[target_of(row.model_id, speaker.targets)].append(row)
            is_now = moment == len(words) - 1
            for target, mine in enumerate(by_target):
                before = self._heard.get(target, UNKNOWN)
                # That time alone has gone on is told with the last moment, or before what was counted after it.
                if not mine and not (is_now and (due or word.watermark != before)):
                    untold[target] = word.watermark
                    continue
                if mine and untold.get(target, before) // WINDOW_MS > before // WINDOW_MS:
                    messages.append(self._partial(target, speaker, untold[target], (), len(messages)))
                    before = untold.pop(target)
                parts = list(_cut(mine))
                for place, part in enumerate(parts):
                    is_last = place == len(parts) - 1
                    # Only the last part may move time on: the windows that it closes must have been told before.
                    until = word.watermark if is_last else before
                    messages.append(self._partial(target, speaker, until, part, len(messages)))
                self._heard[target] = word.watermark
            self.told = word.watermark
        if messages:
            self._told_at_ms = clock_ms
        return messages

    def _partial(self, target: int, speaker: Speaker, watermark: int, rows: Sequence[Row], part: int) -> Outgoing:
        partial = Partial(
            self._partition,
            speaker.sources,
            speaker.epoch,
            speaker.number,
            watermark,
            [row for row in rows if isinstance(row, PartialRow)],
            part=part,
            group=self._group,
            idle=speaker.idle,
            idle_for_ms=speaker.idle_for_ms,
            serving=[row for row in rows if isinstance(row, ServingRow)],
            features=[row for row in rows if isinstance(row, FeatureRow)],
        )
        return Outgoing(self._topic, None, encode_partial(partial), target)


def target_of(model_id: str, targets: int) -> int:
    """The partition of the partials topic where a model's windows are merged; the same for all its versions."""
    return zlib.crc32(model_id.encode()) % targets


def _cut(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Parts that fit a message, at least one."""
    begin = size = 0
    for place, row in enumerate(rows):
        size += _size(row)
        if size > BYTES_A_MESSAGE and place > begin:
            yield rows[begin:place]
            begin, size = place, _size(row)
    yield rows[begin:]


def _size(row: Row) -> int:
    """About how many bytes a row takes."""
    names = 4 * (len(row.model_id) + len(row.model_version)) + 40
    if isinstance(row, ServingRow):
        return names + 14 * len(row.counts.latency.counts)
    return names + (len(row.counts) if isinstance(row, FeatureRow) else 0)
