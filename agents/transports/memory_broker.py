"""The embedded broker: topics, partitions, keys, offsets, groups and commits, in one process.

It keeps one thing that Kafka does not: the order of arrival over all topics, which makes a replay exact.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar, NamedTuple, Protocol

from aiokafka.partitioner import DefaultPartitioner
from faust.types import TP

from agents.transports.consumer import Position

_partitioner = DefaultPartitioner()


class Record(NamedTuple):
    """One record of a partition."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    arrival: int


_arrival = attrgetter("arrival")


@dataclass(slots=True)
class _Log:
    """The records of one partition that are still kept."""

    records: list[Record] = field(default_factory=list)
    next_offset: int = 0

    @property
    def begin(self) -> int:
        return self.next_offset - len(self.records)

    def read(self, offset: int, limit: int, before_arrival: int) -> list[Record]:
        start = max(0, offset - self.begin)
        found = self.records[start : start + limit]
        return found[: bisect_left(found, before_arrival, key=_arrival)]

    def drop_before(self, offset: int) -> None:
        # In large steps only, for the front of a list is dear to cut.
        count = offset - self.begin
        if count > max(1_000, len(self.records) // 4):
            del self.records[:count]


class Member(Protocol):
    """What the broker looks at in a consumer."""

    group: str
    topics: frozenset[str]
    positions: dict[TP, int]


class MemoryBroker:
    """Topics of one process. Not thread-safe: it lives on one event loop."""

    _brokers: ClassVar[dict[str, MemoryBroker]] = {}

    def __init__(self, partitions: int = 4, keep_records: int = 1_000_000) -> None:
        self.default_partitions = partitions
        self.keep_records = keep_records
        self._logs: dict[TP, _Log] = {}
        self._partitions: dict[str, int] = {}
        self.written: set[TP] = set()
        """Partitions that have ever been written to."""
        self._arrivals = 0
        self._groups: dict[str, dict[TP, Position]] = defaultdict(dict)
        self._members: dict[str, list[Member]] = defaultdict(list)
        self._taps: dict[str, list[Callable[[TP, Record], None]]] = defaultdict(list)
        self._appended = asyncio.Event()
        self.rebalancing = asyncio.Lock()
        self.carries_clock = False
        """Whether record timestamps are the clock that idleness is judged on (a replay)."""

    @classmethod
    def of(cls, name: str) -> MemoryBroker:
        """The broker behind `memory://name`."""
        return cls._brokers.setdefault(name, cls())

    @classmethod
    def forget(cls, name: str) -> None:
        """Drop a broker and all that it holds."""
        cls._brokers.pop(name, None)

    def create_topic(self, topic: str, partitions: int | None = None) -> None:
        """Declare a topic; one that exists keeps its partitions."""
        if topic not in self._partitions:
            self._partitions[topic] = partitions or self.default_partitions
            self._logs.update({TP(topic, partition): _Log() for partition in range(self._partitions[topic])})

    def partitions_of(self, topic: str) -> int:
        """Number of partitions, declaring the topic if need be."""
        self.create_topic(topic)
        return self._partitions[topic]

    def partition_for(self, topic: str, key: bytes | None) -> int:
        """The partition of a key, as Kafka's clients choose it."""
        every = list(range(self.partitions_of(topic)))
        partition: int = _partitioner(key, every, every)
        return partition

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Record:
        """Add a record; its partition follows from the key as with Kafka's clients. Timestamps in ms."""
        count = self._partitions.get(topic) or self.partitions_of(topic)
        if partition is None:
            partition = self.partition_for(topic, key)
        if not 0 <= partition < count:
            raise ValueError(f"topic {topic} has {count} partitions, got partition {partition}")
        tp = TP(topic, partition)
        log = self._logs[tp]
        now = int(time.time() * 1000) if timestamp is None else timestamp
        record = Record(log.next_offset, key, value, now, self._arrivals)
        self._arrivals += 1
        self.written.add(tp)
        log.next_offset += 1
        log.records.append(record)
        for tap in self._taps[topic]:
            tap(tp, record)
        if len(log.records) > self.keep_records:
            self._trim(tp, log)
        self._appended.set()
        return record

    def tap(self, topic: str, callback: Callable[[TP, Record], None]) -> None:
        """Call `callback` for every record from now on, in order of arrival."""
        self._taps[topic].append(callback)

    def read(self, tp: TP, offset: int, limit: int, before_arrival: int | None = None) -> list[Record]:
        """Records from `offset` on, at most `limit`."""
        return self._logs[tp].read(offset, limit, self._arrivals if before_arrival is None else before_arrival)

    def begin_offset(self, tp: TP) -> int:
        """The oldest offset still there."""
        return self._logs[tp].begin

    def readable_from(self, tp: TP, offset: int) -> int:
        """Where reading starts if it is asked for at `offset`: offsets that are not there mean the oldest one."""
        begin = self.begin_offset(tp)
        return offset if begin <= offset <= self.end_offset(tp) else begin

    def end_offset(self, tp: TP) -> int:
        """The offset of the next record."""
        return self._logs[tp].next_offset

    def committed(self, group: str, tp: TP) -> Position | None:
        """What a group has committed."""
        return self._groups[group].get(tp)

    def commit(self, group: str, positions: Mapping[TP, Position]) -> None:
        """Store a group's positions, and let go of what every group has read."""
        self._groups[group].update(positions)
        for tp in positions:
            self._trim(tp, self._logs[tp])

    def backlog(self) -> int:
        """Records that some consumer has not fetched yet."""
        return sum(
            self._logs[tp].next_offset - offset
            for members in self._members.values()
            for member in members
            for tp, offset in member.positions.items()
        )

    async def wait_appended(self, timeout: float) -> None:
        """Sleep until something is appended, at most `timeout` seconds."""
        self._appended.clear()
        try:
            await asyncio.wait_for(self._appended.wait(), timeout)
        except TimeoutError:
            return

    def join(self, member: Member) -> dict[Member, set[TP]]:
        """Add a member to its group; returns everybody's new partitions (ranges, so co-partitioned topics meet)."""
        members = self._members[member.group]
        if member not in members:
            members.append(member)
        return self._ranges(members)

    def leave(self, member: Member) -> dict[Member, set[TP]]:
        """Remove a member; returns the others' new partitions."""
        members = self._members[member.group]
        if member in members:
            members.remove(member)
        return self._ranges(members)

    def _ranges(self, members: list[Member]) -> dict[Member, set[TP]]:
        shares: dict[Member, set[TP]] = {member: set() for member in members}
        for topic in sorted({topic for member in members for topic in member.topics}):
            takers = [member for member in members if topic in member.topics]
            count = self.partitions_of(topic)
            for partition in range(count):
                shares[takers[partition * len(takers) // count]].add(TP(topic, partition))
        return shares

    def _trim(self, tp: TP, log: _Log) -> None:
        # What a subscribed group has not committed stays, whatever the limit: nothing is lost to trimming.
        needed = [
            self._groups[group][tp].offset if tp in self._groups[group] else 0
            for group, members in self._members.items()
            if any(tp.topic in member.topics for member in members)
        ]
        keep_from = min(needed) if needed else log.next_offset - self.keep_records
        log.drop_before(keep_from)
