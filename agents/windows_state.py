"""The windows agent's state of one partition: the merged windows and the incidents that they open and close."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agents.dead_letters import dead_letter
from agents.decoding import bad_record
from agents.metrics import Metrics
from agents.partition_state import Changes, Outgoing, PartitionState
from agents.transports.batch import Batch
from agents.window_rows import ctr_row, drift_rows, serving_row
from alerting.incidents import IncidentBook
from alerting.reading import CtrReading, DriftReading, Kind, Reading, ServingReading
from alerting.rules import Rule
from tables.drift_policy import DriftPolicy
from tables.drift_windows import DayCounts, DriftWindows, FeatureDrift
from tables.errors import StoreError
from tables.feature_counts import FeatureCounts
from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.partials import INFERENCES, JOIN, Partial, decode_partial
from tables.reference import ReferenceBook
from tables.serving import PackedCounts, ServingCounts
from tables.sources import Sources
from tables.watermark import UNKNOWN
from tables.window_kinds import CTR, SERVING, CtrCounts
from tables.window_merge import Merged, WindowMerge


def _default_policy(_model_id: str) -> DriftPolicy:
    return DriftPolicy()


@dataclass(frozen=True, slots=True)
class WindowsSetting:
    """What all partitions of a worker share."""

    policy: JoinPolicy
    rules: tuple[Rule, ...]
    partials: str
    windows: str
    alerts: str
    dead_letters: str
    metrics: Metrics
    provisional: Callable[[], bool] = lambda: True
    """Whether rows of windows that are not final are wanted."""
    references: ReferenceBook = field(default_factory=ReferenceBook)
    drift_policy: Callable[[str], DriftPolicy] = _default_policy
    """The drift policy of a model, by its id."""


class WindowsState(PartitionState):
    """One partition of the partials topic."""

    def __init__(self, partition: int, setting: WindowsSetting) -> None:
        self.partition = partition
        self.book = IncidentBook(setting.rules)
        self._setting = setting
        self._sources = Sources()
        self._ctr = WindowMerge(CTR, setting.policy)
        self._serving = WindowMerge(SERVING, setting.policy)
        self._drift = DriftWindows(setting.policy, setting.references, setting.drift_policy)
        self._merges: dict[Kind, WindowMerge[Any]] = {
            "ctr": self._ctr,
            "serving": self._serving,
            "drift": self._drift.merge,
        }
        waits = sorted({(rule.kind, rule.settle_ms) for rule in setting.rules})
        self._matured = dict.fromkeys(waits, self._ctr.first_open)
        for kind, merge in self._merges.items():
            merge.settles = {settled_ms(setting.policy, settle) for its_kind, settle in waits if its_kind == kind}
        self._out: list[Outgoing] = []
        self._next_offset = 0
        self._touched = False

    @property
    def final_until(self) -> int:
        """Windows that end at or before it are final, of every kind that may still come."""
        marks = [
            mark
            for group in (JOIN, INFERENCES)
            # Nobody waits for a group that has been silent from the beginning.
            if (mark := self._sources.watermark(group)) > UNKNOWN or not self._sources.is_idle(group)
        ]
        return self._setting.policy.first_open(min(marks, default=UNKNOWN))

    def apply(self, batch: Batch, skip_before: Mapping[str, int]) -> None:
        """See PartitionState."""
        for section in batch.sections:
            again = skip_before.get(section.topic, 0)
            for place, (offset, value) in enumerate(zip(section.offsets, section.values, strict=True)):
                try:
                    partial = decode_partial(value or b"")
                    # What cannot be counts ends here.
                    ServingCounts.restore(served.counts for served in partial.serving)
                    features = [self._drift.merge.kind.unpack((row.bins, row.counts)) for row in partial.features]
                except (msgspec.MsgspecError, ValueError) as error:
                    if offset >= again:
                        bad = bad_record(section, batch.partition, place, f"not_a_partial: {error}")
                        self._out.append(dead_letter(self._setting.dead_letters, bad))
                    continue
                self._merge(partial, features, offset)
                if offset >= again:
                    self._judge()
                    self._tell_final()
            self._next_offset = section.next_offset
        self._touched = True

    def changes(self, epoch: int, number: int) -> Changes | None:
        """See PartitionState; provisional rows are made here, so at most once a checkpoint."""
        if not self._touched:
            return None
        self._touched = False
        self._tell_changed()
        out, self._out = tuple(self._out), []
        open_windows = sum(merge.open_windows for merge in self._merges.values())
        self._setting.metrics.open_windows.labels(str(self.partition)).set(open_windows)
        append, drop = self._drift.take_changes()
        for merge in (self._ctr, self._serving):
            more, gone = merge.take_changes()
            append |= more
            drop |= gone
        time = {
            "first_open": {kind: merge.first_open for kind, merge in self._merges.items()},
            "matured": [(*wait, until) for wait, until in self._matured.items()],
        }
        return Changes(
            state={
                "sources": self._sources.state(),
                "merges": {kind: merge.state() for kind, merge in self._merges.items()},
                "book": self.book.state(),
                "time": time,
                "next": self._next_offset,
            },
            rebuild={self._setting.partials: self._rebuild_offset()},
            rebuild_state=time,
            append=append,
            drop=frozenset(drop),
            before=out,
        )

    def take_days(self) -> list[DayCounts]:
        """Feature counts of the days that have grown since the last call."""
        return self._drift.take_days()

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """See PartitionState."""
        merges = state["merges"]
        self._sources.restore(state["sources"])
        self._ctr.restore(merges["ctr"], chunks)
        self._serving.restore(merges["serving"], chunks)
        self._drift.restore(merges["drift"], chunks)
        try:
            self.book.restore(state["book"])
        except StoreError as error:
            raise ValueError(f"incidents of another version: {error}") from error
        self._restore_matured(state["time"])
        self._next_offset = state["next"]

    def restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        """See PartitionState; incidents and the counts of the drift horizon are lost with the store."""
        for kind, merge in self._merges.items():
            merge.first_open = rebuild_state["first_open"][kind]
        self._restore_matured(rebuild_state)

    def rebuilt(self) -> None:
        """See PartitionState; here it is each record that tells whether time may go on."""

    def _restore_matured(self, time: Mapping[str, Any]) -> None:
        self._matured.update(
            {(kind, settle): until for kind, settle, until in time["matured"] if (kind, settle) in self._matured}
        )

    def _rebuild_offset(self) -> int:
        """From where the partials must be read again to rebuild this state without a checkpoint."""
        offsets = [*self._sources.offsets()]
        for merge in self._merges.values():
            offsets += merge.offsets()
        return min(offsets, default=self._next_offset)

    def _merge(self, partial: Partial, features: Sequence[FeatureCounts], offset: int) -> None:
        source = partial.group, partial.source
        since = self._sources.watermark_of(source)
        if not self._sources.hear(partial, offset):
            return
        for row in partial.rows:
            counts = CtrCounts(row.impressions, row.clicks)
            self._ctr.put(row.window_start, (row.model_id, row.model_version), source, counts, offset, since)
        for served in partial.serving:
            model = served.model_id, served.model_version
            self._serving.put(served.window_start, model, source, served.counts, offset, since)
        for told, found in zip(partial.features, features, strict=True):
            self._drift.merge.put(told.window_start, (told.model_id, told.model_version), source, found, offset, since)

    def _watermark(self, kind: Kind) -> int:
        if kind == "drift":
            return self._sources.slowest()
        return self._sources.watermark(JOIN if kind == "ctr" else INFERENCES)

    # -- what is judged

    def _judge(self) -> None:
        for (kind, settle), since in self._matured.items():
            settled = settled_ms(self._setting.policy, settle)
            windows, self._matured[kind, settle] = self._merges[kind].mature(self._watermark(kind), settled, since)
            for reading in self._readings(kind, windows):
                for decision in self.book.observe(reading, settle):
                    self._setting.metrics.decisions.labels(decision.rule, decision.reason.value).inc()
                    if decision.alert is not None:
                        key = decision.alert.fingerprint.encode()
                        self._out.append(Outgoing(self._setting.alerts, key, decision.alert.to_json()))
                        self._setting.metrics.alerts.labels(decision.alert.severity, decision.alert.status).inc()

    def _readings(self, kind: Kind, windows: list[Merged[Any]]) -> Iterable[Reading]:
        if kind == "ctr":
            return map(_ctr_reading, windows)
        if kind == "serving":
            return map(_serving_reading, windows)
        return map(_drift_reading, self._drift.drift_of(windows))

    # -- what is told

    def _tell_final(self) -> None:
        topic = self._setting.windows
        for ctr in self._ctr.take_final(self._watermark("ctr")):
            self._tell("ctr", ctr.final, [ctr_row(topic, ctr)])
        for served in self._serving.take_final(self._watermark("serving")):
            self._tell("serving", served.final, [serving_row(topic, served)])
        before = self._drift.no_room
        for drift in self._drift.take_final(self._watermark("drift")):
            self._tell("drift", drift.final, drift_rows(topic, drift))
        self._setting.metrics.drift_no_room.inc(self._drift.no_room - before)

    def _tell_changed(self) -> None:
        topic = self._setting.windows
        changed, served, features = (merge.take_changed() for merge in self._merges.values())
        if not self._setting.provisional():
            return
        for merged in changed:
            self._tell("ctr", merged.final, [ctr_row(topic, merged)])
        for merged in served:
            self._tell("serving", merged.final, [serving_row(topic, merged)])
        for drift in self._drift.drift_of(features):
            self._tell("drift", drift.final, drift_rows(topic, drift))

    def _tell(self, kind: Kind, final: bool, rows: Iterable[Outgoing]) -> None:
        rows = list(rows)
        self._out += rows
        self._setting.metrics.rows.labels(kind, "final" if final else "provisional").inc(len(rows))


def settled_ms(policy: JoinPolicy, settle_ms: int) -> int:
    """How long after its end a window is judged: what is final does not change, however long a rule would wait."""
    return min(settle_ms, policy.attribution_ms)


def _ctr_reading(merged: Merged[CtrCounts]) -> CtrReading:
    return CtrReading(
        model_id=merged.model[0],
        model_version=merged.model[1],
        window_start=merged.window_start,
        window_end=merged.window_end,
        impressions=merged.value.impressions,
        clicks=merged.value.clicks,
    )


def _serving_reading(merged: Merged[PackedCounts]) -> ServingReading:
    fields = ServingCounts.restore([merged.value]).fields()
    return ServingReading(
        model_id=merged.model[0],
        model_version=merged.model[1],
        window_start=merged.window_start,
        window_end=merged.window_end,
        requests=fields["requests"],
        errors=fields["errors"],
        latency_ms=fields["latency_ms"],
    )


def _drift_reading(drift: FeatureDrift) -> DriftReading:
    return DriftReading(
        model_id=drift.model[0],
        model_version=drift.model[1],
        window_start=drift.window_start,
        window_end=drift.window_start + WINDOW_MS,
        feature=drift.feature,
        horizon_ms=drift.horizon_ms,
        distances=drift.distances,
    )
