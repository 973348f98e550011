"""Other frameworks doing tidemark's job, counted after by the same oracle, each with as much as it does in a while."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.flink import DIFFERENCES as FLINK_DIFFERENCES
from benchmarks.flink import run_flink
from benchmarks.load import PARTITIONS, TOPICS, Load, fill, last_rows
from benchmarks.measurement import Measurement
from benchmarks.peer_environment import peer_python
from benchmarks.systems import Bench, System, run_child
from deploy.process import free_port
from tables.errors import RunError

APPS = Path(__file__).with_name("peers")
LOAD_SECONDS = 1.5
"""Of each second that the stock agent counts, so 30 of its 20."""
FLINK_ROCKSDB_RATE = 20_000
"""Twice what it does: a JVM needs a while until its code is compiled."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A framework that does the job."""

    system: System
    differences: str
    """What its job does otherwise than tidemark's; printed under the table."""


@dataclass(frozen=True, slots=True)
class App:
    """A job in `benchmarks/peers` that says itself, in the way of `peers/task.py`, what it came to."""

    name: str
    arguments: Sequence[str]
    """Of the interpreter."""
    rate: int
    """Records/s that it does about, which sets its load: all records of the large one would take it minutes."""
    python: Callable[[], str]

    def __call__(self, bench: Bench, run: str) -> Measurement:
        """Run it once on a load of its own, the same shop with fewer visitors, and compare its rows.

        Raises RunError, also where there are rows of windows in which nothing was shown.
        """
        load = _load(bench, _events(bench, self.rate))
        rows, result, folder = f"{run}.rows", bench.folder / f"{run}.json", bench.folder / run
        bench.kafka.create_topics({rows: PARTITIONS})
        folder.mkdir()
        env = {
            "PEER_BOOTSTRAP": bench.kafka.bootstrap,
            "PYTHONPATH": str(APPS),
            "PEER_GROUP": run,
            "PEER_FOLDER": str(folder),
            "PEER_IMPRESSIONS": load.topics.impressions,
            "PEER_CLICKS": load.topics.clicks,
            "PEER_ROWS": rows,
            "PEER_RECORDS": str(load.events),
            "PEER_RESULT": str(result),
            "PEER_WEB_PORT": str(free_port()),
        }
        argv = [self.python(), *self.arguments]
        measured = run_child(self.name, bench.process(run, argv, env), result)
        found = asyncio.run(last_rows(bench.kafka.bootstrap, rows))
        if more := found.keys() - load.expected.keys():
            raise RunError(f"{run}: {len(more)} windows should not be there, such as {min(more)}")
        right = sum(found.get(key) == counts for key, counts in load.expected.items())
        return replace(measured, windows=len(load.expected), right_windows=right)


def _own_python() -> str:
    return sys.executable


def _events(bench: Bench, rate: int) -> int:
    """The size of a load for a system that does so many records/s."""
    return round(rate * bench.stock_seconds * LOAD_SECONDS)


def _load(bench: Bench, events: int) -> Load:
    """The load of so many events, written once."""
    if events not in bench.loads:
        prefix = f"peers-{events}."
        bench.kafka.create_topics({prefix + TOPICS.impressions: PARTITIONS, prefix + TOPICS.clicks: PARTITIONS})
        bench.loads[events] = asyncio.run(fill(bench.kafka.bootstrap, events, prefix))
    return bench.loads[events]


PEERS: Mapping[str, Peer] = {
    "faust job": Peer(
        App("faust job", ("-m", "faust", "-A", "faust_job", "worker", "--loglevel", "warn"), 1_000, _own_python),
        "Faust has no join and expires windows by the wall clock: plain tables, which never forget a pair. Counts are "
        "not repartitioned by model, so they are right with one worker only. No watermark: rows are running ones, "
        "written each second, and the last one of a window is compared.",
    ),
    "quix streams": Peer(
        App("quix streams", (str(APPS / "quix_job.py"),), 5_000, lambda: peer_python("quix_job")),
        "Its interval join works on the message key (the user), and the item is compared after. A click that is read "
        "before its impression is not joined (it looks only back from the record at hand), so some clicks are missing. "
        "Distinct pairs are plain state, which never forgets. Windows close by the furthest partition, so rows are "
        "running ones, one for each change, and the last of a window is compared.",
    ),
    "bytewax": Peer(
        App("bytewax", (str(APPS / "bytewax_job.py"),), 12_000, lambda: peer_python("bytewax_job")),
        "It has no interval join: keyed state, which never forgets a pair. No recovery store, so nothing is "
        "checkpointed. A window closes by its model's own clock or at the end of the topics.",
    ),
    "flink heap": Peer(
        lambda bench, run: run_flink(bench, run, "heap", bench.load),
        f"State on the heap of a JVM of 6 GiB. {FLINK_DIFFERENCES}",
    ),
    "flink rocksdb": Peer(
        lambda bench, run: run_flink(bench, run, "rocksdb", _load(bench, _events(bench, FLINK_ROCKSDB_RATE))),
        "The same with state in RocksDB, which holds more of it than memory does.",
    ),
}
"""In the order of the report."""
