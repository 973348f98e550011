"""Bins of one feature: how a value becomes an index into a vector of counts.

A count vector is int64 of shape (width,), width = K + 2: the K bins of values, then *unseen* (a category that the
reference does not know; text or a boolean where numbers are expected, and the other way round), then *missing* (null,
absent, NaN). Bins are made once, from the reference, and never move with the data that is compared with it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tables.errors import ConfigError

Value: TypeAlias = float | int | str | bool | None
"""What a feature can be in an event."""

Counts: TypeAlias = NDArray[np.int64]
"""Rows per bin, shape (width,)."""

# Columns of these alone are taken as a whole, others value by value.
_NUMBERS = frozenset({int, float, type(None)})
_TEXTS = frozenset({str, bool, type(None)})


def as_number(value: float | int) -> float:
    """The float nearest to `value`; integers beyond the range of a float become infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def numbers_of(values: Sequence[Value]) -> NDArray[np.float64]:
    """The numbers among `values`, with nulls as NaN; text and booleans are left out."""
    # numpy would read "7" and True as numbers, too.
    if not _NUMBERS.issuperset(map(type, values)):
        values = [value for value in values if not isinstance(value, (str, bool))]
    try:
        return np.array(values, np.float64)
    except OverflowError:
        return np.array([math.nan if value is None else as_number(value) for value in values])  # type: ignore[arg-type]


def as_category(value: str | bool) -> str:
    """The text that stands for `value`: `true` and `false` for booleans."""
    return value if isinstance(value, str) else "true" if value else "false"


def count_categories(values: Sequence[Value]) -> Counter[str]:
    """Rows of each category among `values`; numbers and nulls are left out."""
    if not _TEXTS.issuperset(map(type, values)):
        values = [value for value in values if isinstance(value, (str, bool))]
    rows: Counter[str] = Counter()
    for value, count in Counter(values).items():
        if isinstance(value, (str, bool)):
            rows[as_category(value)] += count
    return rows


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Bins of numbers between rising, finite edges: bin i holds edges[i-1] < v <= edges[i], the outer ones are open.

    Raises ConfigError for edges that are not finite or do not rise.
    """

    edges: tuple[float, ...]
    _edges: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        edges = np.array(self.edges, np.float64)
        if not np.isfinite(edges).all():
            raise ConfigError("edges: expected finite numbers")
        if (edges[1:] <= edges[:-1]).any():
            raise ConfigError("edges: expected numbers that rise from one to the next")
        object.__setattr__(self, "_edges", edges)

    @property
    def bins(self) -> int:
        """K, without unseen and missing."""
        return len(self.edges) + 1

    @property
    def width(self) -> int:
        """Length of a count vector, K + 2."""
        return self.bins + 2

    @property
    def unseen(self) -> int:
        """Where text and booleans are counted."""
        return self.bins

    @property
    def missing(self) -> int:
        """Where nulls and NaN are counted."""
        return self.bins + 1

    def index(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Bins of many numbers, shape (n,); NaN is missing, infinities fall in the outer bins."""
        found = np.searchsorted(self._edges, values, side="left")
        return np.where(np.isnan(values), self.missing, found).astype(np.int64, copy=False)

    def index_of(self, value: Value) -> int:
        """Bin of one value of any type."""
        if value is None:
            return self.missing
        if isinstance(value, (str, bool)):
            return self.unseen
        return int(self.index(np.array([as_number(value)]))[0])

    def count(self, values: Sequence[Value]) -> Counts:
        """Counts of many values of any type, shape (width,)."""
        numbers = numbers_of(values)
        counts = np.bincount(self.index(numbers), minlength=self.width).astype(np.int64, copy=False)
        counts[self.unseen] += len(values) - len(numbers)
        return counts

    def labels(self) -> list[str]:
        """One short text per place of a count vector, for people."""
        texts = [f"{edge:.6g}" for edge in self.edges]
        labels = [f"<= {texts[0]}", *map(" - ".join, itertools.pairwise(texts))] if texts else []
        for i in range(1, len(self.edges)):
            if self.edges[i - 1] == math.nextafter(self.edges[i], -math.inf):
                labels[i] = f"= {texts[i]}"
                # The bin below ends just before the value that has a bin of its own.
                labels[i - 1] = f"{texts[i - 2]} - < {texts[i]}" if i > 1 else f"< {texts[i]}"
        return [*labels, f"> {texts[-1]}" if texts else "any number", "unseen", "missing"]


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """One bin a category and, where `other` is not empty, one more for the rare categories that it lists.

    Raises ConfigError for a category that is listed twice.
    """

    categories: tuple[str, ...]
    other: tuple[str, ...] = ()
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = dict.fromkeys(self.other, len(self.categories))
        places.update((category, i) for i, category in enumerate(self.categories))
        if len(places) != len(self.categories) + len(self.other):
            raise ConfigError("categories, other: expected every category once")
        object.__setattr__(self, "_places", places)

    @property
    def bins(self) -> int:
        """K, without unseen and missing."""
        return len(self.categories) + bool(self.other)

    @property
    def width(self) -> int:
        """Length of a count vector, K + 2."""
        return self.bins + 2

    @property
    def unseen(self) -> int:
        """Where categories that the reference does not know, and numbers, are counted."""
        return self.bins

    @property
    def missing(self) -> int:
        """Where nulls and NaN are counted."""
        return self.bins + 1

    @property
    def places(self) -> dict[str, int]:
        """Bin of every known category, to look up many at once; not to be changed."""
        return self._places

    def index_of(self, value: Value) -> int:
        """Bin of one value of any type."""
        if value is None or value != value:
            return self.missing
        if isinstance(value, (str, bool)):
            return self._places.get(as_category(value), self.bins)
        return self.unseen

    def count(self, values: Sequence[Value]) -> Counts:
        """Counts of many values of any type, shape (width,)."""
        counts = np.zeros(self.width, np.int64)
        for category, rows in count_categories(values).items():
            counts[self._places.get(category, self.unseen)] += rows
        numbers = numbers_of(values)
        counts[self.missing] = np.isnan(numbers).sum()
        counts[self.unseen] += len(numbers) - counts[self.missing]
        return counts

    def labels(self) -> list[str]:
        """One short text per place of a count vector, for people."""
        rare = [f"{len(self.other)} rare"] if self.other else []
        return [*self.categories, *rare, "unseen", "missing"]


Bins: TypeAlias = NumericBins | CategoryBins
