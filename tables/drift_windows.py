"""Drift of features over a horizon: the counts of the last minutes together, against the model's reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tables.distances import Comparison, Distance
from tables.drift_history import Counts, DriftHistory
from tables.drift_policy import DriftPolicy
from tables.feature_counts import FeatureCounts, pack_counts, unpack_counts
from tables.join_policy import JoinPolicy
from tables.models import Model
from tables.reference import Reference, ReferenceBook
from tables.window_merge import Kind, Merged, WindowMerge

COMPARISONS = 10_000
"""So many are kept at hand; rolling references bring new ones every day."""


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How far one feature of a model is from its reference, over the horizon up to the window's end."""

    model: Model
    window_start: int
    final: bool
    feature: str
    horizon_ms: int
    distances: tuple[Distance, ...]


class Shift(NamedTuple):
    """A feature that was not as in its reference within one window: the bin whose share of the rows grew most."""

    feature: str
    bin: str
    reference_share: float
    """From 0 to 1, as the next one."""
    share: float
    psi: Distance


@dataclass(frozen=True, slots=True)
class DayCounts:
    """What the features of a model were in one day of event time, so far."""

    model: Model
    day_ms: int
    reference: Reference
    counts: Counts

    def by_feature(self) -> dict[str, list[int]]:
        """Count vectors by feature."""
        return {name: part.tolist() for name, part in split(self.reference, self.counts)}


def split(reference: Reference, counts: Counts) -> Iterator[tuple[str, Counts]]:
    """Each feature's own count vector."""
    begin = 0
    for feature in reference.features:
        yield feature.name, counts[begin : begin + feature.bins.width]
        begin += feature.bins.width


def _kind(book: ReferenceBook) -> Kind[FeatureCounts]:
    def total(values: Iterable[FeatureCounts]) -> FeatureCounts:
        """The sum; while a reference is being replaced, of those counted in bins that the book knows."""
        found = list(values)
        bins = next((value.bins for value in reversed(found) if value.bins in book.widths), "")
        known = [value.counts for value in found if value.bins == bins]
        return FeatureCounts(bins, np.sum(known, axis=0)) if known else found[-1]

    def unpack(packed: tuple[str, bytes]) -> FeatureCounts:
        bins, counts = packed[0], unpack_counts(packed[1])
        if len(counts) != book.widths.get(bins, len(counts)):
            raise ValueError(f"expected counts of {book.widths[bins]} bins, got {len(counts)}")
        return FeatureCounts(bins, counts)

    return Kind("features", total=total, pack=lambda value: (value.bins, pack_counts(value.counts)), unpack=unpack)


class DriftWindows:
    """Feature counts of one partition of the windows agent: the open minutes, and the final ones of the horizon.

    Memory: 8 bytes a bin, for each model with a reference and each minute of its horizon.
    """

    def __init__(self, join: JoinPolicy, book: ReferenceBook, policy_of: Callable[[str], DriftPolicy]) -> None:
        """`policy_of`: the policy of a model, by its id."""
        self.merge = WindowMerge(_kind(book), join)
        self._book = book
        self._policy_of = policy_of
        self._comparisons: dict[tuple[str, DriftPolicy], Comparison] = {}
        self._history = DriftHistory()
        self.no_room = 0
        """Windows that are final and have no rows, since there was no room for the history of their model."""

    def take_final(self, watermark: int) -> list[FeatureDrift]:
        """Drift of the windows that have become final, in order; their counts stay for the horizons to come."""
        found: list[FeatureDrift] = []
        for merged in self.merge.take_final(watermark):
            reference = self._book.find(*merged.model)
            if reference is None or reference.bins_id != merged.value.bins:
                continue
            if self._history.keep(merged.model, merged.window_start, merged.value):
                found += self._drift(merged, reference, {})
            else:
                self.no_room += 1
        horizons = (self._policy_of(model_id).horizon_ms for model_id, _ in self._history.models)
        newest = self.merge.first_open
        self._history.forget_before(newest - max(horizons, default=0), newest)
        return found

    def drift_of(self, windows: Iterable[Merged[FeatureCounts]]) -> list[FeatureDrift]:
        """Drift of open windows as it is now."""
        found: list[FeatureDrift] = []
        for merged in windows:
            reference = self._book.find(*merged.model)
            if reference is not None and reference.bins_id == merged.value.bins:
                others = self.merge.of_model(merged.model)
                same = {start: value.counts for start, value in others.items() if value.bins == reference.bins_id}
                found += self._drift(merged, reference, same)
        return found

    def shifts(self, merged: Merged[FeatureCounts]) -> list[Shift]:
        """The features whose PSI in this window alone is more than chance, whatever was before it."""
        reference = self._book.find(*merged.model)
        if reference is None or reference.bins_id != merged.value.bins:
            return []
        counts = np.asarray(merged.value.counts)
        found = self._comparison(reference, self._policy_of(merged.model[0])).distances(counts)
        shifts = []
        for feature, distances, (_, part) in zip(reference.features, found, split(reference, counts), strict=True):
            psi = next((each for each in distances if each.method == "psi"), None)
            if psi is None or psi.level == "none":
                continue
            before = np.asarray(feature.counts, np.int64)
            shares, reference_shares = part / part.sum(), before / before.sum()
            grown = int(np.argmax(shares - reference_shares))
            label = feature.bins.labels()[grown]
            shifts.append(Shift(feature.name, label, float(reference_shares[grown]), float(shares[grown]), psi))
        return shifts

    def take_days(self) -> list[DayCounts]:
        """The days whose counts have grown since the last call."""
        return [
            DayCounts(model, day, reference, found.counts)
            for model, day, found in self._history.take_days()
            if (reference := self._book.find(*model)) is not None and reference.bins_id == found.bins
        ]

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """Chunks to append and to drop in a checkpoint; what changed is in both, to be replaced as a whole."""
        append, drop = self.merge.take_changes()
        past, gone = self._history.take_changes()
        return append | past, drop | gone

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """Continue from `merge.state()` and chunks. Raises ValueError for damage."""
        self.merge.restore(state, chunks)
        self._history.restore(chunks)

    def _drift(
        self, merged: Merged[FeatureCounts], reference: Reference, open_counts: Mapping[int, Counts]
    ) -> list[FeatureDrift]:
        policy = self._policy_of(merged.model[0])
        begin = merged.window_end - policy.horizon_ms
        counts = self._history.total(merged.model, reference.bins_id, begin, merged.window_end)
        for start, still_open in open_counts.items():
            if begin <= start < merged.window_end:
                counts = counts + still_open
        comparison = self._comparison(reference, policy)
        return [
            FeatureDrift(merged.model, merged.window_start, merged.final, feature.name, policy.horizon_ms, tuple(found))
            for feature, found in zip(reference.features, comparison.distances(np.asarray(counts)), strict=True)
            if found
        ]

    def _comparison(self, reference: Reference, policy: DriftPolicy) -> Comparison:
        key = reference.id, policy
        if key not in self._comparisons:
            if len(self._comparisons) >= COMPARISONS:
                self._comparisons.clear()
            self._comparisons[key] = Comparison(reference.features, policy)
        return self._comparisons[key]
