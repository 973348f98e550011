"""One channel's way out: what goes next, alone or in a digest, when it may, and what follows when it fails."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from alerting.channels.base import Budget, Channel, DeliveryFailed
from alerting.message import Locale
from alerting.notification import Link, Notification
from alerting.sending.backoff import Backoff
from alerting.sending.gate import Gate
from alerting.sending.outcomes import Outcome
from alerting.sending.patient_ledger import PatientLedger
from alerting.sending.queue import Letter, SendingQueue, Waiting
from alerting.texts.rendering import render, render_digest
from tables.errors import Fenced
from tables.send_ledger import Limit

logger = logging.getLogger(__name__)

#: More than so many waiting are made a digest even before the budget is short.
DIGEST_ABOVE: Final = 5
THROTTLE_CAP_S: Final = 900.0
#: While a channel is shut for longer than this, critical ones do not wait for it where another can stand in.
DETOUR_ABOVE_S: Final = 30.0
#: No line of a digest is shorter: so many bytes take at most so many notifications.
_LINE_BYTES: Final = 40
#: A parcel counts over there when it arrives: within this share of a window, up to this many milliseconds.
_ON_THE_WAY: Final = 20
_ON_THE_WAY_MS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """How one channel is used. `budgets`: instead of what the channel says itself."""

    locale: Locale = "en"
    time_zone: str = "UTC"
    fallback: str = ""
    """The channel that stands in when this one fails; empty: none."""
    budgets: tuple[Budget, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all lanes share. `clock`: monotonic seconds."""

    ledger: PatientLedger
    links: Callable[[Notification], Sequence[Link]]
    backoff: Backoff
    attempt_timeout_s: float
    rng: random.Random
    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]


class Above(Protocol):
    """What a lane leaves to the notifier."""

    def count(self, channel: str, outcome: Outcome) -> None:
        """Note what became of a notification."""

    def trimmed(self, waiting: Waiting) -> Notification | None:
        """What its gate leaves of it."""

    def is_sent(self, waiting: Waiting) -> None:
        """It is out of the queue, and its gate is to know."""

    def has_detour(self, waiting: Waiting) -> bool:
        """Whether another channel can stand in for the one on which it waits."""

    def has_failed(self, waiting: Waiting, outcome: Outcome, reason: str) -> None:
        """Take it out of its queue, to the channel that stands in or to the dead letters."""

    def is_fenced(self, gate: Gate) -> None:
        """Drop everything under `gate`: another worker has its partition."""


