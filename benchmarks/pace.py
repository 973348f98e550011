"""A process that sends events at a steady pace: `python -m benchmarks.pace BOOTSTRAP RATE SPEED SECONDS RESULT`.

Event time begins now and runs SPEED times as fast as the clock. Among the events are two kinds of impressions that are
followed: some of a model that has none yet, and the first one of each window.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.load import PARTITIONS, TOPICS
from tables.join_policy import WINDOW_MS, JoinPolicy

Place = tuple[str, int]
"""Topic and partition."""

PROBE = "probe-"
"""Begins the model of a probe; the wall clock at which it was produced follows, in microseconds."""
WINDOW = "window-"
"""Begins the model of the first impression in a window; the start of the window follows, in milliseconds."""
PROBES_PER_S = 4
TICK_S = 0.02
TICK_BYTES = 2**20
"""Far more than a tick holds for one partition, also where it is late."""
CLICK_EVERY = 20


class Pace(msgspec.Struct, frozen=True):
    """What was sent, once it has been."""

    events: int
    seconds: float
    probes: list[int]
    """When each was produced, microseconds since the epoch."""
    matured: dict[int, int]
    """Start of a window, ms, to when the event was produced that moved the watermark past its end, microseconds."""

    def write(self, path: Path) -> None:
        """Leave it for the benchmark, whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self))
        partial.rename(path)

    @classmethod
    def read(cls, path: Path) -> Pace:
        """What the process has left."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


@dataclass(slots=True)
class Maturity:
    """Which event made which window mature: the watermark is that of the input and partition furthest behind."""

    matured: dict[int, int] = field(default_factory=dict)
    """As `Pace.matured`."""
    _newest: dict[Place, int] = field(default_factory=dict)

    def take(self, newest: Mapping[Place, int], produced: int) -> None:
        """Newest event times (ms) by place, of events produced at this moment (microseconds)."""
        before = self._watermark()
        self._newest.update(newest)
        after = self._watermark()
        if before is not None and after is not None:
            for end in range((before // WINDOW_MS + 1) * WINDOW_MS, after + 1, WINDOW_MS):
                self.matured[end - WINDOW_MS] = produced

    def _watermark(self) -> int | None:
        if len(self._newest) < 2 * PARTITIONS:
            return None
        return min(self._newest.values()) - JoinPolicy().out_of_orderness_ms


class Traffic:
    """What one run sends; a clock of its own for event time."""

    def __init__(self, producer: AIOKafkaProducer, speed: float) -> None:
        self._producer = producer
        self._speed = speed
        self._began_ms = time.time_ns() // 1_000_000
        self._began = time.monotonic()
        self._window = 0
        self.sent = 0
        self.probes: list[int] = []
        self.maturity = Maturity()

    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    async def tick(self, owed: int) -> None:
        """Send so many events of this moment, and what is followed."""
        produced = time.time_ns() // 1_000
        passed = self.passed()
        at = self._began_ms + int(passed * 1_000 * self._speed)
        values: dict[Place, list[bytes]] = {}
        for number in range(self.sent, self.sent + owed):
            place, value = _any_event(number, at)
            values.setdefault(place, []).append(value)
        if passed * PROBES_PER_S >= len(self.probes) + 1:
            self.probes.append(produced)
            place = (TOPICS.impressions, produced % PARTITIONS)
            values.setdefault(place, []).append(_shown(produced, at, b"%b%d" % (PROBE.encode(), produced)))
        window = at // WINDOW_MS * WINDOW_MS
        if window > self._window:
            self._window = window
            place = (TOPICS.impressions, window // WINDOW_MS % PARTITIONS)
            values.setdefault(place, []).append(_shown(window, at, b"%b%d" % (WINDOW.encode(), window)))
        self.sent += owed
        await self._send(values)
        self.maturity.take(dict.fromkeys(values, at), produced)

    async def _send(self, values: Mapping[Place, Sequence[bytes]]) -> None:
        for (topic, partition), mine in values.items():
            batch = self._producer.create_batch()
            for value in mine:
                if batch.append(key=None, value=value, timestamp=None) is None:
                    raise RuntimeError("the events of a tick do not fit a batch: the rate is too high")
            batch.close()
            await self._producer.send_batch(batch, topic, partition=partition)


async def send(bootstrap: str, rate: float, speed: float, seconds: float) -> Pace:
    """Send the load in ticks: a late tick sends what it owes, so the rate holds over all."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, max_batch_size=TICK_BYTES)
    await producer.start()
    traffic = Traffic(producer, speed)
    try:
        while (passed := traffic.passed()) < seconds:
            await traffic.tick(int(passed * rate) - traffic.sent)
            await asyncio.sleep(TICK_S)
    finally:
        await producer.stop()
    return Pace(traffic.sent, traffic.passed(), traffic.probes, traffic.maturity.matured)


def _any_event(number: int, at: int) -> tuple[Place, bytes]:
    """Every twentieth is a click on an impression of a moment before."""
    if number % CLICK_EVERY:
        model = b"recommender-%d" % (number % 3)
        return (TOPICS.impressions, number % PARTITIONS), _shown(number, at, model)
    earlier = number - 1 - PARTITIONS * 100 - number // CLICK_EVERY % PARTITIONS
    return (TOPICS.clicks, earlier % PARTITIONS), b"{%b}" % _event(earlier, at)


def _event(number: int, at: int) -> bytes:
    return b'"user_id":"user-%d","item_id":"item-%d","event_time":%d' % (number, number % 20_011, at)


def _shown(number: int, at: int, model: bytes) -> bytes:
    return b'{%b,"model_id":"%b","model_version":"2026-05-01"}' % (_event(number, at), model)


def main(arguments: list[str]) -> int:
    """Send, then leave the result."""
    bootstrap, rate, speed, seconds, result = arguments
    asyncio.run(send(bootstrap, float(rate), float(speed), float(seconds))).write(Path(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
