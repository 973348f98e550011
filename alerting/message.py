"""What a channel is given to send: texts that are ready, and the alerts behind them for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from alerting.alert import Alert, Severity
from alerting.notification import Link, Notification, Stage

Locale = Literal["en", "zh"]
LOCALES: Final[tuple[Locale, ...]] = ("en", "zh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notification, or a digest of several, in the words of one locale."""

    key: str
    """Idempotency key; of a digest the key of the keys in it."""
    stage: Stage | Literal["digest"]
    severity: Severity
    locale: Locale
    title: str
    """One line of plain text."""
    text: str = field(repr=False)
    """All of it as plain text, without the title; lines end with a newline. Its links may let their holder act."""
    markdown: str = field(repr=False)
    """All of it, without the title, in what all chat tools read: `**bold**`, `[text](url)`, `> quote`, lines. What
    came from events is escaped."""
    notifications: tuple[Notification, ...]
    """What it covers; one unless it is a digest."""
    links: tuple[Link, ...] = ()

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Of all notifications, each alert once, in order."""
        return tuple({alert.alert_id: alert for note in self.notifications for alert in note.alerts}.values())

    @property
    def thread(self) -> str:
        """The conversation that it belongs to; of a digest its own."""
        return self.notifications[0].group_key if len(self.notifications) == 1 else self.key

    @property
    def mentions(self) -> tuple[str, ...]:
        """People of all notifications, each once."""
        return tuple(dict.fromkeys(name for note in self.notifications for name in note.mentions))

    @property
    def status(self) -> Literal["firing", "acknowledged", "resolved"]:
        """`firing` while any of the alerts is, `resolved` when all are."""
        found = {alert.status for alert in self.alerts}
        return "firing" if "firing" in found else "acknowledged" if "acknowledged" in found else "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One request to the other side: a message may take several. `body` is what the channel made of it."""

    key: str
    """Idempotency key of this part: the same on every attempt."""
    body: Any = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    alert_id: str = ""
    """The only alert that it is about; empty: it is about all of the message's."""
