"""Takes alerts to the channels: each its own queue, its own task, its own retries."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Literal, Self, get_args

from alerting.alert import SEVERITIES, Alert, Severity, Status
from alerting.backoff import Backoff
from alerting.channels.base import Channel, DeliveryFailed
from tables.errors import ConfigError

logger = logging.getLogger(__name__)

#: What became of an alert on a channel. Each submitted alert ends, on each channel, in exactly one of these,
#: except `retried`, which counts the attempts that failed and were followed by another.
Outcome = Literal[
    "sent",
    "retried",
    "refused",  # the channel said that trying again is of no use
    "gave_up",  # tries or time ran out
    "broken",  # the channel raised what no channel should
    "queue_full",  # the channel's queue stayed full for as long as `submit` is willing to wait
    "closed",  # the notifier was closed before the alert's turn came
    "duplicate",  # the same status of the same incident has been submitted before
    "below_severity",  # recorded only: the channel asks for more urgent ones
]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

DeadLetter = Callable[[Alert, str, str], None]
Count = Callable[[str, Outcome], None]


class Notifier:
    """Sends every submitted alert to every channel that wants its severity, at least once or to `on_dead`.

    A slow or failing channel holds up no other one. Alerts leave a channel's queue in order of submission.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        *,
        min_severity: Severity = "major",
        min_severity_of: Mapping[str, Severity] | None = None,
        backoff: Backoff | None = None,
        queue_size: int = 1000,
        patience_s: float = 30.0,
        attempt_timeout_s: float = 30.0,
        remember: int = 10_000,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_outcome: Count | None = None,
        on_dead: DeadLetter | None = None,
    ) -> None:
        """`min_severity_of` overrides `min_severity` for single channels, by name.

        `on_outcome(channel, outcome)` counts; `on_dead(alert, channel, reason)` gets what was not delivered.
        Both are called in the event loop and must not block. `rng`, `sleep` and `clock` (seconds) drive the
        retries. Raises ConfigError when two channels share a name, or a name in `min_severity_of` is none.
        """
        per_channel = dict(min_severity_of or {})
        names = [channel.name for channel in channels]
        for name, times in Counter(names).items():
            if times > 1:
                raise ConfigError(f"channels: expected names of their own, got {name!r} {times} times")
        for name in per_channel:
            if name not in names:
                raise ConfigError(f"min_severity_of: unknown channel {name!r}; expected {', '.join(names) or 'none'}")
        self._backoff = backoff or Backoff()
        self._patience_s = patience_s
        self._attempt_timeout_s = attempt_timeout_s
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._clock = clock
        self._on_outcome = on_outcome
        self._on_dead = on_dead
        self._counts: Counter[tuple[str, Outcome]] = Counter()
        self._lanes = [
            _Lane(channel, per_channel.get(channel.name, min_severity), queue_size, remember) for channel in channels
        ]
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
        """Alerts that each channel has yet to deliver, the one in delivery included."""
        return {lane.channel.name: lane.unfinished for lane in self._lanes}

    async def submit(self, alert: Alert) -> None:
        """Queue `alert` for every channel that wants it; return once it is queued.

        Where a queue is full this waits, so that the caller slows down, but no longer than `patience_s`: then
        the alert goes to `on_dead`, and so do later ones at once until that queue has room again. Raises
        RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError("the notifier is closed")
        full = []
        for lane in self._lanes:
            if not alert.is_at_least(lane.min_severity):
                self._count(lane, "below_severity")
            elif not lane.remember(alert):
                self._count(lane, "duplicate")
            else:
                lane.unfinished += 1
                if lane.queue.full():
                    full.append(lane)
                else:
                    lane.queue.put_nowait(alert)
                    self._start(lane)
        if full:
            # All at once: one full queue's wait must not come on top of another's.
            await asyncio.gather(*(self._wait_for_room(lane, alert) for lane in full))

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is left to deliver; False when that took longer than `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                for lane in self._lanes:
                    await lane.idle()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop at once: what is not delivered goes to `on_dead`, the channels are closed. `drain` first."""
        self._closed = True
        for lane in self._lanes:
            if lane.task is not None:
                lane.task.cancel()
        for lane in self._lanes:
            if lane.task is not None:
                await asyncio.wait([lane.task])
                lane.task = None
            while lane.unfinished:
                while not lane.queue.empty():
                    self._bury(lane, lane.queue.get_nowait(), "closed", "the notifier was closed")
                # Each get lets one waiting `submit` put its alert; look again after it has.
                await asyncio.sleep(0)
            await lane.channel.close()

    def _start(self, lane: _Lane) -> None:
        if not self._closed and (lane.task is None or lane.task.done()):
            lane.task = asyncio.create_task(self._run(lane), name=f"notifier:{lane.channel.name}")

    async def _wait_for_room(self, lane: _Lane, alert: Alert) -> None:
        try:
            async with asyncio.timeout(0 if lane.stuck else self._patience_s):
                await lane.queue.put(alert)
        except TimeoutError:
            lane.stuck = True
            self._bury(lane, alert, "queue_full", f"the queue of {lane.queue.maxsize} stayed full")
        except asyncio.CancelledError:
            self._bury(lane, alert, "closed", "the submission was cancelled")
            raise
        else:
            self._start(lane)

    async def _run(self, lane: _Lane) -> None:
        while True:
            alert = await lane.queue.get()
            lane.stuck = False
            try:
                outcome, reason = await self._deliver(lane, alert)
            except asyncio.CancelledError:
                self._bury(lane, alert, "closed", "the notifier was closed")
                raise
            if outcome == "sent":
                lane.finish()
                self._count(lane, outcome)
            else:
                self._bury(lane, alert, outcome, reason)

    async def _deliver(self, lane: _Lane, alert: Alert) -> tuple[Outcome, str]:
        started, attempt, reason = self._clock(), 0, ""
        while True:
            attempt += 1
            try:
                await self._attempt(lane.channel, alert)
            except DeliveryFailed as failure:
                if failure.reason != reason:
                    logger.warning("%s: alert %s: %s", lane.channel.name, alert.alert_id, failure.reason)
                reason = failure.reason
                if not failure.retryable:
                    return "refused", reason
                wait = self._backoff.wait(attempt, self._clock() - started, self._rng, failure.retry_after_s)
            except Exception as error:
                logger.exception("%s: alert %s: the channel is broken", lane.channel.name, alert.alert_id)
                return "broken", type(error).__name__
            else:
                return "sent", ""
            if wait is None:
                return "gave_up", f"{reason} (after {attempt} {'try' if attempt == 1 else 'tries'})"
            self._count(lane, "retried")
            await self._sleep(wait)

    async def _attempt(self, channel: Channel, alert: Alert) -> None:
        try:
            async with asyncio.timeout(self._attempt_timeout_s):
                await channel.send(alert)
        except TimeoutError as error:
            raise DeliveryFailed(f"not done within {self._attempt_timeout_s:g} s", retryable=True) from error

    def _bury(self, lane: _Lane, alert: Alert, outcome: Outcome, reason: str) -> None:
        lane.finish()
        # It was not delivered: whoever submits it once more means it.
        lane.forget(alert)
        self._count(lane, outcome)
        logger.error("%s: alert %s (%s) is lost: %s", lane.channel.name, alert.alert_id, alert.status, reason)
        if self._on_dead is not None:
            with _contained("on_dead"):
                self._on_dead(alert, lane.channel.name, f"{outcome}: {reason}")

    def _count(self, lane: _Lane, outcome: Outcome) -> None:
        self._counts[lane.channel.name, outcome] += 1
        if self._on_outcome is not None:
            with _contained("on_outcome"):
                self._on_outcome(lane.channel.name, outcome)


