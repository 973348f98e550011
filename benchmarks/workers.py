"""`python -m benchmarks.workers`: what a second worker on a second core brings.

One worker and two read the same topics of the same Kafka in turn, round by round, each pinned to a core of its own;
every final row of every run is compared with the oracle's. On a machine of two cores Kafka and Redis have to run on the
same two, and two workers ask twice as much of them in a second. They are not pinned, so they take what is free on
either core; tidemark fetches large batches and stores small changes, so it is little. Their processor time is measured
with each run and reported beside the ratio: `servers` is its share of all the time that both cores had. That share is
about what the ratio can have lost to them; where it is large, the ratio is theirs and not tidemark's. The broker waits
a few seconds for all members before it gives out partitions, so two workers share them from the first record on. CPU
seconds per million events, of both workers together, should be those of one: they tell what the ratio would be if
nothing had to be shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import PARTITIONS, TOPICS, fill
from benchmarks.machine import Cores
from benchmarks.measurement import Spread
from benchmarks.worker_run import Servers, WorkerRun, run_workers
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError

EVENTS, ROUNDS = 5_000_000, 3
"""Enough for the second that the last checkpoints take, with one worker as with two, to weigh little."""
WORKERS = (1, 2)
MEMBERS_MS = 4_000
"""How long the broker waits for more members; all workers of a run start in the same moment."""
LEAST_SHARE = 0.3
"""Of the records for each of two workers, or they were not two from the beginning."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Rounds of (one worker, two workers)."""

    rounds: Sequence[tuple[WorkerRun, WorkerRun]]

    @property
    def ratio(self) -> Spread:
        """Records/s of two workers over those of one in the same round."""
        return Spread.of([two.rate / one.rate for one, two in self.rounds])

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {
            "ratio": asdict(self.ratio),
            "points": [
                _point(number, runs) for number, runs in zip(WORKERS, zip(*self.rounds, strict=True), strict=True)
            ],
            "rounds": [[asdict(run) for run in runs] for runs in self.rounds],
        }


def measure(events: int = EVENTS, rounds: int = ROUNDS) -> Scaling:
    """Run one worker and two in turn. Raises RunError, also where a final row is wrong."""
    cores = Cores.for_workers(max(WORKERS))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings = {"group.initial.rebalance.delay.ms": str(MEMBERS_MS)}
    done = []
    with tempfile.TemporaryDirectory(prefix="tidemark-workers-") as name:
        folder = Path(name)
        with (
            KafkaCluster.start(folder / "kafka", heap="1g", settings=settings) as kafka,
            RedisServer.start(folder / "redis") as redis,
        ):
            servers = Servers(kafka, redis, folder)
            kafka.create_topics({TOPICS.impressions: PARTITIONS, TOPICS.clicks: PARTITIONS})
            sys.stderr.write(f"writing {events:,} events\n")
            load = asyncio.run(fill(kafka.bootstrap, events))
            for number in range(1, rounds + 1):
                one, two = (run_workers(servers, f"{count}-workers-{number}", load, cores[:count]) for count in WORKERS)
                if min(two.consumed) < LEAST_SHARE * sum(two.consumed):
                    raise RunError(f"round {number}: the two workers took {two.consumed} records, not about half each")
                done.append((one, two))
                sys.stderr.write(f"round {number}: {one.rate:,.0f} and {two.rate:,.0f} records/s\n")
    return Scaling(done)


def _point(workers: int, runs: Sequence[WorkerRun]) -> dict[str, Any]:
    return {
        "workers": workers,
        "records_per_s": asdict(Spread.of([run.rate for run in runs])),
        "cpu_s_per_million": asdict(Spread.of([run.cpu_per_million for run in runs])),
        "servers": asdict(Spread.of([run.server_cpu_seconds / (max(WORKERS) * run.seconds) for run in runs])),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--events", type=int, metavar="N", default=EVENTS)
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    try:
        scaling = measure(options.events, options.rounds)
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = scaling.as_json()
    for point in found["points"]:
        sys.stdout.write(
            f"{point['workers']} worker(s): {point['records_per_s']['median']:,.0f} records/s, "
            f"{point['cpu_s_per_million']['median']:.2f} CPU s per million, servers {point['servers']['median']:.0%}\n"
        )
    ratio = scaling.ratio
    sys.stdout.write(f"two over one: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})\n")
    if options.out is not None:
        options.out.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
