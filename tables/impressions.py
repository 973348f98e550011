"""The impressions of one window, as sorted packed columns.

A row is (pair, detail): the keyed hash of (user, item), 64 bits, and `model index << 16 | ms since the window's
start`, 32 bits. Rows are kept sorted by (pair, detail), so that equal rows are neighbours (a duplicate event changes
nothing) and the rows of one pair and model are neighbours (distinct pairs are counted in one pass).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.uint64]
Details = NDArray[np.uint32]
Flags = NDArray[np.bool_]

ROW = np.dtype([("pair", "<u8"), ("detail", "<u4")])
"""A packed row: 12 bytes, little-endian."""

MODEL_SHIFT = np.uint32(16)
OFFSET_MASK = np.uint32(0xFFFF)


class WindowImpressions:
    """Distinct impressions of one window and partition, and which of them were clicked."""

    __slots__ = ("_incoming", "clicked", "detail", "incoming_rows", "pair", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.pair: Pairs = np.empty(0, np.uint64)
        self.detail: Details = np.empty(0, np.uint32)
        self.clicked: Flags = np.empty(0, np.bool_)
        self._incoming: list[tuple[Pairs, Details]] = []
        self.incoming_rows = 0

    def __len__(self) -> int:
        return len(self.pair) + self.incoming_rows

    def add(self, pair: Pairs, detail: Details) -> None:
        """Take rows in, in any order, duplicates included; they count from the next `absorb` on."""
        self._incoming.append((pair, detail))
        self.incoming_rows += len(pair)

    def absorb(self) -> tuple[Pairs, Details]:
        """Merge what was added; returns the rows that are really new, sorted by (pair, detail).

        Costs O(rows of the window) copying plus O(new log new): windows are small, batches large.
        """
        if not self._incoming:
            return self.pair[:0], self.detail[:0]
        pair = np.concatenate([p for p, _ in self._incoming])
        detail = np.concatenate([d for _, d in self._incoming])
        self._incoming.clear()
        self.incoming_rows = 0
        order = np.argsort(pair)
        pair, detail = pair[order], detail[order]

        total = len(self.pair) + len(pair)
        is_new = np.zeros(total, np.bool_)
        is_new[np.searchsorted(self.pair, pair, side="right") + np.arange(len(pair))] = True
        old = ~is_new
        merged_pair, merged_detail = np.empty(total, np.uint64), np.empty(total, np.uint32)
        clicked = np.zeros(total, np.bool_)
        merged_pair[is_new], merged_detail[is_new] = pair, detail
        merged_pair[old], merged_detail[old], clicked[old] = self.pair, self.detail, self.clicked

        same = merged_pair[1:] == merged_pair[:-1]
        if same.any():
            tied = _runs_with_new_rows(same, is_new)
            # Stable, and old rows stand before new ones: of equal rows the old one, with its flag, comes first.
            order = np.lexsort((merged_detail[tied], merged_pair[tied]))
            for column in (merged_detail, clicked, is_new):
                column[tied] = column[tied[order]]
            keep = np.ones(total, np.bool_)
            keep[1:] = ~(same & (merged_detail[1:] == merged_detail[:-1]))
            if not keep.all():
                merged_pair, merged_detail = merged_pair[keep], merged_detail[keep]
                clicked, is_new = clicked[keep], is_new[keep]
        self.pair, self.detail, self.clicked = merged_pair, merged_detail, clicked
        return merged_pair[is_new], merged_detail[is_new]

    def times(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Event times of the given rows, ms."""
        return (self.detail[rows] & OFFSET_MASK).astype(np.int64) + self.start

    def models(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Model indices of the given rows."""
        return (self.detail[rows] >> MODEL_SHIFT).astype(np.intp)

    def counts(self) -> list[tuple[int, int, int]]:
        """(model index, distinct pairs shown, distinct pairs clicked) for each model in the window."""
        if not len(self.pair):
            return []
        model = self.detail >> MODEL_SHIFT
        first = np.ones(len(self.pair), np.bool_)
        first[1:] = (self.pair[1:] != self.pair[:-1]) | (model[1:] != model[:-1])
        starts = np.flatnonzero(first)
        model = model[starts]
        shown = np.bincount(model)
        clicked = np.bincount(model[np.logical_or.reduceat(self.clicked, starts)], minlength=len(shown))
        return [(int(m), int(shown[m]), int(clicked[m])) for m in np.flatnonzero(shown)]


def _runs_with_new_rows(same: Flags, is_new: Flags) -> NDArray[np.intp]:
    """Positions of the rows whose run of equal pairs is longer than one and holds a new row."""
    run = np.zeros(len(is_new), np.intp)
    np.cumsum(~same, out=run[1:])
    touched = np.zeros(int(run[-1]) + 1, np.bool_)
    touched[run[is_new]] = True
    tied = np.zeros(len(is_new), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    return np.flatnonzero(tied & touched[run])


def pack_impressions(pair: Pairs, detail: Details) -> bytes:
    """Rows as bytes, 12 each."""
    rows = np.empty(len(pair), ROW)
    rows["pair"], rows["detail"] = pair, detail
    return rows.tobytes()


def unpack_impressions(data: bytes) -> tuple[Pairs, Details]:
    """The reverse of `pack_impressions`; raises ValueError where the length is not a whole number of rows."""
    rows = np.frombuffer(data, ROW)
    return np.ascontiguousarray(rows["pair"]), np.ascontiguousarray(rows["detail"])
