"""From the features of many events of one model to counts in the bins of its reference.

This is the hot path of drift: each step works on all events at once, and a value is touched as few times as possible.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import starmap
from operator import attrgetter
from struct import Struct
from struct import error as StructError
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.event_types import replace_half_characters
from tables.feature_bins import CategoryBins, NumericBins, Value
from tables.reference import INPUTS, Reference

IMPRESSIONS, INFERENCES = INPUTS

PREDICTION = "prediction"
"""The feature that an inference's own prediction is counted as."""

SLICE_EVENTS = 500
"""Decoded at once: what they become fits the processor's cache."""

SURELY_FEATURES = 40
"""Nobody pads an empty object with so many blanks: from this length on there are features in it."""

JOINT_CELLS = 256
"""Categories are counted together while no more combinations than these are possible."""

Texts = Sequence[msgspec.Raw]
Counts = NDArray[np.int64]

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_as_value = msgspec.json.Decoder(int | float | str | bool | None)


class FeatureCounter:
    """Counts events of one model and input; vectors hold all features of the reference end to end, shape (`width`,)."""

    def __init__(self, reference: Reference, topic: str = INFERENCES) -> None:
        """`topic`: the input, of `tables.reference.INPUTS`; only the features that it carries are counted."""
        self.reference = reference
        self.width = sum(feature.bins.width for feature in reference.features)
        self._names: dict[str, tuple[NumericBins | CategoryBins, int]] = {}
        self._prediction: tuple[NumericBins | CategoryBins, int] | None = None
        begin = 0
        for feature in reference.features:
            if feature.name == PREDICTION:
                self._prediction = feature.bins, begin
            elif feature.is_of(topic):
                self._names[feature.name] = feature.bins, begin
            begin += feature.bins.width
        fields = {f"f{place}": name for place, name in enumerate(self._names)}
        self._decode = self._decoder_of(fields)
        bins = {field: self._names[name] for field, name in fields.items()}
        self.numbers = _Numbers({f: (b, at) for f, (b, at) in bins.items() if isinstance(b, NumericBins)})
        categories = {f: (b, at) for f, (b, at) in bins.items() if isinstance(b, CategoryBins)}
        self.categories = [_Categories(group) for group in _joint(categories)]

    @property
    def counts_predictions(self) -> bool:
        """Whether the reference has the feature `prediction`."""
        return self._prediction is not None

    @property
    def has_features(self) -> bool:
        """Whether there is anything but predictions to be counted."""
        return bool(self._names)

    def tally(self) -> Tally:
        """An empty count."""
        return Tally(self)

    def count(self, texts: Texts) -> Counts:
        """Events by bin, from the JSON texts of their `features`; an event without any counts nowhere."""
        tally = Tally(self)
        for begin in range(0, len(texts), SLICE_EVENTS):
            tally.add(texts[begin : begin + SLICE_EVENTS])
        return tally.counts()

    def count_predictions(self, values: Sequence[Value]) -> Counts:
        """Predictions by bin; None is a missing one."""
        counts = np.zeros(self.width, np.int64)
        if self._prediction is not None and values:
            bins, at = self._prediction
            counts[at : at + bins.width] = bins.count(values)
        return counts

    def _decoder_of(self, fields: Mapping[str, str]) -> Callable[[msgspec.Raw], Any]:
        """Decodes events into objects with these fields, each from the feature of that name."""
        types: list[tuple[str, Any, Any]] = [
            (field, float | None, math.nan)
            if isinstance(self._names[name][0], NumericBins)
            else (field, str | bool | None, None)
            for field, name in fields.items()
        ]
        try:
            return msgspec.json.Decoder(msgspec.defstruct("Features", types, rename=dict(fields), gc=False)).decode
        except ValueError:
            return _decode_nothing  # msgspec takes no names with quotes, backslashes or control characters

    def decoded(self, texts: Texts, counts: Counts) -> list[Any]:
        """The events that decode; of the others each value is counted by itself."""
        try:
            return list(map(self._decode, texts))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        events = []
        for text in texts:
            try:
                events.append(self._decode(text))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                for place in self._places(text):
                    counts[place] += 1
        return events

    def _places(self, text: msgspec.Raw) -> Iterable[int]:
        try:
            features = _as_object.decode(replace_half_characters(bytes(text)))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return []
        if not features:
            return []
        return [begin + self._place(bins, features.get(name)) for name, (bins, begin) in self._names.items()]

    @staticmethod
    def _place(bins: NumericBins | CategoryBins, text: msgspec.Raw | None) -> int:
        if text is None:
            return bins.missing
        try:
            return bins.index_of(_as_value.decode(text))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        try:
            return bins.index_of(float(bytes(text)))  # beyond what a float holds
        except ValueError:
            return bins.unseen


def _decode_nothing(_text: msgspec.Raw) -> Any:
    raise ValueError("expected to be decoded value by value")


