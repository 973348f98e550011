"""Stores of checkpoints on real Redis servers of every kind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from deploy.redis_server import RedisServer
from deploy.redis_sets import RedisCluster, RedisSentinelSet
from tables.embedded_redis import EmbeddedRedis
from tables.redis_store import RedisStore
from tables.redis_url import connect, disconnect, parse_store_url

OpenStore = Callable[..., RedisStore]


@pytest.fixture(scope="session")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A master and a replica behind a sentinel; leave them running."""
    with RedisSentinelSet.start(tmp_path_factory.mktemp("sentinel")) as redis_set:
        [(host, port)] = redis_set.sentinels
        yield f"redis+sentinel://{host}:{port}/{redis_set.service}/0"


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of three masters; leave it running."""
    with RedisCluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url.replace("redis://", "redis+cluster://")


@pytest.fixture(scope="session")
def embedded_url() -> Iterator[str]:
    """The server that demo and replay bring along; leave it running."""
    with asyncio.Runner() as runner:
        embedded = EmbeddedRedis()
        runner.run(embedded.start())
        yield embedded.url
        runner.run(embedded.stop())


@pytest.fixture(params=["standalone", "sentinel", "cluster", "embedded"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The same test on every kind of Redis."""
    if request.param == "standalone":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return uuid.uuid4().hex[:8]


@pytest.fixture
async def open_store(namespace: str) -> AsyncIterator[Callable[..., Any]]:
    """Opens stores on the same namespace, as several workers would; closes them after the test."""
    stores: list[RedisStore] = []

    async def open_one(url: str, **options: Any) -> RedisStore:
        store = RedisStore(parse_store_url(url), namespace, **options)
        stores.append(store)
        await store.open()
        return store

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Any]:
    """A plain client of the server under test, for looking into it and for breaking things."""
    client = connect(parse_store_url(store_url))
    yield client
    await disconnect(client)
