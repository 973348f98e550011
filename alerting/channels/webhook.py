"""Alerts as HTTP POSTs of their JSON to a URL of the team's own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from yarl import URL

from alerting.alert import Alert, printable
from alerting.channels.base import DeliveryFailed
from tables.errors import ConfigError

DEFAULT_TIMEOUT_S: Final = 10.0

_RETRYABLE: Final = frozenset({408, 429})
#: Enough of an error page to say what is wrong; a body has no other use here.
_BODY_LIMIT: Final = 1024
_BODY_SHOWN: Final = 200


class WebhookChannel:
    """POSTs each alert to `url`; any 2xx answer means delivered.

    With `secret`, `X-Tidemark-Signature: sha256=<hex>` is the HMAC-SHA256 of the body under it.
    `Idempotency-Key` is the same on every attempt, so that a receiver can drop what it has already.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "webhook",
        secret: str | bytes | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` (seconds since the epoch) reads a Retry-After date of an answer that has no date of its own.

        Raises ConfigError for a URL that is not http or https with a host, an empty secret or no time at all.
        """
        self.name = name
        self._url = _parse_url(url, name)
        if secret is not None and not secret:
            raise ConfigError(f"channel {name}: expected a secret or none, got an empty one")
        if not timeout_s > 0:
            raise ConfigError(f"channel {name}: expected a timeout above 0 s, got {timeout_s!r}")
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._hidden = _secrets_of(self._url, self._secret)
        self._timeout_s = timeout_s
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        # Path and query too are hidden: chat services put their token there.
        return f"{type(self).__name__}(name={self.name!r}, url='{self._url.origin()}/…')"

    async def send(self, alert: Alert) -> None:
        """Raises DeliveryFailed: retryable on 408, 429, 5xx, time-outs and broken connections, else final."""
        body = alert.to_json()
        try:
            async with self._open_session().post(
                self._url, data=body, headers=self._headers(alert, body), allow_redirects=False
            ) as response:
                if 200 <= response.status < 300:
                    return
                raise await self._refusal(response)
        except TimeoutError as error:
            raise DeliveryFailed(f"no answer within {self._timeout_s:g} s", retryable=True) from error
        except aiohttp.InvalidURL as error:
            raise DeliveryFailed("the URL is not valid", retryable=False) from error
        except aiohttp.ClientError as error:
            # Not its text: some of them quote the URL, and the URL may hold a token.
            cause = error.strerror if isinstance(error, aiohttp.ClientOSError) and error.strerror else None
            raise DeliveryFailed(cause or type(error).__name__, retryable=True) from error

    async def close(self) -> None:
        """Close the connections; a later `send` opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A small compressed answer can be a very large one.
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "tidemark"},
            )
        return self._session

    def _headers(self, alert: Alert, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{alert.alert_id}:{alert.status}",
        }
        if self._secret is not None:
            headers["X-Tidemark-Signature"] = f"sha256={hmac.new(self._secret, body, hashlib.sha256).hexdigest()}"
        return headers

    async def _refusal(self, response: aiohttp.ClientResponse) -> DeliveryFailed:
        reason = f"HTTP {response.status}"
        if 300 <= response.status < 400:
            reason += ", and redirects are not followed"
        elif said := await _read_some(response):
            for hidden in self._hidden:
                said = said.replace(hidden, "***")
            reason += f": {printable(said, _BODY_SHOWN)}"
        return DeliveryFailed(
            reason,
            retryable=response.status in _RETRYABLE or response.status >= 500,
            retry_after_s=self._retry_after(response),
        )

    def _retry_after(self, response: aiohttp.ClientResponse) -> float | None:
        asked = response.headers.get("Retry-After", "").strip()
        if asked.isascii() and asked.isdigit():
            return float(asked[:9])
        until = _parse_date(asked)
        if until is None:
            return None
        # The server's own clock, where it tells it: then a difference to ours does not matter.
        sent = _parse_date(response.headers.get("Date", ""))
        return max(0.0, until - (self._now() if sent is None else sent))


def _parse_url(url: str, name: str) -> URL:
    expected = f"channel {name}: expected a URL such as https://alerts.example.com/hook"
    try:
        parsed = URL(url)
        parsed.origin()
    except (TypeError, ValueError):
        # The URL is not quoted, and neither is the parser's message: it may hold a password.
        raise ConfigError(f"{expected}, got something else") from None
    if parsed.scheme not in ("http", "https"):
        raise ConfigError(f"{expected}, got the scheme {parsed.scheme!r}")
    return parsed


def _secrets_of(url: URL, secret: bytes | None) -> tuple[str, ...]:
    """What a receiver that answers with the request itself would put into our log."""
    secrets = [url.path_qs, url.raw_path_qs] if url.path_qs != "/" else []
    if url.password:
        basic = base64.b64encode(f"{url.user or ''}:{url.password}".encode()).decode()
        secrets += [url.password, basic]
    if secret is not None:
        secrets.append(secret.decode(errors="replace"))
    return tuple(sorted(secrets, key=len, reverse=True))


async def _read_some(response: aiohttp.ClientResponse) -> str:
    try:
        some = await response.content.read(_BODY_LIMIT)
    except (aiohttp.ClientError, TimeoutError):
        return ""  # the status is what counts
    return some.decode(errors="replace").strip()


def _parse_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
