"""Messages to a Feishu (or Lark) group robot, as cards in the colour of their severity, signed.

Signature, limits and error codes: https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from alerting.alert import Severity
from alerting.channels.base import Budget
from alerting.channels.chat import MOST_PARTS, BodyCodes, ChatChannel, check_token, json_size, parcels_of, title_of
from alerting.channels.http import DEFAULT_TIMEOUT_S, HttpPoster
from alerting.channels.markdown import Dialect, Line, parse
from alerting.message import Message, Parcel

BASE_URL: Final = "https://open.feishu.cn"
BUDGETS: Final = (Budget(100, 60_000), Budget(5, 1_000))
BODY_BYTES: Final = 20_000
DIGEST_BYTES: Final = 12_000

#: Not all versions of the cards know quotes.
_DIALECT: Final = Dialect(quote="│ ", size=json_size)
_MENTION: Final = "<at id={}></at>"
_CODES: Final = BodyCodes(code="code", text="msg", throttled={9499: 10.0, 11232: 60.0})
_COLOUR: Final[Mapping[Severity, str]] = {"critical": "red", "major": "orange", "minor": "yellow"}
#: What the signature adds to a body.
_SIGNATURE_BYTES: Final = 100


class FeishuChannel(ChatChannel):
    """A robot of one group. `mentions` are user ids or open ids."""

    def __init__(
        self,
        hook: str,
        *,
        name: str = "feishu",
        secret: str | None = None,
        base_url: str = BASE_URL,
        mentions: Mapping[str, str] | None = None,
        budgets: Sequence[Budget] = BUDGETS,
        digest_bytes: int = DIGEST_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`hook` is what follows `/hook/` in the robot's URL; `secret` signs what is sent, `now` (seconds since the
        epoch) dates the signature: the service takes an hour's difference. Raises ConfigError."""
        check_token(hook, name, "the id of the robot's hook")
        url = f"{base_url.rstrip('/')}/open-apis/bot/v2/hook/{hook}"
        secrets = [hook] if secret is None else [hook, secret]
        poster = HttpPoster(name, url, secrets=secrets, timeout_s=timeout_s, now=now)
        super().__init__(name, poster, budgets=budgets, digest_bytes=digest_bytes, mentions=mentions)
        self._secret = secret
        self._now = now

    def prepare(self, message: Message) -> list[Parcel]:
        """One card for each 20,000 bytes; the last has the buttons."""
        largest = orjson.dumps(_body(message, MOST_PARTS, MOST_PARTS, ""))
        room = BODY_BYTES - _SIGNATURE_BYTES - len(largest)
        pages = self._pages(message, _without_buttons(message), _DIALECT, room, _MENTION)
        return parcels_of(message, [_body(message, number, len(pages), page) for number, page in enumerate(pages, 1)])

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed: throttled on codes 9499 and 11232, final on any other such as 19021 (signature)."""
        body = parcel.body
        if self._secret is not None:
            timestamp_s = int(self._now())
            body = {"timestamp": str(timestamp_s), "sign": signature(self._secret, timestamp_s), **body}
        await self._deliver(parcel, body, _CODES)


def signature(secret: str, timestamp_s: int) -> str:
    """Base64 of the HMAC-SHA256 of nothing under time and secret."""
    digest = hmac.digest(f"{timestamp_s}\n{secret}".encode(), b"", hashlib.sha256)
    return base64.b64encode(digest).decode()


def _without_buttons(message: Message) -> list[Line]:
    """The text's lines but those that are nothing but a link that is a button as well."""
    titles = {link.title for link in message.links}
    return [
        line
        for line in parse(message.markdown)
        if not (len(line.spans) == 1 and line.spans[0].url and line.spans[0].text in titles)
    ]


def _body(message: Message, number: int, count: int, page: str) -> dict[str, Any]:
    elements: list[dict[str, Any]] = [{"tag": "markdown", "content": page}]
    buttons = [
        {"tag": "button", "text": {"tag": "plain_text", "content": link.title}, "url": link.url, "type": "default"}
        for link in message.links
        if number == count
    ]
    if buttons:
        elements.append({"tag": "action", "actions": buttons})
    return {
        "msg_type": "interactive",
        "card": {
            "config": {"wide_screen_mode": True},
            "header": {
                "template": _colour(message),
                "title": {"tag": "plain_text", "content": title_of(message, number, count)},
            },
            "elements": elements,
        },
    }


def _colour(message: Message) -> str:
    if message.status == "firing":
        return _COLOUR[message.severity]
    return "green" if message.status == "resolved" else "blue"
