"""Windows over all partitions, merged from their cumulative partials.

A partial replaces what its partition said before about the same window, so repeats and re-reads are harmless. A window
is final when the watermark of every partition has passed it; its row is then made once and never again, whatever is
still told about it. Everything here follows from the order of the messages alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.models import Model
from tables.partials import Partial
from tables.watermark import UNKNOWN


@dataclass(frozen=True, slots=True)
class CtrRow:
    """One row of kind `ctr`; times in ms."""

    model: Model
    window_start: int
    impressions: int
    clicks: int
    final: bool

    @property
    def window_end(self) -> int:
        return self.window_start + WINDOW_MS

    @property
    def ctr(self) -> float | None:
        """Clicked over shown pairs; None where nothing was shown."""
        return self.clicks / self.impressions if self.impressions else None


class _Said(NamedTuple):
    """The last word of one partition on one window."""

    impressions: int
    clicks: int
    offset: int


class _Source(NamedTuple):
    epoch: int
    number: int
    part: int
    watermark: int
    offset: int


class WindowMerge:
    """Open windows of the models that fall to one partition of the windows agent."""

    def __init__(self, policy: JoinPolicy) -> None:
        self._policy = policy
        self._sources: dict[int, _Source] = {}
        self._of = 1
        self._windows: dict[int, dict[Model, dict[int, _Said]]] = {}
        self._changed: set[tuple[int, Model]] = set()
        self.first_open = policy.first_open(UNKNOWN)

    @property
    def watermark(self) -> int:
        """How far event time has come on every partition; UNKNOWN before all have spoken."""
        if len(self._sources) < self._of:
            return UNKNOWN
        return min(source.watermark for source in self._sources.values())

    @property
    def open_windows(self) -> int:
        """Windows times models that are not final."""
        return sum(map(len, self._windows.values()))

    def merge(self, partial: Partial, offset: int) -> bool:
        """Take a partial in, read at `offset`; False where it is older than what its source has said already.

        It then comes from an owner that was replaced, or that wakes up while another sends its last words again.
        """
        known = self._sources.get(partial.source)
        order = (partial.epoch, partial.number, partial.part)
        if known is not None and order < known[:3]:
            return False
        self._of = partial.of
        self._sources[partial.source] = _Source(*order, partial.watermark, offset)
        for row in partial.rows:
            if row.window_start >= self.first_open:
                model = (row.model_id, row.model_version)
                window = self._windows.setdefault(row.window_start, {}).setdefault(model, {})
                before = window.get(partial.source)
                window[partial.source] = _Said(row.impressions, row.clicks, offset)
                if before is None or (before.impressions, before.clicks) != (row.impressions, row.clicks):
                    self._changed.add((row.window_start, model))
        return True

    def mature_rows(self, settle_ms: int, since: int) -> tuple[list[CtrRow], int]:
        """Rows of the windows that the watermark has left behind by `settle_ms`, and the mark to ask with next time.

        `since` is the mark of the time before: windows that end at or before it have been given.
        """
        until = max(since, (self.watermark - settle_ms) // WINDOW_MS * WINDOW_MS)
        if until == since:
            return [], since
        starts = sorted(start for start in self._windows if since < start + WINDOW_MS <= until)
        return [row for start in starts for row in self._rows(start, final=False)], until

    def take_final(self) -> list[CtrRow]:
        """Rows of the windows that have become final, in order; they are forgotten here."""
        first_open = self._policy.first_open(self.watermark)
        if first_open <= self.first_open:
            return []
        starts = sorted(start for start in self._windows if start < first_open)
        rows = [row for start in starts for row in self._rows(start, final=True)]
        for start in starts:
            del self._windows[start]
        self._changed = {key for key in self._changed if key[0] >= first_open}
        self.first_open = first_open
        return rows

    def take_changed(self) -> list[CtrRow]:
        """Provisional rows of the windows that changed since the last call, in order."""
        changed, self._changed = sorted(self._changed), set()
        return [self._row(start, model, final=False) for start, model in changed]

    def rebuild_offset(self, next_offset: int) -> int:
        """From where the partials must be read again to rebuild this state without a checkpoint."""
        said = (
            entry.offset for window in self._windows.values() for model in window.values() for entry in model.values()
        )
        spoken = (source.offset for source in self._sources.values())
        return min(itertools.chain(said, spoken), default=next_offset)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, msgpack-able. Grows with open windows x models x partitions."""
        return {
            "first_open": self.first_open,
            "of": self._of,
            "sources": [(source, *known) for source, known in self._sources.items()],
            "windows": [
                (start, *model, source, *said)
                for start, models in self._windows.items()
                for model, sources in models.items()
                for source, said in sources.items()
            ],
            "changed": [(start, *model) for start, model in self._changed],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.first_open = state["first_open"]
        self._of = int(state["of"])
        self._sources = {source: _Source(*known) for source, *known in state["sources"]}
        for start, model_id, version, source, *said in state["windows"]:
            self._windows.setdefault(start, {}).setdefault((model_id, version), {})[source] = _Said(*said)
        self._changed = {(start, (model_id, version)) for start, model_id, version in state["changed"]}

    def _rows(self, start: int, final: bool) -> Iterable[CtrRow]:
        return [self._row(start, model, final) for model in sorted(self._windows[start])]

    def _row(self, start: int, model: Model, final: bool) -> CtrRow:
        said = self._windows[start][model].values()
        return CtrRow(model, start, sum(s.impressions for s in said), sum(s.clicks for s in said), final)
