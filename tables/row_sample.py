"""A uniform sample of rows that come one after the other, in columns: memory is bounded, however many they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tables.feature_bins import Value, numbers_of

_FIRST_ROWS = 4096
_NO_TEXT = -1


class RowSample:
    """At most `limit` rows, each of all that came with the same chance: a reservoir (Vitter 1985, algorithm R).

    The same rows and seed give the same sample, into whatever batches the rows were cut. A value takes 12 bytes, and
    its text once.
    """

    def __init__(self, limit: int, seed: int) -> None:
        self._limit = limit
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._columns: dict[str, _Column] = {}
        self._times = np.zeros(0, np.int64)
        #: Rows that came.
        self.seen = 0
        #: Columns, of all rows that came.
        self.names: set[str] = set()

    def __len__(self) -> int:
        return min(self.seen, self._limit)

    def add(self, rows: Sequence[Mapping[str, Value]], times_ms: Sequence[int]) -> None:
        """Offer rows, with the event time of each; a name that a row lacks is missing there."""
        self.names.update(*rows)
        chosen = self._slots(len(rows))
        if not chosen:
            return
        self._make_room()
        slots = np.fromiter(chosen, np.int64, len(chosen))
        kept = [rows[place] for place in chosen.values()]
        self._times[slots] = [times_ms[place] for place in chosen.values()]
        for name in self._columns.keys() | set().union(*kept):
            if name not in self._columns:
                self._columns[name] = _Column(len(self._times))
            self._columns[name].store(slots, [row.get(name) for row in kept])

    def column(self, name: str, count: int | None = None, before_ms: int | None = None) -> list[Value]:
        """The values of a column, None where one is missing.

        count: of so many rows only, always the same ones, each with the same chance. before_ms: and of those only
        that have an earlier event time.
        """
        slots = np.arange(len(self))
        if count is not None and count < len(self):
            # Not the random numbers that made the sample: these chose what is where in it.
            slots = np.random.default_rng((self._seed, 1)).choice(slots, count, replace=False)
        if before_ms is not None:
            slots = slots[self._times[slots] < before_ms]
        return self._columns[name].values(slots) if name in self._columns else [None] * len(slots)

    def _slots(self, count: int) -> dict[int, int]:
        """Where in the sample which of the next `count` rows go; of two for one place the later one stays."""
        places = np.arange(self.seen, self.seen + count)
        self.seen += count
        full = max(0, min(count, self._limit - int(places[0]))) if count else 0
        drawn = (self._random.random(count - full) * (places[full:] + 1)).astype(np.int64)
        slots = np.concatenate([places[:full], drawn])
        inside = np.flatnonzero(slots < self._limit)
        return dict(zip(slots[inside].tolist(), inside.tolist(), strict=True))

    def _make_room(self) -> None:
        room = len(self._times)
        if room >= len(self):
            return
        while room < len(self):
            room = min(max(2 * room, _FIRST_ROWS), self._limit)
        self._times = np.concatenate([self._times, np.zeros(room - len(self._times), np.int64)])
        for column in self._columns.values():
            column.grow(room)


class _Column:
    """Numbers as they are (NaN: missing), everything else as the place of its text."""

    __slots__ = ("_codes", "_numbers", "_places", "_texts")

    def __init__(self, room: int) -> None:
        self._numbers = np.full(room, math.nan)
        self._codes = np.full(room, _NO_TEXT, np.int32)
        self._texts: list[str | bool] = []
        self._places: dict[str | bool, int] = {}

    def grow(self, room: int) -> None:
        """Make room for so many rows."""
        more = room - len(self._numbers)
        self._numbers = np.concatenate([self._numbers, np.full(more, math.nan)])
        self._codes = np.concatenate([self._codes, np.full(more, _NO_TEXT, np.int32)])

    def store(self, slots: NDArray[np.int64], values: Sequence[Value]) -> None:
        """Put each value in its slot."""
        codes: list[int] | int = _NO_TEXT
        if not {str, bool}.isdisjoint(map(type, values)):
            codes = [self._code(value) if isinstance(value, (str, bool)) else _NO_TEXT for value in values]
            values = [None if isinstance(value, (str, bool)) else value for value in values]
        self._codes[slots] = codes
        self._numbers[slots] = numbers_of(values)

    def values(self, slots: NDArray[np.int64]) -> list[Value]:
        """The values in these slots; None where one is missing."""
        numbers, codes = self._numbers[slots], self._codes[slots]
        found = numbers.astype(object)
        found[np.isnan(numbers)] = None
        has_text = codes != _NO_TEXT
        found[has_text] = np.array(self._texts, object)[codes[has_text]]
        values: list[Value] = found.tolist()
        return values

    def _code(self, text: str | bool) -> int:
        code = self._places.setdefault(text, len(self._texts))
        if code == len(self._texts):
            self._texts.append(text)
        return code
