"""What waits for one channel: bounded, the most urgent first, first come first served among equals."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from alerting.alert import SEVERITIES
from alerting.message import Message, Parcel
from alerting.notification import Notification
from alerting.sending.gate import Gate
from tables.errors import ConfigError

_URGENT: Final = SEVERITIES.index("critical")
_CALLS: Final = ("firing", "repeat", "escalation")
"""Stages that ask somebody to come: that a critical incident is taken on, or over, has the time of a major one."""


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
    not_before: float = -math.inf
    """When it may be tried again while the channel takes others."""
    letter: Letter | None = None
    """What it is part of: while that is being sent, or some of it is out already."""
    alone: bool = False
    """In no digest any more: one that it was in could not be written, or was refused."""
    rank: int = field(init=False)
    """0 is the most urgent."""
    steps_back: bool = field(init=False)
    """Whether it is about something critical and calls nobody."""

    def __post_init__(self) -> None:
        self.rank = SEVERITIES.index(self.submitted.severity)
        self.steps_back = self.rank == _URGENT and self.submitted.stage not in _CALLS
        self.rank += self.steps_back

    @property
    def urgent(self) -> bool:
        return self.rank == _URGENT

    @property
    def channel(self) -> str:
        """On which it waits."""
        return self.detour[-1] if self.detour else self.submitted.channel

    @property
    def here(self) -> Notification:
        """As it is said on the channel on which it waits."""
        return self.submitted.on(*self.detour)

    @property
    def conditions(self) -> set[str]:
        """What its alerts are about."""
        return {alert.fingerprint for alert in self.submitted.alerts}


@dataclass(slots=True, eq=False)
class Letter:
    """One message in parcels, and how many of those are out."""

    waiting: Sequence[Waiting]
    message: Message
    parcels: Sequence[Parcel]
    delivered: int = 0
    current: frozenset[str] = frozenset()
    """Alerts that are still to be said."""

    @property
    def is_out(self) -> bool:
        return self.delivered >= len(self.parcels)

    def skip_past(self) -> None:
        """Leave out the next parcels as far as they are about an alert of which nothing is to be said any more."""
        while not self.is_out and (about := self.parcels[self.delivered].alert_id) and about not in self.current:
            self.delivered += 1


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

    def first(self, now: float) -> Waiting:
        """The most urgent that may be tried; if none may yet, the one that may be soonest. ValueError where there is
        none."""
        found = next((waiting for waiting in self if waiting.not_before <= now), None)
        return found or min(self, key=lambda waiting: waiting.not_before)

    def least_tried(self) -> Waiting:
        """Of the most urgent the one that has failed least. StopIteration where there is none."""
        return min(next(filter(None, self._ranks)).values(), key=lambda waiting: waiting.failures)

    def urgent(self) -> Iterator[Waiting]:
        """The critical ones, in order."""
        return iter(self._ranks[_URGENT].values())

    def calm(self) -> Iterator[Waiting]:
        """Those that are not critical, in order."""
        return chain.from_iterable(rank.values() for rank in self._ranks[_URGENT + 1 :])

    def count(self, *, urgent: bool) -> int:
        """How many are critical, or are not."""
        return sum(map(len, self._ranks[_URGENT : _URGENT + 1] if urgent else self._ranks[_URGENT + 1 :]))

    def waited_since(self, number: int, *, urgent: bool) -> bool:
        """Whether one that is critical, or one that is not, was there already when `number` was the newest."""
        ranks = self._ranks[_URGENT : _URGENT + 1] if urgent else self._ranks[_URGENT + 1 :]
        return any(next(iter(rank), number + 1) <= number for rank in ranks)

    def put(self, waiting: Waiting) -> Waiting | None:
        """Queue it. Returns the one that found no room: itself, or the newest of the least urgent, if that is less
        urgent."""
        pushed_out = None
        if len(self) >= self.size:
            pushed_out = self._least_urgent(waiting.rank)
            if pushed_out is None:
                return waiting
            self.remove(pushed_out)
        if waiting.urgent:
            self._let_past(waiting.conditions)
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

    def _let_past(self, conditions: set[str]) -> None:
        """What is to be said of these before goes before: an end must not come after the next begin."""
        next_rank = self._ranks[_URGENT + 1]
        ends = [each for each in next_rank.values() if each.steps_back and not conditions.isdisjoint(each.conditions)]
        for waiting in ends:
            del next_rank[waiting.number]
            waiting.rank = _URGENT
            self._ranks[_URGENT][waiting.number] = waiting

    def _least_urgent(self, above: int) -> Waiting | None:
        # Not what is on its way: it may be out already.
        below = (waiting for rank in self._ranks[:above:-1] for waiting in reversed(rank.values()))
        return next((waiting for waiting in below if waiting.letter is None), None)
