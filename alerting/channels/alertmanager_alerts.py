"""Alerts in the words of Prometheus Alertmanager: labels, annotations, times.

The shapes are those of its webhook (version 4) and of its API v2 (`api/v2/openapi.yaml`), as of 0.25.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from alerting.alert import Alert
from alerting.message import Message

#: What a Go program writes for a time that is not set: the webhook's `endsAt` of what still fires.
NEVER: Final = "0001-01-01T00:00:00Z"

_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_]")


def status_of(alert: Alert) -> Literal["firing", "resolved"]:
    """Alertmanager knows no acknowledgement: who acknowledged still has the problem."""
    return "resolved" if alert.status == "resolved" else "firing"


def labels_of(alert: Alert) -> dict[str, str]:
    """What makes it the same alert to Alertmanager: its own labels, and above them rule, severity and model."""
    own = {"alertname": alert.rule, "severity": alert.severity, "model_id": alert.model_id}
    # An empty label is to Alertmanager as good as none.
    return named_labels({**alert.labels, **own, "model_version": alert.model_version})


def named_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """With names that Alertmanager takes: ASCII letters, digits and underscores; empty ones are left out."""
    return {_label_name(name): value for name, value in sorted(labels.items()) if value}


def annotations_of(alert: Alert) -> dict[str, str]:
    """What people read beside the labels."""
    # The only place where Alertmanager's people see that somebody has acknowledged.
    found = {"summary": alert.summary, "status": alert.status, "alert_id": alert.alert_id}
    numbers = {"value": alert.value, "threshold": alert.threshold}
    found.update({name: str(number) for name, number in numbers.items() if number is not None})
    if causes := causes_of(alert):
        found["causes"] = "; ".join(causes)
    for name, key in (("owner", "owner"), ("runbook_url", "runbook")):
        if alert.related.get(key):
            found[name] = str(alert.related[key])
    return found


def causes_of(alert: Alert) -> list[str]:
    """The likely causes, each in its words."""
    return [str(cause["text"]) for cause in alert.causes if cause.get("text")]


def webhook_alert(alert: Alert, generator_url: str) -> dict[str, Any]:
    """One of the `alerts` in a webhook's body."""
    return {
        "status": status_of(alert),
        "labels": labels_of(alert),
        "annotations": annotations_of(alert),
        "startsAt": rfc3339(alert.started_at),
        "endsAt": NEVER if alert.resolved_at is None else rfc3339(alert.resolved_at),
        "generatorURL": generator_url,
        "fingerprint": alert.fingerprint,
    }


def webhook_body(message: Message, alerts: Iterable[Alert], external_url: str) -> dict[str, Any]:
    """The body of a webhook for these alerts of a message."""
    note = message.notifications[0]
    told = [webhook_alert(alert, external_url) for alert in alerts]
    group = {"alertname" if name == "rule" else name: value for name, value in note.group_labels.items()}
    return {
        "version": "4",
        "groupKey": note.group_key,
        "truncatedAlerts": 0,
        "status": "firing" if any(one["status"] == "firing" for one in told) else "resolved",
        "receiver": note.receiver,
        "groupLabels": named_labels(group),
        "commonLabels": _common([one["labels"] for one in told]),
        "commonAnnotations": _common([one["annotations"] for one in told]),
        "externalURL": external_url,
        "alerts": told,
    }


def rfc3339(milliseconds: int) -> str:
    """A time since the epoch, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _label_name(name: str) -> str:
    fit = _NOT_IN_NAMES.sub("_", name)
    return f"_{fit}" if not fit or fit[0].isdigit() else fit


def _common(mappings: list[dict[str, str]]) -> dict[str, str]:
    first, *others = mappings
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
