"""What is made of aiokafka's fetched batches: gaps, control records, damage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException, RecordTooLargeError
from aiokafka.record._crc32c import crc as calc_crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.types import TP

from agents.transports.kafka import fetch_raw

CLICKS, IMPRESSIONS, GONE = (TopicPartition(topic, 0) for topic in ("clicks", "impressions", "gone"))
ASSIGNED = {CLICKS, IMPRESSIONS}
READ_UNCOMMITTED = 0


def batch(offsets: list[int], *, base: int = 0, codec: int = 0, damaged: bool = False) -> bytes:
    """One batch as a broker sends it; offsets are counted from `base`, and values say their offset."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset in offsets:
        builder.append(offset, 0, b"key", b"%d" % (base + offset), [])
    data = builder.build()
    data[0:8] = base.to_bytes(8, "big")
    if damaged:
        data[-1] ^= 0xFF
    return bytes(data)


def control_batch(base: int) -> bytes:
    """What ends a transaction: it has an offset and is no record."""
    data = bytearray(batch([0], base=base))
    data[22] |= 0x20
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return bytes(data)


@pytest.fixture
async def fetcher() -> AsyncIterator[Any]:
    """A fetcher that has no broker to ask."""
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user(ASSIGNED)
    for tp in ASSIGNED:
        subscriptions.subscription.assignment.state_value(tp).seek(0)
    client = SimpleNamespace(_loop=asyncio.get_running_loop(), _metadata_max_age_ms=1000)
    client.cluster = SimpleNamespace(leader_for_partition=lambda _: None)
    client.force_metadata_update = asyncio.get_running_loop().create_future
    fetcher = Fetcher(client, subscriptions)
    yield fetcher
    await fetcher.close()


def put(fetcher: Any, tp: TopicPartition, *batches: bytes) -> None:
    """What an answer of the broker leaves behind."""
    position = fetcher._subscriptions.subscription.assignment.state_value(tp).position
    records = MemoryRecords(b"".join(batches))
    parsed = PartitionRecords(tp, records, [], position, None, None, True, READ_UNCOMMITTED)
    assignment = fetcher._subscriptions.subscription.assignment
    fetcher._records[tp] = FetchResult(tp, assignment=assignment, partition_records=parsed, backoff=0)


def position(fetcher: Any, tp: TopicPartition) -> int:
    value: int = fetcher._subscriptions.subscription.assignment.state_value(tp).position
    return value


