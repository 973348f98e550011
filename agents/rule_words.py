"""Rules as people read them: the condition in words, its values with their units, what it is about."""

from __future__ import annotations

import math
from typing import Final

from alerting.alert import SEVERITIES, printable
from alerting.durations import say_duration
from alerting.rules.expressions import DEFAULT_OVER_MS
from alerting.rules.metrics import METRICS
from alerting.rules.rule import Rule
from alerting.rules.summary import condition, judged_value

_TEXT: Final = 60


def condition_of(rule: Rule) -> str:
    """E.g. `CTR below 5 %`, `drop of P95 latency against 1 d before above 10 %`; of a query how it begins."""
    if rule.query is not None:
        return printable(" ".join(rule.expression.split()), _TEXT)
    subject = METRICS[rule.metric].title
    if rule.feature:
        subject += " of every feature" if rule.feature == "*" else f" of {printable(rule.feature, _TEXT)}"
    if (change := rule.change) is not None:
        subject = f"{change.direction} of {subject} against {say_duration(change.vs_ms)} before"
        if change.over_ms != DEFAULT_OVER_MS:
            subject += f" over {say_duration(change.over_ms)}"
    return f"{subject} {condition(rule)}" + (" in all versions together" if rule.per_model else "")


def value_of(rule: Rule, value: float | None) -> str:
    """A value that the rule has judged, e.g. `4.1 %`; empty where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    if rule.query is not None:
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return judged_value(rule, value)


def selected_by(rule: Rule) -> str:
    """The models and versions that it is about, e.g. `recommender-*, v3`; `all models`."""
    models = ", ".join(printable(glob, _TEXT) for glob in rule.model)
    versions = ", ".join(printable(glob, _TEXT) for glob in rule.version)
    if rule.version == ("*",):
        return "all models" if rule.model == ("*",) else models
    return f"{models}; versions {versions}"


def severities_of(rules: tuple[Rule, ...]) -> str:
    """How many there are of each, from the most urgent: `1 critical, 2 major`."""
    counts = {severity: sum(rule.severity == severity for rule in rules) for severity in SEVERITIES}
    return ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)


def counted(number: int, noun: str) -> str:
    """E.g. `1 rule`, `2,000 rules`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
