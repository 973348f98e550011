"""From rows that were good to a reference: what is a number, where the bins lie, which categories are rare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tables.errors import ConfigError
from tables.feature_bins import Bins, CategoryBins, Counts, NumericBins, Value, count_categories, numbers_of
from tables.reference import FeatureReference, Reference

LEAST_BINS, MOST_BINS = 2, 50
FEW_CATEGORIES = 10
"""So many categories have a bin each, however rare they are."""
MOST_CATEGORIES = 50
"""Of more categories, at most so many have a bin of their own."""
LEAST_SHARE = 0.01
"""Of more categories, those with a smaller share of the rows are grouped as rare."""
LEAST_ROWS = 10
"""Of more categories, those with fewer rows are grouped as rare."""
MOST_RARE = 10_000
"""So many rare categories are known by name, the most frequent ones; the others count as unseen."""


def build_reference(
    columns: Mapping[str, Sequence[Value]],
    *,
    model_id: str,
    model_version: str | None,
    created_at_ms: int,
    source: str,
    bins: int = 10,
) -> Reference:
    """The reference of the rows in `columns`, all of one length, None where a row has no such feature.

    Raises ConfigError for a number of bins outside 2..50.
    """
    if not LEAST_BINS <= bins <= MOST_BINS:
        raise ConfigError(f"bins: expected {LEAST_BINS} to {MOST_BINS}, got {bins}")
    features = tuple(feature_reference(name, values, bins=bins) for name, values in columns.items())
    return Reference(model_id, model_version, features, created_at_ms, source)


def feature_reference(
    name: str, values: Sequence[Value], *, bins: int = 10, topics: tuple[str, ...] = ()
) -> FeatureReference:
    """The reference of one feature: numeric where at least half of its values are numbers, else categorical.

    Values of the other type count as unseen, as they will in the rows that are compared with it. `topics`: the inputs
    whose records carry it, and whose rows these are; see FeatureReference.
    """
    found: Bins
    numbers = numbers_of(values)
    present = numbers[~np.isnan(numbers)]
    if len(present) >= len(values) - len(numbers):
        found = NumericBins(quantile_edges(present, bins))
        counts = found.count(values)
    else:
        categories = count_categories(values)
        found = group_categories(categories)
        counts = _counts_without_hindsight(found, categories, numbers)
    return FeatureReference(name, found, tuple(counts.tolist()), topics)


def quantile_edges(values: NDArray[np.float64], bins: int) -> tuple[float, ...]:
    """Edges of about `bins` bins with equal numbers of `values`, shape (n,), no NaN.

    A value with so many ties that it would fill a bin has one for itself: one edge just below it and one at it. What
    lies between two such values, and outside them, is cut at its own quantiles (observed values: the inverse of the
    empirical distribution function). Infinities have no say.
    """
    ordered = np.sort(values[np.isfinite(values)])
    distinct, ties = np.unique(ordered, return_counts=True)
    heavy = distinct[(ties > 1) & (ties * bins >= len(ordered))]
    ends = np.searchsorted(ordered, heavy, side="right").tolist()
    starts = np.searchsorted(ordered, heavy, side="left").tolist()
    edges: set[float] = set()
    for begin, end in zip([0, *ends], [*starts, len(ordered)], strict=True):
        stretch = ordered[begin:end]
        parts = max(1, round(len(stretch) * bins / max(1, len(ordered))))
        cuts = -(-np.arange(1, parts) * len(stretch) // parts) - 1
        edges.update(float(edge) for edge in stretch[cuts] if edge < stretch[-1])
    for value in heavy.tolist():
        edges.update((math.nextafter(value, -math.inf), value))
    return tuple(sorted(edge for edge in edges if math.isfinite(edge)))


def group_categories(rows: Mapping[str, int]) -> CategoryBins:
    """Which categories have a bin of their own; `rows` counts the rows of each."""
    order = sorted(rows, key=lambda category: (-rows[category], category))
    if len(order) <= FEW_CATEGORIES:
        return CategoryBins(tuple(order))
    least = max(LEAST_ROWS, LEAST_SHARE * sum(rows.values()))
    own = [category for category in order[:MOST_CATEGORIES] if rows[category] >= least]
    return CategoryBins(tuple(own), tuple(order[len(own) : len(own) + MOST_RARE]))


def _counts_without_hindsight(bins: CategoryBins, rows: Mapping[str, int], others: NDArray[np.float64]) -> Counts:
    """Counts of rows by category, each rare row judged by the other rows alone, and of numbers and nulls (NaN).

    Rows to come will bring categories that the reference has never seen, as often as its own last row was such a one:
    a category of a single row is unseen to the rest (Good 1953; Turing's estimate of the unseen share). Likewise
    one that only just made the list. Without this a long tail of categories would look like drift for ever.
    """

    def is_lucky(category: str) -> bool:
        return rows[category] == 1 or (1 - rows[category], category) > last_listed

    full = len(bins.other) == MOST_RARE
    last_listed = (-rows[bins.other[-1]], bins.other[-1]) if full else (0, "")
    counts = np.zeros(bins.width, np.int64)
    for category, count in rows.items():
        place = bins.index_of(category)
        is_rare = place == len(bins.categories)
        counts[bins.unseen if is_rare and is_lucky(category) else place] += count
    counts[bins.missing] = np.isnan(others).sum()
    counts[bins.unseen] += len(others) - counts[bins.missing]
    return counts
