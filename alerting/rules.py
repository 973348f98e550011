"""Rules: which number of which models must not cross which threshold, and for how long."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from alerting.alert import SEVERITIES, Severity
from alerting.durations import parse_duration
from alerting.expressions import Comparison, did_you_mean, parse_expression
from alerting.metrics import METRICS
from alerting.reading import Kind, Reading
from tables.errors import ConfigError

DEFAULT_FOR_MS: Final = 120_000
DEFAULT_KEEP_FIRING_FOR_MS: Final = 60_000
#: Clicks on a window's last impressions come after its end: judged at once, every window would look bad. Elsewhere
#: there is nothing to wait for but events that are out of order.
DEFAULT_SETTLE_MS: Final[Mapping[Kind, int]] = {"ctr": 60_000, "serving": 5_000, "drift": 5_000}

_COMPARE: Final[Mapping[Comparison, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NAME_LIMIT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One condition on the windows of every model, version and feature that its three globs select.

    A window is judged `settle_ms` after its end. The rule fires once the condition has held for `for_ms`,
    and resolves once windows worth `keep_firing_for_ms` have been free of it. All of it is event time.
    """

    name: str
    expression: str
    comparison: Comparison
    threshold: float
    metric: str = "ctr"
    feature: str = ""
    """Of drift rules only; the others' readings have none."""
    minimum: int = METRICS["ctr"].minimum
    for_ms: int = DEFAULT_FOR_MS
    keep_firing_for_ms: int = DEFAULT_KEEP_FIRING_FOR_MS
    settle_ms: int = DEFAULT_SETTLE_MS["ctr"]
    severity: Severity = "major"
    model: str = "*"
    version: str = "*"
    labels: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    runbook: str = ""

    @property
    def kind(self) -> Kind:
        """Which rows the rule judges."""
        return METRICS[self.metric].kind

    def selects(self, model_id: str, model_version: str, feature: str = "") -> bool:
        """Whether the rule is about this model, version and feature; `*`, `?` and `[...]` are globs, case counts."""
        return (
            # Flattened features are named like tags[0], which as a glob does not match itself.
            (feature == self.feature or fnmatchcase(feature, self.feature))
            and fnmatchcase(model_id, self.model)
            and fnmatchcase(model_version, self.version)
        )

    def value_of(self, reading: Reading) -> float | None:
        """The rule's metric in this window; None where too few rows make it meaningless, or where it has none."""
        return reading.value(self.metric) if reading.rows(self.metric) >= self.minimum else None

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
            raise ConfigError(
                f"{where}: unknown key {key!r}{did_you_mean(key, _FIELDS)}; expected some of {', '.join(_FIELDS)}"
            )
    for key in ("name", "expr"):
        if key not in mapping:
            raise ConfigError(f"{where}.{key}: expected, but missing")
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        field, parse = _FIELDS[key]
        values[field] = parse(value, f"{where}.{key}")
    expression = parse_expression(values["expression"], f"{where}.expr")
    metric = METRICS[expression.metric]
    if "min_impressions" in mapping and (metric.kind != "ctr" or "min_n" in mapping):
        raise ConfigError(f"{where}.min_impressions: expected min_n instead, which rules of every kind have")
    values.setdefault("minimum", metric.minimum)
    values.setdefault("settle_ms", DEFAULT_SETTLE_MS[metric.kind])
    return Rule(**values, **asdict(expression))


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
    "min_n": ("minimum", _parse_minimum),
    "min_impressions": ("minimum", _parse_minimum),
    "severity": ("severity", _parse_severity),
    "model": ("model", _parse_glob),
    "version": ("version", _parse_glob),
    "labels": ("labels", _parse_labels),
    "owner": ("owner", _parse_text),
    "runbook": ("runbook", _parse_text),
}


#: What watches every model for which nothing else is configured. A shifted feature is recorded but disturbs nobody:
#: some shift with the hour of the day, and a shift is no loss yet.
DEFAULT_RULES: Final[tuple[Rule, ...]] = tuple(
    parse_rule(rule)
    for rule in (
        {"name": "ctr-low", "expr": "ctr < 5%", "for": "2m", "severity": "major"},
        {"name": "errors-high", "expr": "error_rate > 5%", "for": "2m", "severity": "critical"},
        {"name": "latency-high", "expr": "p95(latency) > 500ms", "for": "5m", "severity": "major"},
        {"name": "drift-severe", "expr": "psi(*) >= 0.2", "keep_firing_for": "10m", "severity": "minor"},
    )
)
