"""A process that sends events at a steady pace: `python -m benchmarks.pace BOOTSTRAP RATE SECONDS RESULT`."""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import count
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.load import PARTITIONS, TOPICS

PROBE = "probe-"
"""Begins the model of a probe; the wall clock at which it was produced follows, in microseconds."""
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

    def write(self, path: Path) -> None:
        """Leave it for the benchmark, whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self))
        partial.rename(path)

    @classmethod
    def read(cls, path: Path) -> Pace:
        """What the process has left."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


async def send(bootstrap: str, rate: float, seconds: float) -> Pace:
    """Send the load in ticks: a late tick sends what it owes, so the rate holds over all."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, max_batch_size=TICK_BYTES)
    await producer.start()
    probes: list[int] = []
    numbers = count()
    began = time.monotonic()
    sent = 0
    try:
        while (passed := time.monotonic() - began) < seconds:
            owed = int(passed * rate) - sent
            is_probe = passed * PROBES_PER_S >= len(probes) + 1
            if is_probe:
                probes.append(time.time_ns() // 1_000)
            await _send_tick(producer, [next(numbers) for _ in range(owed)], probes[-1] if is_probe else None)
            sent += owed
            await asyncio.sleep(TICK_S)
    finally:
        await producer.stop()
    return Pace(sent, time.monotonic() - began, probes)


async def _send_tick(producer: AIOKafkaProducer, numbers: list[int], probe: int | None) -> None:
    at = time.time_ns() // 1_000_000
    values: dict[tuple[str, int], list[bytes]] = {}
    for number in numbers:
        if number % CLICK_EVERY:
            place, value = (
                (TOPICS.impressions, number % PARTITIONS),
                _shown(number, at, b"recommender-%d" % (number % 3)),
            )
        else:
            earlier = number - 1 - PARTITIONS * 100
            place, value = (TOPICS.clicks, earlier % PARTITIONS), b"{%b}" % _event(earlier, at)
        values.setdefault(place, []).append(value)
    if probe is not None:
        model = b"%b%d" % (PROBE.encode(), probe)
        values.setdefault((TOPICS.impressions, probe % PARTITIONS), []).append(_shown(probe, probe // 1_000, model))
    for (topic, partition), mine in values.items():
        batch = producer.create_batch()
        for value in mine:
            if batch.append(key=None, value=value, timestamp=None) is None:
                raise RuntimeError("the events of a tick do not fit a batch: the rate is too high")
        batch.close()
        await producer.send_batch(batch, topic, partition=partition)


def _event(number: int, at: int) -> bytes:
    return b'"user_id":"user-%d","item_id":"item-%d","event_time":%d' % (number, number % 20_011, at)


def _shown(number: int, at: int, model: bytes) -> bytes:
    return b'{%b,"model_id":"%b","model_version":"2026-05-01"}' % (_event(number, at), model)


def main(arguments: list[str]) -> int:
    """Send, then leave the result."""
    bootstrap, rate, seconds, result = arguments
    asyncio.run(send(bootstrap, float(rate), float(seconds))).write(Path(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
