"""`python -m benchmarks.partitions`: events/s of one worker against the number of partitions of its topics.

The same shop lies in topics of 1, 4, 16 and 64 partitions, and `tidemark.*` has as many. A worker on one core reads all
of it, in turn and round by round; every final row is compared with the oracle's. A partition has a state, checkpoints
and partials of its own, so more of them cost something even where the events are the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.load import Load, fill
from benchmarks.machine import Cores
from benchmarks.measurement import Spread
from benchmarks.worker_run import Servers, WorkerRun, run_workers
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError

EVENTS, ROUNDS = 1_000_000, 3
PARTITIONS = (1, 4, 16, 64)


def measure(events: int = EVENTS, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """A point for each number of partitions, with each run. Raises RunError, also where a final row is wrong."""
    cores = Cores.divide()
    cores.claim_servers()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    runs: dict[int, list[WorkerRun]] = {count: [] for count in PARTITIONS}
    with tempfile.TemporaryDirectory(prefix="tidemark-partitions-") as name:
        folder = Path(name)
        with KafkaCluster.start(folder / "kafka", heap="1g") as kafka, RedisServer.start(folder / "redis") as redis:
            servers = Servers(kafka, redis, folder)
            loads = {count: _fill(servers, events, count) for count in PARTITIONS}
            for number in range(1, rounds + 1):
                for count, load in loads.items():
                    run = run_workers(servers, f"partitions-{count}-{number}", load, [cores.measured])
                    runs[count].append(run)
                    sys.stderr.write(f"round {number}: {count} partitions, {run.rate:,.0f} records/s\n")
    return [_point(count, each) for count, each in runs.items()]


def _fill(servers: Servers, events: int, partitions: int) -> Load:
    sys.stderr.write(f"writing {events:,} events to {partitions} partitions\n")
    topics = Load(prefix=f"p{partitions}.", partitions=partitions).topics
    servers.kafka.create_topics({topics.impressions: partitions, topics.clicks: partitions})
    return asyncio.run(fill(servers.kafka.bootstrap, events, topics.prefix, partitions))


def _point(partitions: int, runs: Sequence[WorkerRun]) -> dict[str, Any]:
    return {
        "partitions": partitions,
        "records_per_s": asdict(Spread.of([run.rate for run in runs])),
        "cpu_s_per_million": asdict(Spread.of([run.cpu_per_million for run in runs])),
        "runs": [asdict(run) for run in runs],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.partitions", description=__doc__)
    parser.add_argument("--events", type=int, metavar="N", default=EVENTS)
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    try:
        points = measure(options.events, options.rounds)
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for point in points:
        sys.stdout.write(
            f"{point['partitions']:>3} partitions: {point['records_per_s']['median']:,.0f} records/s, "
            f"{point['cpu_s_per_million']['median']:.2f} CPU s per million\n"
        )
    if options.out is not None:
        options.out.write_text(json.dumps(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
