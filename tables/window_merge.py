"""Windows over all partitions, merged from what each of them says of them.

What a partition says replaces what it said before about the same window, so repeats and re-reads are harmless. A window
is final when the watermark of every partition has passed it; its row is then made once and never again, whatever is
still told about it. Everything here follows from the order of the messages alone.

What is judged before it is final is judged by what each partition knew when its own time had come so far, however far
ahead of the others it is by then: so it does not depend on which partition was read faster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.models import Model
from tables.sources import Source
from tables.watermark import UNKNOWN

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Merged(Generic[T]):
    """One window of one model over all partitions; times in ms."""

    model: Model
    window_start: int
    value: T
    final: bool

    @property
    def window_end(self) -> int:
        return self.window_start + WINDOW_MS


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What is merged: how values add up, and how they are packed for a checkpoint."""

    name: str
    total: Callable[[Iterable[T]], T]
    pack: Callable[[T], Any]
    unpack: Callable[[Any], T]
    """Raises ValueError for what `pack` did not make."""


class _Said(NamedTuple):
    """The last word of one partition on one window."""

    value: Any
    offset: int
    since: int
    """The partition's watermark before it said so."""


_Early = dict[tuple[Model, Source], Any]
"""What partitions knew of a window at one age of it, where they have said more since; None: nothing yet."""


