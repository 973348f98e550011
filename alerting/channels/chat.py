"""What the channels to chat rooms have in common: a title, pages of text that fit, mentions, and answers in JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from alerting.alert import printable
from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.http import Answer, HttpPoster, HttpRefused, json_object
from alerting.channels.markdown import Dialect, Line
from alerting.message import Message, Parcel
from alerting.texts.splitting import cut_bytes
from tables.errors import ConfigError

TITLE_BYTES: Final = 256
#: The number that a title gets is not known before the text is split; room for the longest.
MOST_PARTS: Final = 9999

_TOKEN: Final = re.compile(r"[\w-]+", re.ASCII)
_PERSON: Final = re.compile(r"[\w.@+-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyCodes:
    """How a service says in the body of its answer what became of the message; 0 is well."""

    code: str
    """Name of the field."""
    text: str
    throttled: Mapping[int, float] = field(default_factory=dict)
    """Codes of too many messages, and the seconds after which it takes some again."""
    busy: frozenset[int] = frozenset()
    """Codes that may be others at the next attempt. All others are final."""


class ChatChannel:
    """Base of channels that POST JSON to one robot."""

    def __init__(
        self,
        name: str,
        poster: HttpPoster,
        *,
        budgets: Sequence[Budget],
        digest_bytes: int,
        mentions: Mapping[str, str] | None,
    ) -> None:
        """`mentions` says how the tool calls people. Raises ConfigError where that could not be an id."""
        for person, user in (mentions or {}).items():
            if not _PERSON.fullmatch(user):
                raise ConfigError(f"channel {name}: expected a user id to mention {person}, got {printable(user)!r}")
        self.name = name
        self.budgets = tuple(budgets)
        self.digest_bytes = digest_bytes
        self._poster = poster
        self._mentions = dict(mentions or {})

    def __repr__(self) -> str:
        # Path and query too are hidden: they are the robot's password.
        return f"{type(self).__name__}(name={self.name!r}, url='{self._poster.origin}/…')"

    async def close(self) -> None:
        """Close the connections; a later `send` opens new ones."""
        await self._poster.close()

    def _users(self, message: Message) -> list[str]:
        """Ids of those who are mentioned, as far as they are known."""
        return [self._mentions[name] for name in message.mentions if name in self._mentions]

    def _pages(self, message: Message, lines: Sequence[Line], dialect: Dialect, limit: int, mention: str) -> list[str]:
        """Mentions and `lines` of `message`, in pages that the dialect finds no larger than `limit`. `mention` is how
        the tool mentions an id, with `{}` for it; who has none is called by name."""
        calls = [
            mention.format(self._mentions[name]) if name in self._mentions else dialect.escape(f"@{name}")
            for name in message.mentions
        ]
        called = dialect.fill(calls, limit, between=" ") if calls else []
        return dialect.fill([*called, *dialect.lines(lines, limit)], limit)

    async def _deliver(
        self, parcel: Parcel, body: object, codes: BodyCodes, query: Mapping[str, str] | None = None
    ) -> None:
        """POST `body` and read in the answer's body whether it was taken. Raises DeliveryFailed."""
        secret = tuple((query or {}).values())
        headers = {"Idempotency-Key": parcel.key}
        try:
            answer = await self._poster.post(orjson.dumps(body), headers=headers, query=query)
        except HttpRefused as refused:
            # Some tell a limit with a status of their own; what is not in the table is as the status says.
            if (throttled := self._throttled(refused.answer, codes)) is not None:
                raise throttled from None
            raise
        found = json_object(answer)
        code = found.get(codes.code)
        if code == 0:
            return
        if (throttled := self._throttled(answer, codes)) is not None:
            raise throttled
        if not isinstance(code, int):
            raise DeliveryFailed(f"HTTP {answer.status}, but the answer has no {codes.code}", retryable=True)
        said = self._poster.shown(f"{codes.code} {code}: {found.get(codes.text, '')}", secret)
        raise DeliveryFailed(said, retryable=code in codes.busy)

    def _throttled(self, answer: Answer, codes: BodyCodes) -> DeliveryFailed | None:
        try:
            code = json_object(answer).get(codes.code)
        except DeliveryFailed:
            return None
        wait_s = codes.throttled.get(code) if isinstance(code, int) else None
        if wait_s is None:
            return None
        return DeliveryFailed(
            f"{codes.code} {code}: too many messages", retryable=True, retry_after_s=wait_s, throttled=True
        )


def title_of(message: Message, number: int, count: int) -> str:
    """The title of part `number` of `count`: short, one line, and numbered where there are several."""
    title = cut_bytes(printable(message.title, TITLE_BYTES), TITLE_BYTES)
    return f"{title} ({number}/{count})" if count > 1 else title


def parcels_of(message: Message, bodies: Sequence[Mapping[str, Any]]) -> list[Parcel]:
    """A parcel for each body; the keys depend on the message and the place alone."""
    return [Parcel(key=f"{message.key}:{number}", body=body) for number, body in enumerate(bodies, 1)]


def json_size(text: str) -> int:
    """Bytes that `text` takes within a JSON document."""
    return len(orjson.dumps(text)) - len('""')


def check_token(token: str, name: str, what: str) -> None:
    """Raises ConfigError, which does not show it, where `token` is not one as it goes into a URL, but for example the
    whole URL."""
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"channel {name}: expected {what} alone, got something else")