@contextmanager
def _contained(callback: str) -> Iterator[None]:
    # A mistake in somebody's bookkeeping must not end the delivery of alerts.
    try:
        yield
    except Exception:
        logger.exception("the notifier's %s failed", callback)


class _Lane:
    """One channel's queue, task and memory of what it has been given."""

    def __init__(self, channel: Channel, min_severity: Severity, queue_size: int, remember: int) -> None:
        if queue_size < 1 or remember < 1:
            raise ConfigError(f"channel {channel.name}: expected a queue and a memory of at least 1 alert")
        if min_severity not in SEVERITIES:
            raise ConfigError(f"channel {channel.name}: expected {', '.join(SEVERITIES)}, got {min_severity!r}")
        self.channel = channel
        self.min_severity = min_severity
        self.queue: asyncio.Queue[Alert] = asyncio.Queue(queue_size)
        self.task: asyncio.Task[None] | None = None
        self.unfinished = 0
        self.stuck = False
        self._idle = asyncio.Event()
        self._known: OrderedDict[tuple[str, Status], None] = OrderedDict()
        self._remember = remember

    def remember(self, alert: Alert) -> bool:
        """Note the alert's state; False when it is known already. The oldest of too many is forgotten."""
        key = (alert.alert_id, alert.status)
        is_new = key not in self._known
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > self._remember:
            self._known.popitem(last=False)
        return is_new

    def forget(self, alert: Alert) -> None:
        """Let the same state of the same incident be submitted again."""
        self._known.pop((alert.alert_id, alert.status), None)

    def finish(self) -> None:
        """One alert fewer to deliver."""
        self.unfinished -= 1
        if not self.unfinished:
            self._idle.set()

    async def idle(self) -> None:
        """Return when nothing is left to deliver."""
        while self.unfinished:
            self._idle.clear()
            await self._idle.wait()