class Tally:
    """Counts of events that come a few at a time: what they share is done once, in the end."""

    def __init__(self, counter: FeatureCounter) -> None:
        self._counter = counter
        self._counts = np.zeros(counter.width, np.int64)
        self._numbers: list[NDArray[np.float64]] = []
        self._combinations: list[Counter[Any]] = [Counter() for _ in counter.categories]

    def add(self, texts: Texts) -> None:
        """Count events, from the JSON texts of their `features`; an event without any counts nowhere."""
        counter = self._counter
        if not counter.has_features:
            return
        texts = [text for text in texts if len(text) >= SURELY_FEATURES or _has_features(text)]
        events = counter.decoded(texts, self._counts)
        self._numbers.append(counter.numbers.columns(events))
        for group, found in zip(counter.categories, self._combinations, strict=True):
            found.update(map(group.get, events))

    def add_counts(self, counts: Counts) -> None:
        """Add what was counted elsewhere, shape (width,)."""
        self._counts += counts

    def counts(self) -> Counts:
        """Events by bin, shape (width,)."""
        counts = self._counts.copy()
        if self._numbers:
            self._counter.numbers.count(np.concatenate(self._numbers), counts)
        for group, found in zip(self._counter.categories, self._combinations, strict=True):
            group.count(found, counts)
        return counts


def _has_features(text: msgspec.Raw) -> bool:
    data = bytes(text)
    return data.startswith(b"{") and bool(data[1:-1].strip())


class _Numbers:
    """The numeric features of a reference."""

    def __init__(self, fields: Mapping[str, tuple[NumericBins, int]]) -> None:
        self._fields = list(fields)
        self._get: Callable[[Any], Any] = attrgetter(*fields) if fields else lambda _: ()
        self._pack = Struct(f"{len(fields)}d").pack
        self._edges = [np.array([*bins.edges, math.inf]) for bins, _ in fields.values()]
        ends = np.cumsum([len(edges) for edges in self._edges], dtype=np.int64)
        self._last = ends - 1
        self._first = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
        self._missing = np.array([at + bins.missing for bins, at in fields.values()], np.int64)
        places = [np.arange(at, at + bins.bins) for bins, at in fields.values()]
        self._places = np.concatenate(places) if places else self._missing

    def columns(self, events: Sequence[Any]) -> NDArray[np.float64]:
        """Shape (events, features); null as NaN."""
        shape = len(events), len(self._fields)
        if len(self._fields) > 1:
            try:
                # By far the fastest way from many objects to numbers that numpy can read.
                return np.frombuffer(b"".join(starmap(self._pack, map(self._get, events)))).reshape(shape)
            except StructError:
                pass
        rows = [[getattr(event, field) for field in self._fields] for event in events]
        return np.array([[math.nan if value is None else value for value in row] for row in rows]).reshape(shape)

    def count(self, columns: NDArray[np.float64], counts: Counts) -> None:
        """Add events to `counts`."""
        if not self._fields:
            return
        # In order the values of a bin lie together, so that a few look-ups count them all; NaN comes last.
        ordered = np.sort(columns.T, axis=1)
        rows = zip(ordered, self._edges, strict=True)
        below = np.concatenate([np.searchsorted(row, edges, side="right") for row, edges in rows])
        in_bin = np.diff(below, prepend=0)
        in_bin[self._first] = below[self._first]
        counts[self._places] += in_bin
        counts[self._missing] += len(columns) - below[self._last]


class _Categories:
    """Categorical features that are counted together, by the combinations of their values."""

    def __init__(self, fields: Mapping[str, tuple[CategoryBins, int]]) -> None:
        self.get: Callable[[Any], Any] = attrgetter(*fields)
        """The values of an event: one, or a tuple of them."""
        self._single = len(fields) == 1
        self._places = [_places(bins, at) for bins, at in fields.values()]

    def count(self, combinations: Mapping[Any, int], counts: Counts) -> None:
        """Add events to `counts`."""
        for values, events in combinations.items():
            for value, (known, unseen) in zip((values,) if self._single else values, self._places, strict=True):
                counts[known.get(value, unseen)] += events


def _places(bins: CategoryBins, begin: int) -> tuple[dict[str | bool | None, int], int]:
    """Places of the values that are known, and of all others."""
    special: list[bool | None] = [True, False, None]
    known = {value: begin + bins.index_of(value) for value in [*bins.places, *special]}
    return known, begin + bins.unseen


def _joint(fields: Mapping[str, tuple[CategoryBins, int]]) -> list[dict[str, tuple[CategoryBins, int]]]:
    """Groups of features with few combinations each."""
    groups: list[dict[str, tuple[CategoryBins, int]]] = []
    cells = JOINT_CELLS
    for field, (bins, at) in sorted(fields.items(), key=lambda item: item[1][0].width):
        if cells * bins.width > JOINT_CELLS:
            groups.append({})
            cells = 1
        groups[-1][field] = bins, at
        cells *= bins.width
    return groups
