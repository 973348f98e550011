"""A window is mature once the input and partition furthest behind are past its end and the allowed lateness."""

from __future__ import annotations

from benchmarks.load import PARTITIONS
from benchmarks.pace import Maturity, Place

MINUTE = 60_000
LATENESS = 5_000
EVERYWHERE: list[Place] = [(topic, number) for topic in ("impressions", "clicks") for number in range(PARTITIONS)]


def test_the_event_that_comes_last_makes_a_window_mature() -> None:
    maturity = Maturity()
    maturity.take(dict.fromkeys(EVERYWHERE, MINUTE), 1)

    maturity.take(dict.fromkeys(EVERYWHERE[:-1], 2 * MINUTE + LATENESS), 2)
    assert maturity.matured == {}
    maturity.take({EVERYWHERE[-1]: 2 * MINUTE + LATENESS}, 3)

    assert maturity.matured == {0: 3, MINUTE: 3}


def test_an_event_that_is_a_moment_too_early_does_not() -> None:
    maturity = Maturity()
    maturity.take(dict.fromkeys(EVERYWHERE, MINUTE + LATENESS), 1)

    maturity.take(dict.fromkeys(EVERYWHERE, 2 * MINUTE + LATENESS - 1), 2)
    assert maturity.matured == {}
    maturity.take(dict.fromkeys(EVERYWHERE, 2 * MINUTE + LATENESS), 3)

    assert maturity.matured == {MINUTE: 3}


def test_nothing_is_known_of_windows_that_ended_before_all_partitions_had_spoken() -> None:
    maturity = Maturity()

    maturity.take(dict.fromkeys(EVERYWHERE[1:], 5 * MINUTE), 1)
    maturity.take({EVERYWHERE[0]: 5 * MINUTE}, 2)

    assert maturity.matured == {}
