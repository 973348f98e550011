"""The windows agent's state of one partition: the merged windows and the incidents that they open and close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from agents.dead_letters import dead_letter
from agents.decoding import bad_record
from agents.metrics import Metrics
from agents.partition_state import Changes, Outgoing, PartitionState
from agents.transports.batch import Batch
from alerting.incidents import IncidentBook
from alerting.reading import Reading
from alerting.rules import Rule
from tables.errors import StoreError
from tables.join_policy import JoinPolicy
from tables.partials import decode_partial
from tables.window_merge import CtrRow, WindowMerge


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


class WindowsState(PartitionState):
    """One partition of the partials topic."""

    def __init__(self, partition: int, setting: WindowsSetting) -> None:
        self.partition = partition
        self.merge = WindowMerge(setting.policy)
        self.book = IncidentBook(setting.rules)
        self._setting = setting
        self._settles = sorted({rule.settle_ms for rule in setting.rules})
        self._matured = dict.fromkeys(self._settles, self.merge.first_open)
        self._out: list[Outgoing] = []
        self._next_offset = 0
        self._touched = False

    def apply(self, batch: Batch, skip_before: Mapping[str, int]) -> None:
        """See PartitionState."""
        for section in batch.sections:
            again = skip_before.get(section.topic, 0)
            for row, (offset, value) in enumerate(zip(section.offsets, section.values, strict=True)):
                try:
                    partial = decode_partial(value or b"")
                except (msgspec.MsgspecError, ValueError) as error:
                    if offset >= again:
                        bad = bad_record(section, batch.partition, row, f"not_a_partial: {error}")
                        self._out.append(dead_letter(self._setting.dead_letters, bad))
                    continue
                self.merge.merge(partial, offset)
                if offset >= again:
                    self._judge()
                    self._tell(self.merge.take_final())
            self._next_offset = section.next_offset
        self._touched = True

    def changes(self, epoch: int, number: int) -> Changes | None:
        """See PartitionState; provisional rows are made here, so at most once a checkpoint."""
        if not self._touched:
            return None
        self._touched = False
        changed = self.merge.take_changed()
        if self._setting.provisional():
            self._tell(changed)
        out, self._out = tuple(self._out), []
        self._setting.metrics.open_windows.labels(str(self.partition)).set(self.merge.open_windows)
        time = {"first_open": self.merge.first_open, "matured": list(self._matured.items())}
        return Changes(
            state={
                "merge": self.merge.state(),
                "book": self.book.state(),
                "time": time,
                "next": self._next_offset,
            },
            rebuild={self._setting.partials: self.merge.rebuild_offset(self._next_offset)},
            rebuild_state=time,
            before=out,
        )

    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """See PartitionState."""
        self.merge.restore(state["merge"])
        try:
            self.book.restore(state["book"])
        except StoreError as error:
            raise ValueError(f"incidents of another version: {error}") from error
        self._restore_matured(state["time"])
        self._next_offset = state["next"]

    def restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        """See PartitionState; incidents are lost with the store."""
        self.merge.first_open = rebuild_state["first_open"]
        self._restore_matured(rebuild_state)

    def rebuilt(self) -> None:
        """See PartitionState; here it is each record that tells whether time may go on."""

    def _restore_matured(self, time: Mapping[str, Any]) -> None:
        self._matured.update({settle: until for settle, until in time["matured"] if settle in self._matured})

    def _judge(self) -> None:
        for settle in self._settles:
            # What is final does not change any more, however long a rule would wait.
            settled = min(settle, self._setting.policy.attribution_ms)
            rows, self._matured[settle] = self.merge.mature_rows(settled, self._matured[settle])
            for row in rows:
                reading = Reading(
                    model_id=row.model[0],
                    model_version=row.model[1],
                    window_start=row.window_start,
                    window_end=row.window_end,
                    impressions=row.impressions,
                    clicks=row.clicks,
                )
                for decision in self.book.observe(reading, settle):
                    self._setting.metrics.decisions.labels(decision.rule, decision.reason.value).inc()
                    if decision.alert is not None:
                        key = decision.alert.fingerprint.encode()
                        self._out.append(Outgoing(self._setting.alerts, key, decision.alert.to_json()))
                        self._setting.metrics.alerts.labels(decision.alert.severity, decision.alert.status).inc()

    def _tell(self, rows: list[CtrRow]) -> None:
        for row in rows:
            self._out.append(Outgoing(self._setting.windows, row.model[0].encode(), encode_row(row)))
            self._setting.metrics.rows.labels("ctr", "final" if row.final else "provisional").inc()


def encode_row(row: CtrRow) -> bytes:
    """A window row as the topic `tidemark.windows` carries it."""
    return orjson.dumps(
        {
            "kind": "ctr",
            "model_id": row.model[0],
            "model_version": row.model[1],
            "window_start": row.window_start,
            "window_end": row.window_end,
            "final": row.final,
            "impressions": row.impressions,
            "clicks": row.clicks,
            "ctr": row.ctr,
        }
    )
