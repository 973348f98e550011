"""What the checkpoint store does to Redis, and what Redis can do to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from deploy.redis_server import RedisServer
from deploy.redis_sets import RedisSentinelSet
from tables.checkpoint import Scope
from tables.embedded_redis import EmbeddedRedis
from tables.errors import ConfigError, FellBehind, StoreUnavailable
from tables.redis_store import RedisStore
from tables.redis_url import connect, disconnect, parse_store_url

JOIN = Scope("join", 3)
NOON = 1_700_000_000_000

T = TypeVar("T")
OpenStore = Callable[..., Awaitable[RedisStore]]


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    client = connect(parse_store_url(redis_url))
    yield client
    await disconnect(client)


async def when_up(retry: Callable[[], Awaitable[T]], seconds: float = 10.0) -> T:
    """As a worker does: try again until the store is back."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await retry()
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def test_all_keys_share_a_hash_tag_and_every_key_expires(
    redis_url: str, redis: Any, open_store: OpenStore, namespace: str
) -> None:
    store = await open_store(redis_url, ttl_s=100)
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"10:00": b"a", "10:01": b"b" * 200_000})
    await store.hint("watermarks", "0", b"1")

    left_ms = {key.decode(): await redis.pttl(key) async for key in redis.scan_iter()}

    scope = f"tidemark:{{{namespace}:join:3}}"
    assert set(left_ms) == {
        f"{scope}:head",
        f"{scope}:chunk:10:00",
        f"{scope}:chunk:10:01",
        f"tidemark:{{{namespace}:hints:watermarks}}",
    }
    assert all(90_000 < ms <= 100_000 for ms in left_ms.values())


async def test_a_claim_alone_leaves_a_key_that_expires(
    redis_url: str, redis: Any, open_store: OpenStore, namespace: str
) -> None:
    store = await open_store(redis_url, ttl_s=100)
    await store.claim(JOIN, NOON)
    assert 90_000 < await redis.pttl(f"tidemark:{{{namespace}:join:3}}:head") <= 100_000


async def test_a_save_gives_the_head_and_what_it_appends_to_a_new_time_to_live(
    redis_url: str, redis: Any, open_store: OpenStore, namespace: str
) -> None:
    store = await open_store(redis_url, ttl_s=100)
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"rows": b"a"})
    keys = [f"tidemark:{{{namespace}:join:3}}:{key}" for key in ("head", "chunk:rows")]
    for key in keys:
        await redis.pexpire(key, 50_000)

    await store.save(lease, b"2", append={"rows": b"b"})
    assert min([await redis.pttl(key) for key in keys]) > 90_000


async def test_dropped_chunks_are_not_remembered(redis_url: str, open_store: OpenStore) -> None:
    store = await open_store(redis_url)
    lease = (await store.claim(JOIN, NOON)).lease
    for minute in range(10):
        await store.save(lease, b"%d" % minute, append={f"{minute}": b"a"}, drop=[f"{minute - 1}"])
    assert store._held[JOIN].chunks == {"9"}


async def test_chunks_nobody_appends_to_stay_alive_with_their_scope(
    redis_url: str, redis: Any, open_store: OpenStore, namespace: str
) -> None:
    clock = Clock()
    store = await open_store(redis_url, ttl_s=100, clock=clock)
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"old": b"a"})
    old = f"tidemark:{{{namespace}:join:3}}:chunk:old"
    await redis.pexpire(old, 76_000)

    clock.now = 24.9
    await store.save(lease, b"2", append={"new": b"b"})
    assert await redis.pttl(old) <= 76_000
    clock.now = 25.0  # a quarter of the time to live
    await store.save(lease, b"3")
    assert await redis.pttl(old) > 90_000

    await redis.pexpire(old, 76_000)
    clock.now = 49.9
    await store.save(lease, b"4")
    assert await redis.pttl(old) <= 76_000
    await store.claim(JOIN, NOON)
    assert await redis.pttl(old) > 90_000


