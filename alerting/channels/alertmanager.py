"""Alerts pushed to a Prometheus Alertmanager, which then tells people by its own routes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from alerting.alert import Alert
from alerting.channels.alertmanager_alerts import annotations_of, labels_of, rfc3339
from alerting.channels.base import Budget
from alerting.channels.http import DEFAULT_TIMEOUT_S, HttpPoster
from alerting.message import Message, Parcel
from tables.errors import ConfigError

#: Longer than the default interval of repeats, 4 h: each of them renews what still fires.
DEFAULT_RESOLVE_AFTER_S: Final = 5 * 3600.0


class AlertmanagerChannel:
    """POSTs the alerts of a message to `/api/v2/alerts` under `url`.

    Alertmanager takes an alert for resolved when its `endsAt` has passed: that of one which fires is `resolve_after_s`
    from now, so it has to be longer than the interval of repeats.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "alertmanager",
        resolve_after_s: float = DEFAULT_RESOLVE_AFTER_S,
        external_url: str = "",
        budgets: Sequence[Budget] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`external_url` is where people find this tidemark; `now`: seconds since the epoch.

        Raises ConfigError for a URL that is not http or https with a host, and for no time at all.
        """
        self.name = name
        self.budgets = tuple(budgets)
        self.digest_bytes = 0
        if not resolve_after_s > 0:
            raise ConfigError(f"channel {name}: expected a resolve_after above 0 s, got {resolve_after_s!r}")
        self._poster = HttpPoster(name, f"{url.rstrip('/')}/api/v2/alerts", timeout_s=timeout_s, now=now)
        self._resolve_after_ms = int(resolve_after_s * 1000)
        self._external_url = external_url
        self._now = now

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, url='{self._poster.origin}/…')"

    def prepare(self, message: Message) -> tuple[Parcel, ...]:
        ends_at = int(self._now() * 1000) + self._resolve_after_ms
        return (
            Parcel(key=message.key, body=orjson.dumps([self._postable(alert, ends_at) for alert in message.alerts])),
        )

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed as HttpPoster does."""
        await self._poster.post(parcel.body)

    async def close(self) -> None:
        await self._poster.close()

    def _postable(self, alert: Alert, ends_at: int) -> dict[str, Any]:
        return {
            "labels": labels_of(alert),
            "annotations": annotations_of(alert),
            "startsAt": rfc3339(alert.started_at),
            # It refuses what ends before it starts.
            "endsAt": rfc3339(max(alert.started_at, ends_at if alert.resolved_at is None else alert.resolved_at)),
            "generatorURL": self._external_url,
        }
