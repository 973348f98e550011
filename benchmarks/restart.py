"""`python -m benchmarks.restart`: how soon a worker that ended consumes again, against the live impressions it holds.

Its state is in Redis. All times run from the start of the new process; but for those that Kafka missed before, that is
the moment of the old one's end. 10,000 impressions are written meanwhile, and it has caught up once a checkpoint covers
them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from agents.config_sections import DEFAULT_SESSION_TIMEOUT_MS
from benchmarks.live_worker import LiveWorker, backlog_lines, live_lines
from benchmarks.machine import Cores
from tables.errors import RunError

IMPRESSIONS = (500_000, 1_000_000, 2_500_000, 5_000_000)
ROUNDS = 3
BACKLOG = 10_000
AGAIN_S = 60.0
STOP_S = 30.0
SESSION_MARGIN_S = 2.0
STATIC = {"kafka": {"instance_id": "bench-1"}}


class Ending(StrEnum):
    """How the worker before ended."""

    STOPPED = "stopped in order"
    MISSED = "killed, and missed by Kafka"
    """The group has given up the dead one before the new one comes."""
    KILLED = "killed"
    """The new worker must wait until Kafka notices, for the group still counts on the dead one."""
    KILLED_STATIC = "killed, with an instance id"
    """With `kafka.instance_id` the group knows the new worker as the old one."""


CURVE = (Ending.STOPPED, Ending.MISSED)
"""What is measured with each number of live impressions; the others with the largest only."""


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
    caught_up_s: float
    """Until a checkpoint covers everything that has been written meanwhile."""
    peak_rss: int

    def __str__(self) -> str:
        return (
            f"{self.ended}, {self.impressions:,} live impressions: listens after {self.listening_s:.1f} s, "
            f"is ready after {self.ready_s:.1f} s, consumes after {self.consumed_s:.1f} s, "
            f"has caught up after {self.caught_up_s:.1f} s, peak {self.peak_rss / 2**20:.0f} MiB"
        )


def measure(sizes: Sequence[int] = IMPRESSIONS, rounds: int = ROUNDS) -> Iterator[Restart]:
    """End a worker with so many live impressions (rising) and start it anew, in each way in turn. Raises RunError."""
    cores = Cores.divide()
    cores.claim_servers()
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-restart-") as name,
        LiveWorker.on_servers(Path(name), cores) as worker,
    ):
        earlier = 0
        for impressions in sizes:
            sys.stderr.write(f"filling up to {impressions:,} live impressions\n")
            worker.write(live_lines(impressions, earlier))
            earlier = impressions
            worker.start()
            worker.wait_ready()
            worker.wait_checkpointed()
            endings = tuple(Ending) if impressions == max(sizes) else CURVE
            for _ in range(rounds):
                yield from (_restart(worker, impressions, ending) for ending in endings)


def _restart(worker: LiveWorker, impressions: int, ending: Ending) -> Restart:
    static = ending is Ending.KILLED_STATIC
    if static:
        _change(worker, STATIC)
    if ending is Ending.MISSED:
        worker.process.kill()
        time.sleep(DEFAULT_SESSION_TIMEOUT_MS / 1000 + SESSION_MARGIN_S)
    elif ending is Ending.STOPPED:
        worker.process.stop(STOP_S)
    began = time.monotonic()
    if worker.process.running:
        worker.process.kill()
    worker.start()
    worker.write(backlog_lines(BACKLOG))
    worker.watched.wait(worker.web.is_listening, AGAIN_S, "answer over HTTP")
    listening_s = time.monotonic() - began
    worker.wait_ready()
    ready_s = time.monotonic() - began
    consumed = "tidemark_events_consumed_total"
    worker.watched.wait(lambda: worker.web.metric(consumed) > 0, AGAIN_S, "record consumed")
    consumed_s = time.monotonic() - began
    worker.wait_checkpointed()
    caught_up_s = time.monotonic() - began
    held = int(worker.web.metric("tidemark_live_rows", side="impressions"))
    if held < impressions:
        raise RunError(f"the worker came back with {held} of {impressions} impressions")
    restart = Restart(impressions, ending, listening_s, ready_s, consumed_s, caught_up_s, worker.watched.peak_rss)
    if static:
        _change(worker, {})
    return restart


def _change(worker: LiveWorker, settings: Mapping[str, Any]) -> None:
    """Start the worker anew in order, with these settings."""
    worker.process.stop(STOP_S)
    worker.configure(settings)
    worker.start()
    worker.wait_ready()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--impressions", type=int, nargs="+", metavar="N", default=IMPRESSIONS)
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    found = []
    try:
        for restart in measure(sorted(options.impressions), options.rounds):
            sys.stdout.write(f"{restart}\n")
            found.append(asdict(restart))
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.out is not None:
        options.out.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
