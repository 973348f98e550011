"""Flink SQL as a peer: the CTR query of peers/flink_query.sql in a local Flink, its JVM on the measured core."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.flink_jars import flink_jars
from benchmarks.load import CLOSING_MODEL, Load
from benchmarks.measurement import Measurement, Watched
from benchmarks.peer_environment import peer_python
from deploy.kafka_jars import java_executable
from deploy.process import free_port
from tables.errors import RunError
from tests.oracle import Key

if TYPE_CHECKING:
    from benchmarks.systems import Bench

JOB = Path(__file__).with_name("peers") / "flink_job.py"
START_S = 120.0
RUN_S = 1800.0
ROWS_S = 60.0
STOP_S = 10.0

DIFFERENCES = (
    "No checkpoints are on: after a crash it starts from the first record. Final rows only, no provisional ones, no "
    "rules and no alerts. Broken records are skipped without being counted or kept. Late events: the interval join "
    "still takes one whose partner it remembers, and the window drops a row after its end, counted in a metric only. "
    "Attribution `all` and numeric times only; users and items lie in its state as they are. The time runs from when "
    "all its tasks run until the job has ended, the JVM still compiling in it."
)
"""What the query does otherwise than tidemark."""


@dataclass(frozen=True, slots=True)
class State:
    """Where Flink keeps what it remembers, and the memory that suits it."""

    backend: str
    jvm: str
    options: Mapping[str, str] = field(default_factory=dict)


STATES: Mapping[str, State] = {
    "heap": State("hashmap", "-Xms6g -Xmx6g -Xmn2g -XX:+UseParallelGC"),
    "rocksdb": State("rocksdb", "-Xms2g -Xmx2g -Xmn1g -XX:+UseParallelGC", {"taskmanager.memory.managed.size": "4g"}),
}


def run_flink(bench: Bench, run: str, state: str, load: Load) -> Measurement:
    """One run of the query over a load, with state on the `heap` or in `rocksdb`. Raises RunError where it fails."""
    python, jars = peer_python("flink"), flink_jars()
    folder = bench.folder / run
    folder.mkdir()
    topic = f"flink.{run}"
    bench.kafka.create_topics({topic: 1})
    running, done = folder / "running", folder / "done"
    settings = folder / "settings.json"
    settings.write_text(json.dumps(_settings(bench, load, jars, STATES[state], topic, folder)))
    env = {
        "JAVA_HOME": str(Path(java_executable()).resolve().parents[1]),
        # FLINK_ENV_JAVA_OPTS would replace what Flink's own configuration asks of Java 17.
        "JVM_ARGS": STATES[state].jvm,
        "FLINK_LOG_DIR": str(folder),
    }
    process = bench.process(run, [python, str(JOB), str(settings)], env)
    began = time.time()
    process.start()
    watched = WatchedFamily(process)
    try:
        watched.wait(running.exists, START_S, "running job")
        cpu = watched.cpu_seconds()
        watched.wait(done.exists, RUN_S, "end of the job")
        cpu = watched.cpu_seconds() - cpu
    finally:
        family = watched.family()
        process.stop()
        _end(family)
    first_at, done_at = float(running.read_text()), float(done.read_text())
    rows = asyncio.run(_rows(bench.kafka.bootstrap, topic))
    if more := rows.keys() - load.expected.keys():
        raise RunError(f"{run}: {len(more)} windows should not be there, such as {min(more)}")
    right = sum(rows.get(key) == counts for key, counts in load.expected.items())
    return Measurement(
        f"flink {state}",
        load.events,
        done_at - first_at,
        cpu,
        watched.peak_rss,
        first_at - began,
        windows=len(load.expected),
        right_windows=right,
    )


class WatchedFamily(Watched):
    """A process with its children: PyFlink's Python is small, and the JVM that it starts does the work."""

    def family(self) -> list[psutil.Process]:
        """The process and its children."""
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def sample(self) -> None:
        """Look at the memory of all of them. Raises RunError where the first has ended."""
        super().sample()
        resident = 0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                resident += process.memory_info().rss
        self.peak_rss = max(self.peak_rss, resident)

    def cpu_seconds(self) -> float:
        """Processor time so far, all of them."""
        self.sample()
        used = 0.0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
        return used


def _settings(bench: Bench, load: Load, jars: Sequence[Path], state: State, topic: str, folder: Path) -> dict[str, Any]:
    """What flink_job.py reads."""
    rest_port = free_port()
    return {
        "config": {
            "pipeline.jars": ";".join(jar.as_uri() for jar in jars),
            "pipeline.object-reuse": "true",
            "parallelism.default": "1",
            "state.backend.type": state.backend,
            "table.local-time-zone": "UTC",
            "rest.port": str(rest_port),
            "io.tmp.dirs": str(folder),
            **state.options,
        },
        "names": {
            "impressions": load.topics.impressions,
            "clicks": load.topics.clicks,
            "windows": topic,
            "bootstrap": bench.kafka.bootstrap,
        },
        "rest_port": rest_port,
        "running": str(folder / "running"),
        "done": str(folder / "done"),
    }


async def _rows(bootstrap: str, topic: str) -> dict[Key, tuple[int, int]]:
    """Everything in a topic that nobody writes to any more."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    rows: dict[Key, tuple[int, int]] = {}
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        async with asyncio.timeout(ROWS_S):
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        row = orjson.loads(record.value)
                        start = datetime.fromisoformat(row["window_start"]).replace(tzinfo=UTC)
                        key = (row["model_id"], row["model_version"]), round(start.timestamp() * 1000)
                        rows[key] = row["impressions"], row["clicks"]
    finally:
        await consumer.stop()
    return {key: counts for key, counts in rows.items() if key[0][0] != CLOSING_MODEL}


def _end(family: list[psutil.Process]) -> None:
    """Wait for the JVM, which ends with the Python that started it; one that did not would hold gigabytes."""
    _, left = psutil.wait_procs(family, STOP_S)
    for process in left:
        process.kill()
