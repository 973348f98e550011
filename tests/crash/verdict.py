"""What came out of the workers, and whether it is what had to come out."""

from __future__ import annotations

import asyncio
import operator
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents.dead_letters import VALUE_BYTES
from tests.crash.traffic import Traffic
from tests.feature_oracle import DriftKey
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
    served: dict[Key, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    """Requests, errors and latencies, each time that they were told as final."""
    compared: dict[DriftKey, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The `n` of a drift row, each time that it was told as final."""
    dead: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Beginning of a dead letter's value -> reasons."""
    broken_rows: int = 0

    def take_window(self, value: bytes) -> None:
        row = orjson.loads(value)
        key = ((row["model_id"], row["model_version"]), row["window_start"])
        if row["kind"] != "ctr":
            if row["final"] and row["kind"] == "serving":
                self.served[key].append((row["requests"], row["errors"], row["latency_ms"]["count"]))
            elif row["final"]:
                self.compared[*key, row["feature"], row["method"]].append(row["n"])
            return
        numbers = (row["impressions"], row["clicks"])
        if row["final"]:
            self.final[key].append(numbers)
            self.broken_rows += row["ctr"] != (row["clicks"] / row["impressions"] if row["impressions"] else None)
        if not self.told[key] or self.told[key][-1] != numbers:
            self.told[key].append(numbers)

    def take_dead_letter(self, value: bytes) -> None:
        letter = orjson.loads(value)
        self.dead[b64decode(letter["value"] or "")].add(letter["reason"])

    def missing(self, traffic: Traffic) -> set[Any]:
        """Rows that are not final yet."""
        return {
            *(traffic.expected.keys() - self.final.keys()),
            *(traffic.served.keys() - self.served.keys()),
            *(traffic.compared.keys() - self.compared.keys()),
        }

    @property
    def repeated(self) -> int:
        """Final rows that were told once more."""
        tellings: list[Mapping[Any, list[Any]]] = [self.final, self.served, self.compared]
        return sum(len(numbers) - 1 for told in tellings for numbers in told.values())

    def faults(self, traffic: Traffic, *, horizon_lost: bool = False, doubled: bool = False) -> list[str]:
        """All that is not as it has to be, one line each.

        `horizon_lost`: drift may know less than there was. `doubled`: records may have been sent twice, of which only
        the join takes no notice.
        """
        sent = operator.le if doubled else operator.eq
        known, needed = (operator.ge, traffic.alone) if horizon_lost else (sent, traffic.compared)
        found = [
            *_differences("ctr", traffic.expected, self.final, operator.eq, self.told),
            *_differences("serving", traffic.served, self.served, sent),
            *_differences("drift", traffic.compared, self.compared, known, needed=needed),
            *(
                f"drift {k}: at least {n}, final {self.compared[k]}"
                for k, n in needed.items()
                if min(self.compared[k], default=n) < n
            ),
        ]
        if self.broken_rows:
            found.append(f"{self.broken_rows} final rows whose ctr is not clicks / impressions")
        unexplained = {value[:VALUE_BYTES] for value in traffic.broken}
        found += [f"no dead letter for {value!r}" for value in sorted(unexplained - self.dead.keys())[:SHOWN]]
        wrong = Counter(reason for value in self.dead.keys() - unexplained for reason in self.dead[value])
        if wrong:
            found.append(f"dead letters for good records: {dict(wrong)}")
        return found[: 4 * SHOWN]


def _differences(
    kind: str,
    expected: Mapping[Any, Any],
    final: Mapping[Any, list[Any]],
    is_right: Callable[[Any, Any], bool],
    told: Mapping[Any, Any] | None = None,
    *,
    needed: Mapping[Any, Any] | None = None,
) -> list[str]:
    """Rows that are missing, that nobody expects, and that say something else.

    `told`: all that was ever said; `needed`: the rows that must be there, by default all that are expected.
    """
    told, needed = told or {}, expected if needed is None else needed
    found = [f"{kind} {key}: no final row; told {told.get(key)}" for key in sorted(needed.keys() - final.keys())]
    found += [f"{kind} {key}: not expected, told {final[key]}" for key in sorted(final.keys() - expected.keys())]
    found += [
        f"{kind} {key}: expected {expected[key]}, final {numbers}, told {told.get(key)}"
        for key, numbers in sorted(final.items())
        if key in expected and not all(is_right(expected[key], number) for number in numbers)
    ]
    return found


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
