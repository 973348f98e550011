"""Real servers for the tests, and the rules that hold in all of them.

`kafka` and `redis_server` start one real server each for the whole run; `redis_url` is that Redis, emptied,
and `topic_prefix` keeps tests that share the broker apart. A test that kills or pauses a server starts one of
its own with deploy.stack. In an async test no code of ours may block the event loop.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from deploy.stack import KafkaCluster, RedisServer, why_no_kafka

OURS = ["agents", "alerting", "tables"]
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")

# The machines that run the tests are shared and slow: no deadline for one example. In CI the same examples
# every time, so that a change is never blamed for what it did not do.
settings.register_profile("dev", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the broker, so that `-m 'not kafka'` leaves it out."""
    for item in items:
        if isinstance(item, pytest.Function) and "kafka" in item.fixturenames:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One running broker. Without Java or the jars: skipped on a laptop, failed in CI."""
    reason = why_no_kafka()
    if reason and IN_CI:
        pytest.fail(f"CI must run these tests: {reason}")
    if reason:
        pytest.skip(reason)
    with KafkaCluster.start(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topic names and groups that no other test uses."""
    return f"t{uuid.uuid4().hex[:8]}."


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One running Redis without persistence; leave it running."""
    with RedisServer.start(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a running, empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(autouse=True)
def no_blocking_in_the_event_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an async test in which our code sleeps, reads or waits while its event loop stands still."""
    is_async = request.node.get_closest_marker("asyncio") is not None
    if not is_async or request.node.get_closest_marker("allow_blocking"):
        yield
        return
    with blockbuster_ctx(scanned_modules=OURS):
        yield
