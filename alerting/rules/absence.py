"""Rows that do not come: when each series was heard last, what `no_data` says of it, what ends for want of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from alerting.rules.decisions import Decision, Reason
from alerting.rules.incident_alerts import back_alert, given_up_alert, no_data_alert, told_of
from alerting.rules.incident_machine import Incident, Key
from alerting.rules.incident_state import Series
from alerting.rules.open_incidents import OpenIncidents
from alerting.rules.reading import Reading
from alerting.rules.rule import Rule

#: Nobody expects rows after so long, nor an end of what they have shown.
GIVEN_UP_AFTER_MS: Final = 2 * 86_400_000
#: A version that another one has replaced, as a bad one is, never has rows again.
VERSION_GONE_AFTER_MS: Final = 15 * 60_000
#: Windows of a series that may come late; by then older ones are final.
MOST_LATE: Final = 10


def key_of(rule: Rule, reading: Reading) -> Key:
    """Of the incident in which the rule's condition holds for this series."""
    return Key(rule.name, reading.model_id, reading.model_version, reading.kind, reading.feature)


class Absence:
    """Of the series that the rules of a book judge; each of its answers is the same whenever it is asked."""

    def __init__(
        self,
        opened: OpenIncidents,
        limit: int,
        heard: Mapping[Series, int] | None = None,
        expected: Mapping[Key, int] | None = None,
        too_few: Mapping[Key, tuple[int, ...]] | None = None,
    ) -> None:
        """Of `heard`, `expected` and `too_few` no more than the last `limit` are kept."""
        self._open = opened
        self._limit = limit
        # Both in the order in which they were last touched: the first one is the first to be forgotten.
        self.heard = dict(list((heard or {}).items())[-limit:])
        """Series -> end of its last rows."""
        self.expected = dict(list((expected or {}).items())[-limit:])
        """What rules have judged whose `no_data` asks for more -> likewise."""
        self.too_few = dict(list((too_few or {}).items())[-limit:])
        """Ends of the last windows that had too few rows to be judged, while none after them has been."""
        self._swept: tuple[Any, ...] = ()

    def hear(self, series: Series, window_end: int) -> int | None:
        """Until when the series had been heard before."""
        heard = self.heard.pop(series, None)
        self.heard[series] = window_end if heard is None else max(heard, window_end)
        if len(self.heard) > self._limit:
            del self.heard[next(iter(self.heard))]
        return heard

    def expect(self, key: Key, window_end: int) -> None:
        """Wait for more than what has been heard until then."""
        self.expected[key] = max(window_end, self.expected.pop(key, window_end))
        if len(self.expected) > self._limit:
            del self.expected[next(iter(self.expected))]

    def note_too_few(self, key: Key, window_end: int) -> None:
        """There may be more rows when this window is looked at again."""
        ends = {*self.too_few.pop(key, ()), window_end}
        self.too_few[key] = tuple(sorted(ends)[-MOST_LATE:])
        if len(self.too_few) > self._limit:
            del self.too_few[next(iter(self.too_few))]

    def is_unjudged(self, key: Key, series: Series, window_end: int) -> bool:
        """Whether too little of this window was there when it was due, and no later one has been judged; or nothing of
        it, nor of any later one."""
        heard = self.heard.get(series)
        return heard is None or window_end > heard or window_end in self.too_few.get(key, ())

    def was_judged(self, key: Key, window_end: int) -> None:
        """Windows up to this one are not judged any more."""
        if later := tuple(end for end in self.too_few.pop(key, ()) if end > window_end):
            self.too_few[key] = later

    def expect_only(self, is_watched: Callable[[Key], bool]) -> None:
        """Wait no longer for anything else."""
        self.expected = {key: heard for key, heard in self.expected.items() if is_watched(key)}
        self.too_few = {key: ends for key, ends in self.too_few.items() if is_watched(key)}

    def look(self, rules: Mapping[str, Rule], until_ms: int) -> list[Decision]:
        """What there is to say once these rules of a kind and delay have judged all rows until then."""
        decisions: list[Decision] = []
        for key in [key for key in self.expected if key.rule in rules]:
            decisions += self._look_for_silence(rules[key.rule], key, until_ms)
        for key in [key for key in self._open if key.rule in rules]:
            heard = self.heard.get(Series.judged_by(rules[key.rule], key))
            decisions += self.give_up(rules[key.rule], key, until_ms, heard)
        return decisions

    def end_silence(self, rule: Rule, reading: Reading) -> list[Decision]:
        """There are rows: until then there may have been a silence."""
        key = key_of(rule, reading)._replace(silent=True)
        decisions: list[Decision] = []
        if key in self.expected:
            decisions += self._look_for_silence(rule, key, reading.window_start)
        if key in self.expected:
            self.expect(key, reading.window_end)
        incident = self._open.take(key)
        if incident is not None:
            incident = replace(incident, breached_until=reading.window_start)
            # Told when the first of the new rows are.
            alert = back_alert(key, incident, reading.window_end - reading.window_start + rule.settle_ms)
            decisions.append(Decision.on_incident(Reason.DATA_BACK, key, incident, alert))
        return decisions

    def give_up(self, rule: Rule, key: Key, until_ms: int, heard: int | None) -> list[Decision]:
        """End what fires and has had no rows for so long that nothing else will end it."""
        incident = self._open.get(key)
        if incident is None or incident.fired_at is None or key.silent:
            return []
        last = incident.breached_until if heard is None else heard
        if until_ms - last < GIVEN_UP_AFTER_MS:
            return []
        return self._open.leave(Reason.GIVEN_UP, key, last + GIVEN_UP_AFTER_MS + rule.settle_ms)

    def end_other_versions(
        self, rules: Mapping[str, Rule], reading: Reading, settle_ms: int, gone_after_ms: int
    ) -> list[Decision]:
        """End what fires of versions that have had no rows for so long: this one has taken their place."""
        swept = (reading.model_id, reading.model_version, reading.kind, settle_ms, reading.window_end)
        # Once for all features of a window.
        if reading.of_all_versions or swept == self._swept:
            return []
        self._swept = swept
        decisions: list[Decision] = []
        for key in self._open.of_model(reading.model_id):
            rule, incident = rules[key.rule], self._open[key]
            if key.model_version == reading.model_version or key.silent or key.kind != reading.kind:
                continue
            if rule.settle_ms != settle_ms or incident.fired_at is None or rule.per_model:
                continue
            last = self.heard.get(Series.judged_by(rule, key), incident.breached_until)
            if reading.window_start - last >= GIVEN_UP_AFTER_MS:
                decisions += self.give_up(rule, key, reading.window_start, last)
            elif reading.window_end - last >= gone_after_ms:
                decisions += self._open.leave(Reason.VERSION_GONE, key, reading.window_end + settle_ms)
        return decisions

    def _look_for_silence(self, rule: Rule, key: Key, until_ms: int) -> list[Decision]:
        decisions: list[Decision] = []
        heard = self.expected[key]
        begun = heard + rule.no_data_ms
        if until_ms >= begun and key not in self._open:
            incident = Incident(heard, begun, begun + rule.settle_ms, told=told_of(rule, threshold=None))
            decisions.append(Decision.on_incident(Reason.NO_DATA, key, incident, no_data_alert(key, incident)))
            decisions += self._open.keep(key, incident)
        if until_ms - heard >= GIVEN_UP_AFTER_MS:
            del self.expected[key]
            if (silent := self._open.take(key)) is not None:
                incident = replace(silent, breached_until=heard + GIVEN_UP_AFTER_MS)
                alert = given_up_alert(key, incident, rule.settle_ms)
                decisions.append(Decision.on_incident(Reason.GIVEN_UP, key, incident, alert))
        return decisions
