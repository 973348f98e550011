"""What a desk has decided to say and is not known to be said: in a checkpoint before it is handed out, and no longer
than it has to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from alerting.notification import Notification

_Place: TypeAlias = tuple[str, str]
"""A group, and a channel."""


class Outbox:
    """In the order of the decisions. A call for a group says all that fires in it, so it covers the one before that has
    not been said yet, and goes in its place: of a group that grows faster than it can be told no more than two wait."""

    def __init__(self, covered: Callable[[], None]) -> None:
        """`covered` counts those that another one makes needless."""
        self._covered = covered
        self._kept: dict[str, Notification] = {}
        self._unsaved: list[str] = []
        self._sealed: list[tuple[int, list[str]]] = []
        self._decided: dict[_Place, str] = {}
        """The last call that no checkpoint holds yet."""
        self._handed_out: dict[_Place, Notification] = {}
        """The last call that was handed out, as it was then."""
        self._instead: dict[str, str] = {}
        """What was handed out -> what is to be said in its place."""
        self._tried: set[str] = set()
        """What was handed out and may be on its way."""

    def __iter__(self) -> Iterator[Notification]:
        return iter(list(self._kept.values()))

    def add(self, notification: Notification) -> None:
        """It was decided."""
        self._kept[notification.key] = notification
        self._unsaved.append(notification.key)
        if notification.stage == "firing":
            place = notification.group_key, notification.channel
            before = self._kept.get(self._decided.get(place, ""))
            if before is not None and _covers(notification, before):
                self._drop(before)
            self._decided[place] = notification.key

    def seal(self, number: int) -> None:
        """Checkpoint `number` holds all of it."""
        self._handed_out = {place: call for place, call in self._handed_out.items() if self._said_for(call.key)}
        if self._unsaved:
            self._sealed.append((number, [key for key in self._unsaved if key in self._kept]))
            self._unsaved, self._decided = [], {}

    def take_saved(self, number: int) -> list[Notification]:
        """What may be said now: checkpoints up to `number` hold it, so that no crash can make it be forgotten."""
        ready: list[Notification] = []
        while self._sealed and self._sealed[0][0] <= number:
            ready += [self._kept[key] for key in self._sealed.pop(0)[1] if key in self._kept]
        return [notification for notification in ready if not self._goes_in_its_place(notification)]

    def look_at(self, handed_out: Notification) -> Notification | None:
        """What is to be said now where this was handed out; from here on it may be on its way. None: nothing."""
        self._tried.add(handed_out.key)
        return self._said_for(handed_out.key)

    def settle(self, handed_out: Notification) -> Notification | None:
        """Nothing more is to be done about it; returns what was to be said in the end, None if that is known."""
        self._tried.discard(handed_out.key)
        return self._kept.pop(self._instead.pop(handed_out.key, handed_out.key), None)

    def fill(self, notifications: Iterable[Notification], *, saved: bool) -> None:
        """Take over what another one held, some of which may have been said; `saved`: a checkpoint holds it."""
        self._kept = {notification.key: notification for notification in notifications}
        self._tried = set(self._kept)
        if saved:
            self._sealed = [(0, list(self._kept))]
        else:
            self._unsaved = list(self._kept)

    def _goes_in_its_place(self, call: Notification) -> bool:
        """Whether it is said where the call before waits for its turn, which else might never come."""
        if call.stage != "firing":
            return False
        place = call.group_key, call.channel
        waiting = self._handed_out.get(place)
        before = None if waiting is None else self._said_for(waiting.key)
        if waiting is not None and before is not None and waiting.key not in self._tried and _covers(call, before):
            self._drop(before)
            if call.severity == waiting.severity:
                self._instead[waiting.key] = call.key
                return True
            # More urgent than what waits there: it has a place further ahead.
            self._instead.pop(waiting.key, None)
        self._handed_out[place] = call
        return False

    def _said_for(self, handed_out: str) -> Notification | None:
        return self._kept.get(self._instead.get(handed_out, handed_out))

    def _drop(self, needless: Notification) -> None:
        del self._kept[needless.key]
        self._covered()


def _covers(call: Notification, before: Notification) -> bool:
    """Whether nobody misses anything where only `call` is said."""
    return (
        before.stage == "firing"
        and set(before.alert_ids) <= set(call.alert_ids)
        and set(before.mentions) <= set(call.mentions)
    )
