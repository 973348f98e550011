"""Small streams through real Kafka, four partitions and two workers: final rows equal the oracle's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deploy.stack import KafkaCluster, RedisServer
from tests.crash.traffic import Traffic, random_traffic, shop_traffic
from tests.crash.world import World
from tests.oracle import MINUTE

# The code under test runs in processes of its own.
pytestmark = pytest.mark.allow_blocking

SEED = 20260423


def recent_ms() -> int:
    return time.time_ns() // 1_000_000 // MINUTE * MINUTE - 120 * MINUTE


async def check(world: World, traffic: Traffic, seconds: float) -> None:
    async with world.running():
        await world.run(traffic, seconds, [])
        await world.until_final(traffic, within_s=30.0)
    assert world.outcome.faults(traffic) == []
    assert world.outcome.repeated == 0, "nothing went wrong, so nothing is told twice"
    assert world.died == []


@pytest.mark.parametrize("attribution", ["all", "last"])
async def test_a_shop_with_all_its_noise(
    attribution: str, kafka: KafkaCluster, redis_server: RedisServer, topic_prefix: str, tmp_path: Path
) -> None:
    traffic = shop_traffic(SEED, rate=20, minutes=12, start_ms=recent_ms(), attribution=attribution)
    assert traffic.broken and traffic.served and traffic.compared
    world = World(
        tmp_path, kafka, redis_server, prefix=topic_prefix, attribution=attribution, references=traffic.references
    )
    await check(world, traffic, 3.0)


async def test_few_users_and_items_that_collide_out_of_order(
    kafka: KafkaCluster, redis_server: RedisServer, topic_prefix: str, tmp_path: Path
) -> None:
    traffic = random_traffic(SEED, events=2_000)
    await check(World(tmp_path, kafka, redis_server, prefix=topic_prefix), traffic, 3.0)
