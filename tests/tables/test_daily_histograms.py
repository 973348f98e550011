"""Days in real Redis servers of every kind, and references rolled from them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tables.daily_histograms import DAY_MS, DailyHistograms, Day, rolled
from tables.feature_bins import CategoryBins, NumericBins
from tables.redis_connection import RedisConnection
from tables.redis_url import parse_store_url
from tables.reference import FeatureReference, Reference

TODAY = 1_777_593_600_000
"""2026-05-01T00:00:00Z."""
NOON = TODAY + DAY_MS // 2


@pytest.fixture
async def connection(store_url: str) -> AsyncIterator[RedisConnection]:
    async with RedisConnection(parse_store_url(store_url)) as opened:
        yield opened


def day(ago: int, version: str = "v3", reference_id: str = "r1", count: int = 1) -> Day:
    return Day(version, TODAY - ago * DAY_MS, reference_id, {"age": [count, 2, 0, 0], "gender": [0, 3, 1]})


async def write(days: DailyHistograms, *each: Day, model_id: str = "ranker") -> None:
    for one in each:
        await days.write(model_id, one.model_version, one.day_ms + 5, one.reference_id, one.counts)


async def test_days_come_back_oldest_first_and_without_today(connection: RedisConnection, namespace: str) -> None:
    days = DailyHistograms(connection, namespace)
    await write(days, day(0), day(1), day(3), day(4))
    await write(days, day(2), model_id="other")
    assert await days.days("ranker", "v3", before_ms=NOON, count=30) == [day(4), day(3), day(1)]
    assert await days.days("ranker", "v3", before_ms=NOON, count=3) == [day(3), day(1)]
    # A day later today is yesterday.
    assert await days.days("ranker", "v3", before_ms=NOON + DAY_MS, count=1) == [day(0)]
    assert await DailyHistograms(connection, f"{namespace}-other").days("ranker", None, before_ms=NOON, count=9) == []


async def test_a_day_written_again_replaces_what_was_there(connection: RedisConnection, namespace: str) -> None:
    days = DailyHistograms(connection, namespace)
    await write(days, day(1, count=5), day(1, count=9, reference_id="r2"), day(1, count=9, reference_id="r2"))
    assert await days.days("ranker", "v3", before_ms=NOON, count=1) == [day(1, count=9, reference_id="r2")]


async def test_without_a_version_those_of_all_versions_come(connection: RedisConnection, namespace: str) -> None:
    days = DailyHistograms(connection, namespace)
    await write(days, day(1, "v3"), day(1, ""), day(2, "a:b}"), day(1, "versions"))
    found = await days.days("ranker", None, before_ms=NOON, count=2)
    assert found == [day(2, "a:b}"), day(1, ""), day(1, "v3"), day(1, "versions")]


async def test_keys_expire_and_versions_that_are_no_longer_seen_are_forgotten(redis_url: str) -> None:
    async with RedisConnection(parse_store_url(redis_url)) as connection:
        days = DailyHistograms(connection, "shop", ttl_s=3 * 86_400)
        await write(days, day(3, "v1"), day(2, "v2"), day(4, "v2"), day(0, "v3"))
        keys = [key async for key in connection.client.scan_iter()]
        assert all([0 < await connection.client.pttl(key) <= 3 * DAY_MS for key in keys])
        versions = await connection.client.zrange("tidemark:{shop:days:ranker}:versions", 0, -1)
        assert versions == [b"v1", b"v2", b"v3"]  # three days ago is just within three days
        await write(days, day(-1, "v3"))
        assert await connection.client.zrange("tidemark:{shop:days:ranker}:versions", 0, -1) == [b"v2", b"v3"]


def test_a_rolled_reference_has_the_bins_of_the_current_one_and_the_sum_of_the_days() -> None:
    age = FeatureReference("age", NumericBins((18.0,)), (100, 100, 0, 0))
    gender = FeatureReference("gender", CategoryBins(("f",)), (50, 0, 0))
    price = FeatureReference("price", NumericBins((9.5,)), (10, 20, 0, 5))
    current = Reference("ranker", None, (age, gender, price), TODAY, "may-day.jsonl")

    new = rolled(current, [day(2, count=3), day(1, count=4)], model_version="v3", created_at_ms=NOON, source="rolling")

    assert (new.model_id, new.model_version, new.created_at_ms, new.source) == ("ranker", "v3", NOON, "rolling")
    assert {feature.name: feature.counts for feature in new.features} == {
        "age": (7, 4, 0, 0),
        "gender": (0, 6, 2),
        "price": (10, 20, 0, 5),  # nobody has seen it in these days
    }
    assert [feature.bins for feature in new.features] == [age.bins, gender.bins, price.bins]
