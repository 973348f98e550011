"""Messages to a WeCom (WeChat Work) group robot, as markdown.

Limits and error codes: https://developer.work.weixin.qq.com/document/path/91770
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from alerting.alert import Severity
from alerting.channels.base import Budget
from alerting.channels.chat import MOST_PARTS, BodyCodes, ChatChannel, check_token, parcels_of, title_of
from alerting.channels.http import DEFAULT_TIMEOUT_S, HttpPoster
from alerting.channels.markdown import Dialect, parse
from alerting.message import Message, Parcel

BASE_URL: Final = "https://qyapi.weixin.qq.com"
BUDGETS: Final = (Budget(20, 60_000),)
CONTENT_BYTES: Final = 4096
DIGEST_BYTES: Final = 3500

_DIALECT: Final = Dialect()
_MENTION: Final = "<@{}>"
_CODES: Final = BodyCodes(code="errcode", text="errmsg", throttled={45009: 60.0}, busy=frozenset({-1}))
_COLOUR: Final[Mapping[Severity, str]] = {"critical": "warning", "major": "warning", "minor": "comment"}


class WeComChannel(ChatChannel):
    """A robot of one group. `mentions` are user ids."""

    def __init__(
        self,
        key: str,
        *,
        name: str = "wecom",
        base_url: str = BASE_URL,
        mentions: Mapping[str, str] | None = None,
        budgets: Sequence[Budget] = BUDGETS,
        digest_bytes: int = DIGEST_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`key` is what follows `key=` in the robot's URL. Raises ConfigError."""
        check_token(key, name, "the robot's key")
        url = f"{base_url.rstrip('/')}/cgi-bin/webhook/send?key={key}"
        poster = HttpPoster(name, url, secrets=[key], timeout_s=timeout_s, now=now)
        super().__init__(name, poster, budgets=budgets, digest_bytes=digest_bytes, mentions=mentions)

    def prepare(self, message: Message) -> list[Parcel]:
        """One parcel for each 4096 bytes of markdown."""
        room = CONTENT_BYTES - len(_heading(message, MOST_PARTS, MOST_PARTS).encode())
        pages = self._pages(message, parse(message.markdown), _DIALECT, room, _MENTION)
        contents = [_heading(message, number, len(pages)) + page for number, page in enumerate(pages, 1)]
        return parcels_of(message, [{"msgtype": "markdown", "markdown": {"content": text}} for text in contents])

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed: throttled on errcode 45009, retryable on -1, final on any other."""
        await self._deliver(parcel, parcel.body, _CODES)


def _heading(message: Message, number: int, count: int) -> str:
    colour = "info" if message.status == "resolved" else _COLOUR[message.severity]
    title = _DIALECT.escape(title_of(message, number, count))
    return f'**<font color="{colour}">{title}</font>**\n'
