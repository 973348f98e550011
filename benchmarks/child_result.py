"""How a measured process says what it came to between its first and its last record."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec


class ChildResult(msgspec.Struct, frozen=True):
    """What a process has read, and what that took."""

    first_at: float
    """Wall clock at the first record, seconds since the epoch: the benchmark knows when the process began."""
    records: int
    seconds: float
    cpu_seconds: float
    """Of all threads."""

    def write(self, path: Path) -> None:
        """Leave it for the benchmark, whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self))
        partial.rename(path)

    @classmethod
    def read(cls, path: Path) -> ChildResult:
        """What a process has left."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


class Stopwatch:
    """Started at the first records, which do not count: their fetching began before it."""

    def __init__(self, records: int) -> None:
        self._first_at = time.time()
        self._records = records
        self._began = time.monotonic()
        self._cpu = time.process_time()

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def stop(self, records: int) -> ChildResult:
        """So many records have been seen in all."""
        return ChildResult(self._first_at, records - self._records, self.seconds(), time.process_time() - self._cpu)
