"""Alerts as events of PagerDuty's Events API v2."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from alerting.alert import Alert, Severity, Status, printable
from alerting.channels.alertmanager_alerts import causes_of, rfc3339
from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.http import DEFAULT_TIMEOUT_S, HttpPoster, json_object
from alerting.message import Message, Parcel
from alerting.notification import key_of
from tables.errors import ConfigError

ENQUEUE_URL: Final = "https://events.pagerduty.com/v2/enqueue"

#: The limits of the vendor's page on the Events API v2.
SUMMARY_LIMIT: Final = 1024
EVENT_BYTES: Final = 512_000

_ACTION: Final[dict[Status, str]] = {"firing": "trigger", "acknowledged": "acknowledge", "resolved": "resolve"}
_SEVERITY: Final[dict[Severity, str]] = {"critical": "critical", "major": "error", "minor": "warning"}


class PagerDutyChannel:
    """One event an alert: trigger, acknowledge or resolve, under the alert's fingerprint as `dedup_key`: an incident
    that takes over from another of the same condition, as after a loss of the store, ends what the other began.

    `routing_key` is the integration key of a service, a secret.
    """

    def __init__(
        self,
        routing_key: str,
        *,
        name: str = "pagerduty",
        url: str = ENQUEUE_URL,
        external_url: str = "",
        budgets: Sequence[Budget] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`external_url` is where people find this tidemark. `now` (seconds since the epoch) reads a Retry-After date.

        Raises ConfigError for an empty key, a URL that is not http or https with a host, and no time at all.
        """
        self.name = name
        self.budgets = tuple(budgets)
        self.digest_bytes = 0
        if not routing_key:
            raise ConfigError(f"channel {name}: expected a routing key, got an empty one")
        self._poster = HttpPoster(name, url, secrets=(routing_key,), timeout_s=timeout_s, now=now)
        self._routing_key = routing_key
        self._external_url = external_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, url='{self._poster.origin}/…')"

    def prepare(self, message: Message) -> tuple[Parcel, ...]:
        return tuple(
            Parcel(key=key_of(message.key, alert.alert_id), body=self._event(message, alert), alert_id=alert.alert_id)
            for alert in message.alerts
        )

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed as HttpPoster does, and, final, for an event that the answer's body refuses."""
        answer = json_object(await self._poster.post(parcel.body))
        if answer.get("status") != "success":
            said = self._poster.shown(f"{answer.get('status')}: {answer.get('message')} {answer.get('errors') or ''}")
            raise DeliveryFailed(said, retryable=False)

    async def close(self) -> None:
        await self._poster.close()

    def _event(self, message: Message, alert: Alert) -> bytes:
        # The text begins with what happened, in the locale's words; of a group it tells of all at once.
        first, _, _ = message.text.partition("\n")
        summary = first if first and len(message.alerts) == 1 else alert.summary
        links = [{"href": link.url, "text": link.title} for link in message.links]
        runbook = str(alert.related.get("runbook", ""))
        if runbook.startswith(("https://", "http://")):
            links.append({"href": runbook, "text": "runbook"})
        event: dict[str, Any] = {
            "routing_key": self._routing_key,
            "event_action": _ACTION[alert.status],
            "dedup_key": alert.fingerprint,
            "client": "tidemark",
            "links": links,
            "payload": {
                "summary": printable(summary, SUMMARY_LIMIT),
                "source": printable(f"{alert.model_id} {alert.model_version}".strip()),
                "severity": _SEVERITY[alert.severity],
                "timestamp": rfc3339(alert.started_at),
                "component": printable(alert.model_id),
                "group": message.notifications[0].receiver,
                "class": alert.rule,
                "custom_details": _details(alert),
            },
        }
        if self._external_url:
            event["client_url"] = self._external_url
        body = orjson.dumps(event)
        if len(body) > EVENT_BYTES:
            said = f"left out: with them the event has {len(body)} bytes, and {EVENT_BYTES} are allowed"
            event["payload"]["custom_details"] = {"details": said}
            body = orjson.dumps(event)
        return body


def _details(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "severity": alert.severity,
        "summary": alert.summary,
        "value": alert.value,
        "threshold": alert.threshold,
        "causes": causes_of(alert),
        "labels": dict(alert.labels),
        "related": dict(alert.related),
    }
