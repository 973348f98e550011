"""References in real Redis servers of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tables.embedded_redis import EmbeddedRedis
from tables.errors import StoreError, StoreUnavailable
from tables.feature_bins import CategoryBins, NumericBins
from tables.redis_connection import RedisConnection
from tables.redis_url import parse_store_url
from tables.reference import FeatureReference, Reference
from tables.reference_store import KEPT_VERSIONS, ReferenceStore

NOON = 1_777_636_800_000
DAY_S = 86_400.0


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reference(
    model_id: str = "ranker",
    version: str | None = None,
    *,
    shown: int = 7,
    at: int = NOON,
    topics: tuple[str, ...] = (),
) -> Reference:
    age = FeatureReference("age", NumericBins((18.0, 40.0)), (1, shown, 2, 0, 3), topics)
    gender = FeatureReference("gender", CategoryBins(("f", "m")), (5, 6, 0, 1))
    return Reference(model_id, version, (age, gender), at, "may-day.jsonl")


@pytest.fixture
async def connection(store_url: str) -> AsyncIterator[RedisConnection]:
    async with RedisConnection(parse_store_url(store_url)) as opened:
        yield opened


@pytest.fixture
async def alone(redis_url: str) -> AsyncIterator[RedisConnection]:
    """A connection to one server that holds nothing else."""
    async with RedisConnection(parse_store_url(redis_url)) as opened:
        yield opened


async def test_what_is_put_is_loaded_by_any_worker_of_the_group(connection: RedisConnection, namespace: str) -> None:
    every, exact = reference(), reference(version="v3", shown=70)
    store = ReferenceStore(connection, namespace)
    await store.put(exact)
    await store.put(every)
    assert await ReferenceStore(connection, namespace).load_all() == [every, exact]
    assert [each.id for each in await store.load_all()] == [every.id, exact.id]
    assert await ReferenceStore(connection, f"{namespace}-other").load_all() == []


async def test_those_whose_days_add_up_are_found_by_their_bins(connection: RedisConnection, namespace: str) -> None:
    store = ReferenceStore(connection, namespace)
    now, before, of_inferences = reference(shown=1), reference("ranker", "v3"), reference(topics=("inferences",))
    for each in (before, of_inferences):
        await store.put(each)
    # It need not be in the store itself.
    assert await store.with_bins_of(now, [before.id, of_inferences.id, "unknown"]) == {now.id, before.id}
    assert await store.with_bins_of(now, []) == {now.id}


async def test_the_last_one_put_holds_and_the_newest_five_are_kept(alone: RedisConnection) -> None:
    store = ReferenceStore(alone, "shop")
    # The last one was built first: going back to an older reference is putting it once more.
    put = [reference(shown=shown, at=NOON - shown) for shown in range(KEPT_VERSIONS + 3)]
    for each in put:
        await store.put(each)
    await store.put(reference(version="v3"))
    assert (await store.load_all())[0] == put[-1]
    assert await store.versions("ranker") == [*reversed(put[3:]), reference(version="v3")]
    assert await store.versions("nobody") == []


async def test_putting_the_same_again_keeps_one(alone: RedisConnection) -> None:
    store = ReferenceStore(alone, "shop")
    old, new = reference(shown=1), reference(shown=2)
    for each in (old, new, old):
        await store.put(each)
    assert await store.versions("ranker") == [old, new]


@pytest.mark.parametrize("version", [None, "", "*", "v3", "a:b", "ü}{"])
async def test_names_may_hold_anything(connection: RedisConnection, namespace: str, version: str | None) -> None:
    store = ReferenceStore(connection, namespace)
    # Joined without care, these two would be one.
    here, there = reference("a:b", version), reference("a", "b" if version is None else f"b:{version}")
    await store.put(here)
    await store.put(there)
    assert {(each.model_id, each.model_version) for each in await store.load_all()} == {
        (here.model_id, here.model_version),
        (there.model_id, there.model_version),
    }
    assert await store.versions("a:b") == [here]


async def test_the_stamp_changes_with_every_put_and_only_then(alone: RedisConnection) -> None:
    store, reader = ReferenceStore(alone, "shop"), ReferenceStore(alone, "shop")
    stamps = [await reader.stamp()]
    for each in (reference(shown=1), reference(shown=2), reference("other"), reference(shown=1)):
        await store.put(each)
        stamps.append(await reader.stamp())
        await reader.load_all()
        assert await reader.stamp() == stamps[-1]
    assert stamps[0] == ""
    assert len(set(stamps)) == len(stamps)


async def test_every_key_expires_and_loading_lets_all_live_on(alone: RedisConnection) -> None:
    store = ReferenceStore(alone, "shop", ttl_s=100)
    await store.put(reference())
    await store.put(reference(version="v3"))
    keys = [key async for key in alone.client.scan_iter()]
    # Two lists, the bins of two, the names and the stamp.
    assert len(keys) == 6
    assert all([90_000 < await alone.client.pttl(key) <= 100_000 for key in keys])
    for key in keys:
        await alone.client.pexpire(key, 50_000)
    await store.load_all()
    assert all([90_000 < await alone.client.pttl(key) <= 100_000 for key in keys])


async def test_a_worker_that_only_asks_for_the_stamp_lets_all_live_on_too(alone: RedisConnection) -> None:
    clock = Clock()
    store = ReferenceStore(alone, "shop", ttl_s=100, clock=clock)
    await store.put(reference())
    keys = [key async for key in alone.client.scan_iter()]
    for key in keys:
        await alone.client.pexpire(key, 76_000)
    clock.now = 24.9
    await store.stamp()
    assert max([await alone.client.pttl(key) for key in keys]) <= 76_000
    clock.now = 25.0  # a quarter of the time to live
    await store.stamp()
    assert min([await alone.client.pttl(key) for key in keys]) > 90_000


async def test_a_reference_that_is_damaged_is_named_and_the_others_live_on(alone: RedisConnection) -> None:
    clock = Clock()
    store = ReferenceStore(alone, "shop", ttl_s=100, clock=clock)
    await store.put(reference(version="v2"))
    await store.put(reference(version="v3"))
    await alone.client.lset("tidemark:{shop:references}:of:ranker:v3", 0, b'{"format": 2}')
    with pytest.raises(StoreError, match="the store's reference ranker:v3 cannot be read: "):
        await store.load_all()
    whole = "tidemark:{shop:references}:of:ranker:v2"
    await alone.client.pexpire(whole, 50_000)
    clock.now = 25.0
    assert await store.stamp()  # which has nothing to say of it
    assert await alone.client.pttl(whole) > 90_000


async def test_references_of_which_some_keys_are_lost_are_gone_and_no_trouble(alone: RedisConnection) -> None:
    store = ReferenceStore(alone, "shop")
    await store.put(reference(version="v2"))
    await store.put(reference(version="v3"))
    await alone.client.delete("tidemark:{shop:references}:of:ranker:v3")
    assert await store.load_all() == [reference(version="v2")]
    assert await store.versions("ranker") == [reference(version="v2")]


async def test_a_store_that_is_not_there_is_named_in_one_line_without_its_password() -> None:
    connection = RedisConnection(parse_store_url("redis://shop:s3cret@127.0.0.1:1/0"))
    with pytest.raises(StoreUnavailable) as caught:
        await connection.open()
    assert str(caught.value).startswith("store redis://shop:***@127.0.0.1:1/0 is unavailable: ")
    with pytest.raises(StoreUnavailable, match="is not open"):
        await ReferenceStore(connection, "shop").load_all()


async def test_a_server_out_of_memory_refuses_a_reference_whole() -> None:
    async with EmbeddedRedis() as server, RedisConnection(parse_store_url(server.url)) as connection:
        store = ReferenceStore(connection, "shop")
        await store.put(reference())
        stamp = await store.stamp()
        await connection.client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await store.put(reference("other"))
        await connection.client.config_set("maxmemory", 0)
        assert await store.load_all() == [reference()]
        assert await store.stamp() == stamp
