"""`python -m benchmarks.live_state`: what a live impression costs, in the worker's memory and in Redis."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.live_worker import GROUP, LiveWorker, live_lines
from benchmarks.machine import Cores
from tables.errors import RunError

IMPRESSIONS = 3_000_000
STEADY_S = 15.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class LiveState:
    """Bytes with so many live impressions, and a twentieth as many clicks."""

    impressions: int
    steady_rss: int
    """Of the worker, some seconds after the last record."""
    peak_rss: int
    """While it caught up."""
    used_memory: int
    """By how much all of Redis grew."""
    key_memory: int
    """What Redis says of the join's keys, by MEMORY USAGE."""

    def __str__(self) -> str:
        return (
            f"{self.impressions:,} live impressions: worker {self.steady_rss / MIB:.0f} MiB resident "
            f"(peak {self.peak_rss / MIB:.0f}); in Redis "
            f"{self.used_memory / self.impressions:.1f} bytes each by used_memory, "
            f"{self.key_memory / self.impressions:.1f} by MEMORY USAGE, clicks included"
        )


def measure(impressions: int = IMPRESSIONS) -> LiveState:
    """Fill a worker's open windows. Raises RunError."""
    cores = Cores.divide()
    cores.claim_servers()
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-live-") as name,
        LiveWorker.on_servers(Path(name), cores) as worker,
    ):
        worker.write(live_lines(impressions))
        with worker.redis.client() as redis:
            used_before = int(redis.info("memory")["used_memory"])
            worker.start()
            worker.wait_ready()
            worker.wait_checkpointed()
            held = int(worker.web.metric("tidemark_live_rows", side="impressions"))
            if held != impressions:
                raise RunError(f"the worker holds {held} of {impressions} impressions")
            time.sleep(STEADY_S)
            steady_rss = psutil.Process(worker.process.pid).memory_info().rss
            used = int(redis.info("memory")["used_memory"]) - used_before
            keys = redis.scan_iter(f"tidemark:{{{GROUP}:join:*", count=1_000)
            key_memory = sum(int(redis.memory_usage(key, samples=0) or 0) for key in keys)
        return LiveState(impressions, steady_rss, worker.watched.peak_rss, used, key_memory)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_state", description=__doc__)
    parser.add_argument("--impressions", type=int, metavar="N", default=IMPRESSIONS)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    try:
        found = measure(options.impressions)
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{found}\n")
    if options.out is not None:
        options.out.write_text(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
