"""HTTP POSTs as all channels that speak HTTP need them: bounded, without redirects, and silent about secrets."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from alerting.channels.base import DeliveryFailed
from alerting.channels.quoting import quoted
from tables.errors import ConfigError

DEFAULT_TIMEOUT_S: Final = 10.0

_TOO_MANY: Final = 429
_RETRYABLE: Final = frozenset({408, _TOO_MANY})
#: Enough of an answer for an error code, or to say what is wrong; it has no other use here.
_BODY_LIMIT: Final = 16 * 1024
#: Shorter ones are words such as `hook` or `v2`, and hiding them would only spoil the reason.
_TOKEN_LENGTH: Final = 8


class Answer(NamedTuple):
    """An answer of the other side; `body` is as much of it as came in time, 16 KiB at most."""

    status: int
    body: bytes


class HttpRefused(DeliveryFailed):
    """An answer that is not 2xx; `answer` is for channels whose other side says more exactly in the body what it is."""

    def __init__(self, reason: str, answer: Answer, *, retryable: bool, retry_after_s: float | None) -> None:
        super().__init__(reason, retryable=retryable, retry_after_s=retry_after_s, throttled=answer.status == _TOO_MANY)
        self.answer = answer


class HttpPoster:
    """POSTs to one URL through connections that it opens when they are first needed.

    `secrets` and the URL's path, query and credentials stand as `***` wherever the other side's words are shown.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        secrets: Iterable[str | bytes] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`name` is the channel's, for the texts of errors. `now` (seconds since the epoch) reads a Retry-After date
        of an answer that has no date of its own.

        Raises ConfigError for a URL that is not http or https with a host, an empty secret or no time at all.
        """
        self._url = _parse_url(url, name)
        known = [secret.decode(errors="replace") if isinstance(secret, bytes) else secret for secret in secrets]
        if not all(known):
            raise ConfigError(f"channel {name}: expected a secret or none, got an empty one")
        if not timeout_s > 0:
            raise ConfigError(f"channel {name}: expected a timeout above 0 s, got {timeout_s!r}")
        self._hidden = _spellings([*known, *_secrets_of(self._url)])
        self._timeout_s = timeout_s
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port: the part of the URL that may be shown."""
        return str(self._url.origin())

    async def post(
        self, body: bytes, *, headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        """POST `body`, as JSON unless `headers` say otherwise, and return a 2xx answer.

        The values of `query` are added to the URL's and are secrets too. Raises DeliveryFailed: retryable on 408, 429
        (throttled), 5xx, time-outs and broken connections, else final. Where there was an answer it is HttpRefused.
        """
        url = self._url.update_query(query) if query else self._url
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with self._open_session().post(url, data=body, headers=sent, allow_redirects=False) as response:
                said = await _read_some(response)
                if 200 <= response.status < 300:
                    return Answer(response.status, said)
                raise self._refusal(response, said, tuple((query or {}).values()))
        # These errors are neither repeated nor named as causes: some of them quote the URL, and it may hold a token.
        except TimeoutError:
            raise DeliveryFailed(f"no answer within {self._timeout_s:g} s", retryable=True) from None
        except aiohttp.InvalidURL:
            raise DeliveryFailed("the URL is not valid", retryable=False) from None
        except aiohttp.ClientError as error:
            cause = error.strerror if isinstance(error, aiohttp.ClientOSError) and error.strerror else None
            raise DeliveryFailed(cause or type(error).__name__, retryable=True) from None

    async def close(self) -> None:
        """Close the connections; a later `post` opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def shown(self, said: str, also_hidden: Iterable[str] = ()) -> str:
        """Words of the other side, fit for a reason: one short line without secrets."""
        return quoted(said, (*self._hidden, *_spellings(also_hidden)))

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

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes, also_hidden: tuple[str, ...]) -> HttpRefused:
        reason = f"HTTP {response.status}"
        if 300 <= response.status < 400:
            reason += ", and redirects are not followed"
        elif said := self.shown(body.decode(errors="replace"), also_hidden):
            reason += f": {said}"
        return HttpRefused(
            reason,
            Answer(response.status, body),
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


def json_object(answer: Answer) -> dict[str, Any]:
    """The JSON object that `answer` is.

    Raises DeliveryFailed, retryable, for anything else: a proxy's own page does not say that the message arrived.
    """
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DeliveryFailed(f"HTTP {answer.status}, but the answer is not a JSON object", retryable=True)
    return found


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


def _secrets_of(url: URL) -> list[str]:
    """What a receiver that answers with the request itself would put into our log; chat services have their tokens in
    the path or the query."""
    secrets = [url.path_qs, url.raw_path_qs] if url.path_qs != "/" else []
    secrets += [part for part in (*url.parts, *url.query.values()) if len(part) >= _TOKEN_LENGTH]
    if url.password:
        basic = base64.b64encode(f"{url.user or ''}:{url.password}".encode()).decode()
        secrets += [url.password, basic]
    return secrets


def _spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """The secrets as they may come back: plain, in a URL, or in JSON. Longest first, as some contain others."""
    spelt = {way for secret in secrets for way in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    return tuple(sorted(spelt, key=lambda secret: (-len(secret), secret)))


async def _read_some(response: aiohttp.ClientResponse) -> bytes:
    some = bytearray()
    try:
        while len(some) < _BODY_LIMIT and (more := await response.content.read(_BODY_LIMIT - len(some))):
            some += more
    except (aiohttp.ClientError, TimeoutError):
        pass  # the status has been said, and what there is of the body may be enough
    return bytes(some)


def _parse_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
