"""On-call rotations: who is on call now, one after the other, each for the same time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from alerting.desk.calendars import DAY_MS, HORIZON_MS, Calendar, instant
from alerting.durations import LONGEST_MS, parse_duration
from tables.errors import ConfigError

HOUR_MS: Final = 3_600_000
_WEEKS: Final = re.compile(r"([0-9]{1,3})w")
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody stands in, from `start_ms` until just before `end_ms`."""

    start_ms: int
    end_ms: int
    person: str

    def __post_init__(self) -> None:
        if self.start_ms >= self.end_ms:
            raise ConfigError("expected an end after the beginning, got none")


@dataclass(frozen=True, slots=True)
class Shift:
    """A person is on call from `start_ms` until just before `end_ms`."""

    start_ms: int
    end_ms: int
    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The first of the people is on call from `start` on, the next from `every_ms` later, and so on in a circle.

    It is handed over at the same local time all the year round: `start` is local, without a zone, and `every_ms` is
    counted on the clock on the wall. Before `start` nobody is on call, nor outside of `restricted_to`. Of overrides
    at the same time the last one holds.
    """

    name: str
    time_zone: ZoneInfo
    start: datetime
    every_ms: int
    people: tuple[str, ...]
    overrides: tuple[Override, ...] = ()
    restricted_to: Calendar | None = None

    def __post_init__(self) -> None:
        if self.start.tzinfo is not None:
            raise ConfigError(f"expected a start without a zone, got {self.start}")
        if not HOUR_MS <= self.every_ms <= LONGEST_MS:
            raise ConfigError(f"expected a shift from 1 hour to 366 days, got {self.every_ms} ms")
        if not self.people:
            raise ConfigError("expected people, got none")

    def on_call(self, at_ms: int) -> str | None:
        """Who is on call at this time (milliseconds since the epoch); None: nobody."""
        if self.restricted_to is not None and not self.restricted_to.covers(at_ms):
            return None
        for override in reversed(self.overrides):
            if override.start_ms <= at_ms < override.end_ms:
                return override.person
        turn = self._turn(at_ms)
        return self.people[turn % len(self.people)] if turn >= 0 else None

    def shifts(self, from_ms: int, to_ms: int) -> list[Shift]:
        """Who is on call when within these times, in order; nobody leaves a gap.

        Raises ConfigError for more than 366 days.
        """
        if to_ms - from_ms > LONGEST_MS:
            raise ConfigError(f"expected at most 366 days, got {(to_ms - from_ms) // DAY_MS}")
        found: list[Shift] = []
        at = from_ms
        while at < to_ms:
            until = min(self.next_change(at), to_ms)
            person = self.on_call(at)
            if person is not None:
                if found and found[-1].person == person and found[-1].end_ms == at:
                    found[-1] = Shift(found[-1].start_ms, until, person)
                else:
                    found.append(Shift(at, until, person))
            at = until
        return found

    def next_change(self, at_ms: int) -> int:
        """The first time after `at_ms` at which somebody else may be on call."""
        edges = [self._handover(self._turn(at_ms) + 1)]
        edges += [edge for override in self.overrides for edge in (override.start_ms, override.end_ms) if edge > at_ms]
        if self.restricted_to is not None:
            edges.append(self.restricted_to.next_change(at_ms) or at_ms + HORIZON_MS)
        return min(edges)

    def _turn(self, at_ms: int) -> int:
        """How many times it was handed over until then; negative before the start."""
        local = datetime.fromtimestamp(at_ms // 1000, self.time_zone).replace(tzinfo=None)
        turn = (local - self.start) // (self.every_ms * _MILLISECOND)
        # Where clocks are changed a local time comes twice or never, but there is one handover.
        if self._handover(turn) > at_ms:
            return turn - 1
        return turn + 1 if self._handover(turn + 1) <= at_ms else turn

    def _handover(self, turn: int) -> int:
        return instant(self.start + turn * self.every_ms * _MILLISECOND, self.time_zone)


def parse_every(value: object) -> int:
    """How long each is on call, in milliseconds: weeks such as "1w", or a duration such as "1d" or "12h".

    Raises ConfigError.
    """
    weeks = _WEEKS.fullmatch(value.strip()) if isinstance(value, str) else None
    every_ms = int(weeks[1]) * 7 * DAY_MS if weeks is not None else parse_duration(value, "every")
    if not HOUR_MS <= every_ms <= LONGEST_MS:
        raise ConfigError(f'expected a time from 1 hour to 366 days, such as "1w" or "12h", got {value!r}')
    return every_ms
