"""The inference agent's state of one partition: requests and latencies, and the features of the inferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.feature_intake import FeatureIntake
from agents.inference_decoding import InferenceInput, decode_inferences
from agents.input_state import InputState
from agents.metrics import Metrics
from agents.partition_state import Changes
from agents.telling import Words
from agents.transports.batch import Batch
from tables.feature_counts import is_feature_chunk
from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.models import ModelIndex
from tables.partials import INFERENCES, ServingRow
from tables.serving import ServingTable
from tables.watermark import END, UNKNOWN, Watermark

NO_MODEL = -1


@dataclass(frozen=True, slots=True)
class InferenceTopics:
    """The topics that the inference agent reads and writes."""

    inferences: str
    partials: str
    dead_letters: str


@dataclass(frozen=True, slots=True)
class InferenceSetting:
    """See InputSetting."""

    policy: JoinPolicy
    topics: InferenceTopics
    now_ms: Callable[[], int]
    metrics: Metrics
    sources: Callable[[], int]
    targets: Callable[[], int]
    intake: FeatureIntake = field(default_factory=FeatureIntake)


class InferenceState(InputState[InferenceSetting]):
    """One partition of inferences."""

    def __init__(self, partition: int, setting: InferenceSetting, clock_ms: int) -> None:
        super().__init__(partition, (setting.topics.inferences,), INFERENCES, setting, clock_ms)
        policy = setting.policy
        self.models = ModelIndex(policy.max_models)
        self.table = ServingTable()
        self._mark = Watermark(policy.out_of_orderness_ms, policy.idle_after_ms, clock_ms, inputs=1)
        self._first_open = policy.first_open(UNKNOWN)
        self._gone: set[int] = set()

    def apply(self, batch: Batch, skip_before: Mapping[str, int]) -> None:
        """See PartitionState; times of arrival come from the batch, or else from `tick`."""
        decoded = decode_inferences(batch, self.models, self._setting.now_ms())
        late, no_room = np.zeros((2, len(decoded.rows)), np.bool_)
        if len(decoded.rows):
            clock: Any = self.clock_ms
            if decoded.clock is not None:
                clock = np.maximum.accumulate(decoded.clock)
                self.clock_ms = max(self.clock_ms, int(clock[-1]))
            marks = self._mark.advance(np.zeros(len(decoded.rows), np.int64), decoded.time, clock)
            attribution_ms = self._setting.policy.attribution_ms
            first_open = np.maximum((marks - attribution_ms) // WINDOW_MS * WINDOW_MS, self._first_open)
            late = decoded.time < first_open
            no_room = ~late & (decoded.model == NO_MODEL)
            rows = np.flatnonzero(~(late | no_room))
            self._take(decoded, rows)
            fresh = rows[decoded.offsets()[rows] >= skip_before.get(self._setting.topics.inferences, 0)]
            self._setting.metrics.inferences.observe(
                self.models.names, decoded.model[fresh], decoded.status[fresh], decoded.latency_ms[fresh]
            )
            self._first_open = int(first_open[-1])
        bad = [
            *decoded.bad,
            *(decoded.as_bad(int(k), "late") for k in np.flatnonzero(late)),
            *(decoded.as_bad(int(k), "no_room: the limit of live models is reached") for k in np.flatnonzero(no_room)),
        ]
        self._note_batch(batch, bad, skip_before)

    def finish(self) -> None:
        """See InputState."""
        self._mark.lift(END)
        self._close()
        self._touched = True

    def changes(self, epoch: int, number: int) -> Changes | None:
        """See PartitionState."""
        if not self._touched:
            return None
        speaker = self._speaker(epoch, number)
        self._touched = False
        rows = [ServingRow(*self.models.name(row.model), row.start, row.counts) for row in self.table.take_changed()]
        words = [*self._feature_words(), Words(self._mark.value, rows)]
        self._gone.update(self.table.forget(self._first_open))
        self._features.forget_before(self._first_open)
        self._offsets.forget_before(self._first_open)
        self.models.keep_only(self.table.models)
        append = {f"s{start}": data for start, data in self.table.take_changes().items()}
        drop, self._gone = {*append, *(f"s{start}" for start in self._gone)}, set()
        feature_append, feature_drop = self._features.take_changes()
        return Changes(
            state={
                "watermark": self._mark.state(),
                "first_open": self._first_open,
                "models": self.models.state(),
                "offsets": self._offsets.state(),
            },
            rebuild=self._offsets.rebuild(),
            rebuild_state={"watermark": self._mark.state(), "first_open": self._first_open},
            append=append | feature_append,
            drop=frozenset(drop | feature_drop),
            before=self._take_dead(),
            after=tuple(self._telling.messages(words, speaker, self.clock_ms)),
        )

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """See PartitionState."""
        self._restore_time(state)
        self.models.restore(list(state["models"]))
        self.table.restore({int(name[1:]): data for name, data in chunks.items() if not is_feature_chunk(name)})
        self._features.restore(chunks)
        self._offsets.restore(state["offsets"])

    @property
    def _time(self) -> Watermark:
        return self._mark

    def _let_pass(self, others: int) -> None:
        self._mark.tick(self.clock_ms)
        if self._mark.is_idle(self.clock_ms):
            self._mark.lift(others)
        self._close()

    def _close(self) -> None:
        self._first_open = max(self._first_open, self._setting.policy.first_open(self._mark.value))

    def _restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        self._mark.restore(dict(rebuild_state["watermark"]), self.clock_ms)
        self._first_open = int(rebuild_state["first_open"])

    def _take(self, decoded: InferenceInput, rows: NDArray[np.intp]) -> None:
        time, model = decoded.time[rows], decoded.model[rows]
        self._offsets.remember(self._setting.topics.inferences, time, decoded.offsets()[rows], self._first_open)
        self.table.apply(model, time, decoded.status[rows] != 0, decoded.latency_ms[rows])
        features = self._setting.intake.batch(self.models)
        if features is not None:
            events = [decoded.events[k] for k in rows.tolist()]
            features.take(model, time, events, [event.prediction for event in events])
            features.store(self._features)
