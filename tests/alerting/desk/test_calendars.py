"""Calendars, with the table of Alertmanager's timeinterval_test.go, against a scan of every minute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerting.desk.calendars import (
    DAY_MS,
    HORIZON_MS,
    MINUTE_MS,
    Calendar,
    Interval,
    instant,
    parse_days_of_month,
    parse_local,
    parse_months,
    parse_time_zone,
    parse_times,
    parse_weekdays,
    parse_years,
)
from tables.errors import ConfigError

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
CAIRO = ZoneInfo("Africa/Cairo")
SHANGHAI = ZoneInfo("Asia/Shanghai")

READERS: Mapping[str, Callable[[object], tuple[int, int]]] = {
    "times": parse_times,
    "weekdays": parse_weekdays,
    "days_of_month": parse_days_of_month,
    "months": parse_months,
    "years": parse_years,
}


def interval(time_zone: str = "UTC", **fields: Sequence[object]) -> Interval:
    values: dict[str, Any] = {name: tuple(READERS[name](item) for item in items) for name, items in fields.items()}
    return Interval(time_zone=parse_time_zone(time_zone), **values)


def at(text: str) -> int:
    """The form of Alertmanager's tests, such as "04 May 20 15:04 +1000"; UTC where it has no zone."""
    return int(datetime.strptime(text if "+" in text else f"{text} +0000", "%d %b %y %H:%M %z").timestamp()) * 1000


def local(text: str, time_zone: ZoneInfo) -> int:
    return instant(datetime.fromisoformat(text), time_zone)


OFFICE = interval(times=["09:00-17:00"], weekdays=["monday:friday"])
LATE_IN_THE_QUARTER = interval(
    weekdays=["monday:friday", "sunday"],
    months=["january:march"],
    days_of_month=["-7:-1"],
    years=["2020:2025", "2030:2035"],
    times=["09:00-17:00"],
)


