"""What counts as an event time, and which millisecond it is."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.event_time import parse_event_time

TEN_O_CLOCK = 1777629600000  # 2026-05-01T10:00:00Z


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (TEN_O_CLOCK, TEN_O_CLOCK),
        (0, 0),
        (-1, -1),
        (float(TEN_O_CLOCK), TEN_O_CLOCK),
        ("2026-05-01T10:00:00Z", TEN_O_CLOCK),
        ("2026-05-01t10:00:00z", TEN_O_CLOCK),
        ("2026-05-01 10:00:00Z", TEN_O_CLOCK),
        ("2026-05-01T18:00:00+08:00", TEN_O_CLOCK),
        ("2026-05-01T06:30:00.5-03:30", TEN_O_CLOCK + 500),
        ("2026-05-01T10:00:00.001999999Z", TEN_O_CLOCK + 1),
        ("1969-12-31T23:59:59.9995Z", -1),
    ],
)
def test_accepts_milliseconds_and_rfc_3339(value: object, milliseconds: int) -> None:
    assert parse_event_time(value) == milliseconds


def test_rounds_down_so_that_the_last_instant_of_a_minute_stays_in_it() -> None:
    assert parse_event_time("2026-05-01T09:59:59.9999999Z") == TEN_O_CLOCK - 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        [],
        float("nan"),
        float("inf"),
        1.5,
        1e300,
        2**63,
        "",
        "1777629600000",
        "2026-05-01",
        "2026-05-01T10:00Z",
        "2026-05-01T10:00:00",
        "2026-05-01T10:00:00+0200",
        "2026-05-01T10:00:00.Z",
        "2026-05-01T10:00:60Z",
        "2026-02-30T10:00:00Z",
        "20260501T100000Z",
        "２026-05-01T10:00:00Z",  # noqa: RUF001 - a digit, but not an ASCII one
        " 2026-05-01T10:00:00Z",
        "2026-05-01T10:00:00Z\n",
        "yesterday",
    ],
)
def test_refuses_everything_else(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|out of range|must be|day is"):
        parse_event_time(value)


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    st.integers(-23 * 60, 23 * 60),
)
def test_the_offset_names_the_same_instant(naive: datetime, offset_minutes: int) -> None:
    instant = naive.replace(microsecond=naive.microsecond // 1000 * 1000, tzinfo=UTC)
    abroad = instant.astimezone(timezone(timedelta(minutes=offset_minutes)))
    expected = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_event_time(abroad.isoformat()) == parse_event_time(instant.isoformat()) == expected
