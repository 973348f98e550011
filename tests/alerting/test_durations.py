from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.durations import LONGEST_MS, parse_duration, say_duration
from tables.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("90s", 90_000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        ("250ms", 250),
        ("1m5ms", 60_005),
        (" 2m ", 120_000),
        ("0s", 0),
        (45, 45_000),
        (0, 0),
    ],
)
def test_durations_people_write(written: object, milliseconds: int) -> None:
    assert parse_duration(written) == milliseconds


@pytest.mark.parametrize(
    "written", ["", "2", "m", "2 m", "30m1h", "1m1m", "-2m", "1.5m", "2M", "9" * 5000 + "m", -1, 1.5, True, None, []]
)
def test_what_is_no_duration_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ConfigError, match=r"^rules\[1\]\.for: expected a duration such as \"90s\""):
        parse_duration(written, "rules[1].for")


def test_a_duration_beyond_a_year_is_a_slip_of_the_keyboard() -> None:
    with pytest.raises(ConfigError, match="from 0 to 366 days"):
        parse_duration("1000d")


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (0, "0 s"),
        (120_000, "2 min"),
        (90_000, "1 min 30 s"),
        (5_400_000, "1 h 30 min"),
        (90_000_250, "1 d 1 h 250 ms"),
    ],
)
def test_durations_in_words(milliseconds: int, said: str) -> None:
    assert say_duration(milliseconds) == said


@given(st.integers(0, LONGEST_MS))
def test_saying_a_duration_loses_nothing(milliseconds: int) -> None:
    written = say_duration(milliseconds).replace("min", "m").replace(" ", "")
    assert parse_duration(written) == milliseconds
