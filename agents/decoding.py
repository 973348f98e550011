"""From the raw records of a batch to the columns of the join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from siphashc import siphash

from agents.event_types import Click, Impression, decode_events, drop_bad_features
from agents.transports.batch import Batch, Section
from tables.join import Events
from tables.models import ModelIndex

_impressions = msgspec.json.Decoder(Impression)
_clicks = msgspec.json.Decoder(Click)

HASH_KEY_BYTES = 16


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
            offsets[mine] = np.asarray(section.offsets, np.int64)[self.rows[mine]]
        return offsets

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

    def decode(self, batch: Batch, models: ModelIndex, now_ms: int) -> JoinInput:
        """Columns of a batch in the order of arrival, where the broker knows it, else section by section."""
        parts: list[tuple[NDArray[np.bool_], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]] = []
        sections: list[NDArray[np.int64]] = []
        rows: list[NDArray[np.int64]] = []
        bad: list[BadRecord] = []
        for index, section in enumerate(batch.sections):
            if section.topic == self._clicks_topic:
                clicks = decode_events(_clicks, section.values, now_ms)
                pair, times, places, broken = (
                    self._pairs(clicks.events),
                    clicks.times,
                    clicks.rows,
                    clicks.bad,
                )
                model = np.full(len(pair), -1, np.int64)
            else:
                shown = decode_events(_impressions, section.values, now_ms)
                drop_bad_features(shown)
                pair, times, places, broken = self._pairs(shown.events), shown.times, shown.rows, shown.bad
                names = [(event.model_id, event.model_version or "") for event in shown.events]
                numbers = {name: models.number(name) for name in dict.fromkeys(names)}
                model = np.array([numbers[name] for name in names], np.int64)
            parts.append((np.full(len(pair), section.topic == self._clicks_topic), pair, times, model))
            sections.append(np.full(len(pair), index, np.int64))
            rows.append(np.array(places, np.int64))
            bad += [bad_record(section, batch.partition, row, reason) for row, reason in broken]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        which, places_ = np.concatenate(sections), np.concatenate(rows)
        arrival, clock = _of_rows(batch, "arrival", rows), _of_rows(batch, "clock", rows)
        if arrival is not None and len(batch.sections) > 1:
            order = np.argsort(arrival)
            columns = [column[order] for column in columns]
            which, places_ = which[order], places_[order]
            clock = None if clock is None else clock[order]
        is_click, pair, times, model = columns
        return JoinInput(batch, Events(is_click, pair, times, model), clock, which, places_, bad)

    def _pairs(self, events: Sequence[Impression] | Sequence[Click]) -> NDArray[np.uint64]:
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        key = self._hash_key
        hashes = [siphash(key, f"{len(e.user_id)}:{e.user_id}{e.item_id}") for e in events]
        return np.array(hashes, np.uint64)


def _of_rows(batch: Batch, name: str, rows: list[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    columns = [getattr(section, name) for section in batch.sections]
    if any(column is None for column in columns):
        return None
    return np.concatenate([column[mine] for column, mine in zip(columns, rows, strict=True)])
