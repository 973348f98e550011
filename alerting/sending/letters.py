"""What a channel is sent next: chosen from its queue when its turn comes, alone or in a digest, and put into words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from alerting.channels.base import Channel
from alerting.message import Locale, Message, Parcel
from alerting.notification import Link, Notification, key_of
from alerting.sending.gate import Gate
from alerting.sending.outcomes import Outcome
from alerting.sending.patient_ledger import PatientLedger
from alerting.sending.queue import Letter, SendingQueue, Waiting
from alerting.texts.rendering import render, render_digest
from tables.errors import Fenced

logger = logging.getLogger(__name__)

#: More than so many waiting are made a digest even before the budget is short.
DIGEST_ABOVE: Final = 5
#: No line of a digest is shorter: so many bytes take at most so many notifications.
_LINE_BYTES: Final = 40


class Above(Protocol):
    """What a lane leaves to the notifier."""

    def count(self, channel: str, outcome: Outcome) -> None:
        """Note what became of a notification."""

    def trimmed(self, waiting: Waiting) -> Notification | None:
        """What its gate leaves of it, as it is said here."""

    def ways(self, waiting: Waiting) -> Sequence[Notification]:
        """It as it was submitted, and as each of the channels that can stand in would say it."""

    def is_sent(self, waiting: Waiting, as_said: Notification) -> None:
        """It is out of the queue, and its gate is to know."""

    def is_sent_in_part(self, waiting: Waiting, alert_id: str) -> None:
        """What it says of one alert is out, and its gate is to know."""

    def has_detour(self, waiting: Waiting) -> bool:
        """Whether another channel can stand in for the one on which it waits."""

    def has_failed(self, waiting: Waiting, outcome: Outcome, reason: str) -> None:
        """Take it out of its queue, to the channel that stands in or to the dead letters."""

    def is_fenced(self, gate: Gate) -> None:
        """Drop everything under `gate`: another worker has its partition."""


class LetterDesk:
    """Makes letters of what waits for one channel."""

    def __init__(
        self,
        channel: Channel,
        queue: SendingQueue,
        ledger: PatientLedger,
        above: Above,
        *,
        locale: Locale,
        time_zone: str,
        links: Callable[[Notification], Sequence[Link]],
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._ledger = ledger
        self._above = above
        self._locale: Locale = locale
        self._time_zone = time_zone
        self._links = links

    async def compose(self, first: Waiting, held_to: int) -> Letter | None:
        """What is to be sent now, `first` in it; None: what was looked at need not be sent, and is gone.

        `held_to`: the newest in the queue when the budget was short the last time.
        """
        chosen = self._choose(first, held_to)
        await self._leave_out_sent(chosen)
        notifications = {}
        for waiting in chosen:
            if waiting in self._queue:
                trimmed = None if waiting.gate.given_up else self._above.trimmed(waiting)
                if trimmed is None:
                    self.finish(waiting, "withdrawn")
                else:
                    notifications[waiting] = trimmed
        if not notifications:
            return None
        letter = next(iter(notifications)).letter or self._try_to_write(notifications)
        if letter is not None:
            # What has begun is brought to its end, but for what must not be said any more.
            letter.current = frozenset(name for each in notifications.values() for name in each.alert_ids)
            await self._skip_what_is_out(letter)
        return letter

    def finish(self, waiting: Waiting, outcome: Outcome) -> bool:
        """Take it out of the queue; False where it was withdrawn meanwhile."""
        if not self._queue.remove(waiting):
            return False
        self._above.count(self._channel.name, outcome)
        return True

    def _choose(self, first: Waiting, held_to: int) -> list[Waiting]:
        if first.letter is not None:
            return [waiting for waiting in first.letter.waiting if waiting in self._queue]
        is_crowded = (
            self._queue.waited_since(held_to, urgent=first.urgent)
            or self._queue.count(urgent=first.urgent) > DIGEST_ABOVE
        )
        if first.alone or not self._channel.digest_bytes or not is_crowded:
            return [first]
        # What is critical is a digest of its own, and goes before.
        alike = self._queue.urgent() if first.urgent else self._queue.calm()
        together = [waiting for waiting in alike if waiting.letter is None and not waiting.alone]
        return together[: self._channel.digest_bytes // _LINE_BYTES + 1]

    async def _leave_out_sent(self, chosen: Iterable[Waiting]) -> None:
        for gate, group in by_gate(chosen):
            ways = {waiting: self._above.ways(waiting) for waiting in group}
            try:
                unsent = set(
                    await self._ledger.unsent(gate.lease, [said.key for said_so in ways.values() for said in said_so])
                )
            except Fenced:
                self._above.is_fenced(gate)
                continue
            for waiting, said_so in ways.items():
                known = [said for said in said_so if said.key not in unsent]
                if known and self.finish(waiting, "already_sent"):
                    self._above.is_sent(waiting, known[-1])

    def _try_to_write(self, notifications: dict[Waiting, Notification]) -> Letter | None:
        try:
            return self._write(notifications)
        except Exception as error:
            logger.exception("%s: no message can be made", self._channel.name)
            for waiting in notifications:
                if len(notifications) > 1:
                    waiting.alone = True
                else:
                    self._above.has_failed(waiting, "broken", type(error).__name__)
            return None

    def _write(self, notifications: dict[Waiting, Notification]) -> Letter:
        together = list(notifications)
        message: Message | None = None
        if len(together) > 1:
            message, taken = render_digest(
                list(notifications.values()), locale=self._locale, limit_bytes=self._channel.digest_bytes
            )
            together = together[:taken]
        if message is None or len(together) == 1:
            one = notifications[together[0]]
            message = render(one, locale=self._locale, links=self._links(one), time_zone=self._time_zone)
        letter = Letter(together, message, self._channel.prepare(message))
        if not letter.parcels:
            raise ValueError("the channel made no parcel of a message")
        return letter

    async def _skip_what_is_out(self, letter: Letter) -> None:
        """Of several parcels some may have been sent by an earlier owner."""
        if len(letter.parcels) > 1 and len(letter.waiting) == 1 and not letter.delivered:
            lease = letter.waiting[0].gate.lease
            marks = [mark_of(parcel) for parcel in letter.parcels]
            try:
                unsent = set(await self._ledger.unsent(lease, marks))
            except Fenced:
                return  # it is seen at the next look
            letter.parcels = [parcel for parcel, mark in zip(letter.parcels, marks, strict=True) if mark in unsent]
        letter.skip_past()


def mark_of(parcel: Parcel) -> str:
    """Under which the ledger knows a part of a message, as it is now, as sent."""
    return key_of(parcel.key, parcel.body)


def by_gate(waiting: Iterable[Waiting]) -> list[tuple[Gate, list[Waiting]]]:
    """Grouped by the gates that they are under, in order."""
    groups: dict[int, tuple[Gate, list[Waiting]]] = {}
    for each in waiting:
        groups.setdefault(id(each.gate), (each.gate, []))[1].append(each)
    return list(groups.values())
