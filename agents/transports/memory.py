"""The embedded transport: consumers and producers on a `MemoryBroker`.

`memory://NAME` reaches the broker of that name, so every app of a process that uses the same URL shares it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from aiokafka.structs import RecordMetadata, TopicPartition
from faust.transport import base
from faust.types import TP

from agents.transports.batch import Section, Sending
from agents.transports.consumer import BatchConsumer, Position
from agents.transports.memory_broker import MemoryBroker

ROUND_RECORDS = 20_000
"""Records of one fetch round, over all partitions."""


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

    async def _rebalance(self, change: Callable[[Any], Mapping[Any, set[TP]]]) -> None:
        async with self.broker.rebalancing:
            await self._hand_out(change(self))

    async def _hand_out(self, shares: Mapping[MemoryConsumer, set[TP]]) -> None:
        # As on Kafka: everybody gives up everything before anybody takes anything.
        for member in shares:
            member.app.on_rebalance_start()
            if member.positions:
                await member.on_partitions_revoked(set(member.positions))
                member.positions.clear()
        for member, assigned in shares.items():
            member._generation += 1
            member.app.consumer_generation_id = member._generation
            member.positions = {tp: member._start_of(tp) for tp in assigned}
            await member.on_partitions_assigned(assigned, member._generation)

    def _start_of(self, tp: TP) -> int:
        position = self.broker.committed(self.group, tp)
        return self.broker.readable_from(tp, -1 if position is None else position.offset)

    async def fetch(self, partitions: set[TP], timeout: float) -> dict[TP, Section]:
        found = self._read(partitions)
        if not found:
            await self.broker.wait_appended(timeout)
            found = self._read(partitions)
        return found

    def _read(self, partitions: set[TP]) -> dict[TP, Section]:
        readable = self.broker.written & partitions & self.positions.keys()
        mine = [tp for tp in readable if self.positions[tp] < self.broker.end_offset(tp)]
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
                self.positions[tp] = self.broker.readable_from(tp, offset)

    async def at_end(self, partitions: Collection[TP]) -> set[TP]:
        mine = self.positions.keys() & set(partitions)
        return {tp for tp in mine if self.positions[tp] == self.broker.end_offset(tp)}

    async def end_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        return {tp: self.broker.end_offset(tp) for tp in partitions}

    async def begin_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        return {tp: self.broker.begin_offset(tp) for tp in partitions}

    def assignment(self) -> set[TP]:
        return set(self.positions)

    def highwater(self, tp: TP) -> int | None:  # type: ignore[override]
        return self.broker.end_offset(tp) if tp in self.positions else None

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

    async def send_all(self, records: Sequence[Sending]) -> list[Awaitable[Any]]:
        """As KafkaProducer.send_all; nothing is left to wait for."""
        broker = _broker_of(self.transport)
        for topic, key, value, partition in records:
            broker.append(topic, key, value, partition)
        return []

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
        where = TopicPartition(topic, broker.partition_for(topic, key) if partition is None else partition)
        record = broker.append(topic, key, value, where.partition, at)
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
