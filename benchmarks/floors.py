"""Two lower bounds for any consumer in Python, each in a process of its own: fetching, and fetching with decoding.

`python -m benchmarks.floors getmany|decode BOOTSTRAP RECORDS RESULT`
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.config_sections import DEFAULT_MAX_FETCH_BYTES, PrivacyConfig
from agents.decoding import JoinDecoder
from agents.transports.batch import Batch, Section
from benchmarks.child_result import ChildResult, Stopwatch
from benchmarks.load import PARTITIONS, TOPICS
from tables.models import ModelIndex

Fetched = dict[TopicPartition, list[Any]]


def ignore(_: Fetched) -> None:
    """The floor `getmany`: records are fetched, and that is all."""


def decoding() -> Callable[[Fetched], None]:
    """The floor `decode`: records become the columns that the join works on."""
    decoder = JoinDecoder(TOPICS.clicks, PrivacyConfig().hash_key)
    models = ModelIndex(10_000)

    def decode(fetched: Fetched) -> None:
        for tp, records in fetched.items():
            values = [record.value for record in records]
            offsets = [record.offset for record in records]
            section = Section(tp.topic, offsets, values, offsets[-1] + 1)
            decoder.decode(Batch(tp.partition, (section,)), models, time.time_ns() // 1_000_000)

    return decode


async def consume(bootstrap: str, records: int, work: Callable[[Fetched], None]) -> ChildResult:
    """Read so many records from the start of both topics; the time of the first fetch is not counted."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=DEFAULT_MAX_FETCH_BYTES,
    )
    await consumer.start()
    try:
        topics = (TOPICS.impressions, TOPICS.clicks)
        consumer.assign([TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)])
        seen = 0
        stopwatch: Stopwatch | None = None
        while stopwatch is None or seen < records:
            fetched: Fetched = await consumer.getmany(timeout_ms=1000)
            seen += sum(map(len, fetched.values()))
            if stopwatch is not None:
                work(fetched)
            elif fetched:
                stopwatch = Stopwatch(seen)
        return stopwatch.stop(seen)
    finally:
        await consumer.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one floor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floors")
    parser.add_argument("floor", choices=("getmany", "decode"))
    parser.add_argument("bootstrap")
    parser.add_argument("records", type=int)
    parser.add_argument("result", type=Path)
    options = parser.parse_args(arguments)
    work = ignore if options.floor == "getmany" else decoding()
    asyncio.run(consume(options.bootstrap, options.records, work)).write(options.result)


if __name__ == "__main__":
    main()
