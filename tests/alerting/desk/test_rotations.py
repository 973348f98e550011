from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.desk.calendars import DAY_MS, Calendar, Interval, instant, parse_times
from alerting.desk.rotations import HOUR_MS, Override, Rotation, Shift, parse_every
from alerting.durations import LONGEST_MS
from tables.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")
WEEK_MS = 7 * DAY_MS


def rotation(**changes: Any) -> Rotation:
    values: dict[str, Any] = {
        "name": "ops",
        "time_zone": BERLIN,
        "start": datetime(2026, 1, 5, 9),
        "every_ms": WEEK_MS,
        "people": ("alice", "bob", "carol"),
    }
    return Rotation(**values | changes)


def at(text: str) -> int:
    return instant(datetime.fromisoformat(text), BERLIN)


@pytest.mark.parametrize(
    ("time", "person"),
    [
        ("2026-01-05 08:59", None),
        ("2026-01-05 09:00", "alice"),
        ("2026-01-12 08:59", "alice"),
        ("2026-01-12 09:00", "bob"),
        ("2026-01-19 09:00", "carol"),
        ("2026-01-26 09:00", "alice"),
        # Summer time: still at nine.
        ("2026-03-30 08:59", "carol"),
        ("2026-03-30 09:00", "alice"),
        ("2026-10-26 08:59", "carol"),
        ("2026-10-26 09:00", "alice"),
    ],
)
def test_it_is_handed_over_at_the_same_local_time(time: str, person: str | None) -> None:
    assert rotation().on_call(at(time)) == person


def test_there_is_one_handover_in_an_hour_that_comes_twice_or_is_left_out() -> None:
    at_half_past_two = rotation(start=datetime(2026, 1, 1, 2, 30), every_ms=DAY_MS, people=("alice", "bob"))
    for day in ("2026-03-29", "2026-10-25"):
        midnight = at(f"{day} 00:00")
        people = [at_half_past_two.on_call(midnight + minute * 60_000) for minute in range(6 * 60)]
        assert sum(one != other for one, other in pairwise(people)) == 1


def test_a_handover_at_a_time_that_is_left_out_is_as_long_after_the_last() -> None:
    of = rotation(start=datetime(2026, 1, 1, 2, 30), every_ms=DAY_MS, people=("alice", "bob"))
    handover = at("2026-03-28 02:30") + DAY_MS
    assert handover == at("2026-03-29 03:30")
    assert of.on_call(handover - 1) == of.on_call(handover - DAY_MS) != of.on_call(handover)


def test_somebody_stands_in() -> None:
    start, end = at("2026-01-07 00:00"), at("2026-01-09 00:00")
    late = rotation(overrides=(Override(start, end, "bob"), Override(end - HOUR_MS, end + HOUR_MS, "dave")))
    times = (start - 1, start, end - HOUR_MS - 1, end - HOUR_MS, end, end + HOUR_MS)
    assert [late.on_call(ms) for ms in times] == ["alice", "bob", "bob", "dave", "dave", "alice"]
    assert late.shifts(at("2026-01-05 09:00"), at("2026-01-12 10:00")) == [
        Shift(at("2026-01-05 09:00"), start, "alice"),
        Shift(start, end - HOUR_MS, "bob"),
        Shift(end - HOUR_MS, end + HOUR_MS, "dave"),
        Shift(end + HOUR_MS, at("2026-01-12 09:00"), "alice"),
        Shift(at("2026-01-12 09:00"), at("2026-01-12 10:00"), "bob"),
    ]


