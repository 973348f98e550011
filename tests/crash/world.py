"""The world under test: a broker, a store, worker processes that die and come back, and a producer."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.config import load_config
from agents.kafka_admin import connect
from agents.recordings import Line
from deploy.process import ServerProcess, free_port
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError
from tables.reference import Reference
from tests.crash.traffic import DRIFT, PARTITIONS, Traffic
from tests.crash.verdict import Outcome, Watcher

SESSION_S = 6.0
SLICE_S = 0.2
POLL_S = 0.1
RESTART_S = 3.0
BATCH_BYTES = 512 * 1024
# Longer than an outage of the store.
READY_S = 120.0


async def until(condition: Callable[[], bool], within_s: float = float("inf")) -> bool:
    """Wait until a condition holds, which nobody announces; False where the time was over first."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


class Worker:
    """One `tidemark worker` process; all methods block."""

    def __init__(self, index: int, folder: Path, config: Path) -> None:
        self.index = index
        self.port = free_port()
        self.wanted = False
        """Whether it ought to run: one that ended all the same died by itself."""
        self.paused = False
        self.excused = False
        """Whether it was started in an outage: it may say so and end, where one that runs has to wait."""
        command = [sys.executable, "-m", "agents.commands.main", "worker", "--config", str(config)]
        log = folder / f"worker-{index}.log"
        self.process = ServerProcess(f"worker {index}", [*command, "--web-port", str(self.port)], log, error=RunError)

    @property
    def up(self) -> bool:
        """Whether it runs and is not paused."""
        return self.wanted and not self.paused and self.process.running

    def start(self, *, excused: bool = False) -> None:
        self.excused = excused
        self.process.start()
        self.wanted = True

    def kill(self) -> None:
        self.wanted = False
        self.process.kill()

    def ready(self) -> bool:
        """Whether it has its partitions and their state."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class World:
    """One consumer group of workers on topics of its own."""

    def __init__(
        self,
        folder: Path,
        kafka: KafkaCluster,
        redis: RedisServer,
        *,
        prefix: str = "",
        attribution: str = "all",
        references: Sequence[Reference] = (),
        workers: int = 2,
        rng: random.Random | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.kafka = kafka
        self.redis = redis
        self.rng = rng or random.Random(0)
        self.duration_s = 0.0
        self.kills = 0
        self.recoveries: list[float] = []
        """Seconds from each kill until the worker had partitions and their state again."""
        self.outages = 0
        """Outages under way."""
        self.doubled = False
        """Whether records may have been sent twice, for the broker did not answer."""
        self.died: list[str] = []
        """What was said by workers that ended without an excuse."""
        config_file = folder / "tidemark.yaml"
        settings: dict[str, Any] = {
            "group": f"{prefix}crash",
            "broker": kafka.url,
            "store": redis.url,
            "topics": {"prefix": prefix, "partitions": PARTITIONS, "replication": min(3, len(kafka.brokers))},
            "join": {"attribution": attribution},
            "kafka": {"session_timeout": f"{SESSION_S:.0f}s"},
            "channels": [],
            "drift": {"horizon": f"{DRIFT.horizon_ms // 1000}s", "references": [f"{r.id}.json" for r in references]},
        }
        for reference in references:
            (folder / f"{reference.id}.json").write_bytes(reference.to_json())
        config_file.write_text(yaml.safe_dump(settings))
        self.config = load_config(config_file, {})
        self.workers = [Worker(index, folder, config_file) for index in range(workers)]
        topics = self.config.topics
        self._watcher = Watcher(kafka.bootstrap, topics.windows, topics.dead_letters, PARTITIONS)
        self._producer: AIOKafkaProducer | None = None
        self._began = 0.0
        self._group: asyncio.TaskGroup | None = None
        self._say = say

    @property
    def outcome(self) -> Outcome:
        """What the workers have told so far."""
        return self._watcher.outcome

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Create the topics, start the workers, and stop all in the end."""
        async with connect(self.config, READY_S) as admin:
            await admin.create_missing()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.kafka.bootstrap,
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            # Longer than any outage: what was accepted for sending is sent.
            request_timeout_ms=120_000,
        )
        guard: asyncio.Task[None] | None = None
        try:
            await self._producer.start()
            await self._watcher.start()
            for worker in self.workers:
                await asyncio.to_thread(worker.start)
            guard = asyncio.create_task(self._guard())
            for worker in self.workers:
                await self.until_ready(worker)
            self.say("workers ready")
            yield
        finally:
            if guard is not None:
                guard.cancel()
            for worker in self.workers:
                await asyncio.to_thread(worker.kill)
            await self._watcher.stop()
            await self._producer.stop()

    def say(self, what: str) -> None:
        """Report progress."""
        at = time.monotonic() - self._began if self._began else 0.0
        self._say(f"{at:6.1f} s  {what}")

    def summary(self, traffic: Traffic) -> str:
        """The run in one line."""
        recoveries = ", ".join(f"{seconds:.1f}" for seconds in sorted(self.recoveries))
        return (
            f"{len(traffic.lines):,} events, {len(traffic.lines) / self.duration_s:,.0f}/s; {self.kills} kills, "
            f"recovered after {recoveries or '-'} s; {self.outcome.repeated} final rows repeated, "
            f"{len(self.outcome.dead)} dead letters"
        )

    async def run(self, traffic: Traffic, seconds: float, troubles: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Send the traffic within so many seconds while the troubles go on; then send the closing events."""
        self.duration_s = seconds
        parts = traffic.slices(seconds, SLICE_S)
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as self._group:
            for trouble in troubles:
                self._group.create_task(trouble)
            for (topic, partition), bunches in parts.items():
                self._group.create_task(self._send_part(topic, partition, bunches))
        self.say(f"{len(traffic.lines)} events sent, troubles over, {len(self.outcome.final)} windows final")
        for line in traffic.closing():
            await self._deliver(line.topic, line.partition, [line])

    async def until_final(self, traffic: Traffic, within_s: float) -> None:
        """Wait until every expected window is final, or the time is over; then for what may come too much."""
        await until(lambda: not self.outcome.missing(traffic), within_s)
        self.say(f"{len(self.outcome.final)} windows final, {len(self.outcome.missing(traffic))} rows missing")
        await asyncio.sleep(2.0)
        await self._watcher.read_to_end(30.0)

    async def moment(self, share: float) -> None:
        """Wait until this share of the run is over."""
        await asyncio.sleep(max(0.0, self._began + share * self.duration_s - time.monotonic()))

    async def some_worker(self) -> Worker:
        """One that runs, at random; in an outage not the first, which has to live through it."""

        def fit() -> list[Worker]:
            return [worker for worker in self.workers[bool(self.outages) :] if worker.up]

        await until(lambda: bool(fit()))
        return self.rng.choice(fit())

    async def until_ready(self, worker: Worker) -> float:
        """Wait until a worker says that it is ready; seconds. Gives up when it is killed again."""
        began = time.monotonic()
        while worker.wanted and not worker.paused and not await asyncio.to_thread(worker.ready):
            if time.monotonic() - began > READY_S:
                raise AssertionError(f"worker {worker.index} is not ready: {worker.process.log_tail(5)}")
            await asyncio.sleep(POLL_S)
        return time.monotonic() - began

    async def kill_and_restart(self, worker: Worker, pause_s: float) -> None:
        """SIGKILL a worker, and start it again a little later."""
        killed = time.monotonic()
        await asyncio.to_thread(worker.kill)
        self.kills += 1
        self.say(f"worker {worker.index} killed, down for {pause_s:.1f} s")
        await asyncio.sleep(pause_s)
        await self._start(worker)
        assert self._group is not None
        self._group.create_task(self._see_recover(worker, killed))

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """What the workers need is away inside of this block; the first worker is running when it begins."""
        self.outages += 1
        first = self.workers[0]
        try:
            await until(lambda: first.up)
            await self.until_ready(first)
            first.excused = False
            yield
        finally:
            self.outages -= 1

    async def _see_recover(self, worker: Worker, killed: float) -> None:
        await self.until_ready(worker)
        if worker.wanted:
            self.recoveries.append(time.monotonic() - killed)

    async def _guard(self) -> None:
        """Start workers again that ended by themselves, as a supervisor would do."""
        while True:
            for worker in self.workers:
                if worker.wanted and not worker.process.running:
                    said = f"worker {worker.index} ended: {worker.process.log_tail(1)}"
                    self.say(said)
                    if not worker.excused:
                        self.died.append(said)
                    await asyncio.sleep(RESTART_S)
                    if worker.wanted:
                        await self._start(worker)
            await asyncio.sleep(POLL_S)

    async def _start(self, worker: Worker) -> None:
        await asyncio.to_thread(worker.start, excused=self.outages > 0)

    async def _send_part(self, topic: str, partition: int, bunches: list[tuple[float, list[Line]]]) -> None:
        for due, lines in bunches:
            await asyncio.sleep(max(0.0, self._began + due - time.monotonic()))
            await self._deliver(topic, partition, lines)

    async def _deliver(self, topic: str, partition: int, lines: list[Line]) -> None:
        assert self._producer is not None
        sent = 0
        while sent < len(lines):
            batch, end = self._producer.create_batch(), sent
            while end < len(lines) and batch.append(key=lines[end].key, value=lines[end].value, timestamp=None):
                end += 1
            try:
                await (await self._producer.send_batch(batch, self.config.topics.prefix + topic, partition=partition))
            except KafkaError as error:
                # Sending it once more may double events, which must change nothing in the join.
                self.doubled = True
                self.say(f"sending to {topic} {partition} failed: {error!r}; again")
                await asyncio.sleep(0.2)
            else:
                sent = end
