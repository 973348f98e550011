"""From alerts back to the incidents that they tell of: what is left of them where the store has lost the rest."""

from __future__ import annotations

from typing import Final

import msgspec

from alerting.alert import Alert, fingerprint_of
from alerting.rules.incident_machine import Incident, Key, Told
from alerting.rules.metrics import METRICS
from alerting.rules.reading import Kind
from alerting.rules.rule import SQL

#: Those that are over count, too, as long as they are remembered.
DEFAULT_LIMIT: Final = 20_000

_KINDS: Final[dict[str, Kind]] = {SQL: "sql", **{name: metric.kind for name, metric in METRICS.items()}}


class _Related(msgspec.Struct):
    metric: str
    for_ms: int
    expression: str
    feature: str = ""
    owner: str = ""
    runbook: str = ""


class OpenAlerts:
    """Those of which no end was told, the latest of each condition."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        """Of more than `limit` conditions those that were told of last are remembered."""
        self._limit = limit
        self._latest: dict[str, Alert] = {}

    def take(self, alert: Alert) -> None:
        """In the order in which they were told."""
        known = self._latest.pop(alert.fingerprint, alert)
        # What is over stays so: a crash may have its begin told again.
        is_news = (alert.started_at, known.status != "resolved") > (known.started_at, False)
        self._latest[alert.fingerprint] = alert if is_news else known
        if len(self._latest) > self._limit:
            del self._latest[next(iter(self._latest))]

    def all(self) -> list[Alert]:
        """The one that was told of last comes last."""
        return [alert for alert in self._latest.values() if alert.status != "resolved"]


def incident_of(alert: Alert) -> tuple[Key, Incident] | None:
    """The incident as it was when it fired; None for an alert that no rule of ours has made."""
    try:
        about = msgspec.convert(alert.related, _Related)
    except msgspec.ValidationError:
        return None
    labels, feature = dict(alert.labels), about.feature
    # They are put to the rule's own ones when an alert is made.
    silent = alert.value is None and labels.pop("no_data", "") == "true"
    if feature:
        labels.pop("feature", None)
    fingerprint = fingerprint_of(alert.rule, alert.model_id, alert.model_version, alert.labels)
    if about.metric not in _KINDS or fingerprint != alert.fingerprint:
        return None
    key = Key(alert.rule, alert.model_id, alert.model_version, _KINDS[about.metric], feature, silent)
    said = about.owner, about.runbook, about.expression, about.metric
    told = Told(alert.severity, tuple(labels.items()), *said, alert.threshold)
    return key, Incident(alert.started_at, alert.started_at + about.for_ms, alert.fired_at, told=told)