async def test_a_chunk_that_expired_unseen_is_noticed_when_chunks_are_kept_alive(
    redis_url: str, redis: Any, open_store: OpenStore, namespace: str
) -> None:
    clock = Clock()
    store = await open_store(redis_url, ttl_s=100, clock=clock)
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"old": b"a"})
    await redis.delete(f"tidemark:{{{namespace}:join:3}}:chunk:old")

    await store.save(lease, b"2")
    clock.now = 25.0
    with pytest.raises(FellBehind, match="chunk:old"):
        await store.save(lease, b"3")


async def test_a_million_rows_take_less_than_20_bytes_each(redis_url: str, redis: Any, open_store: OpenStore) -> None:
    # 16-byte rows of 4 partitions, spread over 11 open windows, in 60 checkpoints.
    partitions, windows, steps, row = 4, 11, 60, 16
    rows_a_chunk_a_step = 1_000_000 // (partitions * windows * steps)
    store = await open_store(redis_url)
    for partition in range(partitions):
        lease = (await store.claim(Scope("join", partition), NOON)).lease
        for step in range(steps):
            append = {f"{window}": os.urandom(row * rows_a_chunk_a_step) for window in range(windows)}
            await store.save(lease, b"%d" % step, append=append)

    used = 0
    async for key in redis.scan_iter():
        used += await redis.memory_usage(key, samples=0)
    per_row = used / (partitions * windows * steps * rows_a_chunk_a_step)
    assert row < per_row < 20


async def test_scripts_that_redis_has_forgotten_are_sent_again(
    redis_url: str, redis: Any, open_store: OpenStore
) -> None:
    store = await open_store(redis_url)
    await redis.script_flush()
    lease = (await store.claim(JOIN, NOON)).lease
    await redis.script_flush()
    await store.save(lease, b"1", append={"rows": b"a"})
    assert (await store.claim(JOIN, NOON)).chunks == {"rows": b"a"}


async def test_a_store_that_is_not_there_is_named_in_one_line_without_its_password() -> None:
    store = RedisStore(parse_store_url("redis://shop:s3cret@127.0.0.1:1/0"), "shop")
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    text = str(caught.value)
    assert text.startswith("store redis://shop:***@127.0.0.1:1/0 is unavailable: ")
    assert "s3cret" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "url",
    ["unix:///nowhere/redis.sock", "redis+sentinel://127.0.0.1:1/shop", "redis+cluster://127.0.0.1:1"],
)
async def test_no_kind_of_store_is_waited_for_long(url: str) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable, match="is unavailable"):
            await RedisStore(parse_store_url(url), "shop").open()


