"""What every system is given to read: a simulated shop in two topics of a real Kafka, and what must come out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import structs

from agents.config import TopicsConfig
from agents.recordings import Line
from agents.simulation.scenarios import scenario_named
from agents.simulation.shop import Shop
from tests.oracle import Click, Event, Impression, Key, count

PARTITIONS = 4
MINUTES = 30
"""Of event time: windows open, close and expire all the while."""
CLICKS_PER_IMPRESSION = 0.092
"""What the scenario comes to; only the number of events depends on it."""
SEED = 20260501
CLOSING_MS = 30 * 60_000
"""The closing events are so much later than the last impression, and make every window before them final."""
CLOSING_MODEL = "closing"
BATCH_BYTES = 16 * 1024
"""What Kafka's clients send at once by default."""
PENDING_BATCHES = 64
REMOVAL_S = 30.0

TOPICS = TopicsConfig(partitions=PARTITIONS)


@dataclass(slots=True)
class Load:
    """What lies in the topics `impressions` and `clicks`."""

    records: Counter[str] = field(default_factory=Counter)
    """By topic, without the prefix."""
    value_bytes: int = 0
    ends: Counter[TopicPartition] = field(default_factory=Counter)
    """End offset of each partition."""
    prefix: str = ""
    """Before the names of the topics."""
    partitions: int = PARTITIONS
    expected: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """(model and version, window start) -> impressions and clicks, for every window that becomes final."""

    @property
    def events(self) -> int:
        """Records in both topics."""
        return self.records.total()

    @property
    def topics(self) -> TopicsConfig:
        """Where it lies, and where a worker that reads it writes."""
        return TopicsConfig(prefix=self.prefix, partitions=self.partitions)


def shop_lines(events: int, partitions: int = PARTITIONS) -> Iterator[Line]:
    """About so many impressions and clicks in order of arrival, and the events that close their windows.

    Nothing of it is hopelessly late: whether such an event still counts depends on how far its other topic has been
    read, so only without them do the counts follow from the events alone.
    """
    steady = scenario_named("steady")
    scenario = replace(steady, noise=replace(steady.noise, hopelessly_late=0.0))
    rate = events / (MINUTES * 60 * (1 + CLICKS_PER_IMPRESSION))
    shop = Shop(scenario, rate, SEED, MINUTES, partitions=partitions)
    for lines in shop.slices():
        for line in lines:
            if line.topic != TOPICS.inferences:
                yield line
    at = shop.end_ms + CLOSING_MS
    for partition in range(partitions):
        event = {"user_id": "closing", "item_id": "closing", "event_time": at}
        shown = {**event, "model_id": CLOSING_MODEL}
        yield Line(TOPICS.impressions, partition, 0, at, b"closing", orjson.dumps(shown))
        yield Line(TOPICS.clicks, partition, 0, at, b"closing", orjson.dumps(event))


async def fill(
    bootstrap: str,
    events: int,
    prefix: str = "",
    partitions: int = PARTITIONS,
    change: Callable[[Line], Line] = lambda line: line,
) -> Load:
    """Write the shop to Kafka, as producers with default settings would, and work out what must be counted.

    `change` may give an event more to carry.
    """
    load, valid = Load(prefix=prefix, partitions=partitions), []
    async with batch_producer(bootstrap) as send:
        for line in map(change, shop_lines(events, partitions)):
            value = line.value or b""
            load.records[line.topic] += 1
            load.value_bytes += len(value)
            load.ends[TopicPartition(prefix + line.topic, line.partition)] += 1
            event = event_of(line.topic, value)
            if event is not None:
                valid.append(event)
            await send(structs.replace(line, topic=prefix + line.topic) if prefix else line)
    load.expected = {key: counts for key, counts in count(valid).items() if key[0][0] != CLOSING_MODEL}
    return load


def event_of(topic: str, value: bytes) -> Event | None:
    """A record as the oracle takes it; None for one that is broken."""
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    time = event.get("event_time")
    if not isinstance(time, int):
        return None
    if topic == TOPICS.clicks:
        return Click(event["user_id"], event["item_id"], time)
    return Impression(event["user_id"], event["item_id"], time, (event["model_id"], event.get("model_version") or ""))


async def remove_outputs(bootstrap: str, topics: TopicsConfig = TOPICS) -> None:
    """Delete what a worker wrote, so that the next one does not read it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if there := set(topics.outputs).intersection(await admin.list_topics()):
            await admin.delete_topics(list(there))
        async with asyncio.timeout(REMOVAL_S):
            while there.intersection(await admin.list_topics()):  # noqa: ASYNC110 - Kafka tells nobody when it is done
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def final_rows(bootstrap: str, load: Load, timeout_s: float) -> FinalRows:
    """Read final rows until there is one of each expected key, or for so many seconds."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    rows = FinalRows()
    await consumer.start()
    try:
        consumer.assign([TopicPartition(load.topics.windows, number) for number in range(load.partitions)])
        deadline = time.monotonic() + timeout_s
        while load.expected.keys() - rows.counts.keys() and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    rows.read(record.value, record.timestamp)
    finally:
        await consumer.stop()
    return rows


async def last_rows(bootstrap: str, topic: str) -> dict[Key, tuple[int, int]]:
    """The last row of each window in a topic that nobody writes to any more."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    rows = FinalRows()
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition, end in ends.items():
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        rows.read(record.value, record.timestamp)
    finally:
        await consumer.stop()
    return {key: counts for key, counts in rows.counts.items() if key[0][0] != CLOSING_MODEL}


@dataclass(slots=True)
class FinalRows:
    """The final rows of kind `ctr` in `tidemark.windows`."""

    counts: dict[Key, tuple[int, int]] = field(default_factory=dict)
    last_ms: int = 0
    """When the last of them was written, wall clock."""

    def read(self, value: bytes, timestamp_ms: int) -> None:
        """Take one record in."""
        row = orjson.loads(value)
        if row["final"] and row.get("kind", "ctr") == "ctr":
            key = ((row["model_id"], row["model_version"]), row["window_start"])
            self.counts[key] = (row["impressions"], row["clicks"])
            self.last_ms = max(self.last_ms, timestamp_ms)


@asynccontextmanager
async def batch_producer(bootstrap: str) -> AsyncIterator[Callable[[Line], Coroutine[Any, Any, None]]]:
    """Sends lines in whole batches: record by record aiokafka takes ten times as long."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, acks=1)
    open_batches: dict[TopicPartition, Any] = {}
    pending: list[Any] = []

    async def flush(tp: TopicPartition) -> None:
        batch = open_batches.pop(tp)
        batch.close()
        pending.append(await producer.send_batch(batch, tp.topic, partition=tp.partition))
        if len(pending) >= PENDING_BATCHES:
            for sent in pending:
                await sent
            pending.clear()

    async def send(line: Line) -> None:
        tp = TopicPartition(line.topic, line.partition)
        fields = {"key": line.key, "value": line.value, "timestamp": line.timestamp}
        batch = open_batches.get(tp) or open_batches.setdefault(tp, producer.create_batch())
        if batch.append(**fields) is None:
            await flush(tp)
            open_batches[tp] = producer.create_batch()
            open_batches[tp].append(**fields)

    await producer.start()
    try:
        yield send
        for tp in list(open_batches):
            await flush(tp)
        for sent in pending:
            await sent
    finally:
        await producer.stop()
