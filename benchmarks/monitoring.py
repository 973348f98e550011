"""`python -m benchmarks.monitoring`: what it costs to watch the features of events for drift.

Every impression carries 20 features: 14 numbers, 4 categories and 2 flags. A worker on one core reads the same topics
in turn with no feature watched and with all of them (a reference for each model), round by round; every final row of
kind `ctr` is compared with the oracle's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from agents.recordings import Line
from agents.simulation.scenarios import scenario_named
from benchmarks.load import PARTITIONS, TOPICS, fill
from benchmarks.machine import Cores
from benchmarks.measurement import Spread
from benchmarks.worker_run import Servers, WorkerRun, run_workers
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError
from tables.reference import Reference
from tables.reference_building import build_reference

EVENTS, ROUNDS = 2_000_000, 3
NUMBERS, CATEGORIES, FLAGS = 14, 4, 2
SHAPES = 5_000
"""Different sets of values, dealt out to the events in turn."""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Rounds of (nothing watched, all features watched)."""

    rounds: Sequence[tuple[WorkerRun, WorkerRun]]

    @property
    def ratio(self) -> Spread:
        """Records/s with everything watched over those with nothing, of the same round."""
        return Spread.of([watched.rate / plain.rate for plain, watched in self.rounds])

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {
            "features": NUMBERS + CATEGORIES + FLAGS,
            "ratio": asdict(self.ratio),
            "points": [_point(*each) for each in zip((False, True), zip(*self.rounds, strict=True), strict=True)],
            "rounds": [[asdict(run) for run in runs] for runs in self.rounds],
        }


def measure(events: int = EVENTS, rounds: int = ROUNDS) -> Monitoring:
    """Run a worker with nothing watched and with everything in turn. Raises RunError, also where a row is wrong."""
    cores = Cores.divide()
    cores.claim_servers()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    shapes = _shapes()
    done = []
    with tempfile.TemporaryDirectory(prefix="tidemark-monitoring-") as name:
        folder = Path(name)
        drift = {"references": _write_references(folder, shapes)}
        with KafkaCluster.start(folder / "kafka", heap="1g") as kafka, RedisServer.start(folder / "redis") as redis:
            servers = Servers(kafka, redis, folder)
            kafka.create_topics({TOPICS.impressions: PARTITIONS, TOPICS.clicks: PARTITIONS})
            sys.stderr.write(f"writing {events:,} events\n")
            load = asyncio.run(fill(kafka.bootstrap, events, change=_Dealer(shapes)))
            for number in range(1, rounds + 1):
                plain = run_workers(servers, f"plain-{number}", load, [cores.measured])
                watched = run_workers(servers, f"watched-{number}", load, [cores.measured], drift=drift)
                done.append((plain, watched))
                sys.stderr.write(f"round {number}: {plain.rate:,.0f} and {watched.rate:,.0f} records/s\n")
    return Monitoring(done)


class _Dealer:
    """Gives every impression that can be read the next features."""

    def __init__(self, shapes: Sequence[dict[str, Any]]) -> None:
        self._shapes = shapes
        self._next = 0

    def __call__(self, line: Line) -> Line:
        if line.topic != TOPICS.impressions:
            return line
        try:
            event = orjson.loads(line.value or b"")
        except orjson.JSONDecodeError:
            return line
        self._next += 1
        event["features"] = self._shapes[self._next % len(self._shapes)]
        return structs.replace(line, value=orjson.dumps(event))


def _shapes() -> list[dict[str, Any]]:
    rng = random.Random(1)
    return [
        {
            **{f"number_{n}": round(rng.gauss(3, 2), 4) for n in range(NUMBERS)},
            **{f"category_{n}": rng.choice(("red", "green", "blue", "other")) for n in range(CATEGORIES)},
            **{f"flag_{n}": rng.random() < 0.3 for n in range(FLAGS)},
        }
        for _ in range(SHAPES)
    ]


def _write_references(folder: Path, shapes: Sequence[dict[str, Any]]) -> list[str]:
    columns = {name: [shape[name] for shape in shapes] for name in shapes[0]}
    files = []
    for model in scenario_named("steady").models:
        reference: Reference = build_reference(
            columns, model_id=model.model_id, model_version=None, created_at_ms=1, source="benchmark"
        )
        files.append(folder / f"{model.model_id}.json")
        files[-1].write_bytes(reference.to_json())
    return [str(file) for file in files]


def _point(watched: bool, runs: Sequence[WorkerRun]) -> dict[str, Any]:
    return {
        "watched": watched,
        "records_per_s": asdict(Spread.of([run.rate for run in runs])),
        "cpu_s_per_million": asdict(Spread.of([run.cpu_per_million for run in runs])),
        "peak_rss": max(max(run.peak_rss) for run in runs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring", description=__doc__)
    parser.add_argument("--events", type=int, metavar="N", default=EVENTS)
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    try:
        found = measure(options.events, options.rounds)
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for point in found.as_json()["points"]:
        sys.stdout.write(
            f"{'20 features watched' if point['watched'] else 'nothing watched'}: "
            f"{point['records_per_s']['median']:,.0f} records/s, "
            f"{point['cpu_s_per_million']['median']:.2f} CPU s per million\n"
        )
    ratio = found.ratio
    sys.stdout.write(f"all over none: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})\n")
    if options.out is not None:
        options.out.write_text(json.dumps(found.as_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
