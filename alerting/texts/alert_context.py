"""What a template can say of an alert."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from alerting.alert import Alert, printable
from alerting.texts.figures import feature_of, lasted_ms, metric_text, numbers_of, threshold_text, value_text
from alerting.texts.phrases import EN

#: Name -> what it holds. Times are event time in milliseconds, for the filter `time`; durations are for `duration`.
VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rule": "the rule's name",
        "severity": "critical, major or minor",
        "status": "firing, acknowledged or resolved",
        "model_id": "the model",
        "model_version": "its version",
        "labels": "the labels, by name",
        "value": "the number that was judged, as windows hold it: a ratio from 0 to 1, milliseconds; empty: no value",
        "threshold": "what it was compared with, likewise",
        "value_text": "the value with its unit, such as 4.1 %",
        "threshold_text": "the threshold with its unit",
        "metric": "what the value is of, such as CTR or PSI of gender",
        "expression": "the rule's expression",
        "numbers": "the counts behind it, by name: impressions, clicks, errors, latency_ms.p95, a query's columns",
        "started_at": "when the condition began",
        "fired_at": "when the alert fired",
        "resolved_at": "when it was over; empty while it is not",
        "lasted": "how long the condition has held",
        "causes": "likely causes, each with at least text",
        "owner": "whom the model belongs to",
        "runbook": "address of what to do",
        "feature": "the feature, where the metric has one",
    }
)


def context_of(alert: Alert) -> dict[str, Any]:
    """The values of VARIABLES for one alert; texts are one line each, and safe to show."""
    related = alert.related
    return {
        "rule": printable(alert.rule),
        "severity": alert.severity,
        "status": alert.status,
        "model_id": printable(alert.model_id),
        "model_version": printable(alert.model_version),
        "labels": {printable(name): printable(text) for name, text in sorted(alert.labels.items())},
        "value": alert.value,
        "threshold": alert.threshold,
        "value_text": value_text(alert, EN),
        "threshold_text": threshold_text(alert, EN),
        "metric": metric_text(alert, EN),
        "expression": printable(str(related.get("expression", ""))),
        "numbers": numbers_of(alert),
        "started_at": alert.started_at,
        "fired_at": alert.fired_at,
        "resolved_at": alert.resolved_at,
        "lasted": lasted_ms(alert),
        "causes": [_printable(cause) for cause in alert.causes],
        "owner": printable(str(related.get("owner", ""))),
        "runbook": printable(str(related.get("runbook", "")), 1000),
        "feature": feature_of(alert),
    }


def _printable(cause: Mapping[str, Any]) -> dict[str, Any]:
    return {key: printable(value) if isinstance(value, str) else value for key, value in sorted(cause.items())}
