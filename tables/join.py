"""The streaming join of impressions and clicks of one partition.

Both sides are buffered: an event is only appended when it arrives, and the work (sorting, de-duplication, matching)
is done for all of them at once in `settle`, at the latest when the watermark passes a minute. The counts depend on
nothing but the events and their order of arrival: not on how they were cut into batches or checkpoints.

Plain synchronous code: it knows neither Faust nor Redis nor any clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tables.attribution import attribute
from tables.clicks import ClickRows, pack_clicks, unpack_clicks
from tables.impressions import MODEL_SHIFT, Count, WindowImpressions, pack_impressions, unpack_impressions
from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.models import Model, ModelIndex
from tables.watermark import END, UNKNOWN, Watermark

NO_MODEL = -1
"""Model number of a click, and of an impression whose model found no place in the dictionary."""


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one partition in their order of arrival; all arrays have shape (n,)."""

    is_click: NDArray[np.bool_]
    pair: NDArray[np.uint64]
    time: NDArray[np.int64]
    model: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pair)


class WindowCount(NamedTuple):
    """What one partition knows about one window of one model."""

    model: Model
    start: int
    impressions: int
    clicks: int


@dataclass(frozen=True, slots=True)
class Step:
    """A moment in event time: the watermark, and the counts that changed since the step before."""

    watermark: int
    counts: list[WindowCount]


@dataclass(slots=True)
class Outcomes:
    """What became of the rows so far."""

    matched: int = 0
    """Distinct pairs of closed windows that were clicked."""
    expired: int = 0
    """Distinct pairs of closed windows that were not."""
    duplicate: int = 0
    """Rows that were there already."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did not take in: positions of late events, and of events that found no room."""

    late: NDArray[np.intp]
    no_room: NDArray[np.intp]


