"""Latencies counted in exponential buckets: quantiles within 1.1 %, whatever the order of adding and merging.

The buckets are those of schema 5 of Prometheus' native histograms, over the latency in seconds: bucket i holds
2**((i - 1) / 32) < seconds <= 2**(i / 32), for i from LOWEST (about 1 ns; zero and all below fall into it) to HIGHEST
(MAX_MS; what is above counts as that). So what Prometheus is told is what was counted, without any conversion.
See https://prometheus.io/docs/specs/native_histograms/#schema.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

SCHEMA = 5
BUCKETS_AN_OCTAVE = 2**SCHEMA
LOWEST, HIGHEST = -30 * BUCKETS_AN_OCTAVE, 20 * BUCKETS_AN_OCTAVE
ZERO_S = 2.0**-30
"""Up to here a latency is taken for zero."""
MAX_S = 2.0**20
MAX_MS = MAX_S * 1000
"""Twelve days: longer latencies count as this."""
MAX_SUM_NS = 2**63 - 1
"""A sum that would grow beyond it (292 years) stays there."""

_FRACTIONS = 0.5 * 2.0 ** (np.arange(BUCKETS_AN_OCTAVE) / BUCKETS_AN_OCTAVE)
_GROWTH: float = 2.0 ** (1 / BUCKETS_AN_OCTAVE)

_Gap = Annotated[int, Meta(ge=0, le=HIGHEST - LOWEST)]
_Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class PackedHistogram(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A histogram as checkpoints and partials carry it; equal histograms are packed equally, to the last bit."""

    sum_ns: Annotated[int, Meta(ge=0, le=MAX_SUM_NS)]
    max_ms: Annotated[float, Meta(ge=0, le=MAX_MS)]
    gaps: list[_Gap]
    """From LOWEST to the first bucket that is not empty, and from each to the next."""
    counts: list[_Count]
    """Of the same buckets."""


