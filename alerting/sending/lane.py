"""One channel's way out: when something may go, what is sent, and what follows when that fails."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from alerting.channels.base import Budget, Channel, DeliveryFailed
from alerting.message import Locale
from alerting.notification import Link, Notification
from alerting.sending.backoff import Backoff
from alerting.sending.letters import Above, LetterDesk, by_gate, mark_of
from alerting.sending.outcomes import Outcome
from alerting.sending.patient_ledger import PatientLedger
from alerting.sending.queue import Letter, SendingQueue, Waiting
from alerting.sending.said_once import SaidOnce
from tables.memory_ledger import MemoryLedger
from tables.send_ledger import Limit

logger = logging.getLogger(__name__)

THROTTLE_CAP_S: Final = 900.0
#: While a channel is shut for longer than this, critical ones do not wait for it where another can stand in.
DETOUR_ABOVE_S: Final = 30.0
#: So long after a failure one that is critical and has not been tried yet does not wait any longer.
PROBE_AFTER_S: Final = 5.0
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
        self.resting = asyncio.Event()
        """Set while nothing is on its way: there is nothing to be sent, or it may not be sent yet."""
        self.resting.set()
        self._around = around
        self._above = above
        self._desk = LetterDesk(
            channel,
            self.queue,
            around.ledger,
            above,
            locale=settings.locale,
            time_zone=settings.time_zone,
            links=around.links,
        )
        budgets = channel.budgets if settings.budgets is None else settings.budgets
        self._limits = [
            Limit(each.parcels, each.per_ms + min(each.per_ms // _ON_THE_WAY, _ON_THE_WAY_MS), each.reserve)
            for each in budgets
        ]
        # The shared one may be lost with its store; what this worker has sent it knows itself.
        self._own_ledger = MemoryLedger(clock=around.clock)
        self._own_limits = [Limit(each.parcels, each.per_ms) for each in budgets]
        self._held_to = 0
        self._failures = 0
        """Failed attempts since the channel took something."""
        self._shut_until = self._probe_at = -math.inf
        self._shut_for = ""
        self._down = False
        self._is_probing = False
        """Whether what is tried is not what is next: its time is not running out."""
        self._pausing = False
        self._trouble = SaidOnce(around.clock)

    def put(self, waiting: Waiting) -> Waiting | None:
        """See SendingQueue.put."""
        if not self.queue and not self._pausing:
            self.resting.clear()  # it is about to be woken up
        return self.queue.put(waiting)

    async def run(self) -> None:
        """Send, for ever."""
        while True:
            self.queue.came.clear()
            self.queue.urgent_came.clear()
            try:
                if not self.queue:
                    self.resting.set()
                    await self.queue.came.wait()
                else:
                    await self._turn()
            except Exception:
                # A mistake of ours must not end the delivery of alerts.
                logger.exception("%s: the notifier failed", self.name)
                await self._around.sleep(self._around.backoff.cap_s)

    # -- when

    async def _turn(self) -> None:
        first = self._first()
        left = self._closed_for(first)
        if left > 0:
            await self._stay_shut(left)
            return
        urgent = first.urgent
        if self._limits:
            wait_ms = await self._take(urgent)
            if wait_ms:
                self._held_to = self.queue.newest
                await self._pause(wait_ms / 1000, None if urgent else self.queue.urgent_came)
                return
        self.resting.clear()
        # Chosen only now, after the wait. What is taken from the reserve is for nothing else.
        while self.queue and ((first := self._first()).urgent or not urgent):
            letter = await self._desk.compose(first, self._held_to)
            if letter is not None:
                await self._send_next(letter)
                return

    async def _take(self, urgent: bool) -> int:
        """One from the budget: 0, or the milliseconds to wait for it."""
        return await self._around.ledger.take(self.name, self._limits, urgent=urgent) or await self._own_ledger.take(
            self.name, self._own_limits, urgent=True
        )

    def _first(self) -> Waiting:
        now = self._around.clock()
        first = chosen = self.queue.first(now)
        untried = (waiting for waiting in self.queue.urgent() if not waiting.failures)
        if self._shut_until > now:
            chosen = next(untried, first)
        # Now and then another one, as it may be what is sent that the other side cannot take.
        elif self._failures > 1 and self._failures.bit_count() == 1:
            chosen = self.queue.least_tried()
        self._is_probing = chosen is not first
        return chosen

    def _closed_for(self, first: Waiting) -> float:
        """Seconds until this one may be sent."""
        until = max(self._shut_until, first.not_before)
        if first.urgent and not first.failures:
            until = min(until, self._probe_at)
        return until - self._around.clock()

    async def _stay_shut(self, left_s: float) -> None:
        """Wait for the channel, except with those that need not: all if it is down, critical ones if it takes long."""
        shut = self._shut_until > self._around.clock()
        if shut and (self._down or left_s > DETOUR_ABOVE_S):
            for waiting in list(self.queue if self._down else self.queue.urgent()):
                if self._above.has_detour(waiting):
                    self._above.has_failed(waiting, "avoided", self._shut_for)
        if self.queue:
            await self._pause(left_s, self.queue.came if self._down or not shut else self.queue.urgent_came)

    async def _pause(self, seconds: float, until: asyncio.Event | None) -> None:
        self.resting.set()
        self._pausing = True
        sleeper = asyncio.ensure_future(self._around.sleep(seconds))
        waker = asyncio.ensure_future((until or asyncio.Event()).wait())
        try:
            await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pausing = False
            sleeper.cancel()
            waker.cancel()

    # -- what follows

    async def _send_next(self, letter: Letter) -> None:
        """The next parcel of it."""
        for waiting in letter.waiting:
            waiting.letter = letter
        began = self._around.clock()
        try:
            if not letter.is_out:
                async with asyncio.timeout(self._around.attempt_timeout_s):
                    await self.channel.send(letter.parcels[letter.delivered])
        except TimeoutError:
            late = f"not done within {self._around.attempt_timeout_s:g} s"
            self._put_off(letter, DeliveryFailed(late, retryable=True), began)
        except DeliveryFailed as failure:
            if failure.retryable:
                self._put_off(letter, failure, began)
            else:
                self._refused(letter, failure.reason)
        except Exception as error:
            logger.exception("%s: the channel is broken", self.name)
            self._give_up(letter, "broken", type(error).__name__)
        else:
            await self._has_taken(letter)

    async def _has_taken(self, letter: Letter) -> None:
        if not letter.is_out:
            self._is_well()
            part = letter.parcels[letter.delivered]
            letter.delivered += 1
            letter.skip_past()
            for waiting in letter.waiting:
                waiting.failures, waiting.failing_since, waiting.not_before = 0, None, -math.inf
            if not letter.is_out:
                if len(letter.waiting) == 1:
                    only = letter.waiting[0]
                    await self._around.ledger.mark(only.gate.lease, [mark_of(part)])
                    if part.alert_id:
                        self._above.is_sent_in_part(only, part.alert_id)
                return
        outcome: Outcome = "sent" if len(letter.waiting) == 1 else "digested"
        for gate, group in by_gate(letter.waiting):
            said = {waiting: waiting.here for waiting in group}
            keys = [key for waiting, here in said.items() for key in (waiting.submitted.key, here.key)]
            # Also what was said in the place of one of these.
            keys += [notification.key for notification in letter.message.notifications]
            await self._around.ledger.mark(gate.lease, list(dict.fromkeys(keys)))
            for waiting, here in said.items():
                if self._desk.finish(waiting, outcome):
                    self._above.is_sent(waiting, here)

    def _put_off(self, letter: Letter, failure: DeliveryFailed, began: float) -> None:
        """After a failure that may pass: try again later, or give up what has been tried often enough."""
        backoff, share, now = self._around.backoff, self._around.rng.random(), self._around.clock()
        self._failures += 1
        hopeless = self._failures >= min(backoff.tries, backoff.tries_before_detour)
        gave_up = False
        for waiting in self._still_in(letter):
            waiting.failures += 1
            if waiting.failing_since is None and not self._is_probing:
                waiting.failing_since = began
            if not letter.delivered:
                waiting.letter = None
            detour = self._above.has_detour(waiting)
            # A channel that was given up before is only looked at again.
            wait = None if detour and (self._down or hopeless) else self._wait(waiting, failure, detour, share)
            if wait is None:
                tries = f"{waiting.failures} {'try' if waiting.failures == 1 else 'tries'}"
                self._above.has_failed(waiting, "gave_up", f"{failure.reason} (after {tries})")
                gave_up |= detour
            else:
                self._above.count(self.name, "retried")
                waiting.not_before = now + wait
        asked = 0.0
        if failure.retry_after_s is not None:
            asked = min(failure.retry_after_s, THROTTLE_CAP_S if failure.throttled else backoff.retry_after_cap_s)
        pause = max(asked, share * backoff.ceiling(self._failures))
        if gave_up and hopeless:
            self._down = True
            pause = max(pause, backoff.cap_s)
        if self._trouble.is_news("", failure.reason):
            logger.warning("%s: does not deliver: %s", self.name, failure.reason)
        self._shut_until, self._shut_for = now + pause, failure.reason
        self._probe_at = self._shut_until if failure.throttled or asked else now + PROBE_AFTER_S

    def _wait(self, waiting: Waiting, failure: DeliveryFailed, detour: bool, share: float) -> float | None:
        backoff = self._around.backoff
        if failure.throttled:
            # Its time is not running out: nobody has looked at it yet.
            return backoff.wait(waiting.failures, 0.0, share, has_detour=detour)
        now = self._around.clock()
        elapsed = now - (now if waiting.failing_since is None else waiting.failing_since)
        return backoff.wait(waiting.failures, elapsed, share, failure.retry_after_s, has_detour=detour)

    def _refused(self, letter: Letter, reason: str) -> None:
        if len(letter.waiting) == 1 or letter.delivered:
            self._give_up(letter, "refused", reason)
            return
        # One of them may be what it does not like; the others need not go with it.
        for waiting in self._still_in(letter):
            waiting.letter, waiting.alone = None, True
            self._above.count(self.name, "retried")

    def _give_up(self, letter: Letter, outcome: Outcome, reason: str) -> None:
        for waiting in self._still_in(letter):
            self._above.has_failed(waiting, outcome, reason)

    def _still_in(self, letter: Letter) -> list[Waiting]:
        return [waiting for waiting in letter.waiting if waiting in self.queue]

    def _is_well(self) -> None:
        if self._trouble.is_over():
            logger.info("%s: delivers again", self.name)
        self._failures, self._down = 0, False
