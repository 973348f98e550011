"""Samples of rows: fair, bounded, and the same ones whatever the batches."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tables.feature_bins import Value
from tables.row_sample import RowSample

values = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.integers(-(10**6), 10**6), st.floats(allow_nan=False)
)
tables = st.lists(st.dictionaries(st.sampled_from("abc"), values), max_size=40)


def sample_of(rows: list[dict[str, Value]], limit: int, cuts: list[int] | None = None) -> RowSample:
    """A sample of rows whose event times are 0, 1, 2..., offered in batches that end at `cuts`."""
    sample = RowSample(limit, seed=7)
    edges = [0, *sorted(cuts or []), len(rows)]
    for begin, end in pairwise(edges):
        sample.add(rows[begin:end], range(begin, end))
    return sample


@given(tables, st.data())
def test_what_fits_is_kept_as_it_is(rows: list[dict[str, Value]], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4))
    sample = sample_of(rows, 100, cuts)
    assert sample.names == {name for row in rows for name in row}
    for name in sample.names:
        column = sample.column(name)
        assert column == [row.get(name) for row in rows]
        # True and 1 are equal, but not the same value of a feature.
        assert [type(value) is bool for value in column] == [type(row.get(name)) is bool for row in rows]


@given(tables, st.data())
def test_batches_do_not_matter(rows: list[dict[str, Value]], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4))
    whole, cut = sample_of(rows, 5), sample_of(rows, 5, cuts)
    assert len(whole) == len(cut) == min(5, len(rows))
    assert whole.names == cut.names == {name for row in rows for name in row}
    for name in whole.names:
        assert whole.column(name) == cut.column(name)
        assert whole.column(name, 3) == cut.column(name, 3)


def test_the_columns_of_a_sample_stay_rows() -> None:
    sample = sample_of([{"a": place, "b": f"{place}", "c": place % 2 == 0} for place in range(20_000)], 500)
    for count in (200, 500):
        places = np.array(sample.column("a", count), np.int64).tolist()
        assert sample.column("b", count) == [f"{place}" for place in places]
        assert sample.column("c", count) == [place % 2 == 0 for place in places]
        assert len(set(places)) == count


def test_every_row_has_the_same_chance() -> None:
    counts, fewer = np.zeros((2, 10), np.int64)
    for seed in range(4000):
        sample = RowSample(3, seed)
        sample.add([{"a": place} for place in range(10)], range(10))
        counts[np.array(sample.column("a"), np.int64)] += 1
        fewer[np.array(sample.column("a", 1), np.int64)] += 1
    # 1200 of each are expected, and of one of the three 400; 29 and 19 are one standard deviation.
    assert counts.sum() == 3 * fewer.sum() == 12_000
    assert abs(counts - 1200).max() < 4.5 * 29
    assert abs(fewer - 400).max() < 4.5 * 19


def test_a_name_that_comes_late_is_missing_before() -> None:
    sample = sample_of([{"a": 1.0}, {"b": "x"}, {"a": math.nan, "b": None}], 10, [1, 2])
    assert (sample.column("a"), sample.column("b")) == ([1.0, None, None], [None, "x", None])


def test_a_name_of_rows_that_were_not_drawn_is_known_all_the_same() -> None:
    sample = sample_of([{f"a{place}": True} for place in range(50)], 2)
    assert len(sample.names) == 50
    # Two were drawn; the others are missing in both of the rows.
    assert sorted(sample.column(name).count(None) for name in sample.names) == [1, 1, *[2] * 48]


def test_rows_of_a_later_time_can_be_left_out() -> None:
    sample = sample_of([{"a": float(place)} for place in range(6)], 10)
    assert sample.column("a", before_ms=4) == [0.0, 1.0, 2.0, 3.0]


def test_a_number_beyond_all_floats_is_infinite() -> None:
    found = sample_of([{"a": 10**400}, {"a": -(10**400)}, {"a": None}, {"a": 2}], 10).column("a")
    assert found == [math.inf, -math.inf, None, 2.0]
