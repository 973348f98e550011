"""The impressions of one window, as sorted packed columns.

A row is (pair, detail): the keyed hash of (user, item), 64 bits, and `model index << 16 | ms since the window's
start`, 32 bits. Rows are kept sorted by (pair, detail), so that equal rows are neighbours (a duplicate event changes
nothing) and the rows of one pair and model are neighbours (distinct pairs are counted in one pass).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tables.merging import merge_order

Pairs = NDArray[np.uint64]
Details = NDArray[np.uint32]
Flags = NDArray[np.bool_]

ROW = np.dtype([("pair", "<u8"), ("detail", "<u4")])
"""A packed row: 12 bytes, little-endian."""

MODEL_SHIFT = np.uint32(16)
OFFSET_MASK = np.uint32(0xFFFF)


class Count(NamedTuple):
    """What a window knows of one model."""

    model: int
    """Its index."""
    shown: int
    """Distinct pairs."""
    clicked: int
    """Those of them that were clicked."""


class WindowImpressions:
    """Distinct impressions of one window and partition, and which of them were clicked."""

    __slots__ = ("_incoming", "_shown", "_told", "clicked", "detail", "incoming_rows", "pair", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.pair: Pairs = np.empty(0, np.uint64)
        self.detail: Details = np.empty(0, np.uint32)
        self.clicked: Flags = np.empty(0, np.bool_)
        self._incoming: list[tuple[Pairs, Details]] = []
        self.incoming_rows = 0
        # Pairs shown by model: clicks change other windows far more often than impressions do.
        self._shown: NDArray[np.intp] | None = None
        self._told = np.zeros((2, 0), np.intp)

    def __len__(self) -> int:
        return len(self.pair) + self.incoming_rows

    def add(self, pair: Pairs, detail: Details) -> None:
        """Take rows in, in any order, duplicates included; they count from the next `absorb` on."""
        self._incoming.append((pair, detail))
        self.incoming_rows += len(pair)

    def absorb(self) -> tuple[Pairs, Details]:
        """Merge what was added; returns the rows that are really new, sorted by (pair, detail)."""
        if not self._incoming:
            return self.pair[:0], self.detail[:0]
        pair = np.concatenate([p for p, _ in self._incoming])
        detail = np.concatenate([d for _, d in self._incoming])
        self._incoming.clear()
        self.incoming_rows = 0
        held = len(self.pair)
        order = merge_order(self.pair, self.detail, pair, detail)
        self.pair = np.concatenate([self.pair, pair])[order]
        self.detail = np.concatenate([self.detail, detail])[order]
        self.clicked = np.concatenate([self.clicked, np.zeros(len(pair), np.bool_)])[order]
        self._shown = None
        is_new = order >= held
        return self.pair[is_new], self.detail[is_new]

    def times(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Event times of the given rows, ms."""
        return (self.detail[rows] & OFFSET_MASK).astype(np.int64) + self.start

    def models(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Model indices of the given rows."""
        return (self.detail[rows] >> MODEL_SHIFT).astype(np.intp)

    def counts(self) -> list[Count]:
        """The counts of each model in the window."""
        totals = self._totals()
        return _counts(totals, np.flatnonzero(totals[0]))

    def take_changed(self) -> list[Count]:
        """Those counts that this has not returned yet."""
        totals = self._totals()
        known = np.zeros_like(totals)
        known[:, : self._told.shape[1]] = self._told
        self._told = totals
        return _counts(totals, np.flatnonzero((totals != known).any(axis=0)))

    def _totals(self) -> NDArray[np.intp]:
        """Distinct pairs shown and distinct pairs clicked by model index, shape (2, models)."""
        if self._shown is None:
            self._shown = np.bincount(self._models_of_pairs(slice(None)))
        clicked = self._models_of_pairs(np.flatnonzero(self.clicked))
        return np.stack([self._shown, np.bincount(clicked, minlength=len(self._shown))])

    def _models_of_pairs(self, rows: NDArray[np.intp] | slice) -> Details:
        """The model index of each distinct pair and model among these rows, which stand in order."""
        pair, model = self.pair[rows], self.detail[rows] >> MODEL_SHIFT
        first = np.ones(len(pair), np.bool_)
        first[1:] = (pair[1:] != pair[:-1]) | (model[1:] != model[:-1])
        return model[first]


def _counts(totals: NDArray[np.intp], models: NDArray[np.intp]) -> list[Count]:
    return [Count(*row) for row in zip(models.tolist(), *totals[:, models].tolist(), strict=True)]


def pack_impressions(pair: Pairs, detail: Details) -> bytes:
    """Rows as bytes, 12 each."""
    rows = np.empty(len(pair), ROW)
    rows["pair"], rows["detail"] = pair, detail
    return rows.tobytes()


def unpack_impressions(data: bytes) -> tuple[Pairs, Details]:
    """The reverse of `pack_impressions`; raises ValueError where the length is not a whole number of rows."""
    rows = np.frombuffer(data, ROW)
    return np.ascontiguousarray(rows["pair"]), np.ascontiguousarray(rows["detail"])
