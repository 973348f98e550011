"""The embedded broker: topics, partitions, keys, offsets, commits and several consumers, in one process.

`memory://NAME` reaches the broker of that name, so every app of a process that uses the same URL shares it. It keeps
one thing that Kafka does not: the order of arrival over all topics, which makes a replay exact.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

import numpy as np
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata, TopicPartition
from faust.transport import base
from faust.types import TP

from agents.transports.batch import Section
from agents.transports.consumer import BatchConsumer, Position

ROUND_RECORDS = 20_000
"""Records of one fetch round, over all partitions."""

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


class MemoryBroker:
    """Topics of one process. Not thread-safe: it lives on one event loop."""

    _brokers: ClassVar[dict[str, MemoryBroker]] = {}

    def __init__(self, partitions: int = 4, keep_records: int = 1_000_000) -> None:
        self.default_partitions = partitions
        self.keep_records = keep_records
        self._logs: dict[TP, _Log] = {}
        self._partitions: dict[str, int] = {}
        self._arrivals = 0
        self._groups: dict[str, dict[TP, Position]] = defaultdict(dict)
        self._members: dict[str, list[MemoryConsumer]] = defaultdict(list)
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
        count = self.partitions_of(topic)
        if partition is None:
            partition = self.partition_for(topic, key)
        if not 0 <= partition < count:
            raise ValueError(f"topic {topic} has {count} partitions, got partition {partition}")
        tp = TP(topic, partition)
        log = self._logs[tp]
        now = int(time.time() * 1000) if timestamp is None else timestamp
        record = Record(log.next_offset, key, value, now, self._arrivals)
        self._arrivals += 1
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

    def join(self, member: MemoryConsumer) -> dict[MemoryConsumer, set[TP]]:
        """Add a member to its group; returns everybody's new partitions (ranges, so co-partitioned topics meet)."""
        members = self._members[member.group]
        if member not in members:
            members.append(member)
        return self._ranges(members)

    def leave(self, member: MemoryConsumer) -> dict[MemoryConsumer, set[TP]]:
        """Remove a member; returns the others' new partitions."""
        members = self._members[member.group]
        if member in members:
            members.remove(member)
        return self._ranges(members)

    def _ranges(self, members: list[MemoryConsumer]) -> dict[MemoryConsumer, set[TP]]:
        shares: dict[MemoryConsumer, set[TP]] = {member: set() for member in members}
        for topic in sorted({topic for member in members for topic in member.topics}):
            takers = [member for member in members if topic in member.topics]
            count = self.partitions_of(topic)
            for partition in range(count):
                shares[takers[partition * len(takers) // count]].add(TP(topic, partition))
        return shares

    def _trim(self, tp: TP, log: _Log) -> None:
        readers = [positions[tp].offset for positions in self._groups.values() if tp in positions]
        subscribed = sum(tp.topic in member.topics for members in self._members.values() for member in members)
        # What a subscribed group has not committed stays, whatever the limit: nothing is lost to trimming.
        done = min(readers) if readers else (0 if subscribed else log.next_offset)
        keep_from = log.next_offset - self.keep_records if not subscribed else min(done, log.next_offset)
        log.drop_before(keep_from)


def _broker_of(transport: Any) -> MemoryBroker:
    broker: MemoryBroker = transport.broker
    return broker


class MemoryConsumer(BatchConsumer):
    """A member of a group on an embedded broker."""

    consumer_stopped_errors: ClassVar[tuple[type[BaseException], ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.broker: MemoryBroker = _broker_of(self.transport)
        self.group: str = self.app.conf.id
        self.topics: frozenset[str] = frozenset()
        self.positions: dict[TP, int] = {}
        self._generation = 0

    async def subscribe(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        # Not awaited: the conductor waits for this call to return before it lets an assignment through.
        self.add_future(self._rebalance(self.broker.join))

    async def on_stop(self) -> None:
        await super().on_stop()
        self.positions.clear()
        await self._rebalance(self.broker.leave)

    async def _rebalance(self, change: Callable[[MemoryConsumer], Mapping[MemoryConsumer, set[TP]]]) -> None:
        async with self.broker.rebalancing:
            await self._hand_out(change(self))

    async def _hand_out(self, shares: Mapping[MemoryConsumer, set[TP]]) -> None:
        # As on Kafka: everybody gives up everything before anybody takes anything.
        for member in shares:
            if member.positions:
                member.app.on_rebalance_start()
                await member.on_partitions_revoked(set(member.positions))
                member.positions.clear()
        for member, assigned in shares.items():
            member._generation += 1
            member.app.consumer_generation_id = member._generation
            member.positions = {tp: member._start_of(tp) for tp in assigned}
            await member.on_partitions_assigned(assigned, member._generation)

    def _start_of(self, tp: TP) -> int:
        position = self.broker.committed(self.group, tp)
        return self.broker.begin_offset(tp) if position is None else position.offset

    async def fetch(self, partitions: set[TP], timeout: float) -> dict[TP, Section]:
        found = self._read(partitions)
        if not found:
            await self.broker.wait_appended(timeout)
            found = self._read(partitions)
        return found

    def _read(self, partitions: set[TP]) -> dict[TP, Section]:
        mine = [tp for tp in partitions if self.positions.get(tp, 0) < self.broker.end_offset(tp)] if partitions else []
        mine = [tp for tp in mine if tp in self.positions]
        if not mine:
            return {}
        firsts = [records[0].arrival for tp in mine if (records := self.broker.read(tp, self.positions[tp], 1))]
        if not firsts:
            return {}
        # One slice of the arrival order, so that nothing is delivered before what came earlier on another topic.
        before = min(firsts) + ROUND_RECORDS
        sections = {}
        for tp in mine:
            records = self.broker.read(tp, self.positions[tp], ROUND_RECORDS, before)
            if not records:
                continue
            next_offset = records[-1].offset + 1
            self.positions[tp] = next_offset
            sections[tp] = Section(
                tp.topic,
                range(records[0].offset, next_offset),
                [record.value for record in records],
                next_offset,
                np.array([record.arrival for record in records], np.int64),
                np.array([record.timestamp for record in records], np.int64) if self.broker.carries_clock else None,
            )
        return sections

    async def commit_positions(self, positions: Mapping[TP, Position]) -> bool:
        self.broker.commit(self.group, positions)
        return True

    async def committed_positions(self, partitions: Collection[TP]) -> dict[TP, Position]:
        found = {tp: self.broker.committed(self.group, tp) for tp in partitions}
        return {tp: position for tp, position in found.items() if position is not None}

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        for tp, offset in offsets.items():
            if tp in self.positions:
                self.positions[tp] = max(offset, self.broker.begin_offset(tp))

    async def at_end(self, partitions: Collection[TP]) -> set[TP]:
        return {tp for tp in partitions if self.positions.get(tp) == self.broker.end_offset(tp)}

    async def begin_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        return {tp: self.broker.begin_offset(tp) for tp in partitions}

    def assignment(self) -> set[TP]:
        return set(self.positions)

    def highwater(self, tp: TP) -> int:
        return self.broker.end_offset(tp)

    def topic_partitions(self, topic: str) -> int | None:
        return self.broker.partitions_of(topic)

    async def position(self, tp: TP) -> int | None:
        return self.positions.get(tp)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        await self.seek_all(partitions)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self.seek_all({partition: offset})

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return {tp: self._start_of(tp) for tp in self.positions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return await self.begin_offsets(partitions)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return {tp: self.broker.end_offset(tp) for tp in partitions}

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        self.broker.create_topic(topic, partitions)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        return self.broker.partition_for(topic, key) if partition is None else partition

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _to_message(self, tp: TP, record: Any) -> Any:
        raise NotImplementedError("messages are made of batches, see BatchConsumer")

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        raise NotImplementedError("rounds are fetched by BatchConsumer.fetch")

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return await self.commit_positions({tp: Position(offset) for tp, offset in offsets.items()})


class MemoryProducer(base.Producer):
    """Appends at once; every send is done when it returns."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result(await self.send_and_wait(topic, key, value, partition, timestamp, headers))
        return future

    async def send_and_wait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> RecordMetadata:
        broker: MemoryBroker = _broker_of(self.transport)
        at = None if timestamp is None else int(timestamp * 1000)
        record = broker.append(topic, key, value, partition, at)
        where = TopicPartition(topic, partition or 0)
        return RecordMetadata(topic, where.partition, where, record.offset, record.timestamp, 0, 0)

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        _broker_of(self.transport).create_topic(topic, partitions)

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, _broker_of(self.transport).partition_for(topic, key))


class Transport(base.Transport):
    """Registered for the scheme `memory`."""

    Consumer = MemoryConsumer
    Producer = MemoryProducer
    default_port = 0
    driver_version = "memory"

    def __init__(self, url: list[Any], app: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(url, app, loop)
        self.broker = MemoryBroker.of(str(url[0].host or "default"))
