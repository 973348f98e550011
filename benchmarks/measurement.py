"""What one run of one system came to, and how a process is watched from outside."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from deploy.process import ServerProcess, wait_until
from tables.errors import RunError


@dataclass(frozen=True, slots=True)
class Measurement:
    """From the first record to the last; starting up is told apart."""

    system: str
    records: int
    seconds: float
    cpu_seconds: float
    """Processor time of the process in those seconds, all threads."""
    peak_rss: int
    """Bytes resident at most."""
    startup_s: float
    """From the start of the process to its first record."""
    windows: int = 0
    """Windows that it had to count; 0 where it counts none."""
    right_windows: int = 0
    """Those of them that came out as the oracle counts them."""

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """Processor seconds per million records."""
        return self.cpu_seconds / self.records * 1e6


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of the same figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median and range; raises ValueError where there are none."""
        return cls(statistics.median(values), min(values), max(values))


class Watched:
    """A process that is measured from outside, in samples."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self._seen: psutil.Process | None = None
        self.peak_rss = 0

    def sample(self) -> None:
        """Look at its memory. Raises RunError where it has ended."""
        if not self._process.running:
            raise RunError(f"{self._process.name} ended before it was done: {self._process.log_tail()}")
        self._seen = self._seen or psutil.Process(self._process.pid)
        self.peak_rss = max(self.peak_rss, self._seen.memory_info().rss)

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        self.sample()
        assert self._seen is not None
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Sample until `done`; raises RunError where the process ends before, or takes longer."""

        def sampled() -> bool:
            self.sample()
            return done()

        wait_until(sampled, seconds, lambda: RunError(f"{self._process.name}: no {what} after {seconds:.0f} s"))
