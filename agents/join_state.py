"""The join agent's state of one partition: the join table, and the features of the impressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from agents.decoding import JoinDecoder, JoinInput
from agents.feature_intake import FeatureIntake
from agents.input_state import InputState
from agents.metrics import Metrics
from agents.partition_state import Changes
from agents.telling import Words
from agents.transports.batch import Batch
from tables.feature_counts import is_feature_chunk
from tables.join import JoinTable, Outcomes, Step
from tables.join_policy import JoinPolicy
from tables.partials import JOIN, PartialRow
from tables.watermark import UNKNOWN, Watermark


@dataclass(frozen=True, slots=True)
class JoinTopics:
    """The topics that the join agent reads and writes."""

    impressions: str
    clicks: str
    partials: str
    dead_letters: str


@dataclass(frozen=True, slots=True)
class JoinSetting:
    """What all partitions of a worker share."""

    policy: JoinPolicy
    topics: JoinTopics
    hash_key: bytes
    now_ms: Callable[[], int]
    """Wall clock, for the check that events are not from the future."""
    metrics: Metrics
    sources: Callable[[], int]
    """How many partitions the join has over all workers."""
    targets: Callable[[], int]
    """How many partitions the partials topic has."""
    intake: FeatureIntake = field(default_factory=FeatureIntake)

    @property
    def hash_key_id(self) -> str:
        """Tells one hash key from another, and nothing about it."""
        return blake2b(self.hash_key, digest_size=8, person=b"tidemark-key-id").hexdigest()


class JoinState(InputState[JoinSetting]):
    """One partition of impressions and clicks."""

    def __init__(self, partition: int, setting: JoinSetting, clock_ms: int) -> None:
        topics = setting.topics
        super().__init__(partition, (topics.impressions, topics.clicks), JOIN, setting, clock_ms)
        self.table = JoinTable(setting.policy, clock_ms)
        self._decoder = JoinDecoder(topics.clicks, setting.hash_key)
        self._counted = Outcomes()

    def apply(self, batch: Batch, skip_before: Mapping[str, int]) -> None:
        """See PartitionState; times of arrival come from the batch, or else from `tick`."""
        setting = self._setting
        features = setting.intake.batch(self.table.models)
        decoded = self._decoder.decode(batch, self.table.models, setting.now_ms(), features)
        clock: Any = self.clock_ms if decoded.clock is None else np.maximum.accumulate(decoded.clock)
        if decoded.clock is not None and len(decoded.clock):
            self.clock_ms = max(self.clock_ms, int(clock[-1]))
        self._remember_offsets(decoded)
        applied = self.table.apply(decoded.events, clock)
        if features is not None:
            refused = [k for k in (*applied.late.tolist(), *applied.no_room.tolist()) if not decoded.events.is_click[k]]
            if refused:
                impressions = [decoded.impression(k) for k in refused]
                features.refuse(decoded.events.model[refused], decoded.events.time[refused], impressions)
            features.store(self._features)
        bad = [
            *decoded.bad,
            *(decoded.as_bad(int(k), "late") for k in applied.late),
            *(decoded.as_bad(int(k), "no_room: the limit of live rows or models is reached") for k in applied.no_room),
        ]
        self._note_batch(batch, bad, skip_before)

    def finish(self) -> None:
        """See InputState."""
        self.table.finish()
        self._touched = True

    def changes(self, epoch: int, number: int) -> Changes | None:
        """See PartitionState."""
        if not self._touched:
            return None
        speaker = self._speaker(epoch, number)
        self._touched = False
        words = [*self._feature_words(), *map(_words, self.table.settle())]
        first_open = self.table.first_open
        self._features.forget_before(first_open)
        self._offsets.forget_before(first_open)
        append, drop = self.table.take_changes()
        feature_append, feature_drop = self._features.take_changes()
        self._count()
        return Changes(
            state={
                "table": self.table.state(),
                "offsets": self._offsets.state(),
                "hash_key": self._setting.hash_key_id,
            },
            rebuild=self._offsets.rebuild(),
            rebuild_state={"watermark": self._time.state(), "first_open": first_open},
            append=append | feature_append,
            drop=frozenset(drop | feature_drop),
            before=self._take_dead(),
            after=tuple(self._telling.messages(words, speaker, self.clock_ms)),
        )

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """See PartitionState; ValueError also where the ids were hashed with another key."""
        if state["hash_key"] != self._setting.hash_key_id:
            raise ValueError("the checkpoint was made with another hash key")
        rows = {name: data for name, data in chunks.items() if not is_feature_chunk(name)}
        self.table.restore(state["table"], rows, self.clock_ms)
        self._features.restore(chunks)
        self._offsets.restore(state["offsets"])

    @property
    def _time(self) -> Watermark:
        return self.table.watermark

    def _let_pass(self, others: int) -> None:
        self.table.tick(self.clock_ms, others)

    def _restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        self.table.restore_time(rebuild_state, self.clock_ms)

    def _remember_offsets(self, decoded: JoinInput) -> None:
        events, topics = decoded.events, self._setting.topics
        if not len(events):
            return
        offsets = decoded.offsets()
        for topic, mine in ((topics.clicks, events.is_click), (topics.impressions, ~events.is_click)):
            self._offsets.remember(topic, events.time[mine], offsets[mine], self.table.first_open)

    def _count(self) -> None:
        """Bring the metrics up to what the table knows."""
        metrics, partition, table = self._setting.metrics, str(self.partition), self.table
        for outcome in ("matched", "expired", "duplicate"):
            value = getattr(table.outcomes, outcome)
            metrics.joined.labels(outcome).inc(value - getattr(self._counted, outcome))
            setattr(self._counted, outcome, value)
        metrics.live_rows.labels(partition, "impressions").set(table.live_impressions)
        metrics.live_rows.labels(partition, "clicks").set(table.live_clicks)
        if table.watermark.value > UNKNOWN:
            lag = self._setting.now_ms() - table.watermark.value
            metrics.watermark_lag.labels(partition).set(lag / 1000)


def _words(step: Step) -> Words:
    rows = [PartialRow(*count.model, count.start, count.impressions, count.clicks) for count in step.counts]
    return Words(step.watermark, rows)
