"""The one line of text that says what happened to a model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from alerting.alert import printable
from alerting.durations import say_duration
from alerting.rules.expressions import Comparison, unit_of
from alerting.rules.metrics import LEVEL, METRICS, MOST_DECIMALS, Unit
from alerting.rules.reading import LEVELS, CtrReading, DriftReading, Reading, SqlReading
from alerting.rules.rule import Rule

if TYPE_CHECKING:
    from alerting.rules.incident_machine import Key
    from alerting.rules.metric_history import Changed

_WORDS: Final[dict[Comparison, str]] = {"<": "below", "<=": "at or below", ">": "above", ">=": "at or above"}
_MOST_COLUMNS: Final = 8


def firing_summary(rule: Rule, reading: Reading, value: float, lasted_ms: int, changed: Changed | None = None) -> str:
    """E.g. `CTR of home v3 is 4.1 %, below 5 % for 2 min (10,000 shown, 412 clicked, 10:02-10:03 UTC)`."""
    return (
        f"{_subject(rule, reading)} is {judged_value(rule, value)}, {condition(rule)}"
        f" for {say_duration(lasted_ms)} ({_numbers(rule, reading, changed)})"
    )


def resolved_summary(rule: Rule, reading: Reading, value: float, lasted_ms: int, changed: Changed | None = None) -> str:
    """E.g. `CTR of home v3 is 8.0 %, no longer below 5 % after 6 min (10,000 shown, ...)`."""
    return (
        f"{_subject(rule, reading)} is {judged_value(rule, value)}, no longer {condition(rule)}"
        f" after {say_duration(lasted_ms)} ({_numbers(rule, reading, changed)})"
    )


def sql_firing_summary(rule_name: str, reading: SqlReading, lasted_ms: int) -> str:
    """E.g. `many-errors of home v3 is 120, against 100, for 2 min (requests 4,000, 10:02-10:03 UTC)`."""
    against = "" if reading.threshold is None else f" against {_plain(reading.threshold)},"
    columns = list(reading.numbers.items())[:_MOST_COLUMNS]
    numbers = [f"{printable(name, 40)} {_plain(number)}" for name, number in columns if number is not None]
    numbers.append(_between(reading.window_start, reading.window_end))
    return (
        f"{_of(rule_name, reading.feature, reading.model_id, reading.model_version)} is {_plain(reading.value)},"
        f"{against} for {say_duration(lasted_ms)} ({', '.join(numbers)})"
    )


def sql_resolved_summary(key: Key, lasted_ms: int, window_start: int, window_end: int) -> str:
    """E.g. `many-errors of home v3 is over after 6 min (10:08-10:09 UTC)`."""
    return f"{_about(key)} is over after {say_duration(lasted_ms)} ({_between(window_start, window_end)})"


def no_data_summary(key: Key, metric: str, since_ms: int, until_ms: int) -> str:
    """E.g. `No data of CTR of home v3 for 5 min (none since 10:03 UTC)`."""
    lasted = say_duration(until_ms - since_ms)
    return f"No data of {_about(key, metric)} for {lasted} (none since {_at(since_ms, _clock(since_ms))} UTC)"


def back_summary(key: Key, metric: str, since_ms: int, until_ms: int) -> str:
    """E.g. `Data of CTR of home v3 are back after 12 min (none 10:03-10:15 UTC)`."""
    lasted = say_duration(until_ms - since_ms)
    return f"Data of {_about(key, metric)} are back after {lasted} (none {_between(since_ms, until_ms)})"


def given_up_summary(key: Key, metric: str, lasted_ms: int) -> str:
    """E.g. `No data of CTR of home v3 for 2 d: no longer waited for`."""
    return f"No data of {_about(key, metric)} for {say_duration(lasted_ms)}: no longer waited for"


def left_summary(key: Key, why: str, lasted_ms: int) -> str:
    """E.g. `ctr-low of home v3 is no longer watched: the rule has gone or changed (it held for 6 min)`."""
    return f"{_about(key)} is no longer watched: {why} (it held for {say_duration(lasted_ms)})"


def _about(key: Key, metric: str = "") -> str:
    title = METRICS[metric].title if metric else key.rule
    return _of(title, key.feature, key.model_id, key.model_version)


def _of(title: str, feature: str, model_id: str, model_version: str) -> str:
    version = printable(model_version, 60)
    if version[:1].isdigit():
        version = f"v{version}"
    model = " ".join(part for part in (printable(model_id, 120), version) if part)
    return " of ".join(part for part in (title, printable(feature, 60), model) if part)


def _subject(rule: Rule, reading: Reading) -> str:
    subject = _of(METRICS[rule.metric].title, reading.feature, reading.model_id, reading.model_version)
    if rule.change is None:
        return subject
    return f"{rule.change.direction.capitalize()} of {subject} against {say_duration(rule.change.vs_ms)} before"


def condition(rule: Rule) -> str:
    """What a rule that is no query compares with, e.g. `below 5 %`."""
    unit = unit_of(rule.metric, rule.change)
    if unit is LEVEL:
        return f"{_WORDS[rule.comparison]} {LEVELS[int(rule.threshold)]}"
    threshold = f"{rule.threshold * unit.scale:,.{MOST_DECIMALS}f}".rstrip("0").rstrip(".")
    return f"{_WORDS[rule.comparison]} {threshold}{unit.shown_as}"


def judged_value(rule: Rule, value: float) -> str:
    """A value that a rule which is no query has judged, e.g. `4.1 %`."""
    unit = unit_of(rule.metric, rule.change)
    if unit is LEVEL:
        return LEVELS[int(value)]
    return _shown(value, unit, unit.decimals_beside(value, rule.threshold))


def _shown(value: float, unit: Unit, decimals: int) -> str:
    return f"{value * unit.scale:,.{decimals}f}{unit.shown_as}"


def _numbers(rule: Rule, reading: Reading, changed: Changed | None) -> str:
    if rule.change is not None and changed is not None:
        return _change_numbers(rule, reading, changed, rule.change.over_ms)
    if isinstance(reading, CtrReading):
        numbers = f"{reading.impressions:,} shown, {reading.clicks:,} clicked"
    elif isinstance(reading, DriftReading):
        return _drift_numbers(rule, reading)
    else:
        numbers = _counted(reading.requests, "request")
        if rule.metric in ("errors", "error_rate", "availability"):
            numbers += f", {_counted(reading.errors, 'error')}"
    return f"{numbers}, {_between(reading.window_start, reading.window_end)}"


def _change_numbers(rule: Rule, reading: Reading, changed: Changed, over_ms: int) -> str:
    unit, sides = METRICS[rule.metric].unit, (changed.reference, changed.current)
    # 8.02 % and 7.98 % would otherwise look alike.
    decimals = max(unit.decimals, 2) if unit.scale > 1 else unit.decimals
    before, now = (_shown(side.value, unit, decimals) for side in sides)
    end = _at(reading.window_end, _clock(reading.window_end))
    return f"{before} before, {now} now, n {sides[0].n:,} and {sides[1].n:,}, {say_duration(over_ms)} to {end} UTC"


def _drift_numbers(rule: Rule, reading: DriftReading) -> str:
    found = reading.distance(rule.metric)
    assert found is not None  # a rule has just judged it
    numbers = [f"n {found.n:,}", f"reference {found.reference_n:,}"]
    if rule.metric == "drift":
        numbers.insert(0, f"{found.method.upper()} {found.value:.2f}")
    else:
        numbers.append(f"level {found.level}")
    end = _at(reading.window_end, _clock(reading.window_end))
    return f"{', '.join(numbers)}, {say_duration(reading.horizon_ms)} to {end} UTC"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _plain(number: float) -> str:
    if abs(number) >= 1:
        return f"{number:,.2f}".removesuffix(".00")
    return f"{number:.3g}"


def _between(start_ms: int, end_ms: int) -> str:
    clock = _clock(start_ms, end_ms)
    return f"{_at(start_ms, clock)}-{_at(end_ms, clock)} UTC"


def _clock(*times_ms: int) -> str:
    return "%H:%M:%S" if any(ms % 60_000 >= 1000 for ms in times_ms) else "%H:%M"


def _at(time_ms: int, clock: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(clock)
