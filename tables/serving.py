"""Requests, errors and latencies of each model by minute of event time: what a `serving` row is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Self

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from tables.exponential_histogram import ExponentialHistogram, PackedHistogram, histograms_by_group
from tables.join_policy import MODEL_LIMIT, WINDOW_MS

STATUSES = ("ok", "error", "timeout")
"""The code of a status is its place here; every one but the first is an error."""

_MODELS = MODEL_LIMIT + 1


class PackedCounts(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Counts as checkpoints and partials carry them."""

    requests: Annotated[int, Meta(ge=0)]
    errors: Annotated[int, Meta(ge=0)]
    latency: PackedHistogram


class ServingCount(NamedTuple):
    """What is known of one model in one window."""

    model: int
    """Its number."""
    start: int
    """Of the window, ms."""
    counts: PackedCounts


@dataclass(slots=True)
class ServingCounts:
    """Inferences of one model in one window. Merging is adding: any order gives the same, to the last bit."""

    requests: int = 0
    errors: int = 0
    """Requests whose status is not `ok`."""
    latency: ExponentialHistogram = field(default_factory=ExponentialHistogram)
    """Of the requests that tell one."""

    def merge(self, other: ServingCounts) -> None:
        """Count all that `other` has counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.latency.merge(other.latency)

    def fields(self) -> dict[str, Any]:
        """The fields of a `serving` row: requests per second in `qps`, shares in `availability`, latencies in ms."""
        latency = self.latency
        return {
            "requests": self.requests,
            "errors": self.errors,
            "availability": 1 - self.errors / self.requests if self.requests else None,
            "qps": self.requests / (WINDOW_MS / 1000),
            "latency_ms": {
                "p50": latency.quantile(0.5),
                "p95": latency.quantile(0.95),
                "p99": latency.quantile(0.99),
                "max": latency.quantile(1),
                "count": latency.count,
                "sum": latency.sum_ms,
            },
        }

    def pack(self) -> PackedCounts:
        """The counts as a small structure."""
        return PackedCounts(self.requests, self.errors, self.latency.pack())

    @classmethod
    def restore(cls, packed: Iterable[PackedCounts]) -> Self:
        """The counts of all parts together; raises ValueError where one cannot come from `pack`."""
        whole = cls()
        for part in packed:
            whole.merge(ServingCounts(part.requests, part.errors, ExponentialHistogram.restore(part.latency)))
        return whole


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, PackedCounts]).decode


class ServingTable:
    """The open windows of one partition. Model numbers are those of a ModelIndex that the caller keeps."""

    def __init__(self) -> None:
        self._windows: dict[int, dict[int, ServingCounts]] = {}
        self._changed: set[tuple[int, int]] = set()
        self._unsaved: set[int] = set()

    @property
    def open_windows(self) -> int:
        """Windows times models that are held."""
        return sum(map(len, self._windows.values()))

    @property
    def models(self) -> set[int]:
        """The numbers in use."""
        return {model for window in self._windows.values() for model in window}

    def apply(
        self,
        model: NDArray[np.int64],
        time: NDArray[np.int64],
        error: NDArray[np.bool_],
        latency_ms: NDArray[np.float64],
    ) -> None:
        """Count inferences: model number, event time in ms, whether it failed, latency or NaN; shapes (n,).

        Raises ValueError for a negative number or latency, having counted nothing.
        """
        if (model < 0).any():
            raise ValueError("expected model numbers; leave out what has found no room")
        keys, group = np.unique(time // WINDOW_MS * _MODELS + model, return_inverse=True)
        requests = np.bincount(group, minlength=len(keys)).tolist()
        errors = np.bincount(group[error], minlength=len(keys)).tolist()
        latencies = histograms_by_group(group, latency_ms)
        for place, key in enumerate(keys.tolist()):
            minute, number = divmod(key, _MODELS)
            start = minute * WINDOW_MS
            counts = self._windows.setdefault(start, {}).setdefault(number, ServingCounts())
            counts.requests += requests[place]
            counts.errors += errors[place]
            if place in latencies:
                counts.latency.merge(latencies[place])
            self._changed.add((start, number))
            self._unsaved.add(start)

    def take_changed(self) -> list[ServingCount]:
        """All counts of the windows and models that changed since the last call, in order."""
        changed, self._changed = sorted(self._changed), set()
        return [ServingCount(model, start, self._windows[start][model].pack()) for start, model in changed]

    def take_changes(self) -> dict[int, bytes]:
        """For a checkpoint: each window that changed since the last call, by its start; replaces what was stored."""
        unsaved, self._unsaved = sorted(self._unsaved), set()
        return {start: self._pack(start) for start in unsaved}

    def forget(self, before_ms: int) -> list[int]:
        """Drop the windows that start before; returns their starts. What has not been taken of them is lost."""
        gone = sorted(start for start in self._windows if start < before_ms)
        for start in gone:
            del self._windows[start]
        self._changed = {key for key in self._changed if key[0] >= before_ms}
        self._unsaved.difference_update(gone)
        return gone

    def state(self) -> dict[int, bytes]:
        """Every window by its start, as `take_changes` gives them."""
        return {start: self._pack(start) for start in sorted(self._windows)}

    def restore(self, windows: Mapping[int, bytes]) -> None:
        """Continue from windows as `take_changes` and `state` give them; all of it is told again as changed.

        Raises ValueError where one is damaged.
        """
        for start, data in windows.items():
            try:
                packed = _decode(data)
            except msgspec.MsgspecError as error:
                raise ValueError(f"expected the counts of window {start}: {error}") from error
            self._windows[start] = {model: ServingCounts.restore([counts]) for model, counts in packed.items()}
            self._changed.update((start, model) for model in packed)

    def _pack(self, start: int) -> bytes:
        return _encode({model: counts.pack() for model, counts in sorted(self._windows[start].items())})
