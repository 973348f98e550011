"""The one line of text that says what happened to a model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from alerting.alert import printable
from alerting.durations import say_duration
from alerting.expressions import Comparison
from alerting.metrics import LEVEL, METRICS
from alerting.reading import LEVELS, CtrReading, DriftReading, Reading
from alerting.rules import Rule

_WORDS: Final[dict[Comparison, str]] = {"<": "below", "<=": "at or below", ">": "above", ">=": "at or above"}
_MOST_DECIMALS: Final = 6


def firing_summary(rule: Rule, reading: Reading, value: float, lasted_ms: int) -> str:
    """E.g. `CTR of home v3 is 4.1 %, below 5 % for 2 min (10,000 shown, 412 clicked, 10:02-10:03 UTC)`."""
    return (
        f"{_subject(rule, reading)} is {_value(rule, value)}, {_condition(rule)}"
        f" for {say_duration(lasted_ms)} ({_numbers(rule, reading)})"
    )


def resolved_summary(rule: Rule, reading: Reading, value: float, lasted_ms: int) -> str:
    """E.g. `CTR of home v3 is 8.0 %, no longer below 5 % after 6 min (10,000 shown, ...)`."""
    return (
        f"{_subject(rule, reading)} is {_value(rule, value)}, no longer {_condition(rule)}"
        f" after {say_duration(lasted_ms)} ({_numbers(rule, reading)})"
    )


def _subject(rule: Rule, reading: Reading) -> str:
    version = printable(reading.model_version, 60)
    if version[:1].isdigit():
        version = f"v{version}"
    model = " ".join(part for part in (printable(reading.model_id, 120), version) if part)
    of = [printable(reading.feature, 60)] if isinstance(reading, DriftReading) else []
    return " of ".join([METRICS[rule.metric].title, *of, model])


def _condition(rule: Rule) -> str:
    unit = METRICS[rule.metric].unit
    if unit is LEVEL:
        return f"{_WORDS[rule.comparison]} {LEVELS[int(rule.threshold)]}"
    threshold = f"{rule.threshold * unit.scale:,.{_MOST_DECIMALS}f}".rstrip("0").rstrip(".")
    return f"{_WORDS[rule.comparison]} {threshold}{unit.shown_as}"


def _value(rule: Rule, value: float) -> str:
    unit = METRICS[rule.metric].unit
    if unit is LEVEL:
        return LEVELS[int(value)]
    shown, limit, decimals = value * unit.scale, rule.threshold * unit.scale, unit.decimals
    # "5.0 %, below 5 %" would read as a mistake: show as many digits as tell the two apart.
    while decimals < _MOST_DECIMALS and value != rule.threshold and round(shown, decimals) == round(limit, decimals):
        decimals += 1
    return f"{shown:,.{decimals}f}{unit.shown_as}"


def _numbers(rule: Rule, reading: Reading) -> str:
    if isinstance(reading, CtrReading):
        numbers = f"{reading.impressions:,} shown, {reading.clicks:,} clicked"
    elif isinstance(reading, DriftReading):
        return _drift_numbers(rule, reading)
    else:
        numbers = _counted(reading.requests, "request")
        if rule.metric in ("errors", "error_rate", "availability"):
            numbers += f", {_counted(reading.errors, 'error')}"
    clock = _clock(reading.window_start, reading.window_end)
    return f"{numbers}, {_at(reading.window_start, clock)}-{_at(reading.window_end, clock)} UTC"


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


def _clock(*times_ms: int) -> str:
    return "%H:%M:%S" if any(ms % 60_000 >= 1000 for ms in times_ms) else "%H:%M"


def _at(time_ms: int, clock: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(clock)
