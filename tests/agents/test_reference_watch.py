"""A worker that has started learns of references that are put later, and tells the store what each day was like."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.config import Config
from agents.reference_watch import ReferenceWatch
from deploy.stack import RedisServer
from tables.daily_histograms import DAY_MS, DailyHistograms
from tables.drift_windows import DayCounts
from tables.redis_connection import RedisConnection
from tables.redis_url import parse_store_url
from tables.reference import ReferenceBook
from tables.reference_store import ReferenceStore
from tests.tables.test_reference_store import NOON, reference

TODAY = NOON // DAY_MS * DAY_MS


def day(shown: int) -> DayCounts:
    counts = np.array([1, shown, 2, 0, 3, 5, 6, 0, 1], np.int64)
    return DayCounts(("ranker", "v3"), TODAY, reference(), counts)


async def test_a_reference_that_is_put_later_holds_from_the_next_look_on(redis_url: str) -> None:
    config, book = Config(store=redis_url), ReferenceBook()
    watch = ReferenceWatch(config, book, lambda: [])
    await watch.open()
    assert not book.references
    async with RedisConnection(parse_store_url(redis_url)) as redis:
        store = ReferenceStore(redis, config.group)
        await store.put(reference())
        await watch.turn()
        assert book.references == (reference(),)
        await store.put(reference(shown=70, at=NOON + 1))
        await watch.turn()
        assert book.references == (reference(shown=70, at=NOON + 1),)
    await watch.close()


async def test_references_of_the_configuration_stay_beside_those_of_the_store(redis_url: str) -> None:
    named = reference("search")
    config = Config(store=redis_url)
    config = replace(config, drift=replace(config.drift, references=(named,)))
    book = ReferenceBook(config.drift.references)
    async with RedisConnection(parse_store_url(redis_url)) as redis:
        await ReferenceStore(redis, config.group).put(reference())
    watch = ReferenceWatch(config, book, lambda: [])
    await watch.open()
    assert book.references == (reference(), named)
    await watch.close()


async def test_days_are_written_as_they_grow_and_once_more_at_the_end(redis_url: str) -> None:
    config, grown = Config(store=redis_url), [day(7)]
    watch = ReferenceWatch(config, ReferenceBook(), lambda: [grown.pop()] if grown else [])
    await watch.open()
    await watch.turn()
    async with RedisConnection(parse_store_url(redis_url)) as redis:
        histograms = DailyHistograms(redis, config.group)

        async def written() -> list[object]:
            days = await histograms.days("ranker", "v3", before_ms=TODAY + DAY_MS, count=1)
            return [each.counts["age"] for each in days]

        assert await written() == [[1, 7, 2, 0, 3]]
        grown.append(day(9))
        await watch.close()
        assert await written() == [[1, 9, 2, 0, 3]]


async def test_while_the_store_is_away_nothing_is_lost_and_nothing_fails(tmp_path: Path) -> None:
    redis = await asyncio.to_thread(RedisServer.start, tmp_path)
    config, grown = Config(store=redis.url), list[DayCounts]()
    watch = ReferenceWatch(config, ReferenceBook(), lambda: [grown.pop()] if grown else [])
    await watch.open()

    await asyncio.to_thread(redis.stop)
    grown.append(day(7))
    await watch.turn()
    await asyncio.to_thread(redis.restart)
    await watch.turn()
    async with RedisConnection(parse_store_url(redis.url)) as connection:
        days = await DailyHistograms(connection, config.group).days("ranker", "v3", before_ms=TODAY + DAY_MS, count=1)
    assert len(days) == 1
    await watch.close()
    await asyncio.to_thread(redis.stop)
