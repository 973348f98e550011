"""Tiny Faust apps on either transport, and brokers of both kinds behind one interface."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from faust.types import TP, Message

from agents.schema import BatchSchema
from agents.transports.batch import Batch
from agents.transports.consumer import BatchConsumer, Layout, batch_of
from agents.transports.memory_broker import MemoryBroker
from agents.transports.no_tables import NoTables
from deploy.stack import KafkaCluster

QUIET_S = 0.4
"""What has not come after this long was not fetched: both transports deliver in a few milliseconds."""


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something that the app does by itself."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


class Member(faust.App):
    """One member of a group, whose only agent writes down what it is given.

    acks: whether the agent acknowledges each message as soon as it has it. settings: Faust's.
    """

    def __init__(
        self,
        url: str,
        group: str,
        topics: Iterable[str],
        layout: Layout | None = None,
        *,
        acks: bool = False,
        **settings: Any,
    ) -> None:
        self.tidemark_layout = layout or Layout()
        self.taken: list[Message] = []
        self.assignments: list[set[TP]] = []
        self.revocations = 0
        super().__init__(
            group,
            broker=url,
            store="memory://",
            autodiscover=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            table_standby_replicas=0,
            web_enabled=False,
            TableManager=NoTables,
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=0.1,
            broker_heartbeat_interval=0.1,
            broker_request_timeout=30.0,
            broker_rebalance_timeout=10.0,
            **{"broker_session_timeout": 6.0, **settings},
        )
        signals: Any = (self.on_partitions_assigned, self.on_partitions_revoked)
        signals[0].connect(self._assigned)
        signals[1].connect(self._revoked)

        @self.agent(self.topic(*topics, schema=BatchSchema()), name="taker")
        async def take(stream: Any) -> None:
            async for event in stream.noack().events():
                self.taken.append(event.message)
                if acks:
                    event.ack()

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""

    async def _assigned(self, _: Any, partitions: set[TP], **__: Any) -> None:
        self.assignments.append(set(partitions))

    async def _revoked(self, _: Any, partitions: set[TP], **__: Any) -> None:
        self.revocations += bool(partitions)

    @property
    def kept(self) -> BatchConsumer:
        """The consumer under test."""
        consumer = self.consumer
        assert isinstance(consumer, BatchConsumer)
        return consumer

    @property
    def batches(self) -> list[Batch]:
        """What the agent was given."""
        return [batch_of(message) for message in self.taken]

    def records(self, tp: TP) -> list[tuple[int, bytes | None]]:
        """(offset, value) of what was given of one partition, in the order of its coming."""
        return [
            record
            for batch in self.batches
            for section in batch.sections
            if (section.topic, batch.partition) == tp
            for record in zip(section.offsets, section.values, strict=True)
        ]

    def offsets(self, tp: TP) -> list[int]:
        """Offsets of what was given of one partition, in the order of its coming."""
        return [offset for offset, _ in self.records(tp)]


class Broker(ABC):
    """A broker as a test needs it, beside what its consumers see."""

    url: str

    @abstractmethod
    async def create(self, partitions: int, *topics: str) -> None:
        """Create topics with so many partitions."""

    @abstractmethod
    async def produce(self, tp: TP, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None) -> None:
        """Append records to a partition; returns when they can be fetched."""

    @abstractmethod
    async def drop_before(self, tp: TP, offset: int) -> None:
        """Forget the records before an offset, as retention does."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""


class InMemory(Broker):
    """The embedded broker."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = f"memory://{name}"
        self.broker = MemoryBroker.of(name)

    async def create(self, partitions: int, *topics: str) -> None:
        for topic in topics:
            self.broker.create_topic(topic, partitions)

    async def produce(self, tp: TP, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None) -> None:
        for key, value in zip(keys or [None] * len(values), values, strict=True):
            self.broker.append(tp.topic, key, value, tp.partition)

    async def drop_before(self, tp: TP, offset: int) -> None:
        log = self.broker._logs[tp]
        del log.records[: offset - log.begin]

    async def close(self) -> None:
        MemoryBroker.forget(self.name)


class RealKafka(Broker):
    """A running cluster."""

    def __init__(self, cluster: KafkaCluster, producer: AIOKafkaProducer) -> None:
        self.url = cluster.url
        self._cluster = cluster
        self._producer = producer

    @classmethod
    async def connect(cls, cluster: KafkaCluster) -> RealKafka:
        producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", linger_ms=5)
        await producer.start()
        return cls(cluster, producer)

    async def create(self, partitions: int, *topics: str) -> None:
        await asyncio.to_thread(self._cluster.create_topics, dict.fromkeys(topics, partitions))

    async def produce(self, tp: TP, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None) -> None:
        pairs = zip(keys or [None] * len(values), values, strict=True)
        sent = [await self._producer.send(tp.topic, value, key, tp.partition) for key, value in pairs]
        await asyncio.gather(*sent)

    async def drop_before(self, tp: TP, offset: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._cluster.bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(*tp): RecordsToDelete(offset)})
        finally:
            await admin.close()

    async def close(self) -> None:
        await self._producer.stop()
