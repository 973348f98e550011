"""Conditions of rules as people write them: `ctr < 5%`, `p95(latency) > 500ms`, `psi(gender) >= 0.15`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, cast

from alerting.metrics import LEVEL, METRICS, Metric, Unit, written
from alerting.reading import LEVELS
from tables.errors import ConfigError

Comparison = Literal["<", "<=", ">", ">="]

_EXPRESSION: Final = re.compile(
    r"\s*(?P<metric>[^\s<>=()]+)\s*(?P<argument>\([^()]*\))?\s*(?P<comparison><=|>=|<|>)\s*(?P<threshold>\S.*?)\s*"
)
_THRESHOLD: Final = re.compile(r"(.*?)\s*(%|[A-Za-z]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One metric against one threshold; `feature` is a glob where the metric is of a feature, else empty.

    The threshold is what readings hold: a ratio from 0 to 1, milliseconds, a place in LEVELS.
    """

    metric: str
    feature: str
    comparison: Comparison
    threshold: float


def parse_expression(source: str, where: str = "expr") -> Expression:
    """Read `METRIC COMPARISON THRESHOLD`; raises ConfigError, which begins with `where`."""
    match = _EXPRESSION.fullmatch(source)
    if match is None:
        raise ConfigError(
            f"{where}: expected a metric, one of < <= > >=, and a number, such as 'ctr < 5%', got {source!r}"
        )
    name, comparison = match["metric"], cast(Comparison, match["comparison"])
    metric = METRICS.get(name)
    if metric is None:
        names = ", ".join(map(written, METRICS))
        raise ConfigError(f"{where}: unknown metric {name!r}; expected {names}{did_you_mean(name, METRICS)}")
    feature = _parse_argument(name, metric, match["argument"], where)
    threshold = _parse_threshold(match["threshold"], metric.unit, where)
    if threshold == (0 if comparison in ("<", ">=") else metric.unit.greatest):
        outcome = "never" if comparison in ("<", ">") else "always"
        raise ConfigError(f"{where}: expected a condition that can change, got {source!r}, which {outcome} holds")
    return Expression(metric=name, feature=feature, comparison=comparison, threshold=threshold)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A remark for the end of a message, empty where nothing that is known comes near; case does not count."""
    close = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _parse_argument(name: str, metric: Metric, argument: str | None, where: str) -> str:
    given = None if argument is None else argument[1:-1].strip()
    if metric.argument == "FEATURE":
        if given:
            return given
        raise ConfigError(
            f"{where}: expected a feature, such as {name}(gender), or {name}(*) for each, got {name}{argument or ''}"
        )
    if (given or "") != metric.argument or given == "":
        raise ConfigError(f"{where}: expected {written(name)}, got {name}{argument or ''}")
    return ""


def _parse_threshold(text: str, unit: Unit, where: str) -> float:
    if unit is LEVEL:
        if text not in LEVELS:
            raise ConfigError(f"{where}: expected {unit.expected}, got {text!r}{did_you_mean(text, LEVELS)}")
        return LEVELS.index(text)
    match = _THRESHOLD.fullmatch(text)
    assert match is not None  # it takes any text on one line
    number, suffix = match.groups()
    try:
        # Decimal, since 4.1 / 100 in binary is not the nearest number to 0.041.
        exact = Decimal(number) * unit.suffixes.get(suffix, Decimal("nan"))
    except ArithmeticError:
        raise ConfigError(f"{where}: expected {unit.expected}, got {text!r} for the number") from None
    if not (exact.is_finite() and 0 <= exact <= unit.greatest) or (unit.is_whole and exact % 1):
        raise ConfigError(f"{where}: expected {unit.expected}, got {text}")
    return float(exact)
