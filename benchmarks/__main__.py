"""`python -m benchmarks`: tidemark beside others on one real Kafka, in one run, each on the same single core."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import full, report
from benchmarks.load import PARTITIONS, TOPICS, fill
from benchmarks.machine import Cores, describe, versions
from benchmarks.measurement import Measurement
from benchmarks.same_job import PEERS
from benchmarks.systems import SYSTEMS, Bench, System
from deploy.stack import KafkaCluster, RedisServer
from tables.errors import RunError

EVENTS, RUNS, STOCK_SECONDS = 3_000_000, 3, 20.0
QUICK_EVENTS, QUICK_RUNS, QUICK_STOCK_SECONDS = 400_000, 1, 4.0
LOG_COLUMNS = 120
RESULTS = Path(__file__).with_name("results")
ALL: Mapping[str, System] = {**SYSTEMS, **{name: peer.system for name, peer in PEERS.items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 done, 1 it failed or tidemark's counts were wrong, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, metavar="N", help=f"records to read (default {EVENTS:,})")
    parser.add_argument("--runs", type=int, metavar="N", help=f"rounds (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help="half a minute: one short round, no file written")
    parser.add_argument(
        "--full",
        action="store_true",
        help="also other frameworks at the same job, what cost grows with, memory, restart, latency: most of an hour",
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(ALL), metavar="SYSTEM",
        help=f"of {', '.join(ALL)} (default the first {len(SYSTEMS)})",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go as JSON")
    parser.add_argument("--resume", action="store_true", help="with --full: keep the parts that the file has already")
    options = parser.parse_args(arguments)
    # aiokafka complains about a broker that is still starting.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else LOG_COLUMNS)
    quick = options.quick
    events = options.events or (QUICK_EVENTS if quick else EVENTS)
    runs = options.runs or (QUICK_RUNS if quick else RUNS)
    if options.full:
        if quick or options.only:
            parser.error("--full measures everything: leave out --quick and --only")
        # Otherwise the part that runs would go on alone.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        table = ["benchmarks", "--only", *ALL, "--events", str(events), "--runs", str(runs)]
        return full.run(options.out or RESULTS / "full.json", full.parts(table, runs), resume=options.resume)
    out = options.out or (None if quick or options.only else RESULTS / "latest.json")
    try:
        run(
            console,
            events=events,
            runs=runs,
            stock_seconds=QUICK_STOCK_SECONDS if quick else STOCK_SECONDS,
            only=options.only or list(SYSTEMS),
            out=out,
        )
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if out is not None:
        console.print(f"written to {out}")
    return 0


def run(
    console: Console, *, events: int, runs: int, stock_seconds: float, only: Sequence[str], out: Path | None
) -> None:
    """Start the servers, fill the topics once, and run every system `runs` times in turn; `out` is written each time.

    Raises RunError, also where tidemark's final rows are not what an oracle counts.
    """
    cores = Cores.divide()
    console.print(str(cores))
    cores.claim_servers()
    machine = describe(cores)
    console.print(versions(machine))
    rounds: list[dict[str, Measurement]] = []
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name:
        folder = Path(name)
        with KafkaCluster.start(folder / "kafka", heap="1g") as kafka, RedisServer.start(folder / "redis") as redis:
            began = time.monotonic()
            kafka.create_topics({TOPICS.impressions: PARTITIONS, TOPICS.clicks: PARTITIONS})
            load = asyncio.run(fill(kafka.bootstrap, events))
            console.print(
                f"{load.records[TOPICS.impressions]:,} impressions and {load.records[TOPICS.clicks]:,} clicks, "
                f"{load.value_bytes / load.events:.0f} bytes each, {len(load.expected)} windows, "
                f"written in {time.monotonic() - began:.0f} s"
            )
            bench = Bench(cores, kafka, redis, load, folder, stock_seconds)
            for number in range(1, runs + 1):
                rounds.append({})
                for system in only:
                    measured = ALL[system](bench, f"{system.replace(' ', '-')}-{number}")
                    rounds[-1][system] = measured
                    console.print(
                        f"round {number}: {system:<12} {measured.rate:>10,.0f} records/s, "
                        f"{measured.cpu_per_million:6.2f} CPU s per million, {measured.seconds:5.1f} s"
                        + (
                            f", {measured.right_windows} of {measured.windows} windows right"
                            if measured.windows
                            else ""
                        )
                    )
                if out is not None:
                    report.write_json(out, report.as_json(rounds, load, machine))
    report.show(console, rounds, {name: PEERS[name].differences for name in only if name in PEERS})


if __name__ == "__main__":
    sys.exit(main())
