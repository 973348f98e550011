"""Takes notifications to the channels: each its own queue, its own task, its own budget and retries."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from alerting.channels.base import Channel
from alerting.notification import Link, Notification
from alerting.sending.backoff import Backoff
from alerting.sending.gate import Gate
from alerting.sending.lane import Lane, LaneSettings, Surroundings
from alerting.sending.outcomes import OUTCOMES, Outcome
from alerting.sending.patient_ledger import PatientLedger
from alerting.sending.queue import Waiting
from alerting.sending.said_once import SaidOnce
from alerting.texts.template_filters import zone_of
from tables.errors import ConfigError
from tables.send_ledger import SendLedger

__all__ = ["DEFAULT_QUEUE_SIZE", "OUTCOMES", "Gate", "LaneSettings", "Notifier", "Outcome"]

logger = logging.getLogger(__name__)

DEFAULT_QUEUE_SIZE: Final = 10_000

Count = Callable[[str, Outcome], None]
DeadLetter = Callable[[Notification, str], None]


def _no_links(_: Notification) -> Sequence[Link]:
    return ()


class Notifier:
    """Sends every submitted notification on its channel at least once, or on one that stands in, or to `on_dead`.

    The most urgent goes first. A channel that is slow or fails holds up no other one. What has been sent is noted in
    the ledger, so that whoever takes over a partition repeats at most the message that was on its way.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        ledger: SendLedger,
        settings: Mapping[str, LaneSettings] | None = None,
        links: Callable[[Notification], Sequence[Link]] = _no_links,
        backoff: Backoff | None = None,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        attempt_timeout_s: float = 30.0,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_outcome: Count | None = None,
        on_dead: DeadLetter | None = None,
    ) -> None:
        """`settings` of channels by name; `links` to put into a message; `queue_size` of each channel.

        `on_outcome(channel, outcome)` counts; `on_dead(notification, reason)` gets what was not delivered. Both are
        called in the event loop and must not block. `rng`, `sleep` and `clock` (seconds) drive budgets and retries.
        Raises ConfigError for settings of a channel that there is not, or that name one.
        """
        named = dict(settings or {})
        for name, lane_settings in named.items():
            zone_of(lane_settings.time_zone)
            for channel in (name, *filter(None, [lane_settings.fallback])):
                if channel not in channels:
                    raise ConfigError(f"channel {channel!r}: expected one of {', '.join(channels) or 'none'}")
        rng = rng or random.Random()
        around = Surroundings(
            ledger=PatientLedger(ledger, rng=rng, sleep=sleep),
            links=links,
            backoff=backoff or Backoff(),
            attempt_timeout_s=attempt_timeout_s,
            rng=rng,
            sleep=sleep,
            clock=clock,
        )
        self._lanes = {
            name: Lane(name, channel, named.get(name, LaneSettings()), queue_size, around, self)
            for name, channel in channels.items()
        }
        self._on_outcome = on_outcome
        self._on_dead = on_dead
        self._counts: Counter[tuple[str, Outcome]] = Counter()
        self._logged = {name: SaidOnce(clock) for name in channels}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def counts(self) -> Mapping[tuple[str, Outcome], int]:
        """How often each (channel, outcome) has been seen."""
        return self._counts

    def waiting(self) -> dict[str, int]:
        """Notifications that each channel has yet to deliver, those on their way included."""
        return {name: len(lane.queue) for name, lane in self._lanes.items()}

    def submit(self, notification: Notification, gate: Gate) -> bool:
        """Queue it for its channel; its gate hears what becomes of it. Returns at once.

        False: there was no room, or there is no such channel; it has gone to the channel that stands in or to the dead
        letters, and then the gate has been told. Where there is no room, the newest of the least urgent gives way to
        what is more urgent, and goes there instead. Raises RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError("the notifier is closed")
        return self._put(notification.channel, Waiting(notification, gate))

    def withdraw(self, gate: Gate) -> None:
        """Drop everything under `gate`, whose partition was given up: its next owner sends it. What is being sent at
        this moment is sent."""
        self._drop(gate, "withdrawn")

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is left to deliver; False when that took longer than `timeout_s`."""
        return await self._until(lambda lane: lane.queue.emptied() if lane.queue else None, timeout_s)

    async def settle(self, timeout_s: float) -> bool:
        """Wait until nothing can be delivered right now, as what is left has to wait for a budget or for a receiver;
        False when that took longer than `timeout_s`."""
        return await self._until(lambda lane: None if lane.resting.is_set() else lane.resting.wait(), timeout_s)

    async def close(self) -> None:
        """Stop at once and close the channels. What was not delivered is still in the checkpoints of its partition."""
        self._closed = True
        tasks = {lane.task for lane in self._lanes.values() if lane.task is not None}
        while tasks:
            # More than once: `asyncio.wait_for`, as redis-py uses it, loses a cancellation that comes with the answer.
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.1)
        for lane in self._lanes.values():
            lane.task = None
            await lane.channel.close()

    # What the lanes leave to it; see Above in alerting/sending/letters.py.

    def count(self, channel: str, outcome: Outcome) -> None:
        self._counts[channel, outcome] += 1
        if self._on_outcome is not None:
            with _contained("on_outcome"):
                self._on_outcome(channel, outcome)

    def trimmed(self, waiting: Waiting) -> Notification | None:
        here = waiting.here
        try:
            return waiting.gate.trim(waiting.submitted, here)
        except Exception:
            logger.exception("the trim of the gate failed")
            return here

    def ways(self, waiting: Waiting) -> Sequence[Notification]:
        detour: list[str] = []
        channel = waiting.submitted.channel
        while (channel := self._lanes[channel].settings.fallback) and channel not in (
            waiting.submitted.channel,
            *detour,
        ):
            detour.append(channel)
        return [waiting.submitted.on(*detour[:count]) for count in range(len(detour) + 1)]

    def is_sent(self, waiting: Waiting, as_said: Notification) -> None:
        self._logged[waiting.channel].is_over()
        if not waiting.gate.given_up:
            with _contained("sent of the gate"):
                waiting.gate.sent(waiting.submitted, as_said)

    def is_sent_in_part(self, waiting: Waiting, alert_id: str) -> None:
        if not waiting.gate.given_up:
            with _contained("sent_in_part of the gate"):
                waiting.gate.sent_in_part(waiting.submitted, waiting.here, alert_id)

    def has_detour(self, waiting: Waiting) -> bool:
        return self._next_channel(waiting) != ""

    def has_failed(self, waiting: Waiting, outcome: Outcome, reason: str) -> None:
        self._lanes[waiting.channel].queue.remove(waiting)
        self._lost(waiting, outcome, reason)

    def is_fenced(self, gate: Gate) -> None:
        logger.warning(
            "%s/%d has another owner: what it had to say is left to that",
            gate.lease.scope.agent,
            gate.lease.scope.partition,
        )
        self._drop(gate, "fenced")

    def _put(self, channel: str, waiting: Waiting) -> bool:
        lane = self._lanes.get(channel)
        if lane is None:
            self.count(channel, "no_channel")
            self._bury(waiting, "no_channel", "there is no such channel")
            return False
        lost = lane.put(waiting)
        if lane.task is None and not self._closed:
            lane.task = asyncio.create_task(lane.run(), name=f"notifier:{channel}")
        if lost is not None:
            self._lost(lost, "queue_full", f"{lane.queue.size} were waiting")
        return lost is not waiting

    def _lost(self, waiting: Waiting, outcome: Outcome, reason: str) -> None:
        """It is out of the queue of its channel: to the one that stands in, or to the dead letters."""
        self.count(waiting.channel, outcome)
        fallback = self._next_channel(waiting)
        if not fallback or waiting.gate.given_up:
            self._bury(waiting, outcome, reason)
            return
        self.count(waiting.channel, "fell_back")
        self._log(logging.WARNING, waiting.channel, outcome, f"{fallback} stands in: {reason}")
        self._put(fallback, Waiting(waiting.submitted, waiting.gate, (*waiting.detour, fallback)))

    def _next_channel(self, waiting: Waiting) -> str:
        """The one that stands in for the one on which it waits; empty: none, or it has failed there already."""
        fallback = self._lanes[waiting.channel].settings.fallback
        return "" if fallback in (waiting.submitted.channel, *waiting.detour) else fallback

    def _bury(self, waiting: Waiting, outcome: Outcome, reason: str) -> None:
        if waiting.gate.given_up:
            return  # its next owner sends it
        channel = waiting.channel
        self.count(channel, "dead")
        self._log(logging.ERROR, channel, outcome, f"notifications are lost: {reason}")
        full_reason = f"{outcome}: {reason}"
        if self._on_dead is not None:
            with _contained("on_dead"):
                self._on_dead(waiting.here, full_reason)
        with _contained("failed of the gate"):
            waiting.gate.failed(waiting.submitted, full_reason)

    def _drop(self, gate: Gate, outcome: Outcome) -> None:
        for name, lane in self._lanes.items():
            for waiting in [waiting for waiting in lane.queue if waiting.gate is gate]:
                lane.queue.remove(waiting)
                self.count(name, outcome)

    def _log(self, level: int, channel: str, outcome: Outcome, text: str) -> None:
        # A thousand that fail alike are one line.
        if channel not in self._logged or self._logged[channel].is_news(outcome, text):
            logger.log(level, "%s: %s: %s", channel, outcome, text)

    async def _until(self, busy: Callable[[Lane], Coroutine[Any, Any, object] | None], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while work := next(filter(None, map(busy, self._lanes.values())), None):
                    await work
        except TimeoutError:
            return False
        return True


@contextmanager
def _contained(callback: str) -> Iterator[None]:
    # A mistake in somebody's bookkeeping must not end the delivery of alerts.
    try:
        yield
    except Exception:
        logger.exception("the notifier's %s failed", callback)
