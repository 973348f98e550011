"""Where a value is counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.errors import ConfigError
from tables.feature_bins import Bins, CategoryBins, NumericBins, Value

AGE = NumericBins((18.0, 30.0, 60.0))
SHOP = CategoryBins(("de", "fr"), other=("li", "mc"))
WITHOUT_RARE = CategoryBins(("f", "m"))

numbers = st.floats() | st.integers(-(10**400), 10**400)
values: st.SearchStrategy[Value] = numbers | st.text(max_size=3) | st.booleans() | st.none()
edges = st.sets(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float), max_size=8)


def test_a_bin_of_numbers_is_closed_at_its_upper_edge() -> None:
    assert [AGE.index_of(age) for age in (-1, 18, 18.1, 30, 31, 60, 60.5)] == [0, 0, 1, 1, 2, 2, 3]


def test_whatever_is_no_number_has_places_of_its_own() -> None:
    unseen, missing = 4, 5

    assert [AGE.index_of(age) for age in ("31", "", True, False)] == [unseen] * 4
    assert [AGE.index_of(age) for age in (None, math.nan)] == [missing] * 2
    assert [AGE.index_of(age) for age in (-math.inf, math.inf, -(10**400), 10**400)] == [0, 3, 0, 3]
    assert (AGE.bins, AGE.width, AGE.unseen, AGE.missing) == (4, 6, unseen, missing)


def test_rare_categories_share_a_bin_and_unknown_ones_are_unseen() -> None:
    assert [SHOP.index_of(shop) for shop in ("de", "fr", "li", "mc", "xx", 7, 7.5)] == [0, 1, 2, 2, 3, 3, 3]
    assert [SHOP.index_of(shop) for shop in (None, math.nan)] == [4, 4]
    assert (SHOP.bins, SHOP.width, SHOP.unseen, SHOP.missing) == (3, 5, 3, 4)
    # Without rare ones there is no bin for them.
    assert (WITHOUT_RARE.bins, WITHOUT_RARE.width, WITHOUT_RARE.index_of("x")) == (2, 4, 2)


def test_booleans_are_the_categories_true_and_false() -> None:
    flag = CategoryBins(("false", "true"))

    assert [flag.index_of(value) for value in (False, True, "true", 1, "True")] == [0, 1, 1, 2, 2]


@given(edges, st.lists(values))
def test_all_ways_of_counting_numbers_agree(found: set[float], rows: list[Value]) -> None:
    bins = NumericBins(tuple(sorted({edge + 0.0 for edge in found})))

    counts = bins.count(rows)

    assert counts.dtype == np.int64
    assert counts.tolist() == tally(bins, rows)
    floats = [row for row in rows if isinstance(row, float)]
    assert bins.index(np.array(floats, np.float64)).tolist() == [bins.index_of(row) for row in floats]
    # The definition of a bin, by brute force.
    for row in floats:
        if not math.isnan(row):
            assert bins.index_of(row) == sum(edge < row for edge in bins.edges)


@given(st.lists(st.text(max_size=2), unique=True), st.integers(0, 5), st.lists(values))
def test_all_ways_of_counting_categories_agree(known: list[str], own: int, rows: list[Value]) -> None:
    bins = CategoryBins(tuple(known[:own]), tuple(known[own:]))

    counts = bins.count(rows)

    assert counts.dtype == np.int64
    assert counts.tolist() == tally(bins, rows)


def test_labels_are_for_people() -> None:
    assert AGE.labels() == ["<= 18", "18 - 30", "30 - 60", "> 60", "unseen", "missing"]
    assert SHOP.labels() == ["de", "fr", "2 rare", "unseen", "missing"]
    assert WITHOUT_RARE.labels() == ["f", "m", "unseen", "missing"]
    assert NumericBins(()).labels() == ["any number", "unseen", "missing"]
    # A value with a bin of its own, between two numbers that no float lies between.
    zero = NumericBins((math.nextafter(0, -1), 0.0, 10.0))
    assert zero.labels() == ["< 0", "= 0", "0 - 10", "> 10", "unseen", "missing"]
    three = NumericBins((1.0, math.nextafter(3, 0), 3.0))
    assert three.labels() == ["<= 1", "1 - < 3", "= 3", "> 3", "unseen", "missing"]


@given(edges)
def test_every_place_has_a_label(found: set[float]) -> None:
    bins = NumericBins(tuple(sorted({edge + 0.0 for edge in found})))

    assert len(bins.labels()) == bins.width


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (2.0, 1.0), (0.0, -0.0), (math.nan,), (1.0, math.inf)])
def test_edges_are_finite_and_rise(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="edges: expected"):
        NumericBins(wrong)


@pytest.mark.parametrize("other", [("a", "c"), ("c", "c")])
def test_a_category_is_listed_once(other: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="every category once"):
        CategoryBins(("a", "b"), other)


def tally(bins: Bins, rows: list[Value]) -> list[int]:
    """Counts of one row after the other."""
    counts = [0] * bins.width
    for row in rows:
        counts[bins.index_of(row)] += 1
    return counts
