"""What features were in the minutes that are final: for the horizon of drift, and by day for rolling references."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from tables.feature_counts import FeatureCounts
from tables.models import Model

DAY_MS = 86_400_000
MOST_MODELS = 1_000
"""Models and versions with a history: they come from events, and a flood of made-up ones must not fill the memory."""

_DAYS = "days"

Counts = NDArray[np.int64]
"""Count vectors of all features of a reference, end to end."""


class Minutes:
    """Final minutes of one model, in one set of bins; a stretch of them is summed up by one subtraction."""

    def __init__(self, bins: str, width: int) -> None:
        self.bins = bins
        self._starts: list[int] = []
        self._before: list[Counts] = [np.zeros(width, np.int64)]
        """For each minute the sum of all before it, and the sum of all."""

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, counts: Counts) -> None:
        """Add a minute, which must be later than all others."""
        self._starts.append(start)
        self._before.append(self._before[-1] + counts)

    def total(self, begin: int, end: int) -> Counts:
        """Sum of the minutes that start in [begin, end)."""
        first, last = (bisect_left(self._starts, at) for at in (begin, end))
        return self._before[last] - self._before[first]

    def forget_before(self, begin: int) -> None:
        """Drop the minutes that start before."""
        first = bisect_left(self._starts, begin)
        del self._starts[:first], self._before[:first]


class DriftHistory:
    """Final minutes and days of all models of one partition of the windows agent.

    A model whose features are counted in other bins from now on begins anew.
    """

    def __init__(self, most_models: int = MOST_MODELS) -> None:
        self._most_models = most_models
        self._minutes: dict[Model, Minutes] = {}
        self._models: dict[int, set[Model]] = {}
        """Start of a minute -> who has it."""
        self._days: dict[tuple[Model, int], FeatureCounts] = {}
        self._grown: set[tuple[Model, int]] = set()
        self._unsaved: set[str] = set()
        self._gone: set[str] = set()

    @property
    def models(self) -> Iterable[Model]:
        """Whose minutes are here."""
        return self._minutes.keys()

    def keep(self, model: Model, start: int, found: FeatureCounts) -> bool:
        """Take in a minute that has become final; minutes come in order. False where there is no room for the model."""
        if model not in self._minutes and len(self._minutes) >= self._most_models:
            return False
        self._keep_minute(model, start, found)
        day = (model, start // DAY_MS * DAY_MS)
        before = self._days.get(day)
        if before is not None and before.bins == found.bins:
            found = FeatureCounts(found.bins, before.counts + found.counts)
        self._days[day] = found
        self._grown.add(day)
        self._unsaved |= {_chunk(start), _DAYS}
        return True

    def total(self, model: Model, bins: str, begin: int, end: int) -> Counts | int:
        """Sum of a model's minutes that start in [begin, end), as far as they are in these bins."""
        minutes = self._minutes.get(model)
        return minutes.total(begin, end) if minutes is not None and minutes.bins == bins else 0

    def forget_before(self, begin: int, today_ms: int) -> None:
        """Drop the minutes that start before `begin`, and the days before yesterday.

        Yesterday's is kept for whoever writes it down late.
        """
        for start in [start for start in self._models if start < begin]:
            for model in self._models.pop(start):
                if (minutes := self._minutes.get(model)) is not None:
                    minutes.forget_before(begin)
                    if not minutes:
                        del self._minutes[model]
            self._unsaved.discard(_chunk(start))
            self._gone.add(_chunk(start))
        self._days = {key: found for key, found in self._days.items() if key[1] > today_ms - 2 * DAY_MS}
        self._grown &= self._days.keys()

    def take_days(self) -> Iterator[tuple[Model, int, FeatureCounts]]:
        """Model, beginning and counts of the days that have grown since the last call."""
        grown, self._grown = sorted(self._grown), set()
        return ((model, day, self._days[model, day]) for model, day in grown)

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """Chunks to append and to drop in a checkpoint; what changed is in both, to be replaced as a whole."""
        append = {name: self._packed(name) for name in self._unsaved}
        drop = self._unsaved | self._gone
        self._unsaved, self._gone = set(), set()
        return append, drop

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Continue from a checkpoint; other chunks may be among them. Raises ValueError for damage."""
        starts = sorted(int(name.partition(":")[2]) for name in chunks if name.startswith(_chunk("")))
        for start in starts:
            for model, _, found in _unpacked(chunks[_chunk(start)]):
                self._keep_minute(model, start, found)
        if _DAYS in chunks:
            self._days = {(model, day): found for model, day, found in _unpacked(chunks[_DAYS])}

    def _keep_minute(self, model: Model, start: int, found: FeatureCounts) -> None:
        minutes = self._minutes.get(model)
        if minutes is None or minutes.bins != found.bins:
            minutes = self._minutes[model] = Minutes(found.bins, len(found.counts))
        minutes.add(start, found.counts)
        self._models.setdefault(start, set()).add(model)

    def _packed(self, name: str) -> bytes:
        if name == _DAYS:
            return _pack((model, day, found) for (model, day), found in self._days.items())
        start = int(name.partition(":")[2])
        of_minute = ((model, self._minutes[model]) for model in sorted(self._models[start]))
        return _pack((model, start, FeatureCounts(m.bins, m.total(start, start + 1))) for model, m in of_minute)


def _chunk(start: int | str) -> str:
    return f"past:{start}"


def _pack(rows: Iterable[tuple[Model, int, FeatureCounts]]) -> bytes:
    return msgspec.msgpack.encode([(*model, at, found.bins, found.counts.tolist()) for model, at, found in rows])


def _unpacked(data: bytes) -> Iterator[tuple[Model, int, FeatureCounts]]:
    for model_id, version, at, bins, counts in msgspec.msgpack.decode(data):
        yield (model_id, version), at, FeatureCounts(bins, np.array(counts, np.int64))
