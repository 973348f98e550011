"""tidemark workers on a load that lies in Kafka: started together, watched until all is done, held to the oracle."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from aiokafka import TopicPartition

from agents.partition_state import decode_head
from benchmarks.load import Load, final_rows, remove_outputs
from benchmarks.machine import pinned_argv
from benchmarks.measurement import Watched
from benchmarks.worker_web import WorkerWeb
from deploy.process import ServerProcess, free_port
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError
from tests.oracle import Key

START_S = 60.0
RUN_S = 600.0
FINAL_ROWS_S = 60.0
STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Servers:
    """What workers are given."""

    kafka: KafkaCluster
    redis: RedisServer
    folder: Path

    def cpu_seconds(self) -> float:
        """Processor time so far, of Kafka and Redis together."""
        pids = [*(broker.pid for broker in self.kafka.brokers), self.redis.pid]
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """What the workers of one group came to, between the first claim of a partition and the last final row."""

    records: int
    seconds: float
    startup_s: float
    """From the start of the processes to the first claim."""
    cpu_seconds: tuple[float, ...]
    """Processor time of each worker."""
    server_cpu_seconds: float
    """Of Kafka and Redis together."""
    peak_rss: tuple[int, ...]
    """Bytes, of each worker."""
    consumed: tuple[int, ...]
    """Records, by each worker."""

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """Processor seconds of all workers per million records."""
        return sum(self.cpu_seconds) / self.records * 1e6


def run_workers(
    servers: Servers, run: str, load: Load, cores: Sequence[int | None], **settings: Mapping[str, Any]
) -> WorkerRun:
    """Start a worker on each of these cores (None: on any) in a group named `run`, and wait until everything is done.

    `settings`: more sections of the configuration. Done is when each record is covered by a checkpoint in Redis and
    each final row lies in Kafka. Raises RunError, also where the final rows are not what the oracle counts.
    """
    asyncio.run(remove_outputs(servers.kafka.bootstrap, load.topics))
    config = servers.folder / f"{run}.yaml"
    topics = {"prefix": load.prefix, "partitions": load.partitions}
    config.write_text(json.dumps({"group": run, "topics": topics, **settings}))
    heads = [f"tidemark:{{{run}:join:{number}}}:head" for number in range(load.partitions)]
    with ExitStack() as stack, servers.redis.client() as redis:
        began = time.time()
        processes, webs = [], []
        for number, core in enumerate(cores):
            webs.append(WorkerWeb(free_port()))
            argv = [sys.executable, "-m", "agents.commands.main", "worker", "--config", str(config)]
            argv += ["--broker", servers.kafka.url, "--store", servers.redis.url, "--web-port", str(webs[-1].port)]
            name = f"{run}-{number}"
            processes.append(
                ServerProcess(name, pinned_argv(argv, core), servers.folder / f"{name}.log", error=RunError)
            )
            processes[-1].start()
            stack.callback(processes[-1].stop, STOP_S)
        watched = Watchers([Watched(process) for process in processes])
        # A claim comes just before the first fetch, so the time in between counts against tidemark.
        watched.wait(lambda: any(map(redis.exists, heads)), START_S, "claimed partition")
        first_at, cpu, server_cpu = time.time(), watched.cpu_seconds(), servers.cpu_seconds()
        watched.wait(lambda: _is_done(load, redis, heads), RUN_S, "checkpoint of the last record")
        done_at = time.time()
        rows = asyncio.run(final_rows(servers.kafka.bootstrap, load, FINAL_ROWS_S))
        used = [after - before for after, before in zip(watched.cpu_seconds(), cpu, strict=True)]
        server_cpu = servers.cpu_seconds() - server_cpu
        if rows.counts != load.expected:
            raise RunError(f"{run}: {_difference(rows.counts, load.expected)}")
        consumed = tuple(int(web.metric("tidemark_events_consumed_total")) for web in webs)
    seconds = max(done_at, rows.last_ms / 1000) - first_at
    peaks = tuple(each.peak_rss for each in watched.each)
    return WorkerRun(load.events, seconds, first_at - began, tuple(used), server_cpu, peaks, consumed)


@dataclass(frozen=True, slots=True)
class Watchers:
    """Several processes that are watched together."""

    each: Sequence[Watched]

    def cpu_seconds(self) -> list[float]:
        """Processor time so far, of each."""
        return [one.cpu_seconds() for one in self.each]

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Sample all until `done`; raises RunError where one of them ends before, or it takes longer."""
        first, *others = self.each

        def sampled() -> bool:
            for other in others:
                other.sample()
            return done()

        first.wait(sampled, seconds, what)


def _is_done(load: Load, redis: Any, heads: Sequence[str]) -> bool:
    return all(_is_read(load, number, redis.hget(head, "head")) for number, head in enumerate(heads))


def _is_read(load: Load, partition: int, head: object) -> bool:
    """Whether a checkpoint covers all records of the partition."""
    if not isinstance(head, bytes):
        return False
    positions = decode_head(head).positions
    topics = (load.topics.impressions, load.topics.clicks)
    return all(positions.get(topic, 0) >= load.ends[TopicPartition(topic, partition)] for topic in topics)


def _difference(found: Mapping[Key, tuple[int, int]], expected: Mapping[Key, tuple[int, int]]) -> str:
    wrong = [key for key in expected if found.get(key) != expected[key]]
    more = len(found.keys() - expected.keys())
    example = f", such as {wrong[0]}: {found.get(wrong[0])}, not {expected[wrong[0]]}" if wrong else ""
    return f"{len(wrong)} of {len(expected)} windows are wrong or missing{example}; {more} should not be there"
