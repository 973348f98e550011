"""How far what comes in is from the reference, and how far chance alone would take it.

Everything works on count vectors, shape (width,), or on many at once, shape (features, width): places that are empty on
both sides change nothing, so shorter vectors are padded with zeros. Sums run from left to right, which makes a
feature's numbers the same to the last bit alone and among others. docs/drift.md tells what stands behind each choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tables.chi_squared import chi_squared_quantiles
from tables.drift_policy import DEFAULT_POLICY, METHODS, DriftPolicy, Level, Method
from tables.feature_bins import Counts, NumericBins
from tables.reference import FeatureReference, Reference

Floats: TypeAlias = NDArray[np.float64]
_Columns: TypeAlias = tuple[Floats, Floats, Counts, Counts]
"""Value, critical, n and reference_n of each feature."""

JEFFREYS = 0.5
"""Added to every count of both sides: Jeffreys' prior."""

_JS_OF_PSI = 1 / (8 * math.log(2))
"""JS divergence in bits by PSI, to second order."""


@dataclass(frozen=True, slots=True)
class Distance:
    """One distance of one feature from its reference."""

    method: Method
    value: float
    critical: float
    """Not exceeded by 99 % of the samples of this size that come from the reference (DriftPolicy.confidence)."""
    n: int
    """Rows compared; for KS only those with a number."""
    reference_n: int
    level: Level


def psi(reference: Counts, current: Counts, *, smoothing: float = JEFFREYS) -> Floats:
    """Population stability index: sum of (p - q) ln(p / q), in nats, symmetric, shape (...) for counts (..., width).

    p and q are the `shares` of current and reference; without smoothing a place that is empty on one side only makes
    it infinite.
    """
    return _total(_psi_terms(*shares(reference, current, smoothing)))


def kl(reference: Counts, current: Counts, *, smoothing: float = JEFFREYS) -> Floats:
    """Kullback-Leibler divergence of current from reference: sum of p ln(p / q), in nats; see `psi`."""
    return _total(_kl_terms(*shares(reference, current, smoothing)))


def js(reference: Counts, current: Counts, *, smoothing: float = JEFFREYS) -> Floats:
    """Jensen-Shannon distance: root of the divergence in bits, 0 to 1, symmetric (Endres & Schindelin 2003)."""
    return np.sqrt(np.minimum(_total(_js_terms(*shares(reference, current, smoothing))), 1.0))


def ks(reference: Counts, current: Counts) -> Floats:
    """Kolmogorov-Smirnov statistic: the greatest difference of the cumulative shares, 0 to 1, symmetric.

    For places in the order of the values: the counts of numeric bins without unseen and missing.
    """
    p, q = shares(reference, current, 0.0)
    difference: Floats = np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1)
    return np.minimum(difference, 1.0)


def shares(reference: Counts, current: Counts, smoothing: float) -> tuple[Floats, Floats]:
    """(p, q): shares of current and reference, (x + s) / (n + s B) with B places that are not empty on both sides.

    The others have share 0, and all do where a side has no rows at all: nothing is known, every distance is 0.
    """
    n, reference_n = current.sum(axis=-1, keepdims=True), reference.sum(axis=-1, keepdims=True)
    used = ((current > 0) | (reference > 0)) & (n > 0) & (reference_n > 0)
    added = smoothing * used.sum(axis=-1, keepdims=True)
    p = np.where(used, current + smoothing, 0.0) / np.maximum(n + added, 1.0)
    q = np.where(used, reference + smoothing, 0.0) / np.maximum(reference_n + added, 1.0)
    return p, q


def distances(feature: FeatureReference, counts: Counts, policy: DriftPolicy = DEFAULT_POLICY) -> list[Distance]:
    """Distances of one feature from its reference in the order of METHODS; `counts` has shape (width,).

    None where one side has no rows; no KS for categories, nor where one side has no number.
    """
    return Comparison((feature,), policy).distances(counts)[0]


def reference_distances(
    reference: Reference, counts: Counts, policy: DriftPolicy = DEFAULT_POLICY
) -> list[tuple[str, tuple[Distance, ...]]]:
    """(name, distances) of every feature, all in one go; `counts` has their count vectors end to end."""
    names = (feature.name for feature in reference.features)
    return list(zip(names, map(tuple, _comparison(reference, policy).distances(counts)), strict=True))


