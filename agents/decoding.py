"""From the raw records of a batch to the columns of the join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from siphashc import siphash

from agents.event_types import Click, Decoded, Impression, decode_events, drop_bad_features
from agents.feature_intake import FeatureBatch
from agents.transports.batch import Batch, Section
from tables.join import Events
from tables.models import ModelIndex

_impressions = msgspec.json.Decoder(Impression)
_clicks = msgspec.json.Decoder(Click)

HASH_KEY_BYTES = 16
LATEST_MS = 2**62
SLICE_RECORDS = 400
"""Decoded at once: what they become fits the processor's cache, records of a kilobyte included, which makes the whole
twice as fast."""

_model_of = attrgetter("model_id", "model_version")


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that goes to the dead letters."""

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class JoinInput:
    """A decoded batch; row k of `events` came from record `rows[k]` of section `sections[k]`."""

    batch: Batch
    events: Events
    clock: NDArray[np.int64] | None
    sections: NDArray[np.int64]
    rows: NDArray[np.int64]
    bad: list[BadRecord]

    def offset(self, k: int) -> int:
        """Offset of the record behind row k."""
        return self._section(k).offsets[int(self.rows[k])]

    def offsets(self) -> NDArray[np.int64]:
        """Offsets of all rows, shape (n,)."""
        offsets = np.empty(len(self.rows), np.int64)
        for index, section in enumerate(self.batch.sections):
            mine = self.sections == index
            offsets[mine] = _as_column(section.offsets)[self.rows[mine]]
        return offsets

    def impression(self, k: int) -> Impression:
        """The impression of row k, decoded once more."""
        value = self._section(k).values[int(self.rows[k])]
        (event,) = decode_events(_impressions, [value], LATEST_MS).events
        return event

    def as_bad(self, k: int, reason: str) -> BadRecord:
        """The record behind row k, for the dead letters."""
        return bad_record(self._section(k), self.batch.partition, int(self.rows[k]), reason)

    def _section(self, k: int) -> Section:
        return self.batch.sections[int(self.sections[k])]


def bad_record(section: Section, partition: int, row: int, reason: str) -> BadRecord:
    """One record of a section, for the dead letters."""
    return BadRecord(section.topic, partition, section.offsets[row], reason, section.values[row])


class JoinDecoder:
    """Decodes batches of impressions and clicks; ids leave it only as keyed hashes."""

    def __init__(self, clicks_topic: str, hash_key: bytes) -> None:
        """`hash_key`: 16 bytes, the secret of SipHash-2-4 (Aumasson & Bernstein 2012)."""
        if len(hash_key) != HASH_KEY_BYTES:
            raise ValueError(f"expected a hash key of {HASH_KEY_BYTES} bytes, got {len(hash_key)}")
        self._clicks_topic = clicks_topic
        self._hash_key = hash_key

    def decode(self, batch: Batch, models: ModelIndex, now_ms: int, features: FeatureBatch | None = None) -> JoinInput:
        """Columns of a batch in the order of arrival, where the broker knows it, else section by section.

        The features of all impressions go into `features`.
        """
        numbers = ModelNumbers(models)
        slices: list[_Slice] = []
        sections: list[NDArray[np.int64]] = []
        bad: list[BadRecord] = []
        for index, section in enumerate(batch.sections):
            for begin in range(0, len(section) or 1, SLICE_RECORDS):
                values = section.values[begin : begin + SLICE_RECORDS]
                part, broken = self._decode_slice(section.topic, values, begin, numbers, now_ms, features)
                slices.append(part)
                sections.append(np.full(len(part.row), index, np.int64))
                bad += [bad_record(section, batch.partition, begin + row, reason) for row, reason in broken]
        columns = [np.concatenate(column) for column in zip(*slices, strict=True)]
        which = np.concatenate(sections)
        arrival, clock = (_of_rows(batch, name, which, columns[-1]) for name in ("arrival", "clock"))
        if arrival is not None and len(batch.sections) > 1:
            order = np.argsort(arrival)
            columns = [column[order] for column in columns]
            which = which[order]
            clock = None if clock is None else clock[order]
        is_click, pair, time, model, row = columns
        return JoinInput(batch, Events(is_click, pair, time, model), clock, which, row, bad)

    def _decode_slice(
        self,
        topic: str,
        values: Sequence[bytes | None],
        begin: int,
        numbers: ModelNumbers,
        now_ms: int,
        features: FeatureBatch | None,
    ) -> tuple[_Slice, list[tuple[int, str]]]:
        """Columns of the usable records, and (place in the slice, reason) of the others."""
        found: Decoded[Click] | Decoded[Impression]
        if topic == self._clicks_topic:
            found = decode_events(_clicks, values, now_ms)
            model = np.full(len(found.events), -1, np.int64)
        else:
            found = decode_events(_impressions, values, now_ms)
            drop_bad_features(found)
            names = map(_model_of, found.events)
            model = np.fromiter(map(numbers.__getitem__, names), np.int64, len(found.events))
            if features is not None:
                features.take(model, found.times, found.events)
        is_click = np.full(len(model), topic == self._clicks_topic)
        row = np.array(found.rows, np.int64) + begin
        return _Slice(is_click, self._pairs(found.events), found.times, model, row), found.bad

    def _pairs(self, events: Sequence[Impression] | Sequence[Click]) -> NDArray[np.uint64]:
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        key = self._hash_key
        hashes = [siphash(key, f"{len(e.user_id)}:{e.user_id}{e.item_id}") for e in events]
        return np.array(hashes, np.uint64)


class _Slice(NamedTuple):
    """Columns of equal length; `row` is the place of the record in its section."""

    is_click: NDArray[np.bool_]
    pair: NDArray[np.uint64]
    time: NDArray[np.int64]
    model: NDArray[np.int64]
    row: NDArray[np.int64]


class ModelNumbers(dict[tuple[str, str | None], int]):
    """Model numbers by id and version, asked for once a batch."""

    def __init__(self, models: ModelIndex) -> None:
        super().__init__()
        self._models = models

    def __missing__(self, name: tuple[str, str | None]) -> int:
        number = self[name] = self._models.number((name[0], name[1] or ""))
        return number


def _as_column(numbers: Sequence[int]) -> NDArray[np.int64]:
    if isinstance(numbers, range):  # which numpy would walk through number by number
        return np.arange(numbers.start, numbers.stop, numbers.step)
    return np.asarray(numbers, np.int64)


def _of_rows(batch: Batch, name: str, which: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64] | None:
    columns = [getattr(section, name) for section in batch.sections]
    if any(column is None for column in columns):
        return None
    return np.concatenate([column[row[which == index]] for index, column in enumerate(columns)])