def bucket_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bucket of each value that is not NaN, clipped to LOWEST..HIGHEST; shapes (n,).

    Exact also at the bounds, where a logarithm would round: the fraction of the number is searched among those of the
    bounds of one octave, as client_golang does it (histogram.go, observe).
    """
    fraction, exponent = np.frexp(np.clip(values, ZERO_S, MAX_S))
    buckets: NDArray[np.int64] = np.searchsorted(_FRACTIONS, fraction)
    buckets += (exponent.astype(np.int64) - 1) * BUCKETS_AN_OCTAVE
    return buckets


def upper_bound(bucket: int) -> float:
    """The greatest value that falls into a bucket."""
    octave, place = divmod(bucket, BUCKETS_AN_OCTAVE)
    return math.ldexp(float(_FRACTIONS[place]), octave + 1)


class ExponentialHistogram:
    """Counts by bucket, count, sum and maximum of latencies.

    Takes 8 bytes for each bucket from the lowest to the highest in use: 13 kB at most, some 3 kB for 10 ms to 2 s.
    """

    __slots__ = ("_counts", "_first", "count", "max_ms", "sum_ns")

    def __init__(self) -> None:
        self.count = 0
        self.sum_ns = 0
        """Exact: each latency is rounded to nanoseconds first, so that the order of adding does not matter."""
        self.max_ms = 0.0
        """As it was given; 0 where there is none."""
        self._first = LOWEST
        self._counts: NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def sum_ms(self) -> float:
        """Sum of the latencies."""
        return self.sum_ns / 1_000_000

    def add(self, latency_ms: NDArray[np.float64]) -> None:
        """Count latencies in ms, NaN standing for none; shape (n,). Raises ValueError for a negative one."""
        for histogram in histograms_by_group(np.zeros(len(latency_ms), np.int64), latency_ms).values():
            self.merge(histogram)

    def merge(self, other: ExponentialHistogram) -> None:
        """Count all that `other` has counted."""
        if other.count:
            self._add(other.count, other.sum_ns, other.max_ms, other._first, other._counts)

    def quantile(self, q: float) -> float | None:
        """The latency in ms of rank ceil(q * count), the lowest being rank 1; None where there is none.

        The highest rank is the exact maximum. Otherwise it is the harmonic mean of the bucket's bounds, whose relative
        error is at most (g - 1) / (g + 1) = 1.08 % with g = 2**(1/32), and 0 up to ZERO_S; never above the maximum.
        Raises ValueError where q is not within 0..1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"expected a quantile from 0 to 1, got {q}")
        rank = max(1, math.ceil(q * self.count))
        if rank >= self.count:
            return self.max_ms if self.count else None
        bucket = self._first + int(np.searchsorted(np.cumsum(self._counts), rank))
        if bucket == LOWEST:
            return 0.0
        return min(upper_bound(bucket) * 2000 / (_GROWTH + 1), self.max_ms)

    def buckets(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers and counts of the buckets that are not empty, in order."""
        used = np.flatnonzero(self._counts)
        return used + self._first, self._counts[used]

    def count_up_to(self, buckets: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many latencies fall into each of these buckets or one below it; shapes (n,)."""
        totals = np.cumsum(np.concatenate([np.zeros(1, np.int64), self._counts]))
        counts: NDArray[np.int64] = totals[np.clip(buckets - self._first + 1, 0, len(self._counts))]
        return counts

    def pack(self) -> PackedHistogram:
        """The histogram as a small structure; grows with the buckets in use."""
        buckets, counts = self.buckets()
        return PackedHistogram(self.sum_ns, self.max_ms, np.diff(buckets, prepend=LOWEST).tolist(), counts.tolist())

    @classmethod
    def restore(cls, packed: PackedHistogram) -> Self:
        """The reverse of `pack`; raises ValueError where it cannot be one."""
        histogram = cls()
        buckets = LOWEST + np.cumsum(np.array(packed.gaps, np.int64))
        if len(buckets) != len(packed.counts) or not (np.diff(buckets) > 0).all() or (buckets > HIGHEST).any():
            raise ValueError("expected the buckets of a histogram in order, and one count for each")
        if len(buckets):
            counts = np.zeros(buckets[-1] - buckets[0] + 1, np.int64)
            counts[buckets - buckets[0]] = packed.counts
            histogram._add(sum(packed.counts), packed.sum_ns, packed.max_ms, int(buckets[0]), counts)
        return histogram

    def _add(self, count: int, sum_ns: int, max_ms: float, first: int, counts: NDArray[np.int64]) -> None:
        """Add counts of the buckets from `first` on, of which the first and the last are not empty."""
        if not self.count:
            self._first, self._counts = first, counts.copy()
        else:
            begin = min(first, self._first)
            end = max(first + len(counts), self._first + len(self._counts))
            if end - begin > len(self._counts):
                grown = np.zeros(end - begin, np.int64)
                grown[self._first - begin :][: len(self._counts)] = self._counts
                self._first, self._counts = begin, grown
            self._counts[first - self._first :][: len(counts)] += counts
        self.count += count
        self.sum_ns = min(self.sum_ns + sum_ns, MAX_SUM_NS)
        self.max_ms = max(self.max_ms, max_ms)


def histograms_by_group(group: NDArray[np.int64], latency_ms: NDArray[np.float64]) -> dict[int, ExponentialHistogram]:
    """The latencies of each group that has some, NaN standing for none; shapes (n,).

    Raises ValueError for a negative latency.
    """
    known = ~np.isnan(latency_ms)
    group, latency_ms = group[known], latency_ms[known]
    if not len(group):
        return {}
    if (latency_ms < 0).any():
        raise ValueError(f"expected latencies of 0 ms or more, got {latency_ms.min()}")
    order = np.argsort(group, kind="stable")
    group = group[order]
    ms = np.minimum(latency_ms, MAX_MS)[order]
    ns = np.rint(ms * 1e6).astype(np.int64)
    buckets = bucket_of(ms / 1000)
    begins = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
    columns = (
        group[begins],
        # In halves, as 9,000 of the longest do not fit 64 bits together.
        np.add.reduceat(ns >> 32, begins),
        np.add.reduceat(ns & 0xFFFF_FFFF, begins),
        np.maximum.reduceat(ms, begins),
        np.minimum.reduceat(buckets, begins),
        np.diff(begins, append=len(group)),
    )
    found = {}
    end = 0
    for number, high, low, max_ms, first, count in zip(*(column.tolist() for column in columns), strict=True):
        begin, end = end, end + count
        histogram = found[number] = ExponentialHistogram()
        histogram._add(count, (high << 32) + low, max_ms, first, np.bincount(buckets[begin:end] - first))
    return found
