from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.sending.backoff import Backoff
from tables.errors import ConfigError


@given(
    attempt=st.integers(1, 5),
    elapsed=st.floats(0, 300),
    seed=st.integers(0, 2**32),
    asked=st.none() | st.floats(0, 1e9),
)
def test_no_attempt_begins_after_the_budget_and_no_wait_is_longer_than_its_caps(
    attempt: int, elapsed: float, seed: int, asked: float | None
) -> None:
    backoff = Backoff(tries=6, budget_s=300, base_s=1, cap_s=8, retry_after_cap_s=120)
    wait = backoff.wait(attempt, elapsed, random.Random(seed).random(), asked)
    if wait is not None:
        assert elapsed + wait <= 300
        assert 0 <= wait <= max(min(8, 2 ** (attempt - 1)), min(asked or 0, 120))
        assert wait >= min(asked or 0, 120)
    else:
        assert elapsed + max(8, min(asked or 0, 120)) > 300


def test_the_last_try_is_the_last() -> None:
    assert [Backoff(tries=3).wait(n, 0, 0.5) is None for n in (1, 2, 3)] == [False, False, True]


def test_where_another_channel_can_stand_in_it_need_not_wait_for_long() -> None:
    backoff = Backoff(tries=5, tries_before_detour=2)
    assert [backoff.wait(n, 0, 0.5, has_detour=True) is None for n in (1, 2, 3)] == [False, True, True]
    assert [backoff.wait(n, 0, 0.5) is None for n in (2, 4, 5)] == [False, False, True]


@pytest.mark.parametrize("seed", range(20))
def test_alone_it_goes_on_through_minutes_of_outage(seed: int) -> None:
    rng, elapsed, attempt = random.Random(seed), 0.0, 1
    while (wait := Backoff().wait(attempt, elapsed, rng.random())) is not None:
        elapsed, attempt = elapsed + wait, attempt + 1
    assert 240 <= elapsed <= 300
    assert attempt < 30


def test_waits_are_spread_over_their_whole_range() -> None:
    rng = random.Random(1)
    waits = [Backoff(base_s=1).wait(4, 0, rng.random()) or 0.0 for _ in range(1000)]
    assert min(waits) < 0.5
    assert max(waits) > 7.5
    assert 3.5 < sum(waits) / len(waits) < 4.5


@pytest.mark.parametrize(
    "wrong", [{"tries": 0}, {"tries_before_detour": 0}, {"budget_s": -1}, {"base_s": float("nan")}]
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: expected"):
        Backoff(**wrong)
