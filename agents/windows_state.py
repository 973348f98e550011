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
from agents.rule_judge import JudgeSetting, RuleJudge, Tap
from agents.telling import target_of
from agents.transports.batch import Batch
from agents.window_rows import ctr_row, drift_rows, serving_row
from alerting.alert import Alert
from alerting.rules.reading import Kind
from alerting.rules.rule import Rule
from alerting.sql.engine import SqlAnswer
from tables.drift_policy import DriftPolicy
from tables.drift_windows import DayCounts, DriftWindows
from tables.feature_counts import FeatureCounts
from tables.join_policy import JoinPolicy
from tables.partials import INFERENCES, JOIN, Partial, decode_partial
from tables.reference import ReferenceBook
from tables.serving import ServingCounts
from tables.sources import Sources
from tables.watermark import UNKNOWN
from tables.window_kinds import CTR, SERVING, CtrCounts
from tables.window_merge import WindowMerge


def _default_policy(_model_id: str) -> DriftPolicy:
    return DriftPolicy()


@dataclass(frozen=True, slots=True)
class WindowsSetting:
    """What all partitions of a worker share."""

    policy: JoinPolicy
    rules: Callable[[], tuple[Rule, ...]]
    """Those that hold now."""
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
    tap: Tap | None = None
    waits: bool = False
    """See JudgeSetting for both."""
    targets: Callable[[], int] = lambda: 1
    """How many partitions the partials topic has."""


class WindowsState(PartitionState):
    """One partition of the partials topic."""

    def __init__(self, partition: int, setting: WindowsSetting) -> None:
        self.partition = partition
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
        judge = JudgeSetting(setting.policy, setting.rules, setting.alerts, setting.metrics, setting.tap, setting.waits)
        self.judge = RuleJudge(judge, self._merges, self._drift, self._watermark, self._sources.slowest, self._silence)
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
                    self.judge.judge()
                    self._tell_final()
            self._next_offset = section.next_offset
        self._touched = True

    def changes(self, epoch: int, number: int) -> Changes | None:
        """See PartitionState; provisional rows are made here, so at most once a checkpoint."""
        if not self._touched:
            return None
        self._touched = False
        self._tell_changed()
        out, self._out, self.judge.out = (*self._out, *self.judge.out), [], []
        open_windows = sum(merge.open_windows for merge in self._merges.values())
        self._setting.metrics.open_windows.labels(str(self.partition)).set(open_windows)
        append, drop = self._drift.take_changes()
        for part in (self._ctr, self._serving, self.judge):
            more, gone = part.take_changes()
            append |= more
            drop |= gone
        time = {
            "first_open": {kind: merge.first_open for kind, merge in self._merges.items()},
            "matured": self.judge.time(),
        }
        return Changes(
            state={
                "sources": self._sources.state(),
                "merges": {kind: merge.state() for kind, merge in self._merges.items()},
                "judge": self.judge.state(),
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
        self.judge.restore(state["judge"], state["time"]["matured"], chunks)
        self._next_offset = state["next"]

    def restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        """See PartitionState; incidents and the counts of the drift horizon are lost with the store."""
        for kind, merge in self._merges.items():
            merge.first_open = rebuild_state["first_open"][kind]
        self.judge.restore_time(rebuild_state["matured"])

    def recall(self, alerts: Iterable[Alert]) -> None:
        """Go on with the incidents of this partition that `alerts` are about."""
        targets = self._setting.targets()
        self.judge.recall(alert for alert in alerts if target_of(alert.model_id, targets) == self.partition)

    def rebuilt(self) -> None:
        """See PartitionState; here it is each record that tells whether time may go on."""

    def replace_rules(self) -> None:
        """Go on under the rules that hold now."""
        self.judge.replace_rules(self._sources.slowest())
        self._touched = True

    def answer(self, minute_ms: int, answers: Mapping[str, SqlAnswer]) -> None:
        """Take in what SQL rules returned for a minute."""
        self.judge.answer(minute_ms, answers)
        self._touched = True

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

    def _silence(self, kind: Kind | None) -> int:
        if kind == "ctr" or kind == "serving":
            return self._sources.idle_for_ms(JOIN if kind == "ctr" else INFERENCES)
        return min(map(self._sources.idle_for_ms, (JOIN, INFERENCES)))

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
