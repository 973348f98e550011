"""Records of several partitions in one stream, by Kafka's timestamp; each partition keeps its own order."""

import heapq
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.kafka_admin import OffsetRange
from tables.errors import BrokerUnavailable

BATCH_RECORDS = 2_000
"""As many records of one partition wait here at most; the consumer holds one fetch more of each."""
POLL_MS = 250
SILENCE_S = 30.0
"""A broker that gives no record for so long, though there are some, is taken for gone."""


async def offsets_between(
    consumer: AIOKafkaConsumer,
    partitions: Iterable[TopicPartition],
    since_ms: int | None,
    until_ms: int | None,
) -> dict[TopicPartition, OffsetRange]:
    """The offsets of each partition from the first record at or after `since_ms` to that of `until_ms`.

    Times are Kafka's timestamps; None stands for the oldest record and for the end as it is now.
    """
    wanted = list(partitions)
    first = dict(await consumer.beginning_offsets(wanted))
    end = dict(await consumer.end_offsets(wanted))
    if since_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(wanted, since_ms))
        first = {tp: end[tp] if found.get(tp) is None else found[tp].offset for tp in wanted}
    if until_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(wanted, until_ms))
        end |= {tp: min(end[tp], entry.offset) for tp, entry in found.items() if entry is not None}
    return {tp: OffsetRange(first[tp], max(first[tp], end[tp])) for tp in wanted}


async def merged_records(
    consumer: AIOKafkaConsumer, ranges: Mapping[TopicPartition, OffsetRange]
) -> AsyncIterator[list[Any]]:
    """All records in these ranges, as lists of aiokafka's records, in the order in which they reached Kafka.

    Memory is bounded by the number of partitions, whatever the length of the ranges.

    :raises BrokerUnavailable: no record comes for SILENCE_S seconds, though some are left.
    """
    ahead: dict[TopicPartition, deque[Any]] = {tp: deque() for tp, each in ranges.items() if each.first < each.end}
    if not ahead:
        return
    # The only assignment in the consumer's life: aiokafka 0.14 can lose the stop that soon follows a second.
    consumer.assign(list(ahead))
    for tp in ahead:
        consumer.seek(tp, ranges[tp].first)
    # The next record of each partition; nothing may be given out while that of one is unknown.
    heads: list[tuple[int, TopicPartition]] = []
    starved = set(ahead)
    while heads or starved:
        if starved:
            await _fill(consumer, ahead, starved, ranges)
            heads += [(ahead[tp][0].timestamp, tp) for tp in starved if ahead[tp]]
            starved.clear()
            heapq.heapify(heads)
        given: list[Any] = []
        while heads and not starved:
            _, tp = heads[0]
            waiting = ahead[tp]
            given.append(waiting.popleft())
            if waiting:
                heapq.heapreplace(heads, (waiting[0].timestamp, tp))
            else:
                heapq.heappop(heads)
                if given[-1].offset + 1 < ranges[tp].end:
                    starved.add(tp)
        yield given


async def _fill(
    consumer: AIOKafkaConsumer,
    ahead: Mapping[TopicPartition, deque[Any]],
    starved: Iterable[TopicPartition],
    ranges: Mapping[TopicPartition, OffsetRange],
) -> None:
    """Wait until each starved partition has a record, or is at the end of its range."""
    waiting = set(starved)
    heard_at = time.monotonic()
    while waiting:
        batches = await consumer.getmany(*waiting, timeout_ms=POLL_MS, max_records=BATCH_RECORDS)
        for tp, records in batches.items():
            heard_at = time.monotonic()
            ahead[tp].extend(record for record in records if record.offset < ranges[tp].end)
        for tp in list(waiting):
            # Offsets have gaps (transactions, compaction): the last one need not be a record.
            if ahead[tp] or await consumer.position(tp) >= ranges[tp].end:
                waiting.discard(tp)
        if time.monotonic() - heard_at > SILENCE_S:
            names = ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(waiting))
            raise BrokerUnavailable(f"no records from {names} for {SILENCE_S:g} s")
