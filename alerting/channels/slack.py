"""Messages to a Slack incoming webhook, as blocks of its own mark-up.

Blocks and their limits: https://docs.slack.dev/reference/block-kit/blocks
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.chat import ChatChannel, parcels_of, title_of
from alerting.channels.http import DEFAULT_TIMEOUT_S, HttpPoster, json_object
from alerting.channels.markdown import Dialect, neutral, parse
from alerting.message import Message, Parcel

BUDGETS: Final = (Budget(1, 1_000),)
BLOCK_CHARACTERS: Final = 3000
MOST_BLOCKS: Final = 50
DIGEST_BYTES: Final = 12_000

_MENTION: Final = "<@{}>"
_THROTTLED: Final = frozenset({"rate_limited", "ratelimited"})


class SlackChannel(ChatChannel):
    """An incoming webhook. `mentions` are member ids such as U012AB3CD."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "slack",
        mentions: Mapping[str, str] | None = None,
        budgets: Sequence[Budget] = BUDGETS,
        digest_bytes: int = DIGEST_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`url` is a secret as a whole. Raises ConfigError."""
        poster = HttpPoster(name, url, timeout_s=timeout_s, now=now)
        super().__init__(name, poster, budgets=budgets, digest_bytes=digest_bytes, mentions=mentions)

    def prepare(self, message: Message) -> list[Parcel]:
        """One parcel for each 50 blocks of 3000 characters; the first block is the title."""
        blocks = [
            text
            for text in self._pages(message, parse(message.markdown), _DIALECT, BLOCK_CHARACTERS, _MENTION)
            if text.strip()  # an empty block is refused
        ]
        room = MOST_BLOCKS - 1
        pages = [blocks[first : first + room] for first in range(0, len(blocks), room)] or [[]]
        return parcels_of(message, [_body(message, number, len(pages), page) for number, page in enumerate(pages, 1)])

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed, as HTTP says; final as well where the body is an object with `ok` false."""
        answer = await self._poster.post(orjson.dumps(parcel.body), headers={"Idempotency-Key": parcel.key})
        try:
            found = json_object(answer)
        except DeliveryFailed:
            return  # a plain "ok"
        if found.get("ok") is False:
            throttled = found.get("error") in _THROTTLED
            reason = self._poster.shown(f"refused: {found.get('error')}")
            raise DeliveryFailed(reason, retryable=throttled, throttled=throttled)


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_DIALECT: Final = Dialect(
    bold="*{}*",
    link=lambda text, url: f"<{_entities(url)}|{text}>",
    escape=lambda text: _entities(neutral(text)),
    # As JavaScript counts.
    size=lambda text: len(text.encode("utf-16-le")) // 2,
)


def _body(message: Message, number: int, count: int, page: Sequence[str]) -> dict[str, Any]:
    title = _DIALECT.escape(title_of(message, number, count))
    # `verbatim`: Slack is to make no links of plain text.
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
        for text in (f"*{title}*", *page)
    ]
    return {"text": title, "blocks": blocks}
