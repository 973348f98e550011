"""Merging keeps the rows sorted and distinct, and says which of them are new."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tables.impressions import MODEL_SHIFT, Count, Details, Pairs, WindowImpressions
from tables.merging import merge_order

Rows = list[tuple[int, int]]
# Few different values, so that equal pairs and equal rows are the rule.
rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


@given(rows, rows)
def test_the_held_rows_and_those_new_ones_that_are_not_among_them_come_out_in_order(old: Rows, new: Rows) -> None:
    held = sorted(set(old))

    order = merge_order(*columns(held), *columns(new))

    merged = [(held + new)[place] for place in order]
    assert merged == sorted(set(old) | set(new))
    assert {row for row, place in zip(merged, order, strict=True) if place >= len(held)} == set(new) - set(old)


def test_a_window_tells_only_of_models_whose_counts_have_changed() -> None:
    window = WindowImpressions(0)
    window.add(*shown((1, 0), (2, 0), (3, 1)))
    window.absorb()
    assert window.take_changed() == [Count(0, shown=2, clicked=0), Count(1, shown=1, clicked=0)]
    assert window.take_changed() == []

    window.clicked[0] = True
    assert window.take_changed() == [Count(0, shown=2, clicked=1)]

    window.add(*shown((3, 1), (3, 4)))
    window.absorb()
    assert window.take_changed() == [Count(4, shown=1, clicked=0)]
    assert window.counts() == [Count(0, 2, 1), Count(1, 1, 0), Count(4, 1, 0)]


def test_a_pair_shown_and_clicked_twice_counts_once() -> None:
    window = WindowImpressions(0)
    window.add(*shown((1, 0), (1, 1)))
    window.add(np.array([1], np.uint64), np.array([7], np.uint32))
    window.absorb()
    window.clicked[:] = True

    assert window.counts() == [Count(0, shown=1, clicked=1), Count(1, shown=1, clicked=1)]


def columns(rows: Rows) -> tuple[Pairs, Details]:
    """Pairs and places within them."""
    return np.array([pair for pair, _ in rows], np.uint64), np.array([within for _, within in rows], np.uint32)


def shown(*rows: tuple[int, int]) -> tuple[Pairs, Details]:
    """(pair, model index) at the window's start."""
    pair, model = columns(list(rows))
    return pair, model << MODEL_SHIFT
