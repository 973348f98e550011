"""The rows that a reference is built from: which of all that is read, and what is said where there are none."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from agents.feature_decoding import INFERENCES, PREDICTION
from alerting.alert import printable
from tables.errors import InputError
from tables.feature_bins import Value
from tables.reference import INPUTS
from tables.row_sample import RowSample

MOST_ROWS = 1_000_000
"""A sample of more rows would place the edges no better."""
MOST_FEATURES = 500
SEED = 1

_MOST_NAMES = 1000
_SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows, and what of them."""

    model_id: str
    model_version: str | None = None
    """None: every version."""
    features: tuple[str, ...] = ()
    """None named: all."""
    since_ms: int | None = None
    """First event time."""
    until_ms: int | None = None
    """Event time to stop before."""
    first_ms: int | None = None
    """So much event time from the first event on."""

    @property
    def needs_times(self) -> bool:
        """Whether rows without an event time are of no use."""
        return not (self.since_ms is self.until_ms is self.first_ms is None)


class Row(NamedTuple):
    """One row, or event, as its source has it."""

    features: Mapping[str, Value]
    """Empty: it says nothing about them."""
    model_id: str | None = None
    """None: the source does not tell models apart."""
    model_version: str | None = ""
    """None: the source does not tell versions apart."""
    time_ms: int | None = None
    topic: str = ""
    """The input that it came by, of INPUTS; empty: the source does not tell inputs apart."""
    prediction: Value = None
    """Of an inference."""


