"""The features of a batch on their way into the table of feature counts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.event_types import ModelEvent
from agents.feature_decoding import INFERENCES, FeatureCounter, Tally
from tables.feature_bins import Value
from tables.feature_counts import FeatureCounts, FeatureTable
from tables.join_policy import WINDOW_MS
from tables.models import Model, ModelIndex
from tables.reference import ReferenceBook

WAITING = 256
"""So many events of a model and minute are decoded at once: fewer cost more each, more leave the processor's cache."""

_MINUTE_BITS = 32


class FeatureIntake:
    """Counts the features of models that have a reference; the others' are not looked at."""

    def __init__(self, book: ReferenceBook | None = None, topic: str = INFERENCES) -> None:
        """`topic`: the input that the events are of."""
        self._topic = topic
        self._book = ReferenceBook() if book is None else book
        self._counters: dict[str, FeatureCounter] = {}

    def batch(self, models: ModelIndex) -> FeatureBatch | None:
        """Where the features of a batch go, whose model numbers are those of `models`; None where nobody asks."""
        return FeatureBatch(self, models) if self._book.references else None

    def counter(self, model: Model) -> FeatureCounter | None:
        """What counts the features of a model."""
        reference = self._book.find(*model)
        if reference is None:
            return None
        if reference.bins_id not in self._counters:
            self._counters[reference.bins_id] = FeatureCounter(reference, self._topic)
        return self._counters[reference.bins_id]


class FeatureBatch:
    """The features of one batch, counted while its records are still in the processor's cache."""

    def __init__(self, intake: FeatureIntake, models: ModelIndex) -> None:
        self._intake = intake
        self._models = models
        self._groups: dict[int, _Group | None] = {}

    def take(
        self,
        model: NDArray[np.int64],
        time: NDArray[np.int64],
        events: Sequence[ModelEvent],
        predictions: Sequence[Value] | None = None,
    ) -> None:
        """Count events: model numbers (-1 for none) and event times (ms), shape (n,)."""
        keys = (model << _MINUTE_BITS | time // WINDOW_MS).tolist()
        texts: dict[int, list[msgspec.Raw]] = {key: [] for key in set(keys)}
        for key, event in zip(keys, events, strict=True):
            texts[key].append(event.features)
        for key, mine in texts.items():
            if (group := self._group(key)) is not None:
                group.take(mine)
        if predictions is not None:
            for key, prediction in zip(keys, predictions, strict=True):
                if (group := self._groups[key]) is not None:
                    group.predictions.append(prediction)

    def refuse(
        self,
        model: NDArray[np.int64],
        time: NDArray[np.int64],
        events: Sequence[ModelEvent],
        predictions: Sequence[Value] | None = None,
    ) -> None:
        """Take back events that have been taken."""
        refused = FeatureBatch(self._intake, self._models)
        refused.take(model, time, events, predictions)
        for key, group in refused._groups.items():
            mine = self._groups[key]
            if group is not None and mine is not None:
                mine.tally.add_counts(-group.counts())

    def store(self, table: FeatureTable) -> None:
        """Add everything to a table."""
        for key, group in self._groups.items():
            if group is not None and (counts := group.counts()).any():
                model, minute = key >> _MINUTE_BITS, key & (1 << _MINUTE_BITS) - 1
                found = FeatureCounts(group.counter.reference.bins_id, counts)
                table.add(minute * WINDOW_MS, self._models.name(model), found)

    def _group(self, key: int) -> _Group | None:
        if key not in self._groups:
            number = key >> _MINUTE_BITS
            counter = self._intake.counter(self._models.name(number)) if number >= 0 else None
            self._groups[key] = None if counter is None else _Group(counter)
        return self._groups[key]


class _Group:
    """The events of one model and minute."""

    def __init__(self, counter: FeatureCounter) -> None:
        self.counter = counter
        self.tally = Tally(counter)
        self.predictions: list[Value] = []
        self._waiting: list[msgspec.Raw] = []

    def take(self, texts: Sequence[msgspec.Raw]) -> None:
        self._waiting += texts
        if len(self._waiting) >= WAITING:
            self._count_waiting()

    def counts(self) -> NDArray[np.int64]:
        if self._waiting:
            self._count_waiting()
        counts = self.tally.counts()
        if self.predictions and self.counter.counts_predictions:
            counts += self.counter.count_predictions(self.predictions)
        return counts

    def _count_waiting(self) -> None:
        self.tally.add(self._waiting)
        self._waiting = []
