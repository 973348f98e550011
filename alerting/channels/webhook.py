"""Alerts as HTTP POSTs of their JSON to a URL of the team's own."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import orjson

from alerting.channels.alertmanager_alerts import webhook_body
from alerting.channels.base import Budget
from alerting.channels.http import DEFAULT_TIMEOUT_S, HttpPoster
from alerting.message import Message, Parcel
from alerting.notification import key_of

Format = Literal["tidemark", "alertmanager"]
FORMATS: Final[tuple[Format, ...]] = ("tidemark", "alertmanager")


class WebhookChannel:
    """POSTs each alert to `url`; any 2xx answer means delivered.

    The body is the alert's own JSON, and with it everything that a receiver of Alertmanager's webhooks looks for;
    `format` alertmanager makes it one POST a message in Alertmanager's form alone. With `secret`,
    `X-Tidemark-Signature: sha256=<hex>` is the HMAC-SHA256 of the body under it. `Idempotency-Key` is the same on every
    attempt, so that a receiver can drop what it has already.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "webhook",
        secret: str | bytes | None = None,
        format: Format = "tidemark",
        external_url: str = "",
        budgets: Sequence[Budget] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`external_url` is where people find this tidemark. `now` (seconds since the epoch) reads a Retry-After date.

        Raises ConfigError for a URL that is not http or https with a host, an empty secret or no time at all.
        """
        self.name = name
        self.budgets = tuple(budgets)
        self.digest_bytes = 0
        secrets = () if secret is None else (secret,)
        self._poster = HttpPoster(name, url, secrets=secrets, timeout_s=timeout_s, now=now)
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._format: Format = format
        self._external_url = external_url

    def __repr__(self) -> str:
        # Path and query too are hidden: chat services put their token there.
        return f"{type(self).__name__}(name={self.name!r}, url='{self._poster.origin}/…')"

    def prepare(self, message: Message) -> tuple[Parcel, ...]:
        if self._format == "alertmanager":
            return (self._parcel(message.key, webhook_body(message, message.alerts, self._external_url)),)
        note = message.notifications[0]
        ours = {"stage": message.stage, "step": note.step, "round": note.round}
        return tuple(
            self._parcel(
                key_of(message.key, alert.alert_id),
                # The alert's own fields last: its `status` may be acknowledged, which Alertmanager does not know.
                webhook_body(message, [alert], self._external_url) | ours | orjson.loads(alert.to_json()),
                alert.alert_id,
            )
            for alert in message.alerts
        )

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed as HttpPoster does."""
        await self._poster.post(parcel.body, headers=parcel.headers)

    async def close(self) -> None:
        await self._poster.close()

    def _parcel(self, key: str, content: dict[str, Any], alert_id: str = "") -> Parcel:
        body = orjson.dumps(content)
        headers = {"Idempotency-Key": key}
        if self._secret is not None:
            headers["X-Tidemark-Signature"] = f"sha256={hmac.new(self._secret, body, hashlib.sha256).hexdigest()}"
        return Parcel(key=key, body=body, headers=headers, alert_id=alert_id)