class Lane:
    """One channel and what waits for it; its task runs `run`. One parcel at a time."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        settings: LaneSettings,
        queue_size: int,
        around: Surroundings,
        above: Above,
    ) -> None:
        self.name = name
        self.channel = channel
        self.settings = settings
        self.queue = SendingQueue(queue_size)
        self.task: asyncio.Task[None] | None = None
        self._around = around
        self._above = above
        budgets = channel.budgets if settings.budgets is None else settings.budgets
        self._limits = [
            Limit(each.parcels, each.per_ms + min(each.per_ms // _ON_THE_WAY, _ON_THE_WAY_MS), each.reserve)
            for each in budgets
        ]
        self._held_to = 0
        self._shut_until = -math.inf
        self._shut_for = ""
        self._down = False
        self._trouble = ""

    async def run(self) -> None:
        """Send, for ever."""
        while True:
            self.queue.came.clear()
            self.queue.urgent_came.clear()
            try:
                if not self.queue:
                    await self.queue.came.wait()
                else:
                    await self._turn()
            except Exception:
                # A mistake of ours must not end the delivery of alerts.
                logger.exception("%s: the notifier failed", self.name)
                await self._around.sleep(self._around.backoff.cap_s)

    async def _turn(self) -> None:
        left = self._shut_until - self._around.clock()
        if left > 0:
            await self._stay_shut(left)
            return
        urgent = self.queue.first().urgent
        if self._limits:
            wait_ms = await self._around.ledger.take(self.name, self._limits, urgent=urgent)
            if wait_ms:
                self._held_to = self.queue.newest
                await self._pause(wait_ms / 1000, None if urgent else self.queue.urgent_came)
                return
        # Chosen only now, after the wait. What is taken from the reserve is for nothing else.
        while self.queue and (self.queue.first().urgent or not urgent):
            letter = await self._compose()
            if letter is not None:
                await self._send_next(letter)
                return

    async def _stay_shut(self, left_s: float) -> None:
        """Wait for the channel, except with those that need not: all if it is down, critical ones if it takes long."""
        if not self._down and left_s <= DETOUR_ABOVE_S:
            await self._around.sleep(left_s)
            return
        for waiting in list(self.queue if self._down else self.queue.urgent()):
            if self._above.has_detour(waiting):
                self._above.has_failed(waiting, "avoided", self._shut_for)
        if self.queue:
            await self._pause(left_s, self.queue.came if self._down else self.queue.urgent_came)

    async def _pause(self, seconds: float, until: asyncio.Event | None) -> None:
        if until is None:
            await self._around.sleep(seconds)
            return
        sleeper = asyncio.ensure_future(self._around.sleep(seconds))
        waker = asyncio.ensure_future(until.wait())
        try:
            await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    async def _compose(self) -> Letter | None:
        """What is to be sent now; None: what was looked at need not be sent, and is gone."""
        chosen = self._choose()
        await self._leave_out_sent(chosen)
        notifications = {}
        for waiting in chosen:
            if waiting in self.queue:
                trimmed = None if waiting.gate.given_up else self._above.trimmed(waiting)
                if trimmed is None:
                    self._finish(waiting, "withdrawn")
                else:
                    notifications[waiting] = waiting.here(trimmed)
        if not notifications:
            return None
        begun = next(iter(notifications)).letter
        if begun is not None:
            # What has begun is brought to its end as it was.
            return begun
        try:
            return self._write(notifications)
        except Exception as error:
            logger.exception("%s: no message can be made", self.name)
            for waiting in notifications:
                if len(notifications) > 1:
                    waiting.alone = True
                else:
                    self._above.has_failed(waiting, "broken", type(error).__name__)
            return None

    def _choose(self) -> list[Waiting]:
        first = self.queue.first()
        if first.letter is not None:
            return [waiting for waiting in first.letter.waiting if waiting in self.queue]
        crowded = self.queue.waited_since(self._held_to) or self.queue.count_calm() > DIGEST_ABOVE
        if first.urgent or first.alone or not self.channel.digest_bytes or not crowded:
            return [first]
        most = self.channel.digest_bytes // _LINE_BYTES + 1
        together = [waiting for waiting in self.queue.calm() if waiting.letter is None and not waiting.alone]
        return together[:most]

    async def _leave_out_sent(self, chosen: Iterable[Waiting]) -> None:
        for gate, group in _by_gate(chosen):
            keys = [key for waiting in group for key in waiting.keys]
            try:
                unsent = set(await self._around.ledger.unsent(gate.lease, keys))
            except Fenced:
                self._above.is_fenced(gate)
                continue
            for waiting in group:
                if not unsent.issuperset(waiting.keys) and self._finish(waiting, "already_sent"):
                    self._above.is_sent(waiting)

    def _write(self, notifications: dict[Waiting, Notification]) -> Letter:
        together = list(notifications)
        locale = self.settings.locale
        if len(together) > 1:
            message, taken = render_digest(
                list(notifications.values()), locale=locale, limit_bytes=self.channel.digest_bytes
            )
            together = together[:taken]
        if len(together) == 1:
            one = notifications[together[0]]
            message = render(one, locale=locale, links=self._around.links(one), time_zone=self.settings.time_zone)
        letter = Letter(together, message, self.channel.prepare(message))
        if not letter.parcels:
            raise ValueError("the channel made no parcel of a message")
        return letter

    async def _send_next(self, letter: Letter) -> None:
        """The next parcel of it."""
        for waiting in letter.waiting:
            waiting.letter = letter
        began = self._around.clock()
        try:
            async with asyncio.timeout(self._around.attempt_timeout_s):
                await self.channel.send(letter.parcels[letter.delivered])
        except TimeoutError:
            late = f"not done within {self._around.attempt_timeout_s:g} s"
            self._put_off(letter, DeliveryFailed(late, retryable=True), began)
        except DeliveryFailed as failure:
            if failure.retryable:
                self._put_off(letter, failure, began)
            else:
                self._give_up(letter, "refused", failure.reason)
        except Exception as error:
            logger.exception("%s: the channel is broken", self.name)
            self._give_up(letter, "broken", type(error).__name__)
        else:
            self._is_well()
            letter.delivered += 1
            for waiting in letter.waiting:
                waiting.failures, waiting.failing_since = 0, None
            if letter.delivered == len(letter.parcels):
                await self._mark(letter)

    async def _mark(self, letter: Letter) -> None:
        outcome: Outcome = "sent" if len(letter.waiting) == 1 else "digested"
        for gate, group in _by_gate(letter.waiting):
            keys = [key for waiting in group for key in waiting.keys]
            try:
                await self._around.ledger.mark(gate.lease, keys)
            except Fenced:
                self._above.is_fenced(gate)
                continue
            for waiting in group:
                if self._finish(waiting, outcome):
                    self._above.is_sent(waiting)

    def _put_off(self, letter: Letter, failure: DeliveryFailed, began: float) -> None:
        """After a failure that may pass: try again later, or give up what has been tried often enough."""
        pause, gave_up = self._asked_for(failure), False
        for waiting in self._still_in(letter):
            waiting.failures += 1
            waiting.failing_since = began if waiting.failing_since is None else waiting.failing_since
            if not letter.delivered:
                waiting.letter = None
            detour = self._above.has_detour(waiting)
            # A channel that was given up before is only looked at again.
            wait = None if self._down and detour else self._wait(waiting, failure, detour)
            if wait is None:
                tries = f"{waiting.failures} {'try' if waiting.failures == 1 else 'tries'}"
                self._above.has_failed(waiting, "gave_up", f"{failure.reason} (after {tries})")
                gave_up |= detour
            else:
                self._above.count(self.name, "retried")
                pause = max(pause, wait)
        if gave_up:
            self._down = True
            pause = max(pause, self._around.backoff.cap_s)
        if failure.reason != self._trouble:
            logger.warning("%s: does not deliver: %s", self.name, failure.reason)
            self._trouble = failure.reason
        self._shut_until, self._shut_for = self._around.clock() + pause, failure.reason

    def _wait(self, waiting: Waiting, failure: DeliveryFailed, detour: bool) -> float | None:
        backoff, rng = self._around.backoff, self._around.rng
        if failure.throttled:
            # Its time is not running out: nobody has looked at it yet.
            return backoff.wait(waiting.failures, 0.0, rng, has_detour=detour)
        elapsed = self._around.clock() - (waiting.failing_since or 0.0)
        return backoff.wait(waiting.failures, elapsed, rng, failure.retry_after_s, has_detour=detour)

    def _asked_for(self, failure: DeliveryFailed) -> float:
        return min(failure.retry_after_s or 0.0, THROTTLE_CAP_S) if failure.throttled else 0.0

    def _give_up(self, letter: Letter, outcome: Outcome, reason: str) -> None:
        for waiting in self._still_in(letter):
            self._above.has_failed(waiting, outcome, reason)

    def _still_in(self, letter: Letter) -> list[Waiting]:
        return [waiting for waiting in letter.waiting if waiting in self.queue]

    def _is_well(self) -> None:
        if self._trouble:
            logger.info("%s: delivers again", self.name)
        self._trouble, self._down = "", False

    def _finish(self, waiting: Waiting, outcome: Outcome) -> bool:
        if not self.queue.remove(waiting):
            return False  # withdrawn meanwhile
        self._above.count(self.name, outcome)
        return True


def _by_gate(waiting: Iterable[Waiting]) -> list[tuple[Gate, list[Waiting]]]:
    groups: dict[int, tuple[Gate, list[Waiting]]] = {}
    for each in waiting:
        groups.setdefault(id(each.gate), (each.gate, []))[1].append(each)
    return list(groups.values())
