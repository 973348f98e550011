"""Messages to a DingTalk group robot, as markdown, signed.

Signature and error codes: https://open.dingtalk.com/document/robots/custom-robot-access
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from alerting.channels.base import Budget
from alerting.channels.chat import MOST_PARTS, BodyCodes, ChatChannel, check_token, json_size, parcels_of, title_of
from alerting.channels.http import DEFAULT_TIMEOUT_S, HttpPoster
from alerting.channels.markdown import Dialect, parse
from alerting.message import Message, Parcel

BASE_URL: Final = "https://oapi.dingtalk.com"
BUDGETS: Final = (Budget(20, 60_000),)
BODY_BYTES: Final = 20_000
DIGEST_BYTES: Final = 12_000

#: A line end alone is a space here.
_DIALECT: Final = Dialect(line_end="  \n", size=json_size)
_MENTION: Final = "@{}"
_CODES: Final = BodyCodes(code="errcode", text="errmsg", throttled={130101: 600.0, 410100: 600.0}, busy=frozenset({-1}))


class DingTalkChannel(ChatChannel):
    """A robot of one group. `mentions` are mobile numbers, or user ids."""

    def __init__(
        self,
        token: str,
        *,
        name: str = "dingtalk",
        secret: str | None = None,
        base_url: str = BASE_URL,
        mentions: Mapping[str, str] | None = None,
        budgets: Sequence[Budget] = BUDGETS,
        digest_bytes: int = DIGEST_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`token` is what follows `access_token=` in the robot's URL; `secret` signs what is sent, `now` (seconds since
        the epoch) dates the signature: the service takes an hour's difference. Raises ConfigError."""
        check_token(token, name, "the robot's access token")
        url = f"{base_url.rstrip('/')}/robot/send?access_token={token}"
        secrets = [token] if secret is None else [token, secret]
        poster = HttpPoster(name, url, secrets=secrets, timeout_s=timeout_s, now=now)
        super().__init__(name, poster, budgets=budgets, digest_bytes=digest_bytes, mentions=mentions)
        self._secret = secret
        self._now = now

    def prepare(self, message: Message) -> list[Parcel]:
        """One parcel for each 20,000 bytes; the first mentions people."""
        users = self._users(message)
        room = BODY_BYTES - len(orjson.dumps(_body(message, MOST_PARTS, MOST_PARTS, "", users)))
        pages = self._pages(message, parse(message.markdown), _DIALECT, room, _MENTION)
        count = len(pages)
        return parcels_of(
            message,
            [_body(message, number, count, page, users if number == 1 else []) for number, page in enumerate(pages, 1)],
        )

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed: throttled on errcode 130101 (ten minutes), retryable on -1, final on any other."""
        query = None
        if self._secret is not None:
            timestamp_ms = int(self._now() * 1000)
            query = {"timestamp": str(timestamp_ms), "sign": signature(self._secret, timestamp_ms)}
        await self._deliver(parcel, parcel.body, _CODES, query)


def signature(secret: str, timestamp_ms: int) -> str:
    """Base64 of the HMAC-SHA256 of time and secret under the secret; not yet encoded for a URL."""
    digest = hmac.digest(secret.encode(), f"{timestamp_ms}\n{secret}".encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


def _body(message: Message, number: int, count: int, page: str, users: Sequence[str]) -> dict[str, Any]:
    title = title_of(message, number, count)
    return {
        "msgtype": "markdown",
        "markdown": {"title": title, "text": f"#### {_DIALECT.escape(title)}\n\n{page}"},
        "at": {
            "atMobiles": [user for user in users if _is_mobile(user)],
            "atUserIds": [user for user in users if not _is_mobile(user)],
            "isAtAll": False,
        },
    }


def _is_mobile(user: str) -> bool:
    return user.removeprefix("+").replace("-", "").isdigit()
