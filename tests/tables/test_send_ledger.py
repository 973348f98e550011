"""What was sent and how much may be: the same promises in Redis and in memory."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tables.checkpoint import Lease, Scope
from tables.errors import Fenced, StoreUnavailable
from tables.memory_ledger import MemoryLedger
from tables.redis_connection import RedisConnection
from tables.redis_ledger import RedisLedger
from tables.redis_store import RedisStore
from tables.redis_url import parse_store_url
from tables.send_ledger import Limit, SendLedger

ALERTS = Scope("alerts", 0)
DAY_MS = 24 * 3_600_000
START_MS = 1_777_629_600_000
MINUTE_MS = 60_000
"""Windows are minutes where a test sets the time: keys expire by the true time, whatever the test says."""


class ClockedConnection(RedisConnection):
    """Its scripts take the time from a key, so that a test can set it."""

    async def run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await super().run(script.replace("'TIME'", "'HMGET', 'clock', 's', 'us'"), keys, args)


@dataclass
class Bench:
    ledger: SendLedger
    set_time: Callable[[int], Awaitable[None]]
    """Milliseconds."""


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        now = START_MS

        async def set_memory(ms: int) -> None:
            nonlocal now
            now = ms

        yield Bench(MemoryLedger(keep_ms=DAY_MS, clock=lambda: now / 1000), set_memory)
        return
    url = parse_store_url(request.getfixturevalue("redis_url"))
    async with ClockedConnection(url) as connection:

        async def set_redis(ms: int) -> None:
            await connection.client.hset("clock", mapping={"s": ms // 1000, "us": ms % 1000 * 1000})

        await set_redis(START_MS)
        yield Bench(RedisLedger(connection, "shop", keep_ms=DAY_MS), set_redis)


def lease(epoch: int = 7, partition: int = 0) -> Lease:
    return Lease(Scope("alerts", partition), epoch, 0)


async def test_what_is_marked_is_not_unsent_any_more(bench: Bench) -> None:
    keys = ["a", "b", "c"]
    assert await bench.ledger.unsent(lease(), keys) == keys
    await bench.ledger.mark(lease(), ["a", "c"])
    await bench.ledger.mark(lease(), ["a"])
    assert await bench.ledger.unsent(lease(), keys) == ["b"]
    assert await bench.ledger.unsent(lease(), []) == []


async def test_marks_outlast_their_owner_and_are_its_partition_s_own(bench: Bench) -> None:
    await bench.ledger.mark(lease(7), ["a"])
    assert await bench.ledger.unsent(lease(8), ["a"]) == []
    assert await bench.ledger.unsent(lease(7, partition=1), ["a"]) == ["a"]


async def test_an_owner_that_was_followed_learns_nothing_but_notes_what_it_has_sent(bench: Bench) -> None:
    await bench.ledger.unsent(lease(7), ["a"])
    await bench.ledger.unsent(lease(8), ["b"])
    await claim_in_redis(bench, 8)
    with pytest.raises(Fenced, match="what alerts/0 sends: epoch 7 was followed by epoch 8"):
        await bench.ledger.unsent(lease(7), ["a"])
    await bench.ledger.mark(lease(7), ["a"])
    assert await bench.ledger.unsent(lease(8), ["a", "b"]) == ["b"]


async def claim_in_redis(bench: Bench, epoch: int) -> None:
    """As an owner does before it asks the ledger; in memory asking is enough."""
    if isinstance(bench.ledger, RedisLedger):
        await bench.ledger._connection.client.hset("tidemark:{shop:alerts:0}:head", "epoch", epoch)


async def test_a_budget_with_a_reserve(bench: Bench) -> None:
    limits = [Limit(5, MINUTE_MS, reserve=2)]

    async def taken(urgent: bool) -> int:
        return await bench.ledger.take("chat", limits, urgent=urgent)

    assert [await taken(False) for _ in range(4)] == [0, 0, 0, 60_000]
    assert [await taken(True) for _ in range(3)] == [0, 0, 60_000]
    await bench.set_time(START_MS + 40_000)
    assert await taken(True) == 20_000
    assert await bench.ledger.take("mail", limits, urgent=False) == 0
    await bench.set_time(START_MS + 60_000)
    assert await taken(False) == 0


async def test_all_limits_hold_and_the_longest_wait_counts(bench: Bench) -> None:
    limits = [Limit(2, MINUTE_MS), Limit(3, 10 * MINUTE_MS)]
    answers = []
    for minute in (0, 0, 0, 1, 1):
        await bench.set_time(START_MS + minute * MINUTE_MS)
        answers.append(await bench.ledger.take("chat", limits, urgent=False))
    assert answers == [0, 0, MINUTE_MS, 0, 9 * MINUTE_MS]


async def test_without_limits_there_is_no_wait(bench: Bench) -> None:
    assert [await bench.ledger.take("chat", [], urgent=False) for _ in range(9)] == [0] * 9


async def test_a_limit_that_is_all_reserve_lets_only_what_is_urgent_through(bench: Bench) -> None:
    limits = [Limit(1, 50, reserve=1)]
    assert await bench.ledger.take("chat", limits, urgent=False) == 50
    assert await bench.ledger.take("chat", limits, urgent=True) == 0


Steps = list[tuple[int, bool]]
a_limit = st.tuples(st.integers(1, 6), st.integers(1, 60)).flatmap(
    lambda of: st.builds(Limit, st.just(of[0]), st.just(of[1] * MINUTE_MS), st.integers(0, of[0] - 1))
)
names = (f"channel {number}" for number in itertools.count())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=st.lists(a_limit, min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=40),
)
async def test_never_more_than_a_limit_in_any_window_and_never_less(
    bench: Bench, limits: list[Limit], steps: Steps
) -> None:
    name, now, granted = next(names), START_MS, list[int]()

    def allowed(at: int, urgent: bool) -> bool:
        return all(
            sum(at - past < per_ms for past in granted) < parcels - (0 if urgent else reserve)
            for parcels, per_ms, reserve in limits
        )

    for minutes, urgent in steps:
        now += minutes * MINUTE_MS
        await bench.set_time(now)
        wait = await bench.ledger.take(name, limits, urgent=urgent)
        # It waits exactly as long as it has to: until the first moment at which one more is allowed.
        assert wait == next(ms for ms in itertools.count(0, MINUTE_MS) if allowed(now + ms, urgent))
        assert not wait or not allowed(now + wait - 1, urgent)
        if not wait:
            granted.append(now)
    for parcels, per_ms, _ in limits:
        assert all(later - first >= per_ms for first, later in zip(granted, granted[parcels:], strict=False))


async def test_the_memory_forgets_after_a_time() -> None:
    now = 0.0
    ledger = MemoryLedger(keep_ms=1000, clock=lambda: now)
    await ledger.mark(lease(), ["a", "b"])
    now = 0.5
    await ledger.mark(lease(), ["a"])
    now = 1.0
    assert await ledger.unsent(lease(), ["a", "b"]) == ["b"]
    assert len(ledger._sent) == 1


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with RedisConnection(parse_store_url(redis_url)) as connection:
        yield connection


async def test_by_the_clock_of_redis_two_workers_share_one_budget(redis_url: str) -> None:
    limits = [Limit(4, 60), Limit(10, 250)]
    grants: list[tuple[float, float]] = []

    async def worker(until: float) -> None:
        async with RedisConnection(parse_store_url(redis_url)) as connection:
            ledger = RedisLedger(connection, "shop")
            while (before := time.time()) < until:
                wait = await ledger.take("chat", limits, urgent=True)
                if wait:
                    await asyncio.sleep(wait / 1000)
                else:
                    grants.append((before, time.time()))

    until = time.time() + 0.8
    await asyncio.gather(*(worker(until) for _ in range(3)))
    assert len(grants) >= 11  # some of it was used again
    befores = sorted(before for before, _ in grants)
    afters = sorted(after for _, after in grants)
    for parcels, per_ms, _ in limits:
        # The n-th newest was certainly taken before `after`, and this one certainly after `before`.
        for first, later in zip(befores, afters[parcels:], strict=False):
            assert (later - first) * 1000 >= per_ms


async def test_the_epoch_that_fences_is_that_of_the_checkpoints(redis_url: str, connection: RedisConnection) -> None:
    store = RedisStore(parse_store_url(redis_url), "shop")
    await store.open()
    try:
        old = (await store.claim(ALERTS, START_MS)).lease
        ledger = RedisLedger(connection, "shop")
        await ledger.mark(old, ["a"])
        new = (await store.claim(ALERTS, START_MS)).lease
    finally:
        await store.close()
    with pytest.raises(Fenced):
        await ledger.unsent(old, ["a", "b"])
    assert await ledger.unsent(new, ["a", "b"]) == ["b"]


async def test_a_store_that_has_forgotten_the_epochs_fences_nobody(connection: RedisConnection) -> None:
    ledger = RedisLedger(connection, "shop")
    await ledger.mark(lease(7), ["a"])
    await connection.client.hset("tidemark:{shop:alerts:0}:head", "epoch", 6)
    assert await ledger.unsent(lease(7), ["a", "b"]) == ["b"]


async def test_every_key_expires_and_keeps_to_its_slot(connection: RedisConnection) -> None:
    ledger = RedisLedger(connection, "shop", keep_ms=60_000)
    await ledger.mark(lease(), ["a key with } in it"])
    for _ in range(9):
        await ledger.take("the }{ robot", [Limit(4, 30_000), Limit(9, 60)], urgent=True)
    client = connection.client
    keys = {key.decode(): await client.pttl(key) for key in await client.keys("*")}
    assert set(keys) == {
        "tidemark:{shop:alerts:0}:sent:a%20key%20with%20%7D%20in%20it",
        "tidemark:{shop:budget:the%20%7D%7B%20robot}:log",
    }
    assert all(0 < ttl <= 60_000 for ttl in keys.values())
    assert await client.llen("tidemark:{shop:budget:the%20%7D%7B%20robot}:log") == 4


async def test_a_clock_set_back_neither_lifts_the_limit_nor_stops_everything(redis_url: str) -> None:
    async with ClockedConnection(parse_store_url(redis_url)) as connection:
        ledger = RedisLedger(connection, "shop")
        answers = []
        for us in (3_600_000_000, 3_600_000_000, 0, 59_999_001, 60_000_000):
            await connection.client.hset("clock", mapping={"s": 0, "us": us})
            answers.append(await ledger.take("chat", [Limit(2, MINUTE_MS)], urgent=False))
    assert answers == [0, 0, 60_000, 1, 0]


async def test_on_every_kind_of_redis(store_url: str) -> None:
    async with RedisConnection(parse_store_url(store_url)) as connection:
        ledger = RedisLedger(connection, uuid.uuid4().hex[:8])
        await ledger.mark(lease(), ["a", "b"])
        assert await ledger.unsent(lease(), ["a", "c", "b"]) == ["c"]
        assert [await ledger.take("chat", [Limit(1, 60_000)], urgent=True) > 0 for _ in range(2)] == [False, True]


async def test_a_store_that_is_away_says_so(connection: RedisConnection) -> None:
    ledger = RedisLedger(connection, "shop")
    await connection.close()
    for call in (
        ledger.unsent(lease(), ["a"]),
        ledger.mark(lease(), ["a"]),
        ledger.take("chat", [Limit(1, 1)], urgent=True),
    ):
        with pytest.raises(StoreUnavailable):
            await call
