"""Merging new rows into sorted ones: the way in for impressions and clicks alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Places = NDArray[np.intp]


def merge_order(held_pair: Pairs, held_within: NDArray[Any], pair: Pairs, within: NDArray[Any]) -> Places:
    """Which of the held rows and, numbered after them, of the new ones are the distinct rows of both, in order.

    A row is a pair and its place `within` the rows of the pair. The held rows are sorted by both and distinct, the new
    ones come in any order; of equal rows the held one stays. Costs O(held) copying plus O(new log new).
    """
    held = len(held_pair)
    by_pair = np.argsort(pair)
    order = np.insert(np.arange(held), np.searchsorted(held_pair, pair[by_pair], side="right"), held + by_pair)
    pair = np.concatenate([held_pair, pair])[order]
    same = pair[1:] == pair[:-1]
    if same.any():
        within = np.concatenate([held_within, within])
        tied = _runs_with_new_rows(same, order >= held)
        rows = order[tied]
        # The number of the row comes last, so that of equal rows the held one is first.
        order[tied] = rows[np.lexsort((rows, within[rows], pair[tied]))]
        within = within[order]
        keep = np.ones(len(order), np.bool_)
        keep[1:] = ~(same & (within[1:] == within[:-1]))
        order = order[keep]
    return order


def _runs_with_new_rows(same: Flags, is_new: Flags) -> Places:
    """Positions of the rows whose run of equal pairs is longer than one and holds a new row."""
    run = np.zeros(len(is_new), np.intp)
    np.cumsum(~same, out=run[1:])
    touched = np.zeros(int(run[-1]) + 1, np.bool_)
    touched[run[is_new]] = True
    tied = np.zeros(len(is_new), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    return np.flatnonzero(tied & touched[run])
