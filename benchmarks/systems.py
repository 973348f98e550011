"""The systems that are measured. Each reads the same topics from the start, in a process of its own on one core."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import TopicPartition

from agents.partition_state import decode_head
from benchmarks.child_result import ChildResult
from benchmarks.load import PARTITIONS, TOPICS, Load, final_rows, remove_outputs
from benchmarks.machine import Cores
from benchmarks.measurement import Measurement, Watched
from deploy.process import ServerProcess, free_port
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError
from tests.oracle import Key

START_S = 60.0
RUN_S = 600.0
FINAL_ROWS_S = 60.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every system runs on."""

    cores: Cores
    kafka: KafkaCluster
    redis: RedisServer
    load: Load
    folder: Path
    stock_seconds: float
    """How long the stock agent counts: it is measured by the record, and would take minutes for all of them."""
    loads: dict[int, Load] = field(default_factory=dict)
    """Smaller loads by their number of events, for what would take minutes for `load`; kept over the rounds."""

    def process(
        self, name: str, argv: list[str], env: Mapping[str, str] | None = None, *, error: type[RunError] = RunError
    ) -> ServerProcess:
        """A process on the measured core."""
        log = self.folder / f"{name.replace(' ', '-')}.log"
        return ServerProcess(name, self.cores.measured_argv(argv), log, error=error, env=env)


System = Callable[[Bench, str], Measurement]
"""Runs once, under a name that no other run has (a consumer group); raises RunError where it cannot."""


def getmany(bench: Bench, run: str) -> Measurement:
    """The floor of every consumer here: aiokafka's getmany, and nothing done with the records."""
    return _floor(bench, "getmany", run)


def decode(bench: Bench, run: str) -> Measurement:
    """The floor of every job in Python: getmany, and each record decoded into typed columns."""
    return _floor(bench, "decode", run)


def stock_faust(bench: Bench, run: str) -> Measurement:
    """A stock Faust agent that counts the impressions."""
    result = bench.folder / f"{run}.json"
    env = {
        "BENCHMARK_GROUP": run,
        "BENCHMARK_BOOTSTRAP": bench.kafka.bootstrap,
        "BENCHMARK_FOLDER": str(bench.folder / run),
        "BENCHMARK_WEB_PORT": str(free_port()),
        "BENCHMARK_RECORDS": str(bench.load.records[TOPICS.impressions]),
        "BENCHMARK_SECONDS": str(bench.stock_seconds),
        "BENCHMARK_RESULT": str(result),
    }
    argv = [sys.executable, "-m", "faust", "-A", "benchmarks.stock_faust", "worker", "--loglevel", "warn"]
    return run_child("stock faust", bench.process(run, argv, env), result)


def tidemark(bench: Bench, run: str) -> Measurement:
    """A tidemark worker doing its whole job, until all is checkpointed and every final row is written."""
    asyncio.run(remove_outputs(bench.kafka.bootstrap))
    config = bench.folder / f"{run}.yaml"
    config.write_text(f"group: {run}\n")
    argv = [sys.executable, "-m", "agents.commands.main", "worker", "--config", str(config)]
    argv += ["--broker", bench.kafka.url, "--store", bench.redis.url, "--web-port", str(free_port())]
    process = bench.process(run, argv)
    began = time.time()
    process.start()
    watched = Watched(process)
    try:
        with bench.redis.client() as redis:
            heads = [f"tidemark:{{{run}:join:{number}}}:head" for number in range(PARTITIONS)]
            # A claim comes just before the first fetch, so the time in between counts against tidemark.
            watched.wait(lambda: any(map(redis.exists, heads)), START_S, "claimed partition")
            first_at, cpu = time.time(), watched.cpu_seconds()

            def is_done() -> bool:
                return all(_is_read(bench.load, number, redis.hget(head, "head")) for number, head in enumerate(heads))

            watched.wait(is_done, RUN_S, "checkpoint of the last record")
            done_at = time.time()
        rows = asyncio.run(final_rows(bench.kafka.bootstrap, set(bench.load.expected), FINAL_ROWS_S))
        cpu = watched.cpu_seconds() - cpu
        if rows.counts != bench.load.expected:
            raise RunError(f"{run}: {_difference(rows.counts, bench.load.expected)}")
    finally:
        process.stop(grace_s=30.0)
    windows = len(bench.load.expected)
    seconds = max(done_at, rows.last_ms / 1000) - first_at
    return Measurement(
        "tidemark", bench.load.events, seconds, cpu, watched.peak_rss, first_at - began, windows, windows
    )


SYSTEMS: Mapping[str, System] = {
    "getmany": getmany,
    "decode": decode,
    "stock faust": stock_faust,
    "tidemark": tidemark,
}
"""In the order of the report."""


def _floor(bench: Bench, floor: str, run: str) -> Measurement:
    result = bench.folder / f"{run}.json"
    argv = [sys.executable, "-m", "benchmarks.floors", floor, bench.kafka.bootstrap, str(bench.load.events)]
    return run_child(floor, bench.process(run, [*argv, str(result)]), result)


def run_child(system: str, process: ServerProcess, result: Path) -> Measurement:
    """Run a process that says itself what it came to."""
    began = time.time()
    process.start()
    watched = Watched(process)
    try:
        watched.wait(result.exists, RUN_S, "result")
    finally:
        process.stop()
    said = ChildResult.read(result)
    return Measurement(system, said.records, said.seconds, said.cpu_seconds, watched.peak_rss, said.first_at - began)


def _is_read(load: Load, partition: int, head: object) -> bool:
    """Whether a checkpoint covers all records of the partition."""
    if not isinstance(head, bytes):
        return False
    positions = decode_head(head).positions
    topics = (TOPICS.impressions, TOPICS.clicks)
    return all(positions.get(topic, 0) >= load.ends[TopicPartition(topic, partition)] for topic in topics)


def _difference(found: Mapping[Key, tuple[int, int]], expected: Mapping[Key, tuple[int, int]]) -> str:
    wrong = [key for key in expected if found.get(key) != expected[key]]
    more = len(found.keys() - expected.keys())
    example = f", such as {wrong[0]}: {found.get(wrong[0])}, not {expected[wrong[0]]}" if wrong else ""
    return f"{len(wrong)} of {len(expected)} windows are wrong or missing{example}; {more} should not be there"
