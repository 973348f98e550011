"""Two hundred incidents on real Kafka and Redis while the workers that tell of them are killed at random.

Run with `pytest -m slow tests/crash/test_paging.py -s`; CRASH_SEED repeats a run's moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiokafka import AIOKafkaProducer

from agents.config import load_config
from agents.kafka_admin import connect
from deploy.process import free_port
from deploy.stack import KafkaCluster, RedisServer
from tests.crash.paging import ESCALATE_S, Incident, Receivers, acknowledge, incidents, mistakes, repeats
from tests.crash.world import READY_S, Worker, until

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(420), pytest.mark.allow_blocking]

SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**6))
INCIDENTS = 200
OPEN_FOR_S = 110.0
KILLS = 8
SESSION_S = 6.0
DOWN_S = SESSION_S + 14.0
"""A session, a rebalance and a restore on a busy machine, and what waits in the queues then."""


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


async def test_every_stage_of_every_incident_is_told(
    tmp_path: Path, kafka: KafkaCluster, redis_server: RedisServer, redis_url: str, topic_prefix: str
) -> None:
    rng = random.Random(SEED)
    say(f"\nCRASH_SEED={SEED}")
    receivers = Receivers()
    await receivers.start(free_port())
    file = tmp_path / "tidemark.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "group": f"{topic_prefix}paging",
                "broker": kafka.url,
                "store": redis_url,
                "topics": {"prefix": topic_prefix, "partitions": 2},
                "kafka": {"session_timeout": f"{SESSION_S:.0f}s"},
                "channels": [
                    {"type": "webhook", "name": name, "url": f"{receivers.base}/{name}"} for name in ("first", "second")
                ],
                "alerting": {
                    "receivers": {"first": ["first"], "second": ["second"]},
                    "escalations": {
                        "page": [{"notify": ["first"]}, {"wait": f"{ESCALATE_S:.0f}s"}, {"notify": ["second"]}]
                    },
                    "route": {"escalation": "page"},
                    "inhibit": [],
                },
            }
        )
    )
    config = load_config(file, {})
    async with connect(config, READY_S) as admin:
        await admin.create_missing()
    workers = [Worker(index, tmp_path, file) for index in range(2)]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True)
    await producer.start()
    made = incidents(rng, INCIDENTS, OPEN_FOR_S)
    try:
        for worker in workers:
            await asyncio.to_thread(worker.start)
        await all_ready(workers)
        receivers.began = began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=8.0)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            kills = group.create_task(kill_at_random(rng, workers, began))
            ports = [worker.port for worker in workers]
            for incident in made:
                group.create_task(live(incident, producer, config.topics.alerts, session, ports, began))
        assert kills.result() == KILLS
        # What is left to be said is said when somebody has taken the alerts over.
        await until(lambda: not mistakes(made, receivers.told, KILLS, DOWN_S), 60.0)
        await asyncio.sleep(3.0)
    finally:
        for worker in workers:
            await asyncio.to_thread(worker.kill)
        await producer.stop()
        await receivers.stop()
    said = [each for each in receivers.told if each.status == "firing"]
    found = mistakes(made, receivers.told, KILLS, DOWN_S)
    twice = repeats(receivers.told)
    say(f"{len(receivers.told)} messages, {len(said)} calls, {twice} came twice, {KILLS} kills, {len(found)} mistakes")
    for line in found:
        say(line)
    assert not found
    assert sum(incident.acked_at is not None for incident in made) > INCIDENTS // 5


async def kill_at_random(rng: random.Random, workers: list[Worker], began: float) -> int:
    """Returns how often."""
    for count in range(KILLS):
        # Nobody can be told of anything while nobody is there.
        await all_ready(workers)
        await asyncio.sleep(rng.uniform(2.0, 8.0))
        worker = rng.choice(workers)
        await asyncio.to_thread(worker.kill)
        say(f"{time.monotonic() - began:.1f} s: worker {worker.index} killed ({count + 1})")
        await asyncio.sleep(rng.uniform(0.1, 2.0))
        await asyncio.to_thread(worker.start)
    return KILLS


async def all_ready(workers: list[Worker]) -> None:
    """In threads: the receivers are in this process, and must not stand still."""
    async with asyncio.timeout(READY_S):
        while not all([await asyncio.to_thread(each.ready) for each in workers]):  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.2)


async def live(
    incident: Incident,
    producer: AIOKafkaProducer,
    topic: str,
    session: aiohttp.ClientSession,
    ports: list[int],
    began: float,
) -> None:
    """The life of one incident."""

    async def moment(at: float) -> None:
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))

    alert = incident.alert
    key = alert.model_id.encode()
    await moment(incident.opens)
    await producer.send_and_wait(topic, alert.to_json(), key=key, partition=0)
    incident.opened_at = time.monotonic() - began
    acking: asyncio.Task[None] | None = None
    if incident.acks is not None:
        await moment(incident.acks)
        acking = asyncio.create_task(acknowledge(session, ports, incident, began))
    await moment(incident.ends)
    over = replace(alert, status="resolved", resolved_at=alert.fired_at + 60_000)
    await producer.send_and_wait(topic, over.to_json(), key=key, partition=0)
    incident.ended_at = time.monotonic() - began
    if acking is not None:
        with contextlib.suppress(asyncio.CancelledError):
            acking.cancel()
            await acking
