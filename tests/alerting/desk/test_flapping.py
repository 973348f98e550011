from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerting.desk.flapping import FlapWatch
from alerting.desk.policy import Flapping

FLAPPING = Flapping(times=3, within_ms=100, quiet_ms=30)


def test_the_third_begin_within_the_time_is_flapping_until_it_is_quiet() -> None:
    watch = FlapWatch(FLAPPING, limit=10)
    for at in (0, 40):
        watch.began("f", at)
        assert watch.held_until("f", at) is None
    watch.began("f", 80)
    assert watch.held_until("f", 85) == 110
    assert watch.held_until("f", 109) == 110
    assert watch.held_until("f", 110) is None  # it has been quiet: this end is an end
    assert watch.held_until("other", 85) is None


def test_begins_that_are_far_apart_are_incidents_of_their_own() -> None:
    watch = FlapWatch(FLAPPING, limit=10)
    for at in (0, 60, 120):
        watch.began("f", at)
    assert watch.held_until("f", 121) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=40))
def test_against_all_begins_ever_across_restarts(moves: list[tuple[str, int]]) -> None:
    watch, now, begins = FlapWatch(FLAPPING, limit=10), 0, list[tuple[str, int]]()
    for name, later in moves:
        now += later
        watch.began(name, now)
        begins.append((name, now))
        for asked in "abc":
            of_it = [at for one, at in begins if one == asked]
            flaps = len(of_it) >= 3 and of_it[-3] > of_it[-1] - 100
            until = of_it[-1] + 30 if flaps and of_it[-1] + 30 > now else None
            assert watch.held_until(asked, now) == until
        state = watch.state()
        watch = FlapWatch(FLAPPING, limit=10)
        watch.restore(state)


def test_a_flood_of_conditions_is_bounded() -> None:
    watch = FlapWatch(FLAPPING, limit=10)
    for number in range(1_000):
        watch.began(f"f{number}", 0)
    assert list(watch.state()) == [f"f{number}" for number in range(990, 1_000)]
    watch.began("late", 1_000)
    assert list(watch.state()) == ["late"]