class WindowMerge(Generic[T]):
    """Open windows of one kind, of the models that fall to one partition of the windows agent."""

    def __init__(self, kind: Kind[T], policy: JoinPolicy) -> None:
        self.kind = kind
        self._policy = policy
        self._windows: dict[int, dict[Model, dict[Source, _Said]]] = {}
        self._changed: set[tuple[int, Model]] = set()
        self._unsaved: set[int] = set()
        self._gone: set[int] = set()
        self._early: dict[tuple[int, int], _Early] = {}
        self._given: dict[int, int] = {}
        self.settles: Collection[int] = ()
        """The ages, in ms after their end, at which windows are asked for by `mature`."""
        self.first_open = policy.first_open(UNKNOWN)

    @property
    def open_windows(self) -> int:
        """Windows times models that are not final."""
        return sum(map(len, self._windows.values()))

    def put(self, start: int, model: Model, source: Source, value: T, offset: int, since: int = UNKNOWN) -> None:
        """Take in what one partition says of one window, read at `offset`; no news of a window that is final.

        `since`: how far the time of that partition had come before it said so.
        """
        if start < self.first_open:
            return
        window = self._windows.setdefault(start, {}).setdefault(model, {})
        before = window.get(source)
        for settle in self.settles:
            aged = start + WINDOW_MS + settle
            is_given = start + WINDOW_MS <= self._given.get(settle, UNKNOWN)
            if not is_given and (UNKNOWN if before is None else before.since) < aged <= since:
                early = self._early.setdefault((start, settle), {})
                early.setdefault((model, source), None if before is None else before.value)
        window[source] = _Said(value, offset, since)
        self._unsaved.add(start)
        if before is None or self.kind.pack(before.value) != self.kind.pack(value):
            self._changed.add((start, model))

    def mature(self, watermark: int, settle_ms: int, since: int) -> tuple[list[Merged[T]], int]:
        """The windows that the watermark has left behind by `settle_ms`, and the mark to ask with next time.

        `since` is the mark of the time before: windows that end at or before it have been given.
        """
        until = max(since, (watermark - settle_ms) // WINDOW_MS * WINDOW_MS)
        starts = sorted(start for start in self._windows if since < start + WINDOW_MS <= until)
        found = [merged for start in starts for merged in self._as_of(start, settle_ms)]
        self._given[settle_ms] = until
        for key in [key for key in self._early if key[1] == settle_ms and key[0] + WINDOW_MS <= until]:
            del self._early[key]
        return found, until

    def take_final(self, watermark: int) -> list[Merged[T]]:
        """The windows that have become final, in order; they are forgotten here."""
        first_open = self._policy.first_open(watermark)
        if first_open <= self.first_open:
            return []
        starts = sorted(start for start in self._windows if start < first_open)
        final = [merged for start in starts for merged in self._all(start, final=True)]
        for start in starts:
            del self._windows[start]
        self._gone.update(starts)
        self._unsaved.difference_update(starts)
        self._changed = {key for key in self._changed if key[0] >= first_open}
        self._early = {key: early for key, early in self._early.items() if key[0] >= first_open}
        self.first_open = first_open
        return final

    def take_changed(self) -> list[Merged[T]]:
        """The windows that changed since the last call, in order."""
        changed, self._changed = sorted(self._changed), set()
        return [self._merged(start, model, final=False) for start, model in changed]

    def of_model(self, model: Model) -> dict[int, T]:
        """The open windows of one model, by their start."""
        return {
            start: self._merged(start, model, final=False).value
            for start, models in self._windows.items()
            if model in models
        }

    def offsets(self) -> Iterable[int]:
        """Where the last words on the open windows were read."""
        windows = self._windows.values()
        return (said.offset for window in windows for model in window.values() for said in model.values())

    def state(self) -> dict[str, Any]:
        """The small part of the state, msgpack-able; the windows travel in the chunks of `take_changes`."""
        pack = self.kind.pack
        return {
            "first_open": self.first_open,
            "changed": [(start, *model) for start, model in self._changed],
            "early": [
                (*key, *model, *source, None if value is None else pack(value))
                for key, early in self._early.items()
                for (model, source), value in early.items()
            ],
        }

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """Chunks to append and to drop in a checkpoint; a window that changed is in both, to be replaced as a whole."""
        pack = self.kind.pack
        append = {
            self._chunk(start): msgspec.msgpack.encode(
                [
                    (*model, *source, said.offset, said.since, pack(said.value))
                    for model, sources in self._windows[start].items()
                    for source, said in sources.items()
                ]
            )
            for start in self._unsaved
        }
        drop = {*append, *map(self._chunk, self._gone)}
        self._unsaved, self._gone = set(), set()
        return append, drop

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """Continue from a checkpoint; other kinds' chunks may be among the chunks. Raises ValueError for damage."""
        self.first_open = state["first_open"]
        for name, data in chunks.items():
            kind, _, start = name.partition(":")
            if kind != self.kind.name:
                continue
            window = self._windows[int(start)] = {}
            for model_id, version, group, partition, offset, since, packed in msgspec.msgpack.decode(data):
                said = _Said(self.kind.unpack(packed), offset, since)
                window.setdefault((model_id, version), {})[group, partition] = said
        self._changed = {(start, (model_id, version)) for start, model_id, version in state["changed"]}
        self._early = {}
        for start, settle, model_id, version, group, partition, packed in state["early"]:
            value = None if packed is None else self.kind.unpack(packed)
            self._early.setdefault((start, settle), {})[(model_id, version), (group, partition)] = value

    def _chunk(self, start: int) -> str:
        return f"{self.kind.name}:{start}"

    def _all(self, start: int, final: bool) -> Iterable[Merged[T]]:
        return [self._merged(start, model, final) for model in sorted(self._windows[start])]

    def _as_of(self, start: int, settle: int) -> Iterable[Merged[T]]:
        """As each partition knew the window when it was so old; without the models that none of them knew then."""
        early = self._early.get((start, settle), {})
        for model, sources in sorted(self._windows[start].items()):
            known = [early.get((model, source), said.value) for source, said in sources.items()]
            values = [value for value in known if value is not None]
            if values:
                yield Merged(model, start, self.kind.total(values), final=False)

    def _merged(self, start: int, model: Model, final: bool) -> Merged[T]:
        said = self._windows[start][model].values()
        return Merged(model, start, self.kind.total(word.value for word in said), final)
