"""The one line of text that says what happened to a model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from alerting.alert import printable
from alerting.durations import say_duration
from alerting.reading import Reading
from alerting.rules import Comparison, Rule

_WORDS: Final[dict[Comparison, str]] = {"<": "below", "<=": "at or below", ">": "above", ">=": "at or above"}
_MOST_DECIMALS: Final = 6


def firing_summary(rule: Rule, reading: Reading, value: float, lasted_ms: int) -> str:
    """E.g. `CTR of home v3 is 4.1 %, below 5 % for 2 min (10,000 shown, 412 clicked, 10:02-10:03 UTC)`."""
    return (
        f"{_subject(rule, reading)} is {_percent(value, rule.threshold)}, {_condition(rule)}"
        f" for {say_duration(lasted_ms)} ({_numbers(reading)})"
    )


def resolved_summary(rule: Rule, reading: Reading, value: float, lasted_ms: int) -> str:
    """E.g. `CTR of home v3 is 8.0 %, no longer below 5 % after 6 min (10,000 shown, ...)`."""
    return (
        f"{_subject(rule, reading)} is {_percent(value, rule.threshold)}, no longer {_condition(rule)}"
        f" after {say_duration(lasted_ms)} ({_numbers(reading)})"
    )


def _subject(rule: Rule, reading: Reading) -> str:
    version = printable(reading.model_version, 60)
    if version[:1].isdigit():
        version = f"v{version}"
    return " ".join(part for part in (rule.metric.upper(), "of", printable(reading.model_id, 120), version) if part)


def _condition(rule: Rule) -> str:
    threshold = f"{rule.threshold * 100:.{_MOST_DECIMALS}f}".rstrip("0").rstrip(".")
    return f"{_WORDS[rule.comparison]} {threshold} %"


def _percent(value: float, threshold: float) -> str:
    # "5.0 %, below 5 %" would read as a mistake: show as many digits as tell the two apart.
    decimals = 1
    while decimals < _MOST_DECIMALS and value != threshold and _round(value, decimals) == _round(threshold, decimals):
        decimals += 1
    return f"{value * 100:.{decimals}f} %"


def _round(ratio: float, decimals: int) -> float:
    return round(ratio * 100, decimals)


def _numbers(reading: Reading) -> str:
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (reading.window_start, reading.window_end))
    clock = "%H:%M:%S" if start.second or end.second else "%H:%M"
    return (
        f"{reading.impressions:,} shown, {reading.clicks:,} clicked, {start.strftime(clock)}-{end.strftime(clock)} UTC"
    )
