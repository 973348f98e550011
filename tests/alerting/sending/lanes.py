"""What tests of the notifier share: notifications, a gate that takes notes, channels that do as told, flying time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from alerting.alert import Severity
from alerting.channels.base import Budget, DeliveryFailed
from alerting.message import Message, Parcel
from alerting.notification import Notification, key_of
from alerting.sending.notifier import Notifier
from tables.checkpoint import Lease, Scope
from tables.memory_ledger import MemoryLedger
from tests.alerting.samples import TEN_O_CLOCK, an_alert

Script = Callable[[], Awaitable[None]]


def note(name: str, severity: Severity = "major", channel: str = "ops", **changes: Any) -> Notification:
    """One notification of one alert, which has this name."""
    alert = an_alert(alert_id=name, severity=severity)
    made = Notification(
        key=key_of(name, channel),
        channel=channel,
        stage="firing",
        alerts=(alert,),
        group_key=name,
        group_labels={},
        receiver="team",
        at=TEN_O_CLOCK,
    )
    return replace(made, **changes)


class Notes:
    """A gate that writes down what it hears, by the alerts' names."""

    def __init__(self, epoch: int = 1, partition: int = 0) -> None:
        self.lease = Lease(Scope("alerts", partition), epoch, 0)
        self.given_up = False
        self.settled: list[str] = []
        self.lost: list[tuple[str, str]] = []
        self.in_part: list[str] = []
        """Alerts that were said before the rest of their notification."""
        self.said_on: list[str] = []
        """The channel of each of these."""
        self.done: set[str] = set()
        """Alerts of which nothing needs to be said any more."""

    def trim(self, submitted: Notification, here: Notification) -> Notification | None:
        left = tuple(alert for alert in here.alerts if alert.alert_id not in self.done)
        return replace(here, alerts=left) if left else None

    def sent(self, submitted: Notification, here: Notification) -> None:
        self.settled += submitted.alert_ids
        self.said_on += [here.channel] * len(here.alert_ids)

    def sent_in_part(self, submitted: Notification, here: Notification, alert_id: str) -> None:
        self.in_part.append(alert_id)

    def failed(self, submitted: Notification, reason: str) -> None:
        self.lost += [(name, reason) for name in submitted.alert_ids]


class Scripted:
    """A channel that does what a test says for its first sends, then succeeds. A parcel holds its alerts' names."""

    def __init__(
        self,
        name: str = "ops",
        *script: BaseException | Script,
        budgets: tuple[Budget, ...] = (),
        digest_bytes: int = 0,
        parts: int = 1,
    ) -> None:
        self.name = name
        self.script = list(script)
        self.budgets = budgets
        self.digest_bytes = digest_bytes
        self.parts = parts
        self.messages: list[Message] = []
        self.attempts: list[str] = []
        self.sent: list[str] = []
        self.closed = 0

    def prepare(self, message: Message) -> Sequence[Parcel]:
        self.messages.append(message)
        names = "+".join(alert.alert_id for alert in message.alerts)
        parts = [names] if self.parts == 1 else [f"{names}/{part}" for part in range(1, self.parts + 1)]
        return [Parcel(key=f"{message.key}/{part}", body=body) for part, body in enumerate(parts)]

    async def send(self, parcel: Parcel) -> None:
        self.attempts.append(parcel.body)
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, BaseException):
                raise step
            await step()
        self.sent.append(parcel.body)

    async def close(self) -> None:
        self.closed += 1


class Hold:
    """A step of a script that stops there until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.reached = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.released.wait()


async def passes() -> None:
    """A step of a script: all is well."""


def busy(retry_after_s: float | None = None) -> DeliveryFailed:
    return DeliveryFailed("HTTP 503", retryable=True, retry_after_s=retry_after_s)


def throttled(retry_after_s: float | None = None) -> DeliveryFailed:
    return DeliveryFailed("too fast", retryable=True, retry_after_s=retry_after_s, throttled=True)


def refusal() -> DeliveryFailed:
    return DeliveryFailed("HTTP 400", retryable=False)


class FlyingTime:
    """Seconds that pass at once as soon as everybody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), sleeper))
        await sleeper

    async def settle(self) -> None:
        """Let all run that can without any time passing."""
        loop: Any = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while loop._ready:  # noqa: ASYNC110 -- nobody tells when all have had their turn
            await asyncio.sleep(0)

    async def pass_until(self, done: Callable[[], bool], at_most_s: float = 1e6) -> None:
        """Let time pass from one sleeper's end to the next, until `done`, or until that took too long."""
        end = self.now + at_most_s
        await self.settle()
        while not done():
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if not self._sleepers or self._sleepers[0][0] > end:
                raise AssertionError("nobody sleeps any more" if not self._sleepers else "it took too long")
            self.now, _, sleeper = heapq.heappop(self._sleepers)
            sleeper.set_result(None)
            await self.settle()

    async def pass_by(self, seconds: float) -> None:
        """Let so much time pass."""
        waiter = asyncio.ensure_future(self.sleep(seconds))
        await self.pass_until(waiter.done)


Dead = list[tuple[str, str, str]]


class Bench:
    """A notifier on flying time, and what it left for dead."""

    def __init__(self, notifier: Notifier, time: FlyingTime, dead: Dead) -> None:
        self.notifier = notifier
        self.time = time
        self.dead = dead
        self.gate = Notes()

    def submit(self, *notes: Notification, gate: Notes | None = None) -> list[bool]:
        return [self.notifier.submit(each, gate or self.gate) for each in notes]

    async def deliver(self, *notes: Notification, at_most_s: float = 1e6) -> None:
        """Submit these, and let time pass until nothing waits any more."""
        self.submit(*notes)
        await self.time.pass_until(lambda: not any(self.notifier.waiting().values()), at_most_s)

    @property
    def counts(self) -> dict[str, int]:
        """As `channel outcome`."""
        return {f"{channel} {outcome}": count for (channel, outcome), count in self.notifier.counts.items()}


@asynccontextmanager
async def bench(
    *channels: Any, time: FlyingTime | None = None, ledger: Any = None, **options: Any
) -> AsyncIterator[Bench]:
    time, dead = time or FlyingTime(), Dead()
    named: Mapping[str, Any] = {channel.name: channel for channel in channels}
    async with Notifier(
        named,
        ledger=ledger or MemoryLedger(clock=time.clock),
        rng=random.Random(1),
        sleep=time.sleep,
        clock=time.clock,
        on_dead=lambda note, reason: dead.append((note.alert_ids[0], note.channel, reason)),
        **options,
    ) as notifier:
        yield Bench(notifier, time, dead)