@pytest.mark.parametrize(
    ("of", "inside", "outside"),
    [
        (Interval(), ["02 Jan 06 15:04", "03 Jan 07 10:04", "04 Jan 06 09:04"], []),
        (
            OFFICE,
            [
                "04 May 20 15:04",
                "05 May 20 10:04",
                "09 Jun 20 09:04",
                "08 Jul 20 09:00",
                "08 Jul 20 16:59",
                "01 Apr 21 13:00",
            ],
            [
                "03 May 20 15:04",
                "04 May 20 08:59",
                "05 May 20 05:00",
                "08 Jul 20 05:00",
                "08 Jul 20 08:59",
                "08 Jul 20 17:00",
            ],
        ),
        (
            interval(days_of_month=["4:6"], months=["april"], years=["2020"]),
            ["04 Apr 20 15:04", "05 Apr 20 00:00", "06 Apr 20 23:05"],
            ["03 May 18 15:04", "03 Apr 20 23:59", "04 Jun 20 23:59", "06 Apr 19 23:59", "07 Apr 20 00:00"],
        ),
        (
            interval(days_of_month=["-3:-1"]),
            ["31 Jan 20 15:04", "30 Jan 20 15:04", "29 Jan 20 15:04", "30 Jun 20 00:00", "29 Feb 20 23:05"],
            [
                "03 May 18 15:04",
                "27 Jan 20 15:04",
                "03 Apr 20 23:59",
                "04 Jun 20 23:59",
                "06 Apr 19 23:59",
                "07 Apr 20 00:00",
                "01 Mar 20 00:00",
            ],
        ),
        (
            Interval(months=((6, 6),), days_of_month=((-31, 31),)),
            ["30 Jun 20 00:00", "01 Jun 20 00:00"],
            ["31 May 20 00:00", "01 Jul 20 00:00"],
        ),
        (
            interval("Australia/Sydney", times=["09:00-17:00"], weekdays=["monday:friday"]),
            ["06 Apr 21 13:00 +1000"],
            ["06 Apr 21 13:00"],
        ),
        # Daylight saving time.
        (
            interval("Australia/Sydney", times=["09:00-17:00"], weekdays=["monday:friday"], months=["november"]),
            ["01 Nov 21 09:00 +1100", "31 Oct 21 22:00"],
            ["31 Oct 21 21:00"],
        ),
        (
            LATE_IN_THE_QUARTER,
            ["27 Jan 21 09:00", "28 Jan 21 16:59", "29 Jan 21 13:00", "31 Mar 25 13:00", "31 Jan 35 13:00"],
            ["30 Jan 21 13:00", "01 Apr 21 13:00", "30 Jan 26 13:00", "31 Jan 35 17:01"],
        ),
        (
            interval(
                weekdays=["monday:wednesday", "saturday", "sunday"],
                times=["13:00-15:00"],
                days_of_month=["1", "10", "20:-1"],
                years=["2020:2023"],
                months=["january:march"],
            ),
            ["10 Jan 21 13:00", "30 Jan 21 14:24"],
            ["09 Jan 21 13:00", "20 Jan 21 12:59", "02 Feb 21 13:00"],
        ),
        # Days that the month does not have are not its last one.
        (interval(days_of_month=["30:31"], years=["2020:2023"], months=["february"]), [], ["28 Feb 21 13:00"]),
    ],
)
def test_what_alertmanager_covers(of: Interval, inside: list[str], outside: list[str]) -> None:
    assert [time for time in inside if not of.covers(at(time))] == []
    assert [time for time in outside if of.covers(at(time))] == []


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (parse_times, "00:00-24:00", (0, 1440)),
        (parse_times, "01:35-17:39", (95, 1059)),
        (parse_times, "09:35 - 09:39", (575, 579)),
        # Alertmanager refuses it; here it crosses midnight.
        (parse_times, "09:30-07:41", (570, 461)),
        (parse_weekdays, "monday:friday", (0, 4)),
        (parse_weekdays, "Mon-Fri", (0, 4)),
        (parse_weekdays, "sun", (6, 6)),
        (parse_days_of_month, 31, (31, 31)),
        (parse_days_of_month, "1:-1", (1, -1)),
        (parse_days_of_month, "-7:-1", (-7, -1)),
        (parse_days_of_month, "10-15", (10, 15)),
        # Of the longest months it leaves one day.
        (parse_days_of_month, "10:-22", (10, -22)),
        (parse_months, "January:december", (1, 12)),
        (parse_months, "nov-dec", (11, 12)),
        (parse_months, 6, (6, 6)),
        (parse_months, "06", (6, 6)),
        (parse_years, "2020:2022", (2020, 2022)),
        (parse_years, 2026, (2026, 2026)),
    ],
)
def test_ranges(read: Callable[[object], tuple[int, int]], text: object, expected: tuple[int, int]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (parse_times, "17:31-17:31", "two times"),
        (parse_times, "12:30-24:01", "two times"),
        (parse_times, "24:00-17:41", "two times"),
        (parse_times, "14:03", "two times"),
        (parse_times, "01:99-23:59", "two times"),
        (parse_times, "00:00-99:99", "two times"),
        (parse_times, 900, "two times"),
        (parse_weekdays, "friday:monday", "does not end before it begins"),
        (parse_weekdays, "blurgsday:flurgsday", "days such as"),
        (parse_weekdays, "1:3", "days such as"),
        (parse_weekdays, "-2:-1", "days such as"),
        (parse_weekdays, "m", "days such as"),
        (parse_days_of_month, "0", "days of the month"),
        (parse_days_of_month, "-50:-20", "days of the month"),
        (parse_days_of_month, "1:50", "days of the month"),
        (parse_days_of_month, "-15:5", "a negative last day too"),
        (parse_days_of_month, "10:-25", "does not end before it begins"),
        (parse_days_of_month, "-1:-3", "does not end before it begins"),
        (parse_days_of_month, True, "days of the month"),
        (parse_months, "martius:june", "months such as"),
        (parse_months, "march:junius", "months such as"),
        (parse_months, 13, "months such as"),
        (parse_months, "december:january", "does not end before it begins"),
        (parse_years, "2022:2020", "does not end before it begins"),
        (parse_years, "2022:", "years such as"),
        (parse_years, "9" * 10_000, "years such as"),
    ],
)
def test_what_alertmanager_refuses(read: Callable[[object], tuple[int, int]], text: object, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^expected .*{expected}"):
        read(text)


def test_hours_across_midnight_belong_to_the_day_on_which_they_begin() -> None:
    friday_night = interval(times=["22:00-06:00"], weekdays=["fri"])
    assert [
        friday_night.covers(local(text, UTC))
        for text in ("2026-06-19 05:59", "2026-06-19 22:00", "2026-06-20 05:59", "2026-06-20 06:00", "2026-06-20 22:00")
    ] == [False, True, True, False, False]


def test_a_promotion() -> None:
    span = (local("2026-06-17 20:00", SHANGHAI), local("2026-06-20 02:00", SHANGHAI))
    june_18 = Calendar("june-18", (Interval(time_zone=SHANGHAI, span_ms=span),))
    assert span[0] == at("17 Jun 26 12:00")
    assert [june_18.covers(ms) for ms in (span[0] - 1, span[0], span[1] - 1, span[1])] == [False, True, True, False]
    assert june_18.next_change(span[0] - DAY_MS) == span[0]
    assert june_18.next_change(span[0]) == span[1]
    assert june_18.next_change(span[1]) is None
    assert june_18.next_change(span[0] - HORIZON_MS - 1) is None
    nights = Interval(time_zone=SHANGHAI, span_ms=span, times=(parse_times("22:00-08:00"),))
    assert [nights.covers(ms) for ms in (span[0], span[0] + 2 * 3_600_000, span[1] - 1, span[1])] == [
        False,
        True,
        True,
        False,
    ]


def test_a_calendar_covers_what_any_of_its_intervals_covers() -> None:
    nobody_works = Calendar("free", (interval(weekdays=["sat-sun"]), interval(times=["18:00-09:00"])))
    friday, monday = local("2026-06-19 12:00", UTC), local("2026-06-22 09:00", UTC)
    assert not nobody_works.covers(friday)
    # What follows without a gap is one.
    assert nobody_works.next_change(friday) == local("2026-06-19 18:00", UTC)
    assert nobody_works.next_change(local("2026-06-19 18:00", UTC)) == monday
    assert not Calendar("never", ()).covers(monday)
    assert Calendar("never", ()).next_change(monday) is None
    assert Calendar("always", (Interval(),)).next_change(monday) is None


def test_clocks_are_changed() -> None:
    nights = Calendar("nights", (interval("Europe/Berlin", times=["22:00-06:00"]),))
    # The night is an hour shorter in March and an hour longer in October.
    for begins, hours in (("2026-03-28 22:00", 7), ("2026-10-24 22:00", 9), ("2026-06-17 22:00", 8)):
        start = local(begins, BERLIN)
        assert nights.next_change(start - 1) == start
        assert nights.next_change(start) == start + hours * 3_600_000
    # An hour that is left out covers nothing, and one that comes twice covers twice.
    third = Calendar("third", (interval("Europe/Berlin", times=["02:00-03:00"]),))
    assert third.next_change(local("2026-03-28 12:00", BERLIN)) == local("2026-03-30 02:00", BERLIN)
    start = at("25 Oct 26 00:00")
    assert third.next_change(start) == start + 2 * 3_600_000


MINUTES = st.integers(0, 1439)
SPANS = st.tuples(MINUTES, st.integers(0, 1440)).filter(lambda span: span[0] != span[1])


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    zone = ZoneInfo(
        draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"]))
    )
    weekdays = draw(st.lists(st.integers(0, 6), max_size=3))
    days = draw(st.lists(st.integers(1, 31), max_size=2))
    span = draw(st.none() | st.tuples(st.integers(0, 9), st.integers(1, 5)))
    return Interval(
        time_zone=zone,
        times=tuple(draw(st.lists(SPANS, max_size=2))),
        weekdays=tuple((day, day) for day in weekdays),
        days_of_month=tuple((day - 32, -1) for day in days),
        span_ms=None if span is None else (START_MS + span[0] * DAY_MS, START_MS + (span[0] + span[1]) * DAY_MS),
    )


START_MS = int(datetime(2026, 3, 7, tzinfo=UTC).timestamp()) * 1000
#: Before clocks are changed: in New York, Berlin, on Lord Howe by half an hour, in Cairo at midnight; and in between.
DAYS = st.sampled_from([0, 21, 28, 47, 100, 210, 231, 235, 238])


def covered(of: Interval, at_ms: int) -> bool:
    """As the definition has it, written down once more."""
    if of.span_ms and not of.span_ms[0] <= at_ms < of.span_ms[1]:
        return False
    now = datetime.fromtimestamp(at_ms / 1000, of.time_zone)
    for days_ago in (0, 1):
        day = now.date() - timedelta(days=days_ago)
        after = date(day.year + day.month // 12, day.month % 12 + 1, 1)
        from_end = (day - after).days
        if of.weekdays and (day.weekday(), day.weekday()) not in of.weekdays:
            continue
        if of.days_of_month and not any(first <= from_end <= last for first, last in of.days_of_month):
            continue
        minute = now.hour * 60 + now.minute + days_ago * 1440
        for start, end in of.times or ((0, 1440),):
            if start <= minute < (end if end > start else end + 1440):
                return True
    return False


@settings(max_examples=60, deadline=None)
@given(of=st.lists(intervals(), max_size=2), days=DAYS, minute=MINUTES)
@example(of=[Interval(time_zone=BERLIN, times=((150, 165),))], days=231, minute=0)
@example(of=[Interval(time_zone=BERLIN, times=((150, 210),))], days=21, minute=0)
@example(of=[Interval(time_zone=BERLIN, times=((120, 1440),))], days=231, minute=0)
@example(of=[Interval(time_zone=CAIRO, times=((30, 90),))], days=47, minute=0)
@example(of=[Interval(time_zone=CAIRO, times=((1410, 30),))], days=235, minute=0)
def test_covers_and_next_change_are_what_a_scan_of_every_minute_finds(
    of: list[Interval], days: int, minute: int
) -> None:
    calendar = Calendar("any", tuple(of))
    start = START_MS + days * DAY_MS + minute * MINUTE_MS
    end = start + 2 * DAY_MS
    times = range(start, end + 1, MINUTE_MS)
    scan = [any(covered(one, ms) for one in of) for ms in times]
    assert [calendar.covers(ms) for ms in times[::7]] == scan[::7]
    expected = [after for after, (one, other) in zip(times[1:], pairwise(scan), strict=True) if one != other]
    found = [start]
    while (at_ms := calendar.next_change(found[-1], end - found[-1])) is not None:
        found.append(at_ms)
    assert found[1:] == expected
    for change in expected:
        assert calendar.next_change(change - 1, 1) == change
        assert calendar.next_change(change - 2, 1) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-06-17 20:00", datetime(2026, 6, 17, 20)),
        ("2026-06-17T20:00:30", datetime(2026, 6, 17, 20, 0, 30)),
        ("2026-06-17", datetime(2026, 6, 17)),
        # As YAML gives them without quotes.
        (date(2026, 6, 17), datetime(2026, 6, 17)),
        (datetime(2026, 6, 17, 20), datetime(2026, 6, 17, 20)),
    ],
)
def test_local_times(value: object, expected: datetime) -> None:
    assert parse_local(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "tomorrow",
        "2026-02-30",
        "2026-06-17T20:00Z",
        "0001-01-01",
        "20260617",
        20260617,
        None,
        datetime(2026, 6, 17, tzinfo=UTC),
    ],
)
def test_what_is_no_local_time_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r'^expected a local time such as "2026-06-17 20:00", got '):
        parse_local(value)


@pytest.mark.parametrize("text", ["Mars/Olympus", "", "../etc/passwd", "Asia", "x\0"])
def test_what_is_no_time_zone_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^expected a time zone such as Asia/Shanghai"):
        parse_time_zone(text)
