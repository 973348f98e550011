"""The systems that are measured. Each reads the same topics from the start, in a process of its own on one core."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.child_result import ChildResult
from benchmarks.load import TOPICS, Load
from benchmarks.machine import Cores
from benchmarks.measurement import Measurement, Watched
from benchmarks.worker_run import Servers, run_workers
from deploy.process import ServerProcess, free_port
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError

RUN_S = 600.0


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
    servers = Servers(bench.kafka, bench.redis, bench.folder)
    done = run_workers(servers, run, bench.load, [bench.cores.measured])
    cpu, peak, windows = done.cpu_seconds[0], done.peak_rss[0], len(bench.load.expected)
    return Measurement("tidemark", done.records, done.seconds, cpu, peak, done.startup_s, windows, windows)


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
