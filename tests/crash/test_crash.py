"""Half a million events on real Kafka and Redis while workers, the broker or the store fail: exact all the same.

In every scenario a worker is killed and restarted at five random moments, and one is paused beyond its session
timeout. Run with `pytest -m slow tests/crash -s`; CRASH_SEED repeats a run's moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deploy.stack import KafkaCluster, RedisServer, why_no_kafka
from tests.crash.traffic import Traffic, shop_traffic
from tests.crash.world import SESSION_S, World, until
from tests.oracle import MINUTE

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(420), pytest.mark.allow_blocking]

SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**6))
EVENTS = 500_000
RUN_S = 75.0
FINAL_S = 120.0
KILLS = 5
REDIS_AWAY_S = 60.0

Trouble = Callable[[World], Awaitable[None]]


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    reason = why_no_kafka()
    if reason:
        pytest.skip(reason)
    start_ms = time.time_ns() // 1_000_000 // MINUTE * MINUTE - 120 * MINUTE
    made = shop_traffic(SEED, rate=170, minutes=40, start_ms=start_ms)
    assert len(made.lines) >= EVENTS
    say(f"\nCRASH_SEED={SEED}: {len(made.lines)} events, {len(made.broken)} broken, {len(made.expected)} windows")
    return made


async def kill_five_times(world: World) -> None:
    """Whoever runs at the moment may be hit, while it restores as well."""
    for share in sorted(world.rng.uniform(0.05, 0.95) for _ in range(KILLS)):
        await world.moment(share)
        # The other one must have had the time to take over what a paused one owns.
        await until(lambda: not any(worker.paused for worker in world.workers))
        await world.kill_and_restart(await world.some_worker(), world.rng.uniform(0.1, 3.0))


async def pause_one(world: World) -> None:
    """What the paused worker wants to write when it wakes up must be refused: its partitions have moved."""
    await world.moment(world.rng.uniform(0.1, 0.8))
    worker = await world.some_worker()
    worker.paused = True
    worker.process.pause()
    world.say(f"worker {worker.index} paused")
    await asyncio.sleep(SESSION_S + world.rng.uniform(2.0, 5.0))
    worker.process.resume()
    worker.paused = False
    world.say(f"worker {worker.index} resumed")


async def nothing_else(world: World) -> None:
    """Kills and the pause are all."""


async def redis_emptied(world: World) -> None:
    await world.moment(0.5)
    with world.redis.client() as client:
        client.flushall()
    world.say("Redis emptied")


async def redis_set_back(world: World) -> None:
    """As from a backup that is a quarter of the run old: 14 minutes of event time."""
    await world.moment(0.35)
    with world.redis.client() as client:
        folder = Path(client.config_get("dir")["dir"])
        client.save()
    shutil.copy(folder / "dump.rdb", folder / "older.rdb")
    world.say("Redis saved")
    await world.moment(0.6)
    async with world.outage():
        await asyncio.to_thread(world.redis.stop)
        shutil.copy(folder / "older.rdb", folder / "dump.rdb")
        await asyncio.to_thread(world.redis.restart)
    world.say("Redis put back")


async def redis_away(world: World) -> None:
    """Stopped: every connection fails at once."""
    await world.moment(0.3)
    async with world.outage():
        await asyncio.to_thread(world.redis.stop)
        world.say("Redis stopped")
        await asyncio.sleep(REDIS_AWAY_S)
        await asyncio.to_thread(world.redis.restart)
        world.say("Redis back")
        await asyncio.sleep(5.0)


async def redis_hangs(world: World) -> None:
    """Connections stay open and nothing answers; what was asked meanwhile is carried out in the end."""
    await world.moment(0.3)
    async with world.outage():
        world.redis.pause()
        world.say("Redis hangs")
        await asyncio.sleep(REDIS_AWAY_S)
        world.redis.resume()
        world.say("Redis back")
        await asyncio.sleep(5.0)


async def broker_restarted(world: World) -> None:
    """In order or not, as the seed has it."""
    await world.moment(0.5)
    async with world.outage():
        if world.rng.random() < 0.5:
            await asyncio.to_thread(world.kafka.kill, 0)
            world.say("broker killed")
        else:
            world.say("broker stopping")
        await asyncio.to_thread(world.kafka.restart, 0)
        world.say("broker back")
        await asyncio.sleep(5.0)


async def broker_lost(world: World) -> None:
    """For good; it leads a third of the partitions and, one time in three, the group."""
    await world.moment(world.rng.uniform(0.3, 0.6))
    async with world.outage():
        broker = world.rng.randrange(3)
        await asyncio.to_thread(world.kafka.kill, broker)
        world.say(f"broker {broker} killed for good")
        await asyncio.sleep(15.0)


@pytest.mark.parametrize(
    ("trouble", "brokers"),
    [
        pytest.param(nothing_else, 1, id="kills-only"),
        pytest.param(redis_emptied, 1, id="redis-emptied"),
        pytest.param(redis_set_back, 1, id="redis-set-back"),
        pytest.param(redis_away, 1, id="redis-away"),
        pytest.param(redis_hangs, 1, id="redis-hangs"),
        pytest.param(broker_restarted, 1, id="broker-restarted"),
        pytest.param(broker_lost, 3, id="one-of-three-brokers-lost"),
    ],
)
async def test_final_rows_are_exact(trouble: Trouble, brokers: int, traffic: Traffic, tmp_path: Path) -> None:
    durable = trouble is redis_away
    cluster = await asyncio.to_thread(KafkaCluster.start, tmp_path / "kafka", brokers)
    redis = await asyncio.to_thread(lambda: RedisServer.start(tmp_path / "redis", durable=durable))
    try:
        rng = random.Random(f"{SEED} {trouble.__name__}")
        world = World(tmp_path, cluster, redis, references=traffic.references, rng=rng, say=say)
        say(f"\n{trouble.__name__}")
        async with world.running():
            await world.run(traffic, RUN_S, [kill_five_times(world), pause_one(world), _of(trouble, world)])
            await world.until_final(traffic, FINAL_S)
        world.say(world.summary(traffic))
    finally:
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(cluster.stop)
    horizon_lost = trouble is redis_emptied
    assert world.outcome.faults(traffic, horizon_lost=horizon_lost, doubled=world.doubled) == []
    assert world.died == [], "workers outlive whatever happens around them"
    assert world.kills == KILLS


async def _of(trouble: Trouble, world: World) -> None:
    await trouble(world)
