"""From the raw records of a batch of inferences to columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.decoding import BadRecord, ModelNumbers, bad_record
from agents.event_types import Inference, decode_events, drop_bad_features
from agents.transports.batch import Batch, Section
from tables.models import ModelIndex
from tables.serving import STATUSES

_decoder = msgspec.json.Decoder(Inference)
_model_of = attrgetter("model_id", "model_version")
_status_codes = {status: code for code, status in enumerate(STATUSES)} | {None: 0}


@dataclass(frozen=True, slots=True)
class InferenceInput:
    """A decoded batch; row k of all columns came from record `rows[k]` of its only section."""

    section: Section
    partition: int
    rows: NDArray[np.int64]
    time: NDArray[np.int64]
    """Event times, ms."""
    model: NDArray[np.int64]
    status: NDArray[np.int64]
    """Places in STATUSES."""
    latency_ms: NDArray[np.float64]
    """NaN where none was told."""
    events: Sequence[Inference]
    clock: NDArray[np.int64] | None
    """Time of arrival, ms, where the broker knows it."""
    bad: list[BadRecord]

    def offsets(self) -> NDArray[np.int64]:
        """Offsets of all rows, shape (n,)."""
        return np.asarray(self.section.offsets, np.int64)[self.rows]

    def as_bad(self, k: int, reason: str) -> BadRecord:
        """The record behind row k, for the dead letters."""
        return bad_record(self.section, self.partition, int(self.rows[k]), reason)


def decode_inferences(batch: Batch, models: ModelIndex, now_ms: int) -> InferenceInput:
    """Columns of a batch in the order of arrival."""
    (section,) = batch.sections
    found = decode_events(_decoder, section.values, now_ms)
    drop_bad_features(found)
    numbers, events, n = ModelNumbers(models), found.events, len(found.events)
    rows = np.array(found.rows, np.int64)
    latencies = [event.latency_ms for event in events]
    return InferenceInput(
        section,
        batch.partition,
        rows,
        found.times,
        np.fromiter(map(numbers.__getitem__, map(_model_of, events)), np.int64, n),
        np.fromiter((_status_codes[event.status] for event in events), np.int64, n),
        np.array(latencies, np.float64),
        events,
        None if section.clock is None else section.clock[rows],
        [bad_record(section, batch.partition, row, reason) for row, reason in found.bad],
    )
