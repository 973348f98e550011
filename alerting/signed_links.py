"""Links in messages that let whoever holds them acknowledge or silence the alerts of one message, for some time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from tables.errors import ConfigError, InputError

Action = Literal["acknowledge", "silence"]

#: Of the path, which proxies need to let through: `{base}/a/{token}`.
PATH: Final = "/a/"
#: How the name of somebody begins who pressed a link's button; the channel follows.
BY_LINK: Final = "link on "
_LONGEST_WHO: Final = 100
_Payload = tuple[Action, bytes, list[str], int, str, int]
_OUR_ID: Final = re.compile(r"[0-9a-f]{16}")
_ID_BYTES: Final = 8
_MAC_BYTES: Final = 16
_LEAST_SECRET_BYTES: Final = 16
_LONGEST_TOKEN: Final = 1024
_SLASH: Final = r"(?:\\*/|%(?:25)*2f|\\+u002f|&#(?:x2f|47);)"
#: However somebody spells a path who quotes it: in JSON, in a URL, in HTML.
_QUOTED: Final = re.compile(rf"((?:\b|(?<=2f))a{_SLASH})[\w-]{{16,}}", re.IGNORECASE)
#: Part of what is signed: what the same secret signs elsewhere is no token, nor the one of another version.
_PURPOSE: Final = b"tidemark-link-2\0"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a token allows until `expires_at` (milliseconds since the epoch)."""

    action: Action
    alert_ids: tuple[str, ...]
    minutes: int
    """How long to silence; 0 otherwise."""
    by: str
    """For whom or where the link was made, such as a channel; may be empty."""
    expires_at: int

    @property
    def who(self) -> str:
        """What stands where otherwise the name of a person does."""
        return f"{BY_LINK}{self.by}"[:_LONGEST_WHO] if self.by else "link"


class LinkSigner:
    """Makes links and reads them back, with one secret for all workers."""

    def __init__(self, base_url: str, secret: str, ttl_ms: int, now: Callable[[], int]) -> None:
        """`base_url` is where people reach a worker, `now` the time in milliseconds since the epoch.

        Raises ConfigError for an address that is not http or https, a secret below 16 bytes, or a time below 1.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError("links: expected an address such as https://tidemark.example.com")
        if len(secret.encode()) < _LEAST_SECRET_BYTES:
            raise ConfigError(f"links: expected a secret of at least {_LEAST_SECRET_BYTES} bytes, got a shorter one")
        if ttl_ms < 1:
            raise ConfigError(f"links: expected links that hold for some time, got {ttl_ms} ms")
        self._base = base_url.rstrip("/")
        self._secret = secret.encode()
        self._ttl_ms = ttl_ms
        self._now = now

    def ack_url(self, alert_ids: tuple[str, ...], by: str = "") -> str:
        """The address that acknowledges these alerts."""
        return self._url("acknowledge", alert_ids, 0, by)

    def silence_url(self, alert_ids: tuple[str, ...], minutes: int, by: str = "") -> str:
        """The address that silences these alerts for so long."""
        return self._url("silence", alert_ids, minutes, by)

    def verify(self, token: str) -> Claim:
        """What a token allows; raises InputError for one that is damaged, signed by another secret, or expired."""
        # b64decode passes over what is not its alphabet, and over bits that no byte needs: only the one form that we
        # write counts.
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)) if len(token) <= _LONGEST_TOKEN else b""
        except ValueError:
            data = b""
        payload, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(payload)) or _encoded(data) != token:
            raise InputError("expected a link as it was sent, got one that is damaged or not ours")
        try:
            action, packed, others, *rest = msgspec.msgpack.decode(payload, type=_Payload)
        except msgspec.DecodeError as error:
            raise InputError("expected a link of this version, got one of another") from error
        ours = (packed[start : start + _ID_BYTES].hex() for start in range(0, len(packed), _ID_BYTES))
        claim = Claim(action, (*ours, *others), *rest)
        if claim.expires_at <= self._now():
            raise InputError("expected a link that is still valid, got one that has expired")
        return claim

    def _url(self, action: Action, alert_ids: tuple[str, ...], minutes: int, by: str) -> str:
        # A robot takes a few thousand bytes a message, and ids of ours are half as long without their hex digits.
        packed = b"".join(bytes.fromhex(name) for name in alert_ids if _OUR_ID.fullmatch(name))
        others = [name for name in alert_ids if not _OUR_ID.fullmatch(name)]
        payload = msgspec.msgpack.encode([action, packed, others, minutes, by, self._now() + self._ttl_ms])
        token = _encoded(payload + self._mac(payload))
        if len(token) > _LONGEST_TOKEN and len(alert_ids) > 1:
            return self._url(action, alert_ids[:-1], minutes, by)  # of long ids of others not all have room
        return f"{self._base}{PATH}{token}"

    def _mac(self, payload: bytes) -> bytes:
        return hmac.new(self._secret, _PURPOSE + payload, hashlib.sha256).digest()[:_MAC_BYTES]


def hide_tokens(text: str) -> str:
    """`text` without the tokens of signed links that it may have, for logs: whoever reads one may act."""
    return _QUOTED.sub(r"\1***", text)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
