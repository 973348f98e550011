"""Rules: which number of which models must not cross which threshold, and for how long."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from alerting.alert import Severity
from alerting.durations import parse_duration
from alerting.rules import rule_fields
from alerting.rules.expressions import MINUTE_MS, Change, Comparison, did_you_mean, parse_expression
from alerting.rules.metrics import METRICS
from alerting.rules.reading import Kind, Reading
from tables.errors import ConfigError

if TYPE_CHECKING:
    from alerting.sql.query import SqlQuery
    from alerting.texts.templates import Template

DEFAULT_FOR_MS: Final = 120_000
DEFAULT_KEEP_FIRING_FOR_MS: Final = 60_000
DEFAULT_LOOKBACK_MS: Final = 15 * MINUTE_MS
#: Clicks on a window's last impressions come after its end: judged at once, every window would look bad; a query may
#: look at them too. Elsewhere there is nothing to wait for but events that are out of order.
DEFAULT_SETTLE_MS: Final[Mapping[Kind, int]] = {"ctr": 60_000, "serving": 5_000, "drift": 5_000, "sql": 60_000}

SQL: Final = "sql"
"""Stands for the metric of a rule that is a query."""

_COMPARE: Final[Mapping[Comparison, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One condition on the windows of every model, version and feature that its globs select.

    A window is judged `settle_ms` after its end. The rule fires once the condition has held for `for_ms`,
    and resolves once windows worth `keep_firing_for_ms` have been free of it. All of it is event time.
    """

    name: str
    expression: str
    """As it was written; of a query its text."""
    comparison: Comparison = ">"
    threshold: float = 0.0
    metric: str = "ctr"
    feature: str = ""
    """A glob; of drift rules only, the others' readings have no feature."""
    per_model: bool = False
    """All versions of a model are judged together, not each by itself."""
    change: Change | None = None
    """Not the metric is compared, but how it has changed."""
    query: SqlQuery | None = None
    """In place of metric, comparison and threshold: every row that it returns is one where the condition holds."""
    lookback_ms: int = DEFAULT_LOOKBACK_MS
    """How far back the query sees."""
    minimum: int = METRICS["ctr"].minimum
    for_ms: int = DEFAULT_FOR_MS
    keep_firing_for_ms: int = DEFAULT_KEEP_FIRING_FOR_MS
    settle_ms: int = DEFAULT_SETTLE_MS["ctr"]
    no_data_ms: int = 0
    """After so long without rows of what it has judged before it says so; 0: never."""
    severity: Severity = "major"
    model: tuple[str, ...] = ("*",)
    version: tuple[str, ...] = ("*",)
    labels: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    runbook: str = ""
    summary: str = ""
    """Source of `template`, which writes what its alerts say in place of the built-in sentence."""
    template: Template | None = field(default=None, compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        """Which rows the rule judges."""
        return "sql" if self.metric == SQL else METRICS[self.metric].kind

    def selects(self, model_id: str, model_version: str, feature: str = "") -> bool:
        """Whether the rule is about this model, version and feature; `*`, `?` and `[...]` are globs, case counts."""
        return (
            # Flattened features are named like tags[0], which as a glob does not match itself.
            (feature == self.feature or self.kind == "sql" or fnmatchcase(feature, self.feature))
            and any(fnmatchcase(model_id, glob) for glob in self.model)
            and any(fnmatchcase(model_version, glob) for glob in self.version)
        )

    def value_of(self, reading: Reading) -> float | None:
        """The rule's metric in this window; None where too few rows make it meaningless, or where it has none."""
        return reading.value(self.metric) if reading.rows(self.metric) >= self.minimum else None

    def holds(self, value: float) -> bool:
        """Whether `value` is on the bad side of the threshold."""
        return _COMPARE[self.comparison](value, self.threshold)


def parse_rule(mapping: object, where: str = "rules[0]") -> Rule:
    """One rule of its configuration: `name` and either `expr` or `sql` are required, the other keys have defaults.

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
        if key not in mapping and not (key == "expr" and "sql" in mapping):
            raise ConfigError(f"{where}.{key}: expected, but missing")
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        name, parse = _FIELDS[key]
        values[name] = parse(value, f"{where}.{key}")
    if "summary" in mapping:
        values["template"] = rule_fields.parse_template(values["summary"], f"{where}.summary")
    return _sql_rule(values, mapping, where) if "sql" in mapping else _expression_rule(values, mapping, where)


def _expression_rule(values: dict[str, Any], mapping: Mapping[Any, Any], where: str) -> Rule:
    expression = parse_expression(values["expression"], f"{where}.expr")
    metric = METRICS[expression.metric]
    if values.get("per_model"):
        if metric.kind == "drift" or metric.argument or expression.change is not None:
            raise ConfigError(f"{where}.per: expected `version` but for counts and rates, such as errors > 100")
        if "version" in mapping:
            raise ConfigError(f"{where}.version: expected none beside `per: model`, which takes all together")
    if "min_impressions" in mapping and (metric.kind != "ctr" or "min_n" in mapping):
        raise ConfigError(f"{where}.min_impressions: expected min_n instead, which rules of every kind have")
    if "lookback" in mapping:
        raise ConfigError(f"{where}.lookback: expected in rules with sql only")
    values.setdefault("minimum", metric.minimum)
    values.setdefault("settle_ms", DEFAULT_SETTLE_MS[metric.kind])
    return Rule(
        **values,
        metric=expression.metric,
        feature=expression.feature,
        comparison=expression.comparison,
        threshold=expression.threshold,
        change=expression.change,
    )


def _sql_rule(values: dict[str, Any], mapping: Mapping[Any, Any], where: str) -> Rule:
    if "expr" in mapping:
        raise ConfigError(f"{where}: expected either expr or sql, got both")
    for key in ("min_n", "min_impressions"):
        if key in mapping:
            raise ConfigError(f"{where}.{key}: expected in the query, such as WHERE impressions >= 500")
    if "per" in mapping:
        raise ConfigError(f"{where}.per: expected in the query, such as GROUP BY model_id")
    if "no_data" in mapping:
        raise ConfigError(f"{where}.no_data: expected in a rule with expr: a query without rows says that all is well")
    values.setdefault("settle_ms", DEFAULT_SETTLE_MS["sql"])
    return Rule(**values, expression=values["query"].text, metric=SQL, minimum=0)


#: Key in the configuration -> field of the rule, and what reads it.
_FIELDS: Final[Mapping[str, tuple[str, Callable[[object, str], Any]]]] = {
    "name": ("name", rule_fields.parse_name),
    "expr": ("expression", rule_fields.parse_text),
    "sql": ("query", rule_fields.parse_query),
    "lookback": ("lookback_ms", rule_fields.parse_lookback),
    "for": ("for_ms", parse_duration),
    "keep_firing_for": ("keep_firing_for_ms", parse_duration),
    "settle": ("settle_ms", parse_duration),
    "no_data": ("no_data_ms", rule_fields.parse_no_data),
    "min_n": ("minimum", rule_fields.parse_minimum),
    "min_impressions": ("minimum", rule_fields.parse_minimum),
    "per": ("per_model", rule_fields.parse_per),
    "severity": ("severity", rule_fields.parse_severity),
    "model": ("model", rule_fields.parse_globs),
    "version": ("version", rule_fields.parse_globs),
    "labels": ("labels", rule_fields.parse_labels),
    "owner": ("owner", rule_fields.parse_text),
    "runbook": ("runbook", rule_fields.parse_text),
    "summary": ("summary", rule_fields.parse_text),
}


#: What watches every model for which nothing else is configured. A shifted feature is recorded but disturbs nobody:
#: some shift with the hour of the day, and a shift is no loss yet.
#:
#: Chance alone moves the CTR of n impressions by sqrt((1 - p) / p / n) of itself (one standard deviation), a change of
#: two such by sqrt(2) of that: 2.5 % at a CTR of 5 % and 60,000 impressions a side. A drop of 10 % is then four of
#: them: once in 70 days for a model that has no more, with some 400 independent looks a day. The P95 of n latencies
#: moves by sqrt(0.95 * 0.05 / n) / (density there * P95): 1.06 / sqrt(n) where they are log-normal with a sigma of 0.5;
#: with 20,000 a side a rise of 5 % is 4.7 of them.
DEFAULT_RULES: Final[tuple[Rule, ...]] = tuple(
    parse_rule(rule)
    for rule in (
        {"name": "ctr-low", "expr": "ctr < 5%", "for": "2m", "severity": "major"},
        {"name": "ctr-drop", "expr": "drop(ctr, vs=1d) > 10%", "for": "2m", "min_n": 60_000, "severity": "major"},
        # At once. Where one request in two hundred fails as a rule, more than 5 of 100 do once in 50 days.
        {"name": "errors-high", "expr": "error_rate > 5%", "for": "1m", "min_n": 100, "severity": "critical"},
        # Not critical: of a model that is asked often enough, a hundred may be next to nothing.
        {"name": "many-errors", "expr": "errors > 100", "per": "model", "for": "1m", "severity": "major"},
        {"name": "latency-high", "expr": "p95(latency) > 500ms", "for": "5m", "severity": "major"},
        {
            "name": "latency-up",
            "expr": "rise(p95(latency), vs=1d) > 5%",
            "for": "5m",
            "min_n": 20_000,
            "severity": "minor",
        },
        {"name": "drift-severe", "expr": "psi(*) >= 0.2", "keep_firing_for": "10m", "severity": "minor"},
        {"name": "gender-drift", "expr": "psi(gender) >= 0.15", "keep_firing_for": "10m", "severity": "minor"},
    )
)