class Comparison:
    """Features with their references, to be compared all at once."""

    def __init__(self, features: Sequence[FeatureReference], policy: DriftPolicy) -> None:
        self._policy = policy
        widths = np.array([feature.bins.width for feature in features], np.int64)
        ordered = np.array(
            [feature.bins.bins if isinstance(feature.bins, NumericBins) else 0 for feature in features], np.int64
        )
        places = np.arange(widths.max(initial=0))
        self._real = places < widths[:, np.newaxis]
        self._ordered = places < ordered[:, np.newaxis]
        self._quantiles = chi_squared_quantiles(policy.confidence, len(places))
        self._reference = self._matrix(np.array([count for feature in features for count in feature.counts], np.int64))

    def distances(self, counts: Counts) -> list[list[Distance]]:
        """Distances of each feature, as `distances` gives them; `counts` has all count vectors end to end."""
        told: list[list[Distance]] = [[] for _ in self._real]
        if not told:
            return told
        matrix = self._matrix(counts)
        columns = self._of_shares(matrix) | {"ks": self._of_numbers(matrix)}
        for method in METHODS:
            rows = zip(*(column.tolist() for column in columns[method]), strict=True)
            for found, (value, critical, n, reference_n) in zip(told, rows, strict=True):
                if n and reference_n:
                    level = self._policy.level(method, value, critical)
                    found.append(Distance(method, value, critical, n, reference_n, level))
        return told

    def _matrix(self, counts: Counts) -> Counts:
        """Count vectors as rows, with zeros behind the shorter ones."""
        matrix = np.zeros(self._real.shape, np.int64)
        matrix[self._real] = counts
        return matrix

    def _of_shares(self, counts: Counts) -> dict[Method, _Columns]:
        reference = self._reference
        p, q = shares(reference, counts, JEFFREYS)
        n, reference_n = counts.sum(axis=-1), reference.sum(axis=-1)
        used = np.count_nonzero(p, axis=-1)
        chance = self._quantiles[np.maximum(used - 1, 0)] * _per_row(n, reference_n)
        # A place that is empty on one side, as it should be with so few rows: what it adds, the smoothing has made.
        made = ((counts == 0) & (p > q)) | ((reference == 0) & (q > p))
        columns: dict[Method, _Columns] = {}
        for method, (terms_of, of_psi) in _METHODS.items():
            terms = terms_of(p, q)
            value, critical = _total(terms), of_psi * chance + _total(np.where(made, terms, 0.0))
            if method == "js":
                value, critical = np.sqrt(np.minimum(value, 1.0)), np.sqrt(critical)
            columns[method] = value, critical, n, reference_n
        return columns

    def _of_numbers(self, counts: Counts) -> _Columns:
        numbers, reference = counts * self._ordered, self._reference * self._ordered
        n, reference_n = numbers.sum(axis=-1), reference.sum(axis=-1)
        # First term of Kolmogorov's series; cautious, since there are fewer places than rows.
        quantile = math.sqrt(-math.log((1 - self._policy.confidence) / 2) / 2)
        return ks(reference, numbers), quantile * np.sqrt(_per_row(n, reference_n)), n, reference_n


@lru_cache(maxsize=1024)
def _comparison(reference: Reference, policy: DriftPolicy) -> Comparison:
    return Comparison(reference.features, policy)


def _psi_terms(p: Floats, q: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p == q, 0.0, (p - q) * (np.log(p) - np.log(q)))


def _kl_terms(p: Floats, q: Floats) -> Floats:
    """p ln(p / q) - p + q: the same sum, since shares add up to one, of terms that are not negative."""
    return np.maximum(_times_log(p, q) - p + q, 0.0)


def _js_terms(p: Floats, q: Floats) -> Floats:
    m = (p + q) / 2
    return np.maximum(_times_log(p, m) + _times_log(q, m), 0.0) / (2 * math.log(2))


def _times_log(p: Floats, q: Floats) -> Floats:
    """p ln(p / q), 0 where p is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)


_METHODS: Mapping[Method, tuple[Callable[[Floats, Floats], Floats], float]] = {
    "psi": (_psi_terms, 1.0),
    "kl": (_kl_terms, 0.5),
    "js": (_js_terms, _JS_OF_PSI),
}
"""Terms that add up to the divergence, and how large it is for a PSI of 1, to second order."""


def _total(terms: Floats) -> Floats:
    """Sum over the places, strictly from left to right, unlike np.sum."""
    total: Floats = np.cumsum(terms, axis=-1)[..., -1]
    return total


def _per_row(n: Counts, reference_n: Counts) -> Floats:
    """1/n + 1/N, by which chance scales a distance."""
    return 1 / np.maximum(n, 1) + 1 / np.maximum(reference_n, 1)
