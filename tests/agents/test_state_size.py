"""What a million live impressions cost in Redis, and that nobody can be found in it."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from agents.decoding import HASH_KEY_BYTES
from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.metrics import Metrics
from agents.partition_state import encode_head
from agents.transports.batch import Batch, Section
from deploy.redis_server import RedisServer
from tables.checkpoint import Lease, Scope
from tables.join_policy import JoinPolicy
from tables.redis_store import RedisStore
from tables.redis_url import parse_store_url
from tests.tables.streams import T0

IMPRESSIONS = 1_000_000
CLICKS = IMPRESSIONS // 20
PARTITIONS = 4
SECONDS = 655
"""The oldest of so many seconds is still open: a minute, ten more for the attribution, less the watermark's lag."""
BYTES_AN_IMPRESSION = 24

SETTING = JoinSetting(
    policy=JoinPolicy(),
    topics=JoinTopics("impressions", "clicks", "partials", "dead_letters"),
    hash_key=bytes(range(HASH_KEY_BYTES)),
    now_ms=lambda: T0 + 3_600_000,
    metrics=Metrics(),
    sources=lambda: PARTITIONS,
    targets=lambda: 1,
)


def seconds_of(partition: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Impressions and clicks of each second of a partition, up to 3 s out of order."""
    rng = random.Random(partition)
    shown: list[tuple[int, int]] = []
    for second in range(SECONDS):
        impressions, clicks = [], []
        for _ in range(share(IMPRESSIONS, second)):
            user, item = rng.randrange(10**7) * PARTITIONS + partition, rng.randrange(10_000)
            shown.append((user, item))
            time = max(T0, T0 + second * 1000 + rng.randrange(1000) - rng.choice([0, 0, 1000, 3000]))
            impressions.append(
                b'{"user_id":"customer-%d@shop.example","item_id":"article-%d","event_time":%d,"model_id":"home-%d"}'
                % (user, item, time, rng.randrange(20))
            )
        for _ in range(share(CLICKS, second)):
            user, item = rng.choice(shown)
            clicks.append(
                b'{"user_id":"customer-%d@shop.example","item_id":"article-%d","event_time":%d}'
                % (user, item, T0 + second * 1000 + rng.randrange(1000))
            )
        # What cannot be used names people as well.
        impressions.append(b'{"user_id":"customer-1@shop.example","item_id":"article-1","event_time":"never"}')
        clicks.append(b'{"user_id":"customer-1@shop.example","item_id":"article-1","event_time":%d}' % (T0 - 10**9))
        yield impressions, clicks


def share(total: int, second: int) -> int:
    """Of so many in a partition, those of one second."""
    mine = total // PARTITIONS
    return mine * (second + 1) // SECONDS - mine * second // SECONDS


async def fill(url: str) -> int:
    """Take everything in with a checkpoint a second, as a worker does; the impressions then live."""
    store = RedisStore(parse_store_url(url), "size-test")
    await store.open()
    live = 0
    for partition in range(PARTITIONS):
        lease: Lease = (await store.claim(Scope("join", partition), T0)).lease
        state = JoinState(partition, SETTING, clock_ms=0)
        offsets = {"impressions": 0, "clicks": 0}
        for second, (impressions, clicks) in enumerate(seconds_of(partition)):
            sections = []
            for topic, values in (("clicks", clicks), ("impressions", impressions)):
                first, offsets[topic] = offsets[topic], offsets[topic] + len(values)
                sections.append(Section(topic, range(first, offsets[topic]), values, offsets[topic]))
            state.tick(second * 1000, others=0)
            state.apply(Batch(partition, tuple(sections)), {})
            changes = state.changes(lease.epoch, lease.number + 1)
            assert changes is not None
            await store.save(lease, encode_head(offsets, changes), append=changes.append, drop=changes.drop)
        await store.hint("watermarks", str(partition), json.dumps(state.watermark).encode())
        live += state.table.live_impressions
        assert state.table.live_clicks > 0.95 * CLICKS / PARTITIONS
    await store.close()
    return live


@pytest.fixture(scope="module")
def filled(redis_server: RedisServer) -> Iterator[tuple[redis.Redis, int]]:
    """A Redis that holds the state, and how many impressions live."""
    with redis_server.client() as client:
        client.flushall()
        yield client, asyncio.run(fill(redis_server.url))
        client.flushall()


def test_a_million_live_impressions_take_at_most_24_bytes_each(
    filled: tuple[redis.Redis, int], capsys: pytest.CaptureFixture[str]
) -> None:
    client, live = filled
    used = sum(int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter())
    per_impression = used / live
    with capsys.disabled():
        sys.stdout.write(f"\n{live:,} live impressions, {used:,} bytes in Redis: {per_impression:.1f} an impression\n")
    assert live > 0.999 * IMPRESSIONS  # of the rest each was shown twice within a millisecond
    assert 12 < per_impression <= BYTES_AN_IMPRESSION


def test_every_key_has_an_end(filled: tuple[redis.Redis, int]) -> None:
    client, _ = filled
    left = {key: client.ttl(key) for key in client.scan_iter()}
    assert len(left) > PARTITIONS * 12
    assert all(0 < int(seconds) <= 24 * 3600 for seconds in left.values()), left


def test_no_id_can_be_found_in_a_dump(filled: tuple[redis.Redis, int]) -> None:
    client, _ = filled
    dumped = 0
    for key in client.scan_iter():
        kind = client.type(key)
        content: list[Any] = client.lrange(key, 0, -1) if kind == b"list" else [*sum(client.hgetall(key).items(), ())]
        for text in (key, *content, client.dump(key) or b""):
            dumped += len(text)
            for secret in (b"customer", b"shop.example", b"article"):
                assert secret not in text
    assert dumped > 12 * IMPRESSIONS  # it was looked into
    # Model names are no secret, and show that this would find what is there.
    head = client.hget("tidemark:{size-test:join:0}:head", "head")
    assert head is not None
    assert b"home-7" in head