async def test_a_wrong_password_is_said_so(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis://shop:s3cret@")
    with pytest.raises(StoreUnavailable, match=r"(?i)password|auth"):
        await RedisStore(parse_store_url(url), "shop").open()


async def test_a_store_that_was_not_opened_says_so() -> None:
    with pytest.raises(StoreUnavailable, match="is not open"):
        await RedisStore(parse_store_url("redis://h"), "shop").claim(JOIN, NOON)


@pytest.mark.parametrize("namespace", ["", "a b", "{shop}", "shop:eu"])
def test_a_namespace_cannot_break_the_keys(namespace: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        RedisStore(parse_store_url("redis://h"), namespace)


async def test_a_save_that_a_stalled_server_carries_out_late_is_done_once(
    tmp_path: Path, open_store: OpenStore
) -> None:
    with await asyncio.to_thread(RedisServer.start, tmp_path) as server:
        store = await open_store(server.url, operation_timeout_s=0.1)
        lease = (await store.claim(JOIN, NOON)).lease
        await store.save(lease, b"1", append={"rows": b"a"})

        server.pause()
        with pytest.raises(StoreUnavailable):
            await store.save(lease, b"2", append={"rows": b"b"})
        assert lease.number == 1
        server.resume()

        # The request was in the server's socket all the time: it is carried out, and nobody hears the answer.
        async with asyncio.timeout(30):
            other = await open_store(server.url)
            while (await other._redis.hget(other._head_key(JOIN), "number")) != b"2":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await when_up(lambda: store.save(lease, b"2", append={"rows": b"b"}))
        assert lease.number == 2
        assert (await store.claim(JOIN, NOON)).chunks == {"rows": b"ab"}


@pytest.mark.parametrize("durable", [True, False])
async def test_a_restarted_server_is_gone_on_with_or_found_empty(
    tmp_path: Path, open_store: OpenStore, durable: bool
) -> None:
    with await asyncio.to_thread(RedisServer.start, tmp_path, durable=durable) as server:
        store = await open_store(server.url)
        lease = (await store.claim(JOIN, NOON)).lease
        await store.save(lease, b"1", append={"rows": b"a"})

        await asyncio.to_thread(server.kill)
        with pytest.raises(StoreUnavailable):
            await store.save(lease, b"2", append={"rows": b"b"})
        await asyncio.to_thread(server.restart)

        if durable:
            await when_up(lambda: store.save(lease, b"2", append={"rows": b"b"}))
            assert (await store.claim(JOIN, NOON)).chunks == {"rows": b"ab"}
        else:
            with pytest.raises(FellBehind):
                await when_up(lambda: store.save(lease, b"2", append={"rows": b"b"}))
            assert (await store.claim(JOIN, NOON + 1)).head is None


async def test_a_server_out_of_memory_refuses_the_whole_save(open_store: OpenStore) -> None:
    async with EmbeddedRedis() as server:
        store = await open_store(server.url)
        lease = (await store.claim(JOIN, NOON)).lease
        await store.save(lease, b"1", append={"a": b"a", "b": b"b"})

        await store._redis.config_set("maxmemory", 1)
        for append in ({"a": b"A", "c": b"C"}, {"c": b"C", "d": b"D"}):
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                await store.save(lease, b"2", append=append)
        await store.save(lease, b"2", drop=["b"])  # what makes room is let through

        await store._redis.config_set("maxmemory", 0)
        found = await store.claim(JOIN, NOON)
        assert (found.head, found.chunks, found.complete) == (b"2", {"a": b"a"}, True)


@pytest.mark.parametrize("lagging", [False, True])
async def test_after_a_failover_only_an_owner_of_what_the_replica_has_goes_on(
    tmp_path: Path, open_store: OpenStore, lagging: bool
) -> None:
    with await asyncio.to_thread(RedisSentinelSet.start, tmp_path) as redis_set:
        [(host, port)] = redis_set.sentinels
        store = await open_store(f"redis+sentinel://{host}:{port}/{redis_set.service}")
        lease = (await store.claim(JOIN, NOON)).lease
        await store.save(lease, b"1", append={"rows": b"a"})
        await store._redis.wait(1, 5000)
        if lagging:
            # Paused, so that it does not connect again; cut off, so that nothing waits for it in its socket.
            redis_set.replica.pause()
            await store._redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
        await store.save(lease, b"2", append={"rows": b"b"})
        if not lagging:
            await store._redis.wait(1, 5000)

        await asyncio.to_thread(redis_set.master.kill)
        with pytest.raises(StoreUnavailable):
            await store.save(lease, b"3", append={"rows": b"c"})
        redis_set.replica.resume()
        await asyncio.to_thread(redis_set.wait_for_failover)

        if lagging:
            with pytest.raises(FellBehind):
                await when_up(lambda: store.save(lease, b"3", append={"rows": b"c"}))
            found = await store.claim(JOIN, NOON)
            assert (found.head, found.chunks, found.complete) == (b"1", {"rows": b"a"}, True)
            await store.save(found.lease, b"3 again", append={"rows": b"bc"})
        else:
            await when_up(lambda: store.save(lease, b"3", append={"rows": b"c"}))
        assert (await store.claim(JOIN, NOON)).chunks == {"rows": b"abc"}
