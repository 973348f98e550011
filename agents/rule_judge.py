"""What the rules make of the windows of one partition, and what SQL rules still have to be asked about them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from agents.likely_causes import LikelyCauses
from agents.metrics import Metrics
from agents.partition_state import Outgoing
from agents.window_readings import readings_of
from alerting.alert import Alert
from alerting.rules.decisions import Decision
from alerting.rules.incidents import IncidentBook
from alerting.rules.reading import Judged, Kind, Reading, SqlReading, of_all_versions
from alerting.rules.rule import DEFAULT_SETTLE_MS, Rule
from alerting.sql.engine import SqlAnswer
from alerting.sql.query import SqlQuery
from alerting.sql.tables import Payload, RowTables
from tables.drift_windows import DriftWindows
from tables.errors import StoreError
from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.watermark import END, UNKNOWN
from tables.window_merge import WindowMerge

log = logging.getLogger("tidemark.rules")

KINDS: Final[tuple[Kind, ...]] = ("ctr", "serving", "drift")
MOST_ASKED: Final = 60
"""Minutes that SQL rules of a worker may be behind; older ones are left out and counted."""
TOO_OLD: Final = "too_old"
"""The outcome of those."""
LATE_MS: Final = 3 * WINDOW_MS

Tap = Callable[[Decision, Judged | None], None]


@dataclass(frozen=True, slots=True)
class JudgeSetting:
    """What all partitions of a worker share."""

    policy: JoinPolicy
    rules: Callable[[], tuple[Rule, ...]]
    alerts: str
    metrics: Metrics
    tap: Tap | None = None
    """Told every decision, and the reading that it is about, where there is one."""
    waits: bool = False
    """SQL rules are asked about every minute before anything else is heard, as in a replay: none is too old."""


class RuleJudge:
    """The rules' side of one partition of the windows agent."""

    def __init__(
        self,
        setting: JudgeSetting,
        merges: Mapping[Kind, WindowMerge[Any]],
        drift: DriftWindows,
        watermark: Callable[[Kind], int],
        slowest: Callable[[], int],
        silence: Callable[[Kind | None], int],
    ) -> None:
        """`watermark`: how far event time has come for a kind of rows; `slowest`: for all that are not silent;
        `silence`: for how many ms all that tell of a kind, or of any, have been silent."""
        self._setting = setting
        self._merges = merges
        self._drift = drift
        self._watermark = watermark
        self._slowest = slowest
        self._silence = silence
        self._matured: dict[tuple[Kind, int], int] = {}
        self._begin = self._late_from = min(merge.first_open for merge in merges.values())
        self._causes = LikelyCauses()
        self._sql_until = UNKNOWN
        self._asked: deque[int] = deque()
        self._rows: RowTables | None = None
        self._left_over: set[str] = set()
        self.out: list[Outgoing] = []
        """Alerts to be told."""
        self.book = IncidentBook(setting.rules(), self._causes.of, latest_look_ms=setting.policy.attribution_ms)
        self._follow_rules()

    def judge(self) -> None:
        """Judge what has come of age."""
        # Drift first: it explains what else fires in the same window.
        for kind in sorted(KINDS, key=lambda kind: kind != "drift"):
            looked_until = self._look_at(kind)
            for settle, until in looked_until.items():
                for delay in self._delays(kind, settle):
                    self._take(self.book.observe_time(kind, until, delay), None)
        if self._rows is not None:
            self._setting.metrics.sql_rows_left_out.inc(self._rows.take_left_out())
        self._ask()

    def replace_rules(self, at_ms: int) -> None:
        """Go on under the rules that hold now; `at_ms`: event time."""
        self._take(self.book.replace_rules(self._setting.rules(), at_ms), None)
        self._follow_rules()

    # -- SQL rules

    @property
    def is_asking(self) -> bool:
        """Whether there is a minute that the SQL rules have not been asked about."""
        return bool(self._asked)

    def question(self) -> tuple[int, dict[str, SqlQuery], Payload] | None:
        """The oldest such minute, the queries by rule, and the rows that they see; None where there is none."""
        queries = {rule.name: rule.query for rule in self.book.rules if rule.query is not None}
        if not queries or self._rows is None:
            self._asked.clear()
        while self._asked and self._rows is not None and not self._rows.models_at(self._asked[0]):
            # There is nothing that an answer could be about; a silence of weeks is over at once.
            self.answer(self._asked[0], {name: SqlAnswer() for name in queries})
        if not self._asked or self._rows is None:
            return None
        return self._asked[0], queries, self._rows.at(self._asked[0])

    def answer(self, minute_ms: int, answers: Mapping[str, SqlAnswer]) -> None:
        """Take in what the queries returned for a minute, unless that has been done already."""
        if not self._asked or self._asked[0] != minute_ms:
            return
        self._asked.popleft()
        models = set() if self._rows is None else self._rows.models_at(minute_ms)
        names = {rule.name for rule in self.book.rules if rule.query is not None}
        for name, answer in answers.items():
            outcome = "answered" if answer.failure is None else answer.failure.value
            self._setting.metrics.sql_answers.labels(name, outcome).inc()
            if name not in names or answer.failure is not None:
                continue
            end = minute_ms + WINDOW_MS
            readings = [
                SqlReading(
                    model_id=row.model_id,
                    model_version=row.model_version,
                    feature=row.feature,
                    window_start=minute_ms,
                    window_end=end,
                    value=row.value,
                    threshold=row.threshold,
                    numbers=row.numbers,
                )
                for row in answer.rows
                if row.value is not None
            ]
            self._take(self.book.observe_sql(name, readings, minute_ms, end, models), None)

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        """The small part of the state, msgpack-able; the rest travels in the chunks of `take_changes`."""
        return {
            "book": self.book.state(),
            "asked": list(self._asked),  # an answer may come before this is saved
            "sql_until": self._sql_until,
            "late_from": self._late_from,
            "delays": self._delays_of_rules(),
            "causes": self._causes.state(),
        }

    def time(self) -> list[tuple[Kind, int, int]]:
        """What cannot be rebuilt by reading again: (kind, delay, windows up to it were judged)."""
        return [(*wait, until) for wait, until in self._matured.items()]

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """Chunks to append and to drop in a checkpoint."""
        append, drop = self.book.history.take_changes()
        if self._rows is not None:
            more, gone = self._rows.take_changes()
            append, drop = append | more, drop | gone
        drop, self._left_over = drop | self._left_over, set()
        return append, drop

    def restore(self, state: Mapping[str, Any], time: Iterable[Any], chunks: Mapping[str, bytes]) -> None:
        """Continue from a checkpoint. Raises ValueError or KeyError where it is of another version."""
        try:
            self._take(self.book.restore(state["book"]), None)
        except StoreError as error:
            raise ValueError(f"incidents of another version: {error}") from error
        self.book.history.restore(chunks)
        rows = RowTables() if self._rows is None else self._rows
        rows.restore(chunks)
        if self._rows is None:
            self._throw_away(rows)
        self._asked = deque(state["asked"])
        self._sql_until = UNKNOWN if self._rows is None else state["sql_until"]
        self._causes.restore(state["causes"])
        self.restore_time(time)
        if [tuple(each) for each in state["delays"]] == self._delays_of_rules():
            self._late_from = state["late_from"]

    def recall(self, alerts: Iterable[Alert]) -> None:
        """Go on with the incidents of these alerts: the store has lost them."""
        self._take(self.book.recall(alerts), None)

    def restore_time(self, time: Iterable[Any]) -> None:
        """Continue from `time`."""
        for kind, settle, until in time:
            if (kind, settle) in self._matured:
                self._matured[kind, settle] = until
        # What was judged before is not known.
        self._late_from = max(self._matured.values())

    # -- inside

    def _look_at(self, kind: Kind) -> dict[int, int]:
        """Judge the windows of a kind that have reached an age at which somebody looks at them, in the order of the
        moments at which they did; returns up to when each of these ages has been looked at."""
        policy = self._setting.policy
        standard = settled_ms(policy, DEFAULT_SETTLE_MS[kind])
        looks: list[tuple[int, int, Reading]] = []
        looked_until: dict[int, int] = {}
        for settle in sorted(settle for its_kind, settle in self._matured if its_kind == kind):
            since, watermark, silence = self._matured[kind, settle], self._watermark(kind), self._silence(kind)
            windows, until = self._merges[kind].mature(waited(watermark, silence, settle), settle, since)
            self._matured[kind, settle] = until
            if until == since and not silence:
                continue
            if settle == standard and kind == "drift":
                for merged in windows:
                    self._causes.note(merged.model, merged.window_end, self._drift.shifts(merged))
            readings = list(readings_of(kind, windows, self._drift))
            if any(rule.per_model and rule.kind == kind for rule in self.book.rules):
                readings += of_all_versions(readings)
            looks += [(each.window_end + settle, settle, each) for each in readings]
            looked_until[settle] = max(until, watermark + silence - settle) if silence else until
        for _, settle, reading in sorted(looks, key=itemgetter(0, 1)):
            if settle == standard and self._rows is not None and not reading.of_all_versions:
                self._rows.put(reading)
            for delay in self._delays(kind, settle):
                self._take(self.book.observe(reading, delay), reading)
            if settle in late_looks(policy, kind) and reading.window_end > self._late_from:
                self._take(self.book.observe_late(reading, settle), reading)
        return looked_until

    def _follow_rules(self) -> None:
        policy, rules = self._setting.policy, self.book.rules
        waits: set[tuple[Kind, int]] = {
            (rule.kind, settled_ms(policy, rule.settle_ms)) for rule in rules if rule.kind != "sql"
        }
        # What SQL rules and causes look at is judged at the standard ages, whether or not a rule is.
        waits |= {(kind, settled_ms(policy, DEFAULT_SETTLE_MS[kind])) for kind in KINDS}
        waits |= {(rule.kind, late) for rule in rules if rule.kind != "sql" for late in late_looks(policy, rule.kind)}
        begin = max(self._matured.values(), default=self._begin)
        self._matured = {wait: self._matured.get(wait, begin) for wait in sorted(waits)}
        # What was judged by other rules is not looked at again by these.
        self._late_from = begin
        for kind, merge in self._merges.items():
            merge.settles = {settle for its_kind, settle in waits if its_kind == kind}
        lookbacks = [rule.lookback_ms for rule in rules if rule.kind == "sql"]
        if not lookbacks:
            if self._rows is not None:
                self._throw_away(self._rows)
            self._rows = None
            self._asked.clear()
            self._sql_until = UNKNOWN
        elif self._rows is None:
            self._rows = RowTables(max(lookbacks))
        else:
            self._rows.lookback_ms = max(lookbacks)

    def _throw_away(self, rows: RowTables) -> None:
        """Have the chunks of rows that nobody asks about any more dropped from the store."""
        rows.forget(END)
        self._left_over |= rows.take_changes()[1]

    def _delays_of_rules(self) -> list[tuple[str, int]]:
        """When which rules judge: under others nothing is looked at again."""
        return sorted((rule.name, rule.settle_ms) for rule in self.book.rules)

    def _delays(self, kind: Kind, settle: int) -> list[int]:
        """The delays of rules that are judged at this age."""
        policy = self._setting.policy
        delays = {rule.settle_ms for rule in self.book.rules if rule.kind == kind}
        return sorted(delay for delay in delays if settled_ms(policy, delay) == settle)

    def _ask(self) -> None:
        """Note the minutes of which all rows are there now."""
        if self._rows is None or self._rows.oldest is None or self._rows.newest is None:
            return
        settles = [DEFAULT_SETTLE_MS["sql"], *(rule.settle_ms for rule in self.book.rules if rule.kind == "sql")]
        settle = settled_ms(self._setting.policy, max(settles))
        aged = waited(self._slowest(), self._silence(None), settle) - settle
        until = aged // WINDOW_MS * WINDOW_MS
        if aged > END // 2:
            # A replay is over: time is at its end, and there are no minutes there.
            until = self._rows.newest + WINDOW_MS
        first = self._rows.oldest if self._sql_until == UNKNOWN else self._sql_until
        if until <= first:
            return
        self._asked += range(first, until, WINDOW_MS)
        self._sql_until = until
        if not self._setting.waits:
            self._leave_out(len(self._asked) - MOST_ASKED)
        self._rows.forget(self._asked[0] - self._rows.lookback_ms)

    def _leave_out(self, minutes: int) -> None:
        if minutes <= 0:
            return
        for _ in range(minutes):
            self._asked.popleft()
        log.warning("SQL rules are not asked about %d minutes: they are %s", minutes, TOO_OLD)
        for name in [rule.name for rule in self.book.rules if rule.query is not None]:
            self._setting.metrics.sql_answers.labels(name, TOO_OLD).inc(minutes)

    def _take(self, decisions: Iterable[Decision], reading: Judged | None) -> None:
        for decision in decisions:
            self._setting.metrics.decisions.labels(decision.rule, decision.reason.value).inc()
            if self._setting.tap is not None:
                self._setting.tap(decision, reading)
            if decision.alert is not None:
                alert = decision.alert
                self.out.append(Outgoing(self._setting.alerts, alert.model_id.encode(), alert.to_json()))
                self._setting.metrics.alerts.labels(alert.severity, alert.status).inc()


def waited(watermark: int, silence_ms: int, settle_ms: int) -> int:
    """How far event time counts as come after a silence: whole minutes have then waited long enough, too.

    The minutes of the silence itself have not been: what is stuck on its way to the broker may still fill them.
    """
    return max(watermark, min(watermark + silence_ms, watermark // WINDOW_MS * WINDOW_MS + settle_ms))


def settled_ms(policy: JoinPolicy, settle_ms: int) -> int:
    """How long after its end a window is judged: what is final does not change, however long a rule would wait."""
    return min(settle_ms, policy.attribution_ms)


def late_looks(policy: JoinPolicy, kind: Kind) -> tuple[int, ...]:
    """How long after its end a window is looked at again, in case that nothing of it had come: the logs of one model
    may be minutes behind those of the others. Drift needs none, as it is of a horizon."""
    return () if kind in ("drift", "sql") else (settled_ms(policy, LATE_MS), policy.attribution_ms)
