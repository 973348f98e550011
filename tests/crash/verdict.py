"""What came out of the workers, and whether it is what had to come out."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents.dead_letters import VALUE_BYTES
from tests.crash.traffic import Traffic
from tests.oracle import Key

SHOWN = 5
"""How many wrong windows a failure names."""


@dataclass(slots=True)
class Outcome:
    """Everything that the workers have told so far."""

    final: dict[Key, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """The numbers of a window, each time that it was told as final."""
    told: dict[Key, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """The numbers of a window in provisional and final rows, in order: for the message of a failure."""
    dead: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Beginning of a dead letter's value -> reasons."""
    broken_rows: int = 0

    def take_window(self, value: bytes) -> None:
        row = orjson.loads(value)
        if row["kind"] != "ctr":
            return
        key = ((row["model_id"], row["model_version"]), row["window_start"])
        numbers = (row["impressions"], row["clicks"])
        if row["final"]:
            self.final[key].append(numbers)
            self.broken_rows += row["ctr"] != (row["clicks"] / row["impressions"] if row["impressions"] else None)
        if not self.told[key] or self.told[key][-1] != numbers:
            self.told[key].append(numbers)

    def take_dead_letter(self, value: bytes) -> None:
        letter = orjson.loads(value)
        self.dead[b64decode(letter["value"] or "")].add(letter["reason"])

    def missing(self, traffic: Traffic) -> set[Key]:
        """Windows that are not final yet."""
        return traffic.expected.keys() - self.final.keys()

    @property
    def repeated(self) -> int:
        """Final rows that were told once more."""
        return sum(len(numbers) - 1 for numbers in self.final.values())

    def faults(self, traffic: Traffic) -> list[str]:
        """All that is not as it has to be, one line each."""
        found = [f"{key}: no final row; told {self.told.get(key)}" for key in sorted(self.missing(traffic))]
        found += [f"{key}: not expected, told {self.told[key]}" for key in sorted(self.final.keys() - traffic.expected)]
        found += [
            f"{key}: expected {traffic.expected[key]}, final {numbers}, told {self.told[key]}"
            for key, numbers in sorted(self.final.items())
            if key in traffic.expected and set(numbers) != {traffic.expected[key]}
        ]
        if self.broken_rows:
            found.append(f"{self.broken_rows} final rows whose ctr is not clicks / impressions")
        unexplained = {value[:VALUE_BYTES] for value in traffic.broken}
        found += [f"no dead letter for {value!r}" for value in sorted(unexplained - self.dead.keys())[:SHOWN]]
        wrong = Counter(reason for value in self.dead.keys() - unexplained for reason in self.dead[value])
        if wrong:
            found.append(f"dead letters for good records: {dict(wrong)}")
        return found[: 4 * SHOWN]


class Watcher:
    """Reads what the workers write, from the beginning."""

    def __init__(self, bootstrap: str, windows: str, dead_letters: str, partitions: int) -> None:
        self.outcome = Outcome()
        self._windows = windows
        self._assigned = [TopicPartition(t, p) for t in (windows, dead_letters) for p in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the topics must exist."""
        await self._consumer.start()
        self._consumer.assign(self._assigned)
        self._task = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def read_to_end(self, within_s: float) -> None:
        """Wait until all that had been written before this call was read."""
        async with asyncio.timeout(within_s):
            ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(self._assigned)
            for partition, end in ends.items():
                while await self._consumer.position(partition) < end:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0.05)

    async def _read(self) -> None:
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=200)
            except KafkaError:
                await asyncio.sleep(0.2)
                continue
            for partition, records in fetched.items():
                is_window = partition.topic == self._windows
                take = self.outcome.take_window if is_window else self.outcome.take_dead_letter
                for record in records:
                    take(record.value)
