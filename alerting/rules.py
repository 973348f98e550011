"""Rules: which number of which models must not cross which threshold, and for how long."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, cast, get_args

from alerting.alert import SEVERITIES, Severity
from alerting.durations import parse_duration
from alerting.reading import Reading
from tables.errors import ConfigError

Comparison = Literal["<", "<=", ">", ">="]
Metric = Literal["ctr"]


METRICS: Final[tuple[Metric, ...]] = get_args(Metric)

#: Below this many impressions chance alone moves a 5 % CTR by a fifth of its value (one standard deviation).
DEFAULT_MINIMUM: Final = 500
DEFAULT_FOR_MS: Final = 120_000
DEFAULT_KEEP_FIRING_FOR_MS: Final = 60_000
#: Clicks on a window's last impressions come after its end: judged at once, every window would look bad.
DEFAULT_SETTLE_MS: Final = 60_000

_COMPARE: Final[Mapping[Comparison, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXPRESSION: Final = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|<|>)\s*([^\s%]+)\s*(%?)\s*")
_EXPRESSION_EXPECTED: Final = "expected a metric, one of < <= > >=, and a number, such as 'ctr < 5%'"
_NAME_LIMIT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One condition on the windows of every model and version that its two globs select.

    A window is judged `settle_ms` after its end. The rule fires once the condition has held for `for_ms`,
    and resolves once windows worth `keep_firing_for_ms` have been free of it. All of it is event time.
    """

    name: str
    expression: str
    comparison: Comparison
    threshold: float
    metric: Metric = "ctr"
    minimum: int = DEFAULT_MINIMUM
    for_ms: int = DEFAULT_FOR_MS
    keep_firing_for_ms: int = DEFAULT_KEEP_FIRING_FOR_MS
    settle_ms: int = DEFAULT_SETTLE_MS
    severity: Severity = "major"
    model: str = "*"
    version: str = "*"
    labels: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    runbook: str = ""

    def selects(self, model_id: str, model_version: str) -> bool:
        """Whether the rule is about this model and version; `*`, `?` and `[...]` are globs, case counts."""
        return fnmatchcase(model_id, self.model) and fnmatchcase(model_version, self.version)

    def value_of(self, reading: Reading) -> float | None:
        """The rule's metric in this window; None where too few impressions make it meaningless."""
        return reading.ctr if reading.impressions >= self.minimum else None

    def holds(self, value: float) -> bool:
        """Whether `value` is on the bad side of the threshold."""
        return _COMPARE[self.comparison](value, self.threshold)


def parse_rule(mapping: object, where: str = "rules[0]") -> Rule:
    """One rule of its configuration: `name` and `expr` are required, the other keys have defaults.

    Raises ConfigError, which begins with `where` and the field, and says what was expected there.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where}: expected a mapping with at least name and expr, got {mapping!r}")
    for key in mapping:
        if key not in _FIELDS:
            raise ConfigError(f"{where}: unknown key {key!r}{_near(key)}; expected some of {', '.join(_FIELDS)}")
    for key in ("name", "expr"):
        if key not in mapping:
            raise ConfigError(f"{where}.{key}: expected, but missing")
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        field, parse = _FIELDS[key]
        values[field] = parse(value, f"{where}.{key}")
    metric, comparison, threshold = _parse_expression(values["expression"], f"{where}.expr")
    return Rule(**values, metric=metric, comparison=comparison, threshold=threshold)


def _parse_expression(source: str, where: str) -> tuple[Metric, Comparison, float]:
    match = _EXPRESSION.fullmatch(source)
    if match is None:
        raise ConfigError(f"{where}: {_EXPRESSION_EXPECTED}, got {source!r}")
    metric, comparison, number, percent = match.groups()
    if metric not in METRICS:
        raise ConfigError(f"{where}: unknown metric {metric!r}; expected {' or '.join(METRICS)}")
    try:
        # Decimal, since 4.1 / 100 in binary is not the nearest number to 0.041.
        exact = Decimal(number) / 100 if percent else Decimal(number)
    except ArithmeticError:
        raise ConfigError(f"{where}: {_EXPRESSION_EXPECTED}, got {number!r} for the number") from None
    if not (exact.is_finite() and 0 <= exact <= 1):
        raise ConfigError(f"{where}: expected a threshold from 0 to 1 or from 0% to 100%, got {number}{percent}")
    if exact == (0 if comparison in ("<", ">=") else 1):
        outcome = "never" if comparison in ("<", ">") else "always"
        raise ConfigError(f"{where}: expected a condition that can change, got {source!r}, which {outcome} holds")
    return metric, cast(Comparison, comparison), float(exact)


def _parse_name(value: object, where: str) -> str:
    text = _parse_text(value, where)
    if not text or text != text.strip() or not text.isprintable() or len(text) > _NAME_LIMIT:
        raise ConfigError(f"{where}: expected 1 to {_NAME_LIMIT} printable characters, got {value!r}")
    return text


def _parse_text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected text (put it in quotes), got {value!r}")
    return value


def _parse_glob(value: object, where: str) -> str:
    if not _parse_text(value, where):
        raise ConfigError(f'{where}: expected a glob such as "*" or "recommender-*", got nothing')
    return cast(str, value)


def _parse_minimum(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where}: expected a whole number from 0, got {value!r}")
    return value


def _parse_severity(value: object, where: str) -> Severity:
    if value not in SEVERITIES:
        raise ConfigError(f"{where}: expected {', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}, got {value!r}")
    return value


def _parse_labels(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping of names to texts, got {value!r}")
    for key, text in value.items():
        if not isinstance(key, str):
            raise ConfigError(f"{where}: expected a text as name (put it in quotes), got {key!r}")
        _parse_text(text, f"{where}.{key}")
    return tuple(sorted(value.items()))


#: Key in the configuration -> field of the rule, and what reads it.
_FIELDS: Final[Mapping[str, tuple[str, Callable[[object, str], Any]]]] = {
    "name": ("name", _parse_name),
    "expr": ("expression", _parse_text),
    "for": ("for_ms", parse_duration),
    "keep_firing_for": ("keep_firing_for_ms", parse_duration),
    "settle": ("settle_ms", parse_duration),
    "min_impressions": ("minimum", _parse_minimum),
    "severity": ("severity", _parse_severity),
    "model": ("model", _parse_glob),
    "version": ("version", _parse_glob),
    "labels": ("labels", _parse_labels),
    "owner": ("owner", _parse_text),
    "runbook": ("runbook", _parse_text),
}


def _near(key: object) -> str:
    close = difflib.get_close_matches(str(key), _FIELDS, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


#: What watches every model for which nothing else is configured.
DEFAULT_RULES: Final[tuple[Rule, ...]] = (
    parse_rule({"name": "ctr-low", "expr": "ctr < 5%", "for": "2m", "severity": "major"}),
)