def test_nobody_is_on_call_outside_of_its_calendar_not_even_who_stands_in() -> None:
    hours = Calendar("day", (Interval(time_zone=BERLIN, times=(parse_times("08:00-20:00"),)),))
    start, end = at("2026-01-07 00:00"), at("2026-01-08 00:00")
    by_day = rotation(restricted_to=hours, overrides=(Override(start, end, "bob"),))
    assert by_day.on_call(at("2026-01-06 07:59")) is None
    assert by_day.on_call(at("2026-01-07 07:59")) is None
    assert by_day.shifts(at("2026-01-05 00:00"), at("2026-01-08 12:00")) == [
        Shift(at("2026-01-05 09:00"), at("2026-01-05 20:00"), "alice"),
        Shift(at("2026-01-06 08:00"), at("2026-01-06 20:00"), "alice"),
        Shift(at("2026-01-07 08:00"), at("2026-01-07 20:00"), "bob"),
        Shift(at("2026-01-08 08:00"), at("2026-01-08 12:00"), "alice"),
    ]


@settings(max_examples=60, deadline=None)
@given(
    every=st.integers(1, 300).map(lambda hours: hours * HOUR_MS),
    start=st.datetimes(datetime(2026, 3, 1), datetime(2026, 3, 31)),
    spans=st.lists(st.tuples(st.integers(0, 700), st.integers(1, 200)), max_size=3),
    month=st.sampled_from(["2026-03-20", "2026-10-20"]),
)
def test_the_list_of_shifts_says_the_same_as_asking_at_every_time(
    every: int, start: datetime, spans: list[tuple[int, int]], month: str
) -> None:
    begin = at(f"{month} 00:00")
    overrides = tuple(
        Override(begin + first * HOUR_MS, begin + (first + length) * HOUR_MS, f"stand-in {number}")
        for number, (first, length) in enumerate(spans)
    )
    of = rotation(every_ms=every, start=start.replace(microsecond=0), overrides=overrides)
    shifts = of.shifts(begin, begin + 10 * DAY_MS)
    assert all(one.end_ms <= other.start_ms for one, other in pairwise(shifts))
    for ms in range(begin, begin + 10 * DAY_MS, 17 * 60_000):
        listed = [shift.person for shift in shifts if shift.start_ms <= ms < shift.end_ms]
        assert listed == [person for person in [of.on_call(ms)] if person is not None]


def test_a_calendar_that_begins_months_from_now() -> None:
    june = Calendar("june", (Interval(time_zone=BERLIN, months=((6, 6),)),))
    of = rotation(restricted_to=june, every_ms=200 * DAY_MS)
    assert of.shifts(at("2026-01-05 09:00"), at("2026-12-31 00:00")) == [
        Shift(at("2026-06-01 00:00"), at("2026-07-01 00:00"), "alice")
    ]


def test_two_people_have_the_same_share() -> None:
    shifts = rotation(every_ms=12 * HOUR_MS, people=("alice", "bob")).shifts(
        at("2026-01-05 09:00"), at("2026-02-04 09:00")
    )
    hours = {
        name: sum(s.end_ms - s.start_ms for s in shifts if s.person == name) // HOUR_MS for name in ("alice", "bob")
    }
    assert hours == {"alice": 360, "bob": 360}


@pytest.mark.parametrize(
    ("written", "every_ms"),
    [("1w", WEEK_MS), ("52w", 52 * WEEK_MS), ("1d", DAY_MS), ("12h", DAY_MS // 2), (3600, HOUR_MS)],
)
def test_lengths_of_shifts(written: object, every_ms: int) -> None:
    assert parse_every(written) == every_ms


@pytest.mark.parametrize("written", ["0w", "53w", "30m", "1 week", "", None, "1w2d"])
def test_what_is_no_length_of_a_shift_is_refused(written: object) -> None:
    with pytest.raises(ConfigError, match=r"expected a (time|duration)"):
        parse_every(written)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"people": ()}, "expected people"),
        ({"every_ms": HOUR_MS - 1}, "expected a shift from 1 hour"),
        ({"every_ms": LONGEST_MS + 1}, "expected a shift from 1 hour"),
        ({"start": datetime(2026, 1, 5, tzinfo=BERLIN)}, "expected a start without a zone"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        rotation(**changes)


def test_what_ends_before_it_begins_and_what_is_too_long_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected an end after the beginning"):
        Override(5, 5, "bob")
    with pytest.raises(ConfigError, match="expected at most 366 days, got 367"):
        rotation().shifts(0, 367 * DAY_MS)