class ReferenceRows:
    """Picks out the wanted rows, and keeps a sample of those of each input where they are many.

    A feature belongs to the inputs of which at least one row carries it, and is missing where another row of them
    lacks it; a row without any features is not counted. The prediction is a feature of inferences only, and missing
    where one has none.
    """

    def __init__(self, wanted: Wanted, *, most_rows: int = MOST_ROWS, seed: int = SEED) -> None:
        self.wanted = wanted
        self._most_rows = most_rows
        self._samples = {topic: RowSample(most_rows, seed) for topic in ("", *INPUTS)}
        self._predictions = RowSample(most_rows, seed)
        self._models: dict[str, None] = {}
        self._versions: dict[str, None] = {}
        self._times: tuple[int, int] | None = None
        """First and last event time of the model and version."""
        self._first_ms: int | None = None
        """First event time between since and until."""
        #: Rows that were read, whomever they are about.
        self.read = 0
        #: Features seen, of which some may not be wanted.
        self.names: set[str] = set()
        #: What is no feature, though it stands among them.
        self.left_out: set[str] = set()
        #: Topics of a recording that are not taken.
        self.other_topics: set[str] = set()
        #: Rows that could not be read, and what is wrong with the first.
        self.skipped = 0
        self.first_skipped = ""

    def skip(self, where: str, reason: str) -> None:
        """Count a row that cannot be read."""
        self.skipped += 1
        self.first_skipped = self.first_skipped or f"{where}: {reason}"

    def add(self, rows: Iterable[Row]) -> None:
        """Take in rows of a source. Raises InputError for too many features."""
        batch = list(filter(self._is_wanted, rows))
        for topic, sample in self._samples.items():
            said = [row for row in batch if row.topic == topic and row.features]
            sample.add([self._restricted(row.features) for row in said], [row.time_ms or 0 for row in said])
        if PREDICTION in self.wanted.features or not self.wanted.features:
            answered = [row for row in batch if row.topic == INFERENCES]
            predictions = [{} if row.prediction is None else {PREDICTION: row.prediction} for row in answered]
            self._predictions.add(predictions, [row.time_ms or 0 for row in answered])
        if len(self._carried()) > MOST_FEATURES:
            raise InputError(f"more than {MOST_FEATURES} features: name those to compare with --features")

    def features(self, source: str) -> list[str]:
        """The wanted features. Raises InputError, naming `source`, where something that is wanted is not in it."""
        self._require_rows(source)
        found = self._carried()
        if not found and not self.wanted.features:
            raise InputError(f"the events of {self._model()} in {source} have no features")
        for name in self.wanted.features:
            if name not in found:
                near = difflib.get_close_matches(name, self.names, n=1)
                hint = f"; did you mean {printable(near[0], 80)}?" if near else f"; it has: {_list(self.names)}"
                raise InputError(f"--features: no event of {self._model()} in {source} has {printable(name, 80)}{hint}")
        return sorted(found)

    def topics(self, feature: str) -> tuple[str, ...]:
        """The inputs that it belongs to; none where no source of it tells inputs apart."""
        if feature == PREDICTION:
            return (INFERENCES,)
        return tuple(topic for topic in INPUTS if feature in self._samples[topic].names)

    def column(self, feature: str) -> list[Value]:
        """Its values in the rows of its inputs, or in a sample of these: as large a share of each input."""
        share = min(1.0, self._most_rows / max(1, self._seen(feature)))
        found: list[Value] = []
        for sample in self._carrying(feature):
            found += sample.column(feature, round(share * sample.seen), self._end_ms())
        return found

    def drawn_from(self, feature: str) -> int | None:
        """How many rows its column is a sample of; None where it has all of them."""
        seen = self._seen(feature)
        return seen if seen > self._most_rows else None

    def _seen(self, feature: str) -> int:
        return sum(sample.seen for sample in self._carrying(feature))

    def _carried(self) -> set[str]:
        return self._predictions.names.union(*(sample.names for sample in self._samples.values()))

    def _carrying(self, feature: str) -> list[RowSample]:
        return [sample for sample in (*self._samples.values(), self._predictions) if feature in sample.names]

    def _is_wanted(self, row: Row) -> bool:
        self.read += 1
        wanted = self.wanted
        if row.model_id is not None:
            _note(self._models, row.model_id, wanted.model_id)
            if row.model_id != wanted.model_id:
                return False
        if row.model_version is not None:
            _note(self._versions, row.model_version, wanted.model_version)
            if wanted.model_version is not None and row.model_version != wanted.model_version:
                return False
        at = row.time_ms
        if at is not None:
            first, last = self._times or (at, at)
            self._times = min(first, at), max(last, at)
            if not (wanted.since_ms or at) <= at < (wanted.until_ms or at + 1):
                return False
            self._first_ms = at if self._first_ms is None else min(self._first_ms, at)
            if wanted.first_ms is not None and at >= self._first_ms + wanted.first_ms:
                return False
        return True

    def _restricted(self, features: Mapping[str, Value]) -> Mapping[str, Value]:
        if not self.wanted.features:
            return features
        self.names.update(features)
        return {name: features[name] for name in self.wanted.features if name in features}

    def _end_ms(self) -> int | None:
        """The event time that the first so many hours end before; an earlier first event may have come late."""
        if self.wanted.first_ms is None or self._first_ms is None:
            return None
        return self._first_ms + self.wanted.first_ms

    def _require_rows(self, source: str) -> None:
        wanted = self.wanted
        if not self.read:
            skipped = f", and {self.skipped:,} that cannot be read; {self.first_skipped}" if self.skipped else ""
            topics = f"; it has the topics {_list(self.other_topics)}" if self.other_topics else ""
            raise InputError(f"{source}: no row in it{topics}{skipped}")
        if self._models and wanted.model_id not in self._models:
            raise InputError(f"no event of {self._model()} in {source}; it has: {_list(self._models)}")
        if self._versions and wanted.model_version is not None and wanted.model_version not in self._versions:
            version = f"version {printable(wanted.model_version, 80)!r}"
            raise InputError(f"no event of {self._model()}, {version} in {source}; it has: {_list(self._versions)}")
        if self._times is not None and self._first_ms is None:
            times = " to ".join(f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" for at in self._times)
            raise InputError(f"no event of {self._model()} in {source} between --since and --until; it has {times}")

    def _model(self) -> str:
        return f"model {printable(self.wanted.model_id, 80)!r}"


def _note(names: dict[str, None], name: str, wanted: str | None) -> None:
    if name == wanted or len(names) < _MOST_NAMES:
        names[name] = None


def _list(names: Collection[str]) -> str:
    shown = [printable(name, 80) or '""' for name in sorted(names)[:_SHOWN_NAMES]]
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN_NAMES else "")
