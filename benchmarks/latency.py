"""`python -m benchmarks.latency`: how long an event takes until a row or a webhook tells of it, at a steady load.

The load is sent at its own pace, whatever becomes of it.

Window row: now and then the load holds a probe, an impression of a model that has none yet, which names the moment it
was produced. The first row of that model, as a consumer of the topic sees it, ends the probe's time.

Webhook: a rule without delay (`ctr < 5%`, `for` and `settle` 0) watches models that are shown once, in one window each,
and never clicked. It can fire as soon as the watermark has passed the end of that window. So the time runs from the
production of the event that moves the watermark there, 5 s (`out_of_orderness`) of event time after the end in the
partition that gets so far last, until a receiver of webhooks on this machine has the request. Event time runs 60 times
as fast as the clock, so that there is a window each second; the number of events/s is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.live_worker import LiveWorker
from benchmarks.load import PARTITIONS, TOPICS
from benchmarks.machine import Cores
from benchmarks.pace import PROBE, PROBES_PER_S, WINDOW, Pace
from deploy.process import HOST, ServerProcess, free_port
from tables.errors import RunError

RATE = 20_000
PROBES = 120
WARM_UP_S = 5.0
START_S = 10.0
LAST_S = 30.0
FAST = 60.0
POLL_S = 0.1

Ends = dict[int, int]
"""What is followed, by its number, to when it was told of; microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Latency:
    """From production to where it is told."""

    to: str
    rate: float
    """Events a second, as sent."""
    probes: int
    p50_s: float
    p99_s: float
    max_s: float

    def __str__(self) -> str:
        return (
            f"at {self.rate:,.0f} events/s, {self.probes} probes, produced to {self.to}: "
            f"p50 {self.p50_s:.2f} s, p99 {self.p99_s:.2f} s, longest {self.max_s:.2f} s"
        )


def measure(rate: int = RATE, probes: int = PROBES) -> list[Latency]:
    """To the window row, then to the webhook, each with a worker and servers of its own. Raises RunError."""
    return [_to_row(rate, probes), _to_webhook(rate, probes)]


def _to_row(rate: int, probes: int) -> Latency:
    def follow(worker: LiveWorker, until: Callable[[Ends], bool]) -> Awaitable[Ends]:
        return _first_rows(worker.kafka.bootstrap, until)

    pace, seen = _send(rate, 1.0, probes / PROBES_PER_S, {}, follow, lambda pace: pace.probes)
    return _latency("window row", pace, {probe: probe for probe in pace.probes}, seen)


def _to_webhook(rate: int, probes: int) -> Latency:
    port = free_port()
    settings = {
        "rules": [
            {
                "name": "never-clicked",
                "expr": "ctr < 5%",
                "model": f"{WINDOW}*",
                "for": "0s",
                "settle": "0s",
                "min_impressions": 0,
            }
        ],
        "channels": [{"type": "webhook", "url": f"http://{HOST}:{port}/", "min_severity": "minor"}],
    }
    pace, seen = _send(
        rate, FAST, float(probes), settings, lambda _, until: _first_alerts(port, until), lambda pace: pace.matured
    )
    return _latency("webhook", pace, pace.matured, seen)


def _send(
    rate: int,
    speed: float,
    seconds: float,
    settings: Mapping[str, Any],
    follow: Callable[[LiveWorker, Callable[[Ends], bool]], Awaitable[Ends]],
    followed: Callable[[Pace], Sequence[int] | Mapping[int, int]],
) -> tuple[Pace, Ends]:
    """Send the load to a worker with these settings, and follow until all that was sent has been told of."""
    cores = Cores.divide()
    cores.claim_servers()
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-latency-") as name,
        LiveWorker.on_servers(Path(name), cores, settings) as worker,
    ):
        worker.start()
        worker.wait_ready()
        result = Path(name) / "pace.json"
        seconds += WARM_UP_S
        argv = [sys.executable, "-m", "benchmarks.pace", worker.kafka.bootstrap]
        argv += [str(rate), str(speed), str(seconds), str(result)]
        load = ServerProcess("load", argv, Path(name) / "load.log", error=RunError)
        deadline = time.monotonic() + START_S + seconds + LAST_S

        def is_over(seen: Ends) -> bool:
            done = result.exists() and seen.keys() >= set(followed(Pace.read(result)))
            return done or time.monotonic() > deadline

        async def run() -> Ends:
            return await follow(worker, is_over)

        load.start()
        try:
            seen = asyncio.run(run())
        finally:
            load.stop()
        if not result.exists():
            raise RunError(f"the load was not sent: {load.log_tail()}")
        return Pace.read(result), seen


def _latency(to: str, pace: Pace, produced: Mapping[int, int], seen: Ends) -> Latency:
    """Without what was produced while the worker warmed up."""
    warm_at = pace.probes[0] + WARM_UP_S * 1e6
    warm = {number: at for number, at in produced.items() if at >= warm_at}
    if lost := warm.keys() - seen.keys():
        raise RunError(f"{len(lost)} of {len(warm)} probes had no {to} {LAST_S:.0f} s after the last of them")
    taken = np.array([seen[number] - at for number, at in warm.items()]) / 1e6
    p50, p99 = np.quantile(taken, (0.5, 0.99))
    return Latency(to, pace.events / pace.seconds, len(taken), float(p50), float(p99), float(taken.max()))


async def _first_rows(bootstrap: str, is_over: Callable[[Ends], bool]) -> Ends:
    """When the first row of each probe came."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    seen: Ends = {}
    await consumer.start()
    try:
        consumer.assign([TopicPartition(TOPICS.windows, number) for number in range(PARTITIONS)])
        while not await asyncio.to_thread(is_over, seen):
            records = await consumer.getmany(timeout_ms=100)
            now = time.time_ns() // 1_000
            for record in chain.from_iterable(records.values()):
                model = str(orjson.loads(record.value)["model_id"])
                if model.startswith(PROBE):
                    seen.setdefault(int(model.removeprefix(PROBE)), now)
    finally:
        await consumer.stop()
    return seen


async def _first_alerts(port: int, is_over: Callable[[Ends], bool]) -> Ends:
    """When the alert of each window came."""
    seen: Ends = {}

    async def receive(request: web.Request) -> web.Response:
        now = time.time_ns() // 1_000
        alert = orjson.loads(await request.read())
        if alert["status"] == "firing":
            seen.setdefault(int(alert["model_id"].removeprefix(WINDOW)), now)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        while not is_over(seen):  # noqa: ASYNC110 - whether the load has been sent stands in a file
            await asyncio.sleep(POLL_S)
    finally:
        await runner.cleanup()
    return seen


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--rate", type=int, metavar="N", default=RATE, help="events a second")
    parser.add_argument("--probes", type=int, metavar="N", default=PROBES)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    try:
        found = measure(options.rate, options.probes)
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{one}\n" for one in found))
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(one) for one in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
