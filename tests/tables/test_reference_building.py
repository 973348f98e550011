"""From rows to bins: quantiles, ties, rare categories, and columns that nobody would call well kept."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.errors import ConfigError
from tables.feature_bins import CategoryBins, NumericBins, Value
from tables.reference import FeatureReference
from tables.reference_building import (
    FEW_CATEGORIES,
    MOST_CATEGORIES,
    MOST_RARE,
    build_reference,
    feature_reference,
    group_categories,
    quantile_edges,
)

values: st.SearchStrategy[Value] = st.floats() | st.integers() | st.sampled_from(["a", "b"]) | st.booleans() | st.none()


def numeric(reference: FeatureReference) -> NumericBins:
    assert isinstance(reference.bins, NumericBins)
    return reference.bins


def categories(reference: FeatureReference) -> CategoryBins:
    assert isinstance(reference.bins, CategoryBins)
    return reference.bins


def test_numbers_are_cut_into_bins_of_equal_numbers_of_rows() -> None:
    reference = feature_reference("x", [float(i) for i in range(1, 1001)])

    assert numeric(reference).edges == (100, 200, 300, 400, 500, 600, 700, 800, 900)
    assert reference.counts == (*[100] * 10, 0, 0)


def test_a_constant_tells_what_is_below_and_above_it() -> None:
    reference = feature_reference("x", [7.0] * 50)
    bins = numeric(reference)

    assert bins.labels() == ["< 7", "= 7", "> 7", "unseen", "missing"]
    assert reference.counts == (0, 50, 0, 0, 0)
    assert [bins.index_of(x) for x in (6.999999, 7, 7.000001)] == [0, 1, 2]


def test_a_value_that_fills_a_bin_by_itself_has_one() -> None:
    # 60 % zeros; the rest rises evenly to 40.
    reference = feature_reference("x", [0] * 60 + list(range(1, 41)))

    assert numeric(reference).labels()[:6] == ["< 0", "= 0", "0 - 10", "10 - 20", "20 - 30", "> 30"]
    assert reference.counts == (0, 60, 10, 10, 10, 10, 0, 0)


def test_a_few_whole_numbers_have_a_bin_each() -> None:
    stars = [star for star in (1, 2, 3, 4, 5) for _ in range(20)]
    reference = feature_reference("stars", stars)

    filled = [label for label, n in zip(reference.bins.labels(), reference.counts, strict=True) if n]
    assert filled == ["= 1", "= 2", "= 3", "= 4", "= 5"]


def test_ties_that_are_less_than_a_bin_are_kept_together() -> None:
    hours = [hour for hour in range(24) for _ in range(10)]
    reference = feature_reference("hour", hours)

    assert all(edge == int(edge) for edge in numeric(reference).edges)
    assert sorted(reference.counts[:10]) == [20] * 6 + [30] * 4  # two hours, or three


@given(st.lists(st.floats() | st.integers(0, 4).map(float), max_size=60), st.integers(2, 12))
def test_bins_hold_what_bins_should(rows: list[float], bins: int) -> None:
    found = np.array([row for row in rows if not math.isnan(row)])
    edges = quantile_edges(found, bins)
    shape = NumericBins(edges)

    assert len(edges) <= 3 * bins
    finite = [row for row in found.tolist() if math.isfinite(row)]
    heavy = {row for row, ties in Counter(finite).items() if ties > 1 and ties * bins >= len(finite)}
    held = [[row for row in finite if shape.index_of(row) == place] for place in range(shape.bins)]
    most = math.ceil(1.5 * len(finite) / bins) + len(finite) / bins
    for in_bin in held:
        # Whatever is heavy is alone; nothing else holds much more than its share.
        assert len(set(in_bin)) == 1 if heavy & set(in_bin) else len(in_bin) <= most


@pytest.mark.parametrize(("own", "of"), [(2, 2), (10, 10), (3, 11)])
def test_a_few_categories_have_a_bin_each_and_of_more_the_frequent_ones(own: int, of: int) -> None:
    rows = {f"c{i}": 100 if i < 3 else 1 for i in range(of)}

    bins = group_categories(rows)

    assert len(bins.categories) == own
    assert len(bins.other) == of - own
    assert (own == of) == (of <= FEW_CATEGORIES)


def test_frequent_means_one_per_cent_and_ten_rows() -> None:
    crowd = {f"c{i}": 80 for i in range(12)}

    small = group_categories(crowd | {"ten": 10, "nine": 9})  # a thousand rows: a share of 1 %, and of 0.9 %
    large = group_categories({name: 100 * n for name, n in crowd.items()} | {"1 %": 1000, "1 per mille": 100})

    assert small.other == ("nine",)
    assert large.other == ("1 per mille",)
    few = group_categories({f"c{i}": 9 for i in range(11)})  # 9 % each, but what do nine rows tell
    assert few.categories == ()


def test_there_is_an_end_to_bins() -> None:
    bins = group_categories({f"c{i:03}": 100 for i in range(80)})

    assert bins.categories == tuple(f"c{i:03}" for i in range(MOST_CATEGORIES))
    assert len(bins.other) == 80 - MOST_CATEGORIES


def test_rare_categories_of_a_single_row_stand_for_those_not_seen_yet() -> None:
    rows = ["often"] * 900 + [f"twice {i % 10}" for i in range(20)] + [f"once {i}" for i in range(30)]
    reference = feature_reference("brand", rows)

    assert categories(reference).categories == ("often",)
    # Known by name when they come again, but counted as unseen: each was new when it came.
    assert len(categories(reference).other) == 40
    assert dict(zip(reference.bins.labels(), reference.counts, strict=True)) == {
        "often": 900, "40 rare": 20, "unseen": 30, "missing": 0,
    }  # fmt: skip


def test_unseen_categories_are_as_frequent_in_the_reference_as_in_what_follows() -> None:
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, 3001)
    names = [f"{rank}" for rank in range(3000)]

    def draw(rows: int) -> list[Value]:
        return [names[rank] for rank in rng.choice(3000, rows, p=weights / weights.sum())]

    reference = feature_reference("brand", draw(10_000))
    later = reference.bins.count(draw(100_000))

    share = np.array(reference.counts) / 10_000
    assert share[reference.bins.unseen] == pytest.approx(later[reference.bins.unseen] / 100_000, rel=0.15)
    assert share[reference.bins.unseen - 1] == pytest.approx(later[reference.bins.unseen - 1] / 100_000, rel=0.05)


def test_no_more_names_are_kept_than_there_is_room_for() -> None:
    rows = [f"user {i % 30_000}" for i in range(75_000)]
    random.Random(1).shuffle(rows)
    reference = feature_reference("user", rows)

    # 15,000 users have three rows. Ten thousand of them are known by name; with a row less, none of these would be.
    assert len(categories(reference).other) == MOST_RARE
    assert reference.counts == (0, 75_000, 0)


@pytest.mark.parametrize(
    ("rows", "labels", "counts"),
    [
        ([], ["any number"], (0, 0, 0)),
        ([None, math.nan, None], ["any number"], (0, 0, 3)),
        ([3.5], ["any number"], (1, 0, 0)),
        (["x"], ["x"], (1, 0, 0)),
        ([True, False, True, None], ["true", "false"], (2, 1, 0, 1)),
        # The majority says what the column is; the others are unseen.
        ([1, 2, "3"], ["<= 1", "> 1"], (1, 1, 1, 0)),
        ([1, "2", True, "2"], ["2", "true"], (2, 1, 1, 0)),
        ([math.inf, -math.inf], ["any number"], (2, 0, 0)),
        ([10**400, -(10**400), 0], ["any number"], (3, 0, 0)),
    ],
)
def test_odd_columns(rows: list[Value], labels: list[str], counts: tuple[int, ...]) -> None:
    reference = feature_reference("x", rows)

    assert reference.bins.labels() == [*labels, "unseen", "missing"]
    assert reference.counts == counts


@given(st.lists(values, max_size=40), st.integers(2, 50))
def test_every_row_is_counted_once_and_order_is_nothing(rows: list[Value], bins: int) -> None:
    reference = feature_reference("x", rows, bins=bins)

    assert reference.n == len(rows)
    assert feature_reference("x", rows[::-1], bins=bins) == reference


def test_a_reference_has_a_feature_for_each_column() -> None:
    columns: dict[str, Any] = {"gender": ["f", "m"], "age": [31, None]}

    reference = build_reference(columns, model_id="home", model_version="v3", created_at_ms=5, source="rows.csv")

    assert [feature.name for feature in reference.features] == ["age", "gender"]
    assert (reference.model_id, reference.model_version, reference.source) == ("home", "v3", "rows.csv")


def test_the_number_of_bins_is_up_to_the_caller_within_reason() -> None:
    rows = list(range(100))
    head: dict[str, Any] = {"model_id": "m", "model_version": None, "created_at_ms": 0, "source": ""}

    assert build_reference({"x": rows}, bins=4, **head).features[0].counts == (25, 25, 25, 25, 0, 0)
    for bins in (1, 51):
        with pytest.raises(ConfigError, match=f"bins: expected 2 to 50, got {bins}"):
            build_reference({"x": rows}, bins=bins, **head)
