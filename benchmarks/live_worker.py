"""A tidemark worker on a Kafka and a Redis of its own, whose open windows hold as many impressions as one asks for."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.partition_state import decode_head
from agents.recordings import Line
from benchmarks.load import PARTITIONS, TOPICS, batch_producer
from benchmarks.machine import Cores
from benchmarks.measurement import Watched
from benchmarks.worker_web import WorkerWeb
from deploy.process import ServerProcess, free_port
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError
from tables.join_policy import WINDOW_MS

GROUP = "live"
OPEN_MINUTES = 11
CLICK_EVERY = 20
CLICK_DELAY_MS = 2_000
NEWEST_MS = 1_776_675_660_000 - 1_000
"""Event time of the newest impression: late in a minute, so that eleven windows are open, the oldest one wholly."""
OLDEST_MS = NEWEST_MS + 1_000 - OPEN_MINUTES * WINDOW_MS
START_S = 60.0
FILL_S = 300.0


def live_lines(impressions: int, earlier: int = 0) -> Iterator[Line]:
    """Impressions number `earlier` to `impressions`, all distinct, spread over the open minutes in the order of time.

    Every twentieth is clicked.
    """
    for number in range(earlier, impressions):
        at = OLDEST_MS + (number - earlier) * (NEWEST_MS - OLDEST_MS) // (impressions - earlier)
        yield _shown(number, at)
        if number % CLICK_EVERY == 0:
            yield _clicked(number, at + CLICK_DELAY_MS)


def backlog_lines(records: int) -> Iterator[Line]:
    """So many more impressions of the newest moment."""
    for number in range(records):
        yield _shown(-1 - number, NEWEST_MS)


def _shown(number: int, at: int) -> Line:
    model = b'"model_id":"recommender-%d","model_version":"2026-05-0%d"' % (number % 3, 1 + number % 2)
    return _line(TOPICS.impressions, number, at, b'"event_time":%d,%b' % (at, model))


def _clicked(number: int, at: int) -> Line:
    return _line(TOPICS.clicks, number, at, b'"event_time":%d' % at)


def _line(topic: str, number: int, at: int, fields: bytes) -> Line:
    user = b"user-%d" % number
    value = b'{"user_id":"%b","item_id":"item-%d",%b}' % (user, number % 20_011, fields)
    return Line(topic, number % PARTITIONS, 0, at, user, value)


@dataclass(slots=True)
class LiveWorker:
    """The worker and its servers."""

    kafka: KafkaCluster
    redis: RedisServer
    config: Path
    process: ServerProcess
    watched: Watched
    web: WorkerWeb
    ends: Counter[tuple[str, int]] = field(default_factory=Counter)
    """End offset of each input partition."""

    @classmethod
    @contextmanager
    def on_servers(cls, folder: Path, cores: Cores, settings: Mapping[str, Any] | None = None) -> Iterator[LiveWorker]:
        """The servers run, the worker does not yet; `settings` of its configuration. Raises RunError."""
        # aiokafka complains about a broker that is still starting.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        with KafkaCluster.start(folder / "kafka", heap="1g") as kafka, RedisServer.start(folder / "redis") as redis:
            kafka.create_topics({TOPICS.impressions: PARTITIONS, TOPICS.clicks: PARTITIONS})
            config = folder / "tidemark.yaml"
            port = free_port()
            argv = [sys.executable, "-m", "agents.commands.main", "worker", "--config", str(config)]
            argv += ["--broker", kafka.url, "--store", redis.url, "--web-port", str(port)]
            process = ServerProcess("worker", cores.measured_argv(argv), folder / "worker.log", error=RunError)
            worker = cls(kafka, redis, config, process, Watched(process), WorkerWeb(port))
            worker.configure(settings or {})
            try:
                yield worker
            finally:
                process.stop(grace_s=30.0)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """What its configuration says from its next start on, beside the group."""
        self.config.write_text(json.dumps({"group": GROUP, **settings}))

    def start(self) -> None:
        """Start the worker; it may not answer yet."""
        self.process.start()
        self.watched = Watched(self.process)

    def write(self, lines: Iterator[Line]) -> None:
        """Write these lines to Kafka."""
        asyncio.run(self._write(lines))

    async def _write(self, lines: Iterator[Line]) -> None:
        async with batch_producer(self.kafka.bootstrap) as send:
            for line in lines:
                self.ends[line.topic, line.partition] += 1
                await send(line)

    def wait_ready(self) -> None:
        """Until /readyz says yes."""
        self.watched.wait(self.web.is_ready, START_S, "readiness")

    def wait_checkpointed(self) -> None:
        """Until the checkpoints in Redis cover all that has been written."""
        with self.redis.client() as redis:
            self.watched.wait(lambda: self._covered(redis), FILL_S, "checkpoint of the last record")

    def head_key(self, partition: int) -> str:
        """Where Redis holds the head of a join partition's checkpoint."""
        return f"tidemark:{{{GROUP}:join:{partition}}}:head"

    def _covered(self, redis: Any) -> bool:
        for partition in range(PARTITIONS):
            head = redis.hget(self.head_key(partition), "head")
            if head is None:
                return False
            positions = decode_head(head).positions
            if any(positions.get(topic, 0) < end for (topic, of), end in self.ends.items() if of == partition):
                return False
        return True
