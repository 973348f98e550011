"""`python -m benchmarks.restart`: how soon a worker that ended consumes again, its state in Redis."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agents.config_sections import DEFAULT_SESSION_TIMEOUT_MS
from benchmarks.live_worker import LiveWorker, backlog_lines, live_lines
from benchmarks.machine import Cores
from tables.errors import RunError

IMPRESSIONS = 5_000_000
BACKLOG = 10_000
AGAIN_S = 60.0
STOP_S = 30.0
SESSION_MARGIN_S = 2.0


class Ending(StrEnum):
    """How the worker before ended."""

    STOPPED = "stopped in order"
    KILLED = "killed"
    """The new worker must wait until Kafka notices, for the group still counts on the dead one."""
    MISSED = "killed, and missed by Kafka"


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds from the start of the process."""

    impressions: int
    ended: Ending
    listening_s: float
    """Until the process answers HTTP: Python, imports, topics looked up."""
    ready_s: float
    """Until /readyz says 200."""
    consumed_s: float
    """Until it has taken in the first record."""
    peak_rss: int

    def __str__(self) -> str:
        return (
            f"{self.ended}, {self.impressions:,} live impressions: listens after {self.listening_s:.1f} s, "
            f"is ready after {self.ready_s:.1f} s, consumes after {self.consumed_s:.1f} s, "
            f"peak {self.peak_rss / 2**20:.0f} MiB"
        )


def measure(impressions: int = IMPRESSIONS, rounds: int = 2) -> list[Restart]:
    """End a worker with so many live impressions and start it anew, in each way in turn. Raises RunError."""
    cores = Cores.divide()
    cores.claim_servers()
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-restart-") as name,
        LiveWorker.on_servers(Path(name), cores) as worker,
    ):
        worker.write(live_lines(impressions))
        worker.start()
        worker.wait_ready()
        worker.wait_checkpointed()
        return [_restart(worker, impressions, ending) for _ in range(rounds) for ending in Ending]


def _restart(worker: LiveWorker, impressions: int, ending: Ending) -> Restart:
    if ending is Ending.STOPPED:
        worker.process.stop(grace_s=STOP_S)
    else:
        worker.process.kill()
    worker.write(backlog_lines(BACKLOG))
    if ending is Ending.MISSED:
        time.sleep(DEFAULT_SESSION_TIMEOUT_MS / 1000 + SESSION_MARGIN_S)
    began = time.monotonic()
    worker.start()
    worker.watched.wait(worker.is_listening, AGAIN_S, "answer over HTTP")
    listening_s = time.monotonic() - began
    worker.wait_ready()
    ready_s = time.monotonic() - began
    consumed = "tidemark_events_consumed_total"
    worker.watched.wait(lambda: worker.metric(consumed) > 0, AGAIN_S, "record consumed")
    consumed_s = time.monotonic() - began
    worker.wait_checkpointed()
    held = int(worker.metric("tidemark_live_rows", side="impressions"))
    if held < impressions:
        raise RunError(f"the worker came back with {held} of {impressions} impressions")
    return Restart(impressions, ending, listening_s, ready_s, consumed_s, worker.watched.peak_rss)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--impressions", type=int, metavar="N", default=IMPRESSIONS)
    parser.add_argument("--rounds", type=int, metavar="N", default=2)
    options = parser.parse_args(arguments)
    try:
        for restart in measure(options.impressions, options.rounds):
            sys.stdout.write(f"{restart}\n")
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
