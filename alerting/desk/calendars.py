"""Calendars: recurring hours, and single spans such as a promotion, in the local time of somewhere.

The words and their meaning are those of Prometheus Alertmanager's time intervals; beyond them a range of hours may
cross midnight, and `from` and `to` bound the whole.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from tables.errors import ConfigError

Range = tuple[int, int]

DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000
HORIZON_MS: Final = 8 * DAY_MS
"""A week repeats within it."""

UTC: Final = ZoneInfo("UTC")

_DAY_MINUTES: Final = 24 * 60
_ONE_DAY: Final = timedelta(days=1)
_WEEKDAYS: Final = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTHS: Final = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]
_WEEKDAY_NUMBERS: Final = {word: number for number, name in enumerate(_WEEKDAYS) for word in (name, name[:3])}
_MONTH_NUMBERS: Final = {
    word: number for number, name in enumerate(_MONTHS, 1) for word in (name, name[:3], str(number), f"{number:02}")
}
_YEARS: Final = range(1971, 3000)
_TIMES: Final = re.compile(r"([0-9]{2}):([0-9]{2})\s*-\s*([0-9]{2}):([0-9]{2})")
_RANGE: Final = re.compile(r"(-?\w{1,20})(?:\s*[-:]\s*(-?\w{1,20}))?")
_LOCAL: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Some hours of some days: all that is given has to hold; a field that is empty always does.

    The days are those on which the hours begin: 22:00-06:00 on Fridays ends on Saturday morning. Where clocks are put
    back, hours that come twice count twice.
    """

    time_zone: ZoneInfo = UTC
    times: tuple[Range, ...] = ()
    """Minutes of the day, without the last one; the second is smaller where they cross midnight."""
    weekdays: tuple[Range, ...] = ()
    """0 is Monday; both included, as in all that follow."""
    days_of_month: tuple[Range, ...] = ()
    """Negative ones count from the end of the month: -1 is its last day."""
    months: tuple[Range, ...] = ()
    years: tuple[Range, ...] = ()
    span_ms: Range | None = None
    """Bounds of the whole, in milliseconds since the epoch, without the last one."""

    def covers(self, at_ms: int) -> bool:
        """Whether this time is within it."""
        if self.span_ms is not None and not self.span_ms[0] <= at_ms < self.span_ms[1]:
            return False
        local = datetime.fromtimestamp(at_ms // 1000, self.time_zone)
        today, minute = local.date(), local.hour * 60 + local.minute
        for start, end in self.times or ((0, _DAY_MINUTES),):
            if start < end:
                if start <= minute < end and self._has_day(today):
                    return True
            elif (minute >= start and self._has_day(today)) or (minute < end and self._has_day(today - _ONE_DAY)):
                return True
        return False

    def edges(self, from_ms: int, to_ms: int) -> Iterator[int]:
        """Every time from `from_ms` to `to_ms` at which `covers` may change, and some more, in no order."""
        if self.span_ms is not None:
            yield from self.span_ms
        minutes = {0, *(minute % _DAY_MINUTES for span in self.times for minute in span)}
        day = datetime.fromtimestamp(from_ms // 1000, self.time_zone).date() - _ONE_DAY
        last = datetime.fromtimestamp(to_ms // 1000, self.time_zone).date() + _ONE_DAY
        while day <= last:
            midnight = datetime(day.year, day.month, day.day)
            for minute in minutes:
                for fold in (0, 1):
                    yield instant(midnight + timedelta(minutes=minute), self.time_zone, fold)
            yield from _clock_changes(midnight, self.time_zone)
            day += _ONE_DAY

    def _has_day(self, day: date) -> bool:
        length = calendar.monthrange(day.year, day.month)[1]
        return (
            _within(day.weekday(), self.weekdays)
            and _within(day.month, self.months)
            and _within(day.year, self.years)
            and _within(
                day.day,
                tuple((_from_start(first, length), _from_start(last, length)) for first, last in self.days_of_month),
            )
        )


@dataclass(frozen=True, slots=True)
class Calendar:
    """A name for times that at least one of its intervals covers."""

    name: str
    intervals: tuple[Interval, ...]

    def covers(self, at_ms: int) -> bool:
        """Whether this time (milliseconds since the epoch) is within it."""
        return any(interval.covers(at_ms) for interval in self.intervals)

    def next_change(self, at_ms: int, horizon_ms: int = HORIZON_MS) -> int | None:
        """When `covers` gives something else than at `at_ms` for the first time; None: not within `horizon_ms`."""
        now, until = self.covers(at_ms), at_ms + horizon_ms
        edges = {edge for interval in self.intervals for edge in interval.edges(at_ms, until)}
        return next((edge for edge in sorted(edges) if at_ms < edge <= until and self.covers(edge) != now), None)


def instant(local: datetime, time_zone: ZoneInfo, fold: int = 0) -> int:
    """Milliseconds since the epoch of a local time without a zone.

    Of one that comes twice the first (`fold` 0) or second; one that is left out counts on from before the gap.
    """
    return int(local.replace(tzinfo=time_zone, fold=fold).timestamp()) * 1000


def parse_time_zone(text: str) -> ZoneInfo:
    """A name of the IANA database; raises ConfigError."""
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"expected a time zone such as Asia/Shanghai or UTC, got {text!r}") from None


def parse_local(value: object) -> datetime:
    """A local time without a zone, such as "2026-06-17 20:00"; raises ConfigError.

    YAML makes dates of what looks like one, so these are taken as well.
    """
    text = value.isoformat() if isinstance(value, date) else value
    try:
        if isinstance(text, str) and _LOCAL.fullmatch(text.strip()):
            local = datetime.fromisoformat(text.strip())
            if local.year in _YEARS:
                return local
    except ValueError:
        pass
    raise ConfigError(f'expected a local time such as "2026-06-17 20:00", got {str(value)!r}')


def parse_times(value: object) -> Range:
    """Hours such as "09:00-18:00", "22:00-06:00" or "18:00-24:00", as minutes of the day; raises ConfigError."""
    match = _TIMES.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        hours, minutes, to_hours, to_minutes = map(int, match.groups())
        start, end = hours * 60 + minutes, to_hours * 60 + to_minutes
        if minutes < 60 and to_minutes < 60 and start < _DAY_MINUTES and end <= _DAY_MINUTES and start != end:
            return start, end
    raise ConfigError(f'expected two times such as "09:00-18:00", got {value!r}')


def parse_weekdays(value: object) -> Range:
    """A weekday or a range, such as "sat" or "mon-fri", never a number; raises ConfigError."""
    return _ascending(_range(value, 'days such as "sat" or "mon-fri"', _WEEKDAY_NUMBERS.get), value)


def parse_months(value: object) -> Range:
    """A month or a range, by name or number, such as "june" or "nov-dec"; raises ConfigError."""
    return _ascending(_range(value, 'months such as "june" or "nov-dec"', _MONTH_NUMBERS.get), value)


def parse_years(value: object) -> Range:
    """A year or a range, such as 2026 or "2026-2028"; raises ConfigError."""
    return _ascending(_range(value, 'years such as 2026 or "2026-2028"', _numbered(_YEARS[0], _YEARS[-1])), value)


def parse_days_of_month(value: object) -> Range:
    """A day of the month or a range, such as 1, "10-15" or "-3:-1" (the last three); raises ConfigError."""
    first, last = _range(value, 'days of the month such as 1, "10-15" or "-3:-1"', _numbered(-31, 31))
    if first < 0 < last:
        raise ConfigError(f"expected a negative last day too where the first is negative, got {value!r}")
    longest = 31
    _ascending((_from_start(first, longest), _from_start(last, longest)), value)
    return first, last


def _range(value: object, expected: str, read: Callable[[str], int | None]) -> Range:
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _RANGE.fullmatch(written.strip().lower()) if isinstance(written, str) else None
    first = read(match[1]) if match is not None else None
    last = read(match[2] or match[1]) if match is not None else None
    if first is None or last is None:
        raise ConfigError(f"expected {expected}, got {value!r}")
    return first, last


def _ascending(found: Range, value: object) -> Range:
    if found[0] > found[1]:
        raise ConfigError(f"expected a range that does not end before it begins, got {value!r}")
    return found


def _numbered(least: int, most: int) -> Callable[[str], int | None]:
    def read(word: str) -> int | None:
        number = int(word) if re.fullmatch(r"-?[0-9]{1,4}", word) else 0
        return number if number and least <= number <= most else None

    return read


def _from_start(day: int, length: int) -> int:
    return day if day > 0 else length + 1 + day


def _within(number: int, ranges: tuple[Range, ...]) -> bool:
    return not ranges or any(first <= number <= last for first, last in ranges)


@lru_cache(maxsize=1_000)
def _clock_changes(midnight: datetime, time_zone: ZoneInfo) -> tuple[int, ...]:
    """When clocks are changed in the day after a local midnight: at most once, on a whole minute."""
    low, high = (instant(midnight + days * _ONE_DAY, time_zone) // MINUTE_MS for days in (0, 1))
    offset = _offset(low, time_zone)
    if _offset(high, time_zone) == offset:
        return ()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, time_zone) == offset else (low, middle)
    return (high * MINUTE_MS,)


def _offset(minute: int, time_zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(minute * 60, UTC).astimezone(time_zone).utcoffset()
