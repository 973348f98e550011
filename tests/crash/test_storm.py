"""Two thousand alerts in ten seconds through a whole worker, on real Kafka and Redis, to one robot.

Run with `pytest -m slow tests/crash/test_storm.py -s`; it takes as many minutes as twenty messages each do.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil
import pytest
import yaml
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.config import load_config
from agents.kafka_admin import connect
from alerting.alert import SEVERITIES, Alert
from deploy.stack import KafkaCluster
from tests.agents.alerting_world import an_alert
from tests.alerting.channels.receiver import receiving, told
from tests.alerting.sending.robot_budget import BUDGET, MINUTE_S, first_free, most_in_any_window
from tests.crash.world import READY_S, Worker, until

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(1500), pytest.mark.allow_blocking]

SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**6))
ALERTS = 2_000
STORM_S = 10.0
WITHIN_S = 5.0
"""A critical one is told so soon after the robot takes one more."""
TO_THE_CHANNEL_S = 2.0
"""From Kafka through the desk and a checkpoint; before, other critical ones may use what is free."""
MOST_BYTES = 4_096
MOST_MORE_MIB = 256
"""What the storm may add to the worker's memory."""


@dataclass(slots=True)
class Robot:
    """What came, and when; seconds of the monotonic clock."""

    came: list[tuple[float, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.came.append((time.monotonic(), orjson.loads(await request.read())["markdown"]["content"]))
        return await told({"errcode": 0, "errmsg": "ok"})(request)


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


def the_storm(rng: random.Random) -> list[Alert]:
    """Five in a hundred are critical, each of a model of its own."""
    kinds = rng.choices(SEVERITIES, weights=(5, 60, 35), k=ALERTS)
    now = time.time_ns() // 1_000_000
    return [
        an_alert(f"model-{number}", severity=severity, started_at=now + number) for number, severity in enumerate(kinds)
    ]


async def test_a_storm_through_a_whole_worker(
    tmp_path: Path, kafka: KafkaCluster, redis_url: str, topic_prefix: str
) -> None:
    rng = random.Random(SEED)
    say(f"\nCRASH_SEED={SEED}")
    storm, robot = the_storm(rng), Robot()
    async with receiving() as receiver:
        receiver.otherwise = robot.take
        (tmp_path / "robot.url").write_text(f"{receiver.base_url}/cgi-bin/webhook/send?key=a-key")
        file = tmp_path / "tidemark.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "group": f"{topic_prefix}storm",
                    "broker": kafka.url,
                    "store": redis_url,
                    "topics": {"prefix": topic_prefix, "partitions": 2},
                    "channels": [
                        {"type": "wecom", "name": "robot", "url_file": "robot.url", "min_severity": "minor"},
                    ],
                    "alerting": {"inhibit": []},
                }
            )
        )
        config = load_config(file, {})
        async with connect(config, READY_S) as admin:
            await admin.create_missing()
        worker = Worker(0, tmp_path, file)
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True, linger_ms=5)
        await producer.start()
        try:
            await asyncio.to_thread(worker.start)
            async with asyncio.timeout(READY_S):
                while not await asyncio.to_thread(worker.ready):  # noqa: ASYNC110 - nobody says when
                    await asyncio.sleep(0.2)
            memory = Memory(worker)
            blown = await blow(storm, producer, config.topics.alerts)
            names = {alert.alert_id for alert in storm}
            shown = 0

            def all_told() -> bool:
                nonlocal shown
                memory.look()
                if len(robot.came) // BUDGET > shown:
                    shown = len(robot.came) // BUDGET
                    missing = names - {name for _, text in robot.came for name in names if name in text}
                    say(f"{robot.came[-1][0] - blown[0]:.0f} s: {len(robot.came)} messages, {len(missing)} to come")
                    return not missing
                return time.monotonic() - robot.came[-1][0] > 1.2 * MINUTE_S if robot.came else False

            assert await until(all_told, 1200.0)
            # Whatever would come twice has the time to.
            await asyncio.sleep(5.0)
        finally:
            await asyncio.to_thread(worker.kill)
            await producer.stop()
    assert await letters(kafka, config.topics.dead_letters) == 0
    report(storm, blown, robot.came)
    say(f"memory: {memory.before_mib:.0f} MiB before, {memory.most_mib:.0f} at most")
    assert memory.most_mib < memory.before_mib + MOST_MORE_MIB


async def blow(storm: Sequence[Alert], producer: AIOKafkaProducer, topic: str) -> list[float]:
    """When each of them was in Kafka."""
    began, sent = time.monotonic(), []
    for number, alert in enumerate(storm):
        await asyncio.sleep(max(0.0, began + STORM_S * number / len(storm) - time.monotonic()))
        sent.append(await producer.send(topic, alert.to_json(), key=alert.model_id.encode(), partition=0))
    stamps = [(await each).timestamp / 1000 for each in sent]
    to_monotonic = time.monotonic() - time.time()
    return [stamp + to_monotonic for stamp in stamps]


def report(storm: Sequence[Alert], blown: Sequence[float], came: Sequence[tuple[float, str]]) -> None:
    """Hold what came to what was promised."""
    times = [at for at, _ in came]
    assert most_in_any_window(times) <= BUDGET
    assert all(len(text.encode()) <= MOST_BYTES for _, text in came)

    severity_of = {alert.alert_id: alert.severity for alert in storm}
    blown_at = {alert.alert_id: at for alert, at in zip(storm, blown, strict=True)}
    told_of = [[name for name in severity_of if name in text] for _, text in came]
    assert Counter(name for found in told_of for name in found) == Counter(severity_of.keys())

    critical = {name for name, severity in severity_of.items() if severity == "critical"}
    told_at = {name: at for at, found in zip(times, told_of, strict=True) for name in found}
    waits = [
        told_at[name] - first_free(blown_at[name] + TO_THE_CHANNEL_S, [at for at in times if at < told_at[name]])
        for name in critical
    ]
    beside = [found for found in told_of if not critical.isdisjoint(found) and not critical.issuperset(found)]
    overtaken = [
        name
        for name in critical
        for at, found in zip(times, told_of, strict=True)
        if blown_at[name] + WITHIN_S < at < told_at[name] and critical.isdisjoint(found)
    ]
    digests = [found for found in told_of if len(found) > 1]
    say(
        f"{len(came)} messages in {times[-1] - times[0]:.0f} s; {len(critical)} critical alerts, each told within "
        f"{max(waits):.1f} s of the first free slot; {len(digests)} digests of {sum(map(len, digests))} alerts"
    )
    assert max(waits) <= WITHIN_S
    assert not beside and not overtaken
    assert sum(map(len, digests)) > 0.95 * (len(storm) - len(critical))


class Memory:
    """Of a worker's process, in MiB."""

    def __init__(self, worker: Worker) -> None:
        self._process = psutil.Process(worker.process.pid)
        self.before_mib = self.most_mib = self._now()

    def look(self) -> None:
        self.most_mib = max(self.most_mib, self._now())

    def _now(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


async def letters(kafka: KafkaCluster, topic: str) -> int:
    """How many dead letters there are."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
        return sum(ends.values())
    finally:
        await consumer.stop()
