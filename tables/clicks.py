"""The clicks of one partition that may still be joined, as columns sorted by (pair, time)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tables.join_policy import WINDOW_MS
from tables.merging import merge_order

Pairs = NDArray[np.uint64]
Times = NDArray[np.int64]

ROW = np.dtype([("pair", "<u8"), ("offset", "<u2")])
"""A packed row: 10 bytes; the minute is in the chunk's name."""


class ClickRows:
    """Distinct clicks (pair, time in ms)."""

    __slots__ = ("_incoming", "incoming_rows", "pair", "time")

    def __init__(self) -> None:
        self.pair: Pairs = np.empty(0, np.uint64)
        self.time: Times = np.empty(0, np.int64)
        self._incoming: list[tuple[Pairs, Times]] = []
        self.incoming_rows = 0

    def __len__(self) -> int:
        return len(self.pair) + self.incoming_rows

    def add(self, pair: Pairs, time: Times) -> None:
        """Take clicks in, in any order, duplicates included; they count from the next `absorb` on."""
        self._incoming.append((pair, time))
        self.incoming_rows += len(pair)

    def absorb(self) -> tuple[Pairs, Times]:
        """Merge what was added; returns the clicks that are really new, sorted by (pair, time)."""
        if not self._incoming:
            return self.pair[:0], self.time[:0]
        pair = np.concatenate([p for p, _ in self._incoming])
        time = np.concatenate([t for _, t in self._incoming])
        self._incoming.clear()
        self.incoming_rows = 0
        held = len(self.pair)
        order = merge_order(self.pair, self.time, pair, time)
        self.pair = np.concatenate([self.pair, pair])[order]
        self.time = np.concatenate([self.time, time])[order]
        is_new = order >= held
        return self.pair[is_new], self.time[is_new]

    def drop_before(self, time: int) -> None:
        """Forget clicks older than `time`; call after `absorb`."""
        keep = self.time >= time
        self.pair, self.time = self.pair[keep], self.time[keep]


def pack_clicks(pair: Pairs, time: Times) -> dict[int, bytes]:
    """Clicks as bytes, 10 each, by the minute they fall into (its start, ms)."""
    minute = time - time % WINDOW_MS
    packed = {}
    for start in np.unique(minute):
        mine = minute == start
        rows = np.empty(int(mine.sum()), ROW)
        rows["pair"], rows["offset"] = pair[mine], time[mine] - start
        packed[int(start)] = rows.tobytes()
    return packed


def unpack_clicks(minute: int, data: bytes) -> tuple[Pairs, Times]:
    """The reverse of `pack_clicks` for one minute; raises ValueError on a broken length."""
    rows = np.frombuffer(data, ROW)
    return np.ascontiguousarray(rows["pair"]), rows["offset"].astype(np.int64) + minute