class JoinTable:
    """Open windows and joinable clicks of one partition."""

    def __init__(self, policy: JoinPolicy, clock_ms: int) -> None:
        self.policy = policy
        self.models = ModelIndex(policy.max_models)
        self.watermark = Watermark(policy.out_of_orderness_ms, policy.idle_after_ms, clock_ms)
        self._windows: dict[int, WindowImpressions] = {}
        self._clicks = ClickRows()
        self._changed: set[int] = set()
        self._steps: list[Step] = []
        self._append: dict[str, list[bytes]] = {}
        self._drop: set[str] = set()
        self._first_open = policy.first_open(UNKNOWN)
        self._closed = False
        self.outcomes = Outcomes()

    @property
    def first_open(self) -> int:
        """Start of the oldest window that is not final."""
        return self._first_open

    @property
    def open_windows(self) -> Iterable[int]:
        """Starts of the windows that hold impressions."""
        return self._windows.keys()

    @property
    def live_impressions(self) -> int:
        """Impressions held (duplicates among the newest not yet removed)."""
        return sum(map(len, self._windows.values()))

    @property
    def live_clicks(self) -> int:
        """Clicks held (duplicates among the newest not yet removed)."""
        return len(self._clicks)

    def apply(self, events: Events, clock: NDArray[np.int64] | int) -> Applied:
        """Take events in, in their order of arrival; `clock` as in `Watermark.advance`.

        An event is late when its own minute is final at its arrival: every window that it could change is then final.
        """
        if not len(events):
            return Applied(np.empty(0, np.intp), np.empty(0, np.intp))
        marks = self.watermark.advance(events.is_click, events.time, clock)
        first_open = np.maximum((marks - self.policy.attribution_ms) // WINDOW_MS * WINDOW_MS, self._first_open)
        late = events.time < first_open
        no_room = ~late & ~events.is_click & (events.model == NO_MODEL)
        room = self.policy.max_rows - self.live_impressions - self.live_clicks
        if len(events) > room:
            no_room |= ~late & (np.cumsum(~late) > room)
        taken = ~(late | no_room)
        # Where the oldest open window changes, the windows before it must be counted as they stand at that event.
        cuts = np.flatnonzero(first_open[1:] != first_open[:-1]) + 1
        for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(events)], strict=True):
            self._close_before(int(first_open[begin]), int(marks[begin]))
            self._buffer(events, begin + np.flatnonzero(taken[begin:end]))
        return Applied(np.flatnonzero(late), np.flatnonzero(no_room))

    def tick(self, clock: int, others: int = UNKNOWN) -> None:
        """Let time pass without events; `others` is what the other partitions have reached.

        A partition that is idle on both sides adopts it, so that it does not hold their windows open.
        """
        self.watermark.tick(clock)
        if self.watermark.is_idle(clock):
            self.watermark.lift(others)
        self._close_before(self.policy.first_open(self.watermark.value), self.watermark.value)

    def finish(self) -> None:
        """The input has ended: every open window becomes final."""
        self.watermark.lift(END)
        self._close_before(self.policy.first_open(self.watermark.value), self.watermark.value)

    def settle(self) -> list[Step]:
        """Do all pending work; returns the steps since the last call, the last one being now.

        Model numbers that no row uses are given to others from here on: a batch must be applied before the next settle
        after it asked `models` for its numbers.
        """
        self._match()
        self._steps.append(Step(self.watermark.value, self._take_changed_counts()))
        if self._closed:
            self._closed = False
            self._free_models()
        steps, self._steps = self._steps, []
        return steps

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """What a checkpoint has to append, by chunk name, and which chunks to drop; call after `settle`."""
        append = {name: b"".join(parts) for name, parts in self._append.items()}
        drop, self._append, self._drop = self._drop, {}, set()
        return append, drop

    def state(self) -> dict[str, Any]:
        """The small part of the state, msgpack-able; the rows travel in the chunks of `take_changes`."""
        return {
            "watermark": self.watermark.state(),
            "models": self.models.state(),
            "first_open": self._first_open,
        }

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes], clock_ms: int) -> None:
        """Continue from a checkpoint; raises ValueError where a chunk is damaged."""
        self.restore_time(state, clock_ms)
        self.models.restore(list(state["models"]))
        for name, data in chunks.items():
            start = int(name[1:])
            if name[0] == "i":
                self._window(start).add(*unpack_impressions(data))
            else:
                self._clicks.add(*unpack_clicks(start, data))
        self._match()
        self._append.clear()
        self._changed = set(self._windows)

    def restore_time(self, state: Mapping[str, Any], clock_ms: int) -> None:
        """Continue in time only, without rows: they are read again from the broker."""
        self.watermark.restore(dict(state["watermark"]), clock_ms)
        self._first_open = int(state["first_open"])

    def _window(self, start: int) -> WindowImpressions:
        window = self._windows.get(start)
        if window is None:
            window = self._windows[start] = WindowImpressions(start)
        return window

    def _buffer(self, events: Events, rows: NDArray[np.intp]) -> None:
        clicks = rows[events.is_click[rows]]
        if len(clicks):
            self._clicks.add(events.pair[clicks], events.time[clicks])
        shown = rows[~events.is_click[rows]]
        if not len(shown):
            return
        time = events.time[shown]
        offset = time % WINDOW_MS
        start = time - offset
        detail = (events.model[shown].astype(np.uint32) << MODEL_SHIFT) | offset.astype(np.uint32)
        pair = events.pair[shown]
        for window in np.unique(start):
            mine = start == window
            self._window(int(window)).add(pair[mine], detail[mine])

    def _close_before(self, first_open: int, watermark: int) -> None:
        if first_open <= self._first_open:
            return
        self._match()
        self._first_open = first_open
        # The counts are taken first: what closes here is told one last time.
        self._steps.append(Step(watermark, self._take_changed_counts()))
        for start in [start for start in self._windows if start < first_open]:
            for _, shown, clicked in self._windows.pop(start).counts():
                self.outcomes.matched += clicked
                self.outcomes.expired += shown - clicked
            self._forget(f"i{start}")
        gone = np.unique(self._clicks.time[self._clicks.time < first_open] // WINDOW_MS * WINDOW_MS)
        for minute in gone.tolist():
            self._forget(f"c{minute}")
        self._clicks.drop_before(first_open)
        self._closed = True

    def _free_models(self) -> None:
        used: set[int] = set()
        for window in self._windows.values():
            used.update(np.unique(window.detail >> MODEL_SHIFT).tolist())
        self.models.keep_only(used)

    def _forget(self, chunk: str) -> None:
        self._append.pop(chunk, None)
        self._drop.add(chunk)

    def _match(self) -> None:
        """Absorb what was buffered and match again every pair that it touches."""
        came = self._clicks.incoming_rows
        new_clicks, times = self._clicks.absorb()
        self.outcomes.duplicate += came - len(new_clicks)
        for minute, data in pack_clicks(new_clicks, times).items():
            self._append.setdefault(f"c{minute}", []).append(data)
        touched = [new_clicks]
        for start, window in self._windows.items():
            came = window.incoming_rows
            pair, detail = window.absorb()
            self.outcomes.duplicate += came - len(pair)
            if len(pair):
                self._changed.add(start)
                self._append.setdefault(f"i{start}", []).append(pack_impressions(pair, detail))
                at = np.searchsorted(self._clicks.pair, pair)
                at[at == len(self._clicks.pair)] = 0
                touched.append(pair[self._clicks.pair[at] == pair] if len(self._clicks.pair) else pair[:0])
        pairs = np.unique(np.concatenate(touched))
        if len(pairs):
            self._attribute(pairs)

    def _attribute(self, pairs: NDArray[np.uint64]) -> None:
        click_rows, click_owner = _rows_of(pairs, self._clicks.pair)
        gathered = [(window, *_rows_of(pairs, window.pair)) for window in self._windows.values()]
        gathered = [(window, rows, owner) for window, rows, owner in gathered if len(rows)]
        if not gathered:
            return
        ranks = self.models.ranks()
        clicked = attribute(
            self.policy.attribution,
            self.policy.attribution_ms,
            np.concatenate([owner for _, _, owner in gathered]),
            np.concatenate([window.times(rows) for window, rows, _ in gathered]),
            np.concatenate([ranks[window.models(rows)] for window, rows, _ in gathered]),
            click_owner,
            self._clicks.time[click_rows],
        )
        begin = 0
        for window, rows, _ in gathered:
            flags = clicked[begin : begin + len(rows)]
            begin += len(rows)
            if not np.array_equal(window.clicked[rows], flags):
                window.clicked[rows] = flags
                self._changed.add(window.start)

    def _take_changed_counts(self) -> list[WindowCount]:
        changed, self._changed = sorted(self._changed), set()
        return [count for start in changed for count in self._named(start, self._windows[start].take_changed())]

    def _named(self, start: int, counts: Iterable[Count]) -> Iterable[WindowCount]:
        return (WindowCount(self.models.name(count.model), start, count.shown, count.clicked) for count in counts)


def _rows_of(pairs: NDArray[np.uint64], column: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Positions in a sorted column of all rows of the given pairs, in order, and the number of each row's pair."""
    begin = np.searchsorted(column, pairs, side="left")
    count = np.searchsorted(column, pairs, side="right") - begin
    owner = np.repeat(np.arange(len(pairs)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return begin[owner] + within, owner
