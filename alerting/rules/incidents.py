"""Incidents: from a window's numbers to "this has just started, is still so, is over".

One state machine (see incident_machine) for each rule, model, version and feature, driven by event time alone, so that
a replay of the same readings says the same, however they are cut into calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from typing import Any, Final

from alerting.alert import Alert
from alerting.rules.absence import GIVEN_UP_AFTER_MS, VERSION_GONE_AFTER_MS, Absence, key_of
from alerting.rules.decisions import Decision, Reason
from alerting.rules.incident_alerts import Causes, firing_alert, resolved_alert, threshold_of, told_of
from alerting.rules.incident_machine import Incident, Judgement, Key, is_cut_off, step
from alerting.rules.incident_recall import incident_of
from alerting.rules.incident_state import Series, packed, unpacked
from alerting.rules.metric_history import MetricHistory, Need
from alerting.rules.open_incidents import OpenIncidents
from alerting.rules.reading import Judged, Kind, Reading, SqlReading
from alerting.rules.rule import Rule
from tables.errors import ConfigError
from tables.watermark import END

__all__ = ["DEFAULT_LIMIT", "GIVEN_UP_AFTER_MS", "Decision", "IncidentBook", "Reading", "Reason"]

#: Model ids come from events: a flood of made-up ones must not fill the memory.
DEFAULT_LIMIT: Final = 10_000

LATE_ROWS_MS: Final = 300_000
"""A version whose rows are looked at as late as can be is not gone between two of its minutes."""
_NO_MORE: Final = END // 2
"""Far beyond any time, and still so where a delay has been taken off the end."""

_TOO_FEW: Final[Mapping[Kind, Reason]] = {
    "ctr": Reason.TOO_FEW_IMPRESSIONS,
    "serving": Reason.TOO_FEW_REQUESTS,
    "drift": Reason.TOO_FEW_RECORDS,
}


class IncidentBook:
    """All incidents that are open under `rules`; at most `limit` of them, and as many series remembered.

    `causes` is asked for likely ones when an alert fires. `history` has what `drop` and `rise` compare with; whoever
    checkpoints the book's `state()` carries the history's chunks beside it.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        causes: Callable[[Judged], Causes] | None = None,
        *,
        limit: int = DEFAULT_LIMIT,
        latest_look_ms: int = 0,
    ) -> None:
        """`latest_look_ms`: the greatest age at which `observe_late` may be asked.

        Raises ConfigError when two rules share a name or `limit` is below 1.
        """
        if limit < 1:
            raise ConfigError(f"limit: expected at least 1 incident, got {limit}")
        self.history = MetricHistory()
        self._causes = causes
        self._limit = limit
        self._open = OpenIncidents(limit)
        self._absence = Absence(self._open, limit)
        self._gone_after_ms = max(VERSION_GONE_AFTER_MS, latest_look_ms + LATE_ROWS_MS)
        self._looked: dict[tuple[Kind, int], int] = {}
        """Up to when silence has been looked for."""
        self._take_rules(rules)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Those in force, in their order."""
        return tuple(self._rules.values())

    @property
    def firing(self) -> int:
        """How many incidents are firing now."""
        return sum(incident.fired_at is not None for incident in self._open.values())

    def observe(self, reading: Reading, settle_ms: int | None = None) -> list[Decision]:
        """Judge one window, once for each settle delay, in order of `window_end` within a series.

        A series is a model and version (or all of them), a kind, and a feature where the kind has one. The rules of the
        reading's kind judge it: with `settle_ms` only those of that delay (the caller then comes back for
        the longer ones, with the counts of that time), without it all. Alerts are dated `window_end` + the
        rule's delay. Every rule asked gives at least one decision, in the order of the rules; a window that
        a series has seen already gives `out_of_order` and changes nothing.
        """
        decisions: list[Decision] = []
        heard: dict[int, int | None] = {}
        ended: set[int] = set()
        for rule in self._by_kind.get(reading.kind, ()):
            delay = rule.settle_ms
            if settle_ms is not None and delay != settle_ms:
                continue
            if rule.per_model is not reading.of_all_versions:
                continue
            if delay not in ended:
                ended.add(delay)
                decisions += self._absence.end_other_versions(self._rules, reading, delay, self._gone_after_ms)
            if not rule.selects(reading.model_id, reading.model_version, reading.feature):
                decisions.append(Decision.on_reading(Reason.NOT_SELECTED, rule.name, reading))
                continue
            if delay not in heard:
                heard[delay] = self._absence.hear(Series.of(reading, delay), reading.window_end)
            before = heard[delay]
            if before is not None and reading.window_end <= before:
                decisions.append(Decision.on_reading(Reason.OUT_OF_ORDER, rule.name, reading))
                continue
            decisions += self._absence.give_up(rule, key_of(rule, reading), reading.window_start, before)
            if rule.no_data_ms:
                decisions += self._absence.end_silence(rule, reading)
            decisions += self._judge(rule, reading)
        return decisions

    def observe_late(self, reading: Reading, age_ms: int) -> list[Decision]:
        """Judge a window of which nothing, or too little, was there when its rules were due: it is `age_ms` old by now,
        and so much later what is said of it is dated.

        Rules that were due before this age judge it as if it were their delay, unless they have judged it, or had heard
        of a later window of its series by then. Not those that look back, nor those with `no_data`, which say
        themselves that rows are missing.
        """
        decisions: list[Decision] = []
        late: set[Series] = set()
        for delay in sorted(
            {rule.settle_ms for rule in self._by_kind.get(reading.kind, ()) if rule.settle_ms < age_ms}
        ):
            decisions += self._absence.end_other_versions(self._rules, reading, delay, self._gone_after_ms)
        for rule in self._by_kind.get(reading.kind, ()):
            if rule.settle_ms >= age_ms or rule.no_data_ms or rule.change is not None:
                continue
            if rule.per_model is not reading.of_all_versions:
                continue
            if not rule.selects(reading.model_id, reading.model_version, reading.feature):
                continue
            series = Series.of(reading, rule.settle_ms)
            if self._absence.is_unjudged(key_of(rule, reading), series, reading.window_end):
                late.add(series)
                decisions += self._judge(replace(rule, settle_ms=age_ms), reading)
        for series in late:
            self._absence.hear(series, reading.window_end)
        return decisions

    def observe_sql(
        self,
        rule_name: str,
        readings: Iterable[SqlReading],
        window_start: int,
        window_end: int,
        models: Set[str] | None = None,
    ) -> list[Decision]:
        """Take in what a rule's query has returned for a minute: each row is a breach of its model, version and
        feature, and a good minute for all others that are open. Of others than `models`, which are those that the query
        has seen, a row does not count: elsewhere, with other models beside it, there might be another in its place.

        Minutes of a rule come in order; one that could not be asked is left out, and is a gap. Raises KeyError where no
        rule that is a query has this name.
        """
        rule = self._rules[rule_name]
        if rule.kind != "sql":
            raise KeyError(rule_name)
        before = self._absence.hear(Series(rule_name, "", "sql", "", rule.settle_ms), window_end)
        if before is not None and window_end <= before:
            return [Decision(Reason.OUT_OF_ORDER, None, rule_name, "", "", "", window_start, window_end)]
        decisions: list[Decision] = []
        found: dict[Key, SqlReading] = {}
        for reading in readings:
            key = Key(rule_name, reading.model_id, reading.model_version, "sql", reading.feature)
            if not rule.selects(reading.model_id, reading.model_version, reading.feature):
                decisions.append(Decision.on_reading(Reason.NOT_SELECTED, rule_name, reading))
            elif models is not None and reading.model_id not in models:
                decisions.append(Decision.on_reading(Reason.FOREIGN_MODEL, rule_name, reading))
            elif key in found:
                decisions.append(Decision.on_reading(Reason.DUPLICATE_ROW, rule_name, reading))
            else:
                found[key] = reading
        good = [key for key in self._open if key.rule == rule_name and key not in found]
        for key in (*found, *good):
            row = found.get(key)
            value = None if row is None else row.value
            decisions += self._advance(Judgement(rule, key, window_start, window_end, row is not None, value, row))
        return decisions or [Decision(Reason.CONDITION_FALSE, None, rule_name, "", "", "", window_start, window_end)]

    def observe_time(self, kind: Kind, until_ms: int, settle_ms: int) -> list[Decision]:
        """Look for series that have gone silent, once all windows of a kind that end at or before `until_ms` have been
        judged by the rules of this delay. At the end of a recording nobody knows what would have come: nothing is
        missed there."""
        if until_ms > _NO_MORE:
            return []
        rules = {rule.name: rule for rule in self._by_kind.get(kind, ()) if rule.settle_ms == settle_ms}
        if not rules or until_ms <= self._looked.get((kind, settle_ms), until_ms - 1):
            return []
        self._looked[kind, settle_ms] = until_ms
        return self._absence.look(rules, until_ms)

    def replace_rules(self, rules: Iterable[Rule], at_ms: int) -> list[Decision]:
        """Judge by other rules from now on.

        Incidents of a rule that goes on, by its name and the kind of rows that it judges, stay as they are. What fires
        under one that is gone, or no longer selects it, is resolved and dated `at_ms`; what is pending is dropped.
        Raises ConfigError when two rules share a name; nothing has changed then.
        """
        self._take_rules(rules)
        return self._remove_orphans(lambda key, incident: at_ms)

    def state(self) -> dict[str, Any]:
        """All that the book remembers but its history, in lists, texts and numbers (JSON and msgpack carry it)."""
        absence = self._absence
        return packed(self._open, absence.heard, absence.expected, absence.too_few)

    def restore(self, state: Mapping[str, Any]) -> list[Decision]:
        """Go on from a `state()`, in place of what the book holds.

        Where it was made under other rules, it is as if they had been replaced after the last window of each series.
        Raises StoreError when the state is of another version or damaged; the book is then unchanged.
        """
        opened, heard, expected, too_few = unpacked(state)
        # A book of a lower limit keeps what was touched last.
        self._open = OpenIncidents(self._limit, opened)
        self._absence = Absence(self._open, self._limit, heard, expected, too_few)
        self._looked = {}
        last: dict[tuple[str, ...], int] = {}
        for series, window_end in heard.items():
            last[series[:4]] = max(window_end, last.get(series[:4], window_end))
        return self._remove_orphans(
            lambda key, incident: max(
                incident.breached_until, last.get((key.rule, "", "sql", "") if key.kind == "sql" else key[1:5], 0)
            )
        )

    def recall(self, alerts: Iterable[Alert]) -> list[Decision]:
        """Go on with incidents of which nothing is left but their alerts: they end when what they are about does.

        What was pending, and what has been judged, is not known. Those whose rule is gone are resolved.
        """
        decisions: list[Decision] = []
        for found in map(incident_of, alerts):
            if found is None:
                continue
            key, incident = found
            rule = self._rules.get(key.rule)
            if rule is not None and key.silent:
                self._absence.hear(Series.judged_by(rule, key), incident.started_at)
                self._absence.expect(key, incident.started_at)
            decisions += self._open.keep(key, incident)
        return decisions + self._remove_orphans(lambda key, incident: incident.breached_until)

    # -- one window

    def _judge(self, rule: Rule, reading: Reading) -> list[Decision]:
        value, changed = rule.value_of(reading), None
        if rule.change is not None:
            need = Need(rule.metric, rule.settle_ms)
            self.history.put(need, reading)
            changed = self.history.change(need, rule.change, reading, rule.minimum)
            if changed is None:
                return [Decision.on_reading(Reason.NO_HISTORY, rule.name, reading)]
            value = changed.value
        key = key_of(rule, reading)
        if value is None:
            if not (rule.no_data_ms or rule.change or reading.kind == "drift"):  # those are not looked at again
                self._absence.note_too_few(key, reading.window_end)
            return [Decision.on_reading(_TOO_FEW[reading.kind], rule.name, reading)]
        self._absence.was_judged(key, reading.window_end)
        if rule.no_data_ms:
            self._absence.expect(key._replace(silent=True), reading.window_end)
        breached = rule.holds(value)
        return self._advance(
            Judgement(rule, key, reading.window_start, reading.window_end, breached, value, reading, changed)
        )

    def _advance(self, found: Judgement) -> list[Decision]:
        before = self._open.take(found.key)
        decisions: list[Decision] = []
        if before is not None and is_cut_off(before, found):
            decisions.append(Decision.on_window(Reason.GAP_RESET, found))
            before = None
        reason, after = step(before, found)
        alert: Alert | None = None
        if reason is Reason.RESOLVED and before is not None:
            alert = resolved_alert(found, before)
        elif reason is Reason.FIRED and after is not None and found.reading is not None:
            after = replace(after, told=told_of(found.rule, threshold=threshold_of(found)))
            alert = firing_alert(found, after, () if self._causes is None else self._causes(found.reading))
        decisions.append(Decision.on_window(reason, found, alert))
        if after is not None:
            decisions += self._open.keep(found.key, after)
        return decisions

    # -- other rules

    def _take_rules(self, rules: Iterable[Rule]) -> None:
        by_name: dict[str, Rule] = {}
        by_kind: dict[Kind, list[Rule]] = {}
        needs: dict[Need, int] = {}
        for rule in rules:
            if rule.name in by_name:
                raise ConfigError(f"rules: expected names of their own, got {rule.name!r} twice")
            by_name[rule.name] = rule
            by_kind.setdefault(rule.kind, []).append(rule)
            if rule.change is not None:
                need = Need(rule.metric, rule.settle_ms)
                needs[need] = max(needs.get(need, 0), rule.change.vs_ms + rule.change.over_ms)
        self._rules, self._by_kind = by_name, by_kind
        self.history.need(needs)

    def _remove_orphans(self, dated: Callable[[Key, Incident], int]) -> list[Decision]:
        self._absence.expect_only(self._is_watched)
        decisions: list[Decision] = []
        for key in [key for key in self._open if not self._is_watched(key)]:
            incident = self._open[key]
            if incident.fired_at is not None:
                decisions += self._open.leave(Reason.RULE_REMOVED, key, dated(key, incident))
                continue
            self._open.take(key)
            decisions.append(Decision.on_incident(Reason.RULE_REMOVED, key, incident))
        return decisions

    def _is_watched(self, key: Key) -> bool:
        rule = self._rules.get(key.rule)
        return (
            rule is not None
            and rule.kind == key.kind
            and (not rule.per_model or not key.model_version)
            and rule.selects(key.model_id, key.model_version, key.feature)
            and (rule.no_data_ms > 0 or not key.silent)
        )
