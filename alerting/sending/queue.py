"""What waits for one channel: bounded, the most urgent first, first come first served among equals."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from alerting.alert import SEVERITIES
from alerting.message import Message, Parcel
from alerting.notification import Notification
from alerting.sending.gate import Gate
from tables.errors import ConfigError

_URGENT: Final = SEVERITIES.index("critical")


@dataclass(slots=True, eq=False)
class Waiting:
    """A notification on its way through one channel."""

    submitted: Notification
    gate: Gate
    detour: tuple[str, ...] = ()
    """The channels that stood in, one after the other; the last one is where it waits now."""
    number: int = 0
    """Order of arrival in its queue."""
    failures: int = 0
    """Failed attempts since it, or a part of it, last got through."""
    failing_since: float | None = None
    """When the first of those began."""
    letter: Letter | None = None
    """What it is part of: while that is being sent, or some of it is out already."""
    alone: bool = False
    """In no digest any more: one that it was in could not be written."""

    @property
    def rank(self) -> int:
        """0 is the most urgent."""
        return SEVERITIES.index(self.submitted.severity)

    @property
    def urgent(self) -> bool:
        return self.rank == _URGENT

    @property
    def channel(self) -> str:
        """On which it waits."""
        return self.detour[-1] if self.detour else self.submitted.channel

    @property
    def keys(self) -> tuple[str, ...]:
        """Under which the ledger may know it as sent."""
        here = self.here(self.submitted)
        return (self.submitted.key,) if here is self.submitted else (self.submitted.key, here.key)

    def here(self, notification: Notification) -> Notification:
        """`notification`, as it was submitted or less of it, for the channel on which it waits."""
        for channel in self.detour:
            notification = notification.on(channel)
        return notification


@dataclass(slots=True, eq=False)
class Letter:
    """One message in parcels, and how many of those are out."""

    waiting: Sequence[Waiting]
    message: Message
    parcels: Sequence[Parcel]
    delivered: int = 0


class SendingQueue:
    """At most `size` notifications, those on their way included."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ConfigError(f"queue_size: expected at least 1, got {size}")
        self.size = size
        self.urgent_came = asyncio.Event()
        """Set when a critical one comes in; to be cleared by whoever waits for that."""
        self.newest = 0
        """Number of the one that came last."""
        self.came = asyncio.Event()
        """Set when anything comes in; likewise."""
        self._ranks: list[dict[int, Waiting]] = [{} for _ in SEVERITIES]
        self._numbers = itertools.count(1)
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return sum(map(len, self._ranks))

    def __iter__(self) -> Iterator[Waiting]:
        return chain.from_iterable(rank.values() for rank in self._ranks)

    def __contains__(self, waiting: Waiting) -> bool:
        return waiting.number in self._ranks[waiting.rank]

    def first(self) -> Waiting:
        """The most urgent; StopIteration where there is none."""
        return next(iter(self))

    def urgent(self) -> Iterator[Waiting]:
        """The critical ones, in order."""
        return iter(self._ranks[_URGENT].values())

    def calm(self) -> Iterator[Waiting]:
        """Those that are not critical, in order."""
        return chain.from_iterable(rank.values() for rank in self._ranks[_URGENT + 1 :])

    def count_calm(self) -> int:
        """How many are not critical."""
        return sum(map(len, self._ranks[_URGENT + 1 :]))

    def waited_since(self, number: int) -> bool:
        """Whether one that is not critical was there already when `number` was the newest."""
        return any(next(iter(rank), number + 1) <= number for rank in self._ranks[_URGENT + 1 :])

    def put(self, waiting: Waiting) -> Waiting | None:
        """Queue it. Returns the one that found no room: itself, or, where it is critical, a less urgent one."""
        pushed_out = None
        if len(self) >= self.size:
            pushed_out = self._least_urgent() if waiting.urgent else None
            if pushed_out is None:
                return waiting
            self.remove(pushed_out)
        waiting.number = self.newest = next(self._numbers)
        self._ranks[waiting.rank][waiting.number] = waiting
        self._empty.clear()
        self.came.set()
        if waiting.urgent:
            self.urgent_came.set()
        return pushed_out

    def remove(self, waiting: Waiting) -> bool:
        """Whether it was there."""
        found = self._ranks[waiting.rank].pop(waiting.number, None)
        if not any(self._ranks):
            self._empty.set()
        return found is not None

    async def emptied(self) -> None:
        """Return once nothing waits."""
        await self._empty.wait()

    def _least_urgent(self) -> Waiting | None:
        # Not what is on its way: it may be out already.
        calm = (waiting for rank in self._ranks[:_URGENT:-1] for waiting in reversed(rank.values()))
        return next((waiting for waiting in calm if waiting.letter is None), None)