async def test_batches_of_a_partition_become_one_section(fetcher: Any) -> None:
    put(fetcher, CLICKS, batch([0, 1]), batch([0, 1, 2], base=2))

    [(tp, section)] = (await fetch_raw(fetcher, ASSIGNED, 0)).items()

    assert tp == TP("clicks", 0)
    assert (section.offsets, section.next_offset) == (range(5), 5)
    assert section.values == [b"0", b"1", b"2", b"3", b"4"]
    assert (position(fetcher, CLICKS), dict(fetcher._records)) == (5, {})


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4], ids=["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_is_read(fetcher: Any, codec: int) -> None:
    put(fetcher, CLICKS, batch(list(range(100)), codec=codec))
    [section] = (await fetch_raw(fetcher, ASSIGNED, 0)).values()
    assert section.values == [b"%d" % number for number in range(100)]


async def test_compacted_offsets_are_kept_and_the_end_lies_behind_the_last_batch(fetcher: Any) -> None:
    put(fetcher, CLICKS, batch([0, 2, 5]), batch([1], base=10))
    [section] = (await fetch_raw(fetcher, ASSIGNED, 0)).values()
    assert (list(section.offsets), section.next_offset) == ([0, 2, 5, 11], 12)


async def test_control_records_and_emptied_batches_only_move_the_position(fetcher: Any) -> None:
    put(fetcher, CLICKS, batch([0, 1]), control_batch(base=2), control_batch(base=3))
    put(fetcher, IMPRESSIONS, control_batch(base=0))
    [section] = (await fetch_raw(fetcher, ASSIGNED, 0)).values()
    assert (list(section.offsets), section.next_offset) == ([0, 1], 4)
    assert (position(fetcher, CLICKS), position(fetcher, IMPRESSIONS)) == (4, 1)


async def test_records_before_the_position_are_left_out(fetcher: Any) -> None:
    fetcher._subscriptions.subscription.assignment.state_value(CLICKS).seek(3)
    put(fetcher, CLICKS, batch([0, 1, 2, 3, 4]))
    [section] = (await fetch_raw(fetcher, ASSIGNED, 0)).values()
    assert (list(section.offsets), section.values) == ([3, 4], [b"3", b"4"])


async def test_what_was_fetched_before_a_seek_is_not_given_out(fetcher: Any) -> None:
    put(fetcher, CLICKS, batch([0, 1, 2]))
    fetcher._subscriptions.subscription.assignment.state_value(CLICKS).seek(2)
    assert await fetch_raw(fetcher, ASSIGNED, 0) == {}
    assert (position(fetcher, CLICKS), dict(fetcher._records)) == (2, {})


async def test_partitions_that_were_not_asked_for_stay_until_they_are(fetcher: Any) -> None:
    put(fetcher, CLICKS, batch([0]))
    put(fetcher, IMPRESSIONS, batch([0]))
    fetcher._records[GONE] = fetcher._records[CLICKS]  # of an assignment that has ended

    assert set(await fetch_raw(fetcher, {CLICKS}, 0)) == {TP("clicks", 0)}
    assert set(fetcher._records) == {IMPRESSIONS}
    assert set(await fetch_raw(fetcher, ASSIGNED, 0)) == {TP("impressions", 0)}


async def test_an_error_of_one_partition_costs_the_others_nothing(fetcher: Any) -> None:
    put(fetcher, CLICKS, batch([0]))
    fetcher._records[IMPRESSIONS] = FetchError(error=RecordTooLargeError("impressions"), backoff=0)

    assert set(await fetch_raw(fetcher, ASSIGNED, 0)) == {TP("clicks", 0)}
    with pytest.raises(RecordTooLargeError, match="impressions"):
        await fetch_raw(fetcher, ASSIGNED, 0)
    assert await fetch_raw(fetcher, ASSIGNED, 0) == {}


async def test_a_damaged_batch_costs_neither_its_neighbours_nor_the_batches_before_it(fetcher: Any) -> None:
    put(fetcher, CLICKS, batch([0, 1]))
    put(fetcher, IMPRESSIONS, batch([0, 1]), batch([0], base=2, damaged=True), batch([0], base=3))

    found = await fetch_raw(fetcher, ASSIGNED, 0)
    assert {tp.topic: section.values for tp, section in found.items()} == {
        "clicks": [b"0", b"1"],
        "impressions": [b"0", b"1"],
    }
    assert position(fetcher, IMPRESSIONS) == 2  # not past the damage
    with pytest.raises(CorruptRecordException):
        await fetch_raw(fetcher, ASSIGNED, 0)

    put(fetcher, CLICKS, batch([0], base=2))
    put(fetcher, IMPRESSIONS, batch([0], base=2, damaged=True))
    assert set(await fetch_raw(fetcher, ASSIGNED, 0)) == {TP("clicks", 0)}
    with pytest.raises(CorruptRecordException):
        await fetch_raw(fetcher, ASSIGNED, 0)
    assert position(fetcher, IMPRESSIONS) == 2


async def test_a_batch_that_does_not_decompress_is_damage_too(fetcher: Any) -> None:
    data = bytearray(batch(list(range(50)), codec=1))
    data[70:90] = b"\0" * 20
    parsed = PartitionRecords(CLICKS, MemoryRecords(bytes(data)), [], 0, None, None, False, READ_UNCOMMITTED)
    assignment = fetcher._subscriptions.subscription.assignment
    fetcher._records[CLICKS] = FetchResult(CLICKS, assignment=assignment, partition_records=parsed, backoff=0)

    assert await fetch_raw(fetcher, ASSIGNED, 0) == {}
    with pytest.raises(CorruptRecordException, match="clicks"):
        await fetch_raw(fetcher, ASSIGNED, 0)


async def test_while_partitions_are_reassigned_nothing_is_waited_for(fetcher: Any) -> None:
    subscriptions = SimpleNamespace(reassignment_in_progress=True)
    fetcher._subscriptions, kept = subscriptions, fetcher._subscriptions
    async with asyncio.timeout(20):
        assert await fetch_raw(fetcher, ASSIGNED, 30) == {}
    fetcher._subscriptions = kept


async def test_what_arrives_while_it_waits_is_given_out(fetcher: Any) -> None:
    async def arrive() -> None:
        await asyncio.sleep(0.02)
        put(fetcher, CLICKS, batch([0]))
        for waiter in list(fetcher._fetch_waiters):
            fetcher._notify(waiter)

    arriving = asyncio.create_task(arrive())
    async with asyncio.timeout(20):
        assert set(await fetch_raw(fetcher, ASSIGNED, 30)) == {TP("clicks", 0)}
    await arriving
    assert await fetch_raw(fetcher, ASSIGNED, 0.01) == {}
    await asyncio.sleep(0)
    assert not fetcher._fetch_waiters
