"""`python -m benchmarks.latency`: how long a produced event takes until a window row tells of it, under steady load.

The load is sent at its own pace, whatever becomes of it. Now and then it holds a probe: an impression of a model that
has none yet, which names the moment it was produced. The first row of that model, as a consumer of the topic sees it,
ends the probe's time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.live_worker import LiveWorker
from benchmarks.load import PARTITIONS, TOPICS
from benchmarks.machine import Cores
from benchmarks.pace import PROBE, PROBES_PER_S, Pace
from deploy.process import ServerProcess
from tables.errors import RunError

RATE = 20_000
PROBES = 120
WARM_UP_S = 5.0
START_S = 10.0
LAST_ROW_S = 30.0


@dataclass(frozen=True, slots=True)
class Latency:
    """From a probe's production to its first provisional row."""

    rate: float
    """Events a second, as sent."""
    probes: int
    p50_s: float
    p99_s: float
    max_s: float

    def __str__(self) -> str:
        return (
            f"at {self.rate:,.0f} events/s, {self.probes} probes, produced to window row: "
            f"p50 {self.p50_s:.2f} s, p99 {self.p99_s:.2f} s, longest {self.max_s:.2f} s"
        )


def measure(rate: int = RATE, probes: int = PROBES) -> Latency:
    """Send the load to a worker, and wait for the row of every probe. Raises RunError."""
    cores = Cores.divide()
    cores.claim_servers()
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-latency-") as name,
        LiveWorker.on_servers(Path(name), cores) as worker,
    ):
        worker.start()
        worker.wait_ready()
        result = Path(name) / "pace.json"
        seconds = WARM_UP_S + probes / PROBES_PER_S
        argv = [sys.executable, "-m", "benchmarks.pace", worker.kafka.bootstrap, str(rate), str(seconds), str(result)]
        load = ServerProcess("load", argv, Path(name) / "load.log", error=RunError)
        load.start()
        try:
            seen = asyncio.run(_first_rows(worker.kafka.bootstrap, result, seconds))
        finally:
            load.stop()
        if not result.exists():
            raise RunError(f"the load was not sent: {load.log_tail()}")
        pace = Pace.read(result)
    warm = [probe for probe in pace.probes if probe >= pace.probes[0] + WARM_UP_S * 1e6]
    lost = [probe for probe in warm if probe not in seen]
    if lost:
        raise RunError(f"{len(lost)} of {len(warm)} probes had no row {LAST_ROW_S:.0f} s after the last of them")
    taken = np.array([seen[probe] - probe for probe in warm]) / 1e6
    p50, p99 = np.quantile(taken, (0.5, 0.99))
    return Latency(pace.events / pace.seconds, len(taken), float(p50), float(p99), float(taken.max()))


async def _first_rows(bootstrap: str, result: Path, seconds: float) -> dict[int, int]:
    """When the first row of each probe came, both in microseconds; read until all that were sent have one."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    seen: dict[int, int] = {}
    deadline = time.monotonic() + START_S + seconds + LAST_ROW_S
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPICS.windows, number) for number in range(PARTITIONS)])
        while time.monotonic() < deadline:
            records = await consumer.getmany(timeout_ms=100)
            now = time.time_ns() // 1_000
            for record in chain.from_iterable(records.values()):
                model = str(orjson.loads(record.value)["model_id"])
                if model.startswith(PROBE):
                    seen.setdefault(int(model.removeprefix(PROBE)), now)
            sent = await asyncio.to_thread(_sent, result)
            if sent is not None and seen.keys() >= sent:
                break
    finally:
        await consumer.stop()
    return seen


def _sent(result: Path) -> set[int] | None:
    return set(Pace.read(result).probes) if result.exists() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--rate", type=int, metavar="N", default=RATE, help="events a second")
    parser.add_argument("--probes", type=int, metavar="N", default=PROBES)
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{measure(options.rate, options.probes)}\n")
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
