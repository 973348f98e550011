"""From the features of many events of one model to counts in the bins of its reference.

This is the hot path of drift: each step works on all events at once, and a value is touched as few times as possible.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import error as StructError
from struct import pack
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple
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
        # Numbers first, so that the columns of decoded events can be told apart by their places.
        order = sorted(self._names, key=lambda name: not isinstance(self._names[name][0], NumericBins))
        self._decode = self._decoder_of({f"f{place}": name for place, name in enumerate(order)})
        bins = [self._names[name] for name in order]
        self.numbers = _Numbers([(b, at) for b, at in bins if isinstance(b, NumericBins)])
        self.categories = [_places(b, at) for b, at in bins if isinstance(b, CategoryBins)]
        """Of each categorical feature: places of its values that are known, and of all others."""

    @property
    def counts_predictions(self) -> bool:
        """Whether the reference has the feature `prediction`."""
        return self._prediction is not None

    @property
    def has_features(self) -> bool:
        """Whether there is anything but predictions to be counted."""
        return bool(self._names)

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
        self._categories: list[Counter[Value]] = [Counter() for _ in counter.categories]

    def add(self, texts: Texts) -> None:
        """Count events, from the JSON texts of their `features`; an event without any counts nowhere."""
        counter = self._counter
        if not counter.has_features:
            return
        if min(map(len, texts), default=0) < SURELY_FEATURES:
            texts = [text for text in texts if len(text) >= SURELY_FEATURES or _has_features(text)]
        columns = list(zip(*map(astuple, counter.decoded(texts, self._counts)), strict=True))
        if columns:
            numbers = len(columns) - len(self._categories)
            self._numbers.append(_matrix(columns[:numbers]))
            for found, column in zip(self._categories, columns[numbers:], strict=True):
                found.update(column)

    def add_counts(self, counts: Counts) -> None:
        """Add what was counted elsewhere, shape (width,)."""
        self._counts += counts

    def counts(self) -> Counts:
        """Events by bin, shape (width,)."""
        counts = self._counts.copy()
        if self._numbers:
            self._counter.numbers.count(np.concatenate(self._numbers, axis=1), counts)
        for found, (known, unseen) in zip(self._categories, self._counter.categories, strict=True):
            for value, events in found.items():
                counts[known.get(value, unseen)] += events
        return counts


def _has_features(text: msgspec.Raw) -> bool:
    data = bytes(text)
    return data.startswith(b"{") and bool(data[1:-1].strip())


class _Numbers:
    """The numeric features of a reference."""

    def __init__(self, bins: Sequence[tuple[NumericBins, int]]) -> None:
        self._edges = [np.array([*each.edges, math.inf]) for each, _ in bins]
        ends = np.cumsum([len(edges) for edges in self._edges], dtype=np.int64)
        self._last = ends - 1
        self._first = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
        self._missing = np.array([at + each.missing for each, at in bins], np.int64)
        places = [np.arange(at, at + each.bins) for each, at in bins]
        self._places = np.concatenate(places) if places else self._missing

    def count(self, matrix: NDArray[np.float64], counts: Counts) -> None:
        """Add events to `counts`; `matrix` has shape (features, events), NaN is missing."""
        if not self._edges:
            return
        # In order the values of a bin lie together, so that a few look-ups count them all; NaN comes last.
        rows = zip(np.sort(matrix, axis=1), self._edges, strict=True)
        below = np.concatenate([np.searchsorted(row, edges, side="right") for row, edges in rows])
        in_bin = np.diff(below, prepend=0)
        in_bin[self._first] = below[self._first]
        counts[self._places] += in_bin
        counts[self._missing] += matrix.shape[1] - below[self._last]


def _matrix(columns: Sequence[tuple[float | None, ...]]) -> NDArray[np.float64]:
    """Shape (features, events); null as NaN."""
    events = len(columns[0]) if columns else 0
    try:
        # By far the fastest way from Python's floats to numpy's.
        data = b"".join([pack(f"{events}d", *column) for column in columns])
    except StructError:
        return np.array([[math.nan if value is None else value for value in column] for column in columns])
    return np.frombuffer(data).reshape(len(columns), events)


def _places(bins: CategoryBins, begin: int) -> tuple[Mapping[Value, int], int]:
    """Places of the values that are known, and of all others."""
    special: list[Value] = [True, False, None]
    known: dict[Value, int] = {value: begin + bins.index_of(value) for value in [*bins.places, *special]}
    return known, begin + bins.unseen
