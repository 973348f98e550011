"""Stories of one incident each, in minutes, and what no policy may do however it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.desk.calendars import Calendar, Interval
from alerting.desk.escalation import MOST_POLICIES, Escalation, StepDue, StepReason, Surroundings, chain_of
from alerting.desk.policy import MINUTE_MS, EscalationPolicy, Step
from tables.errors import ConfigError, StoreError

LEAD = Step(do="notify", notify=("lead",))
OPS = Step(do="notify", notify=("oncall:ops", "owner"))
TEN_MINUTES = Step(do="wait", wait_ms=10 * MINUTE_MS)


def policy(*steps: Step, name: str = "page") -> EscalationPolicy:
    return EscalationPolicy(name=name, steps=steps)


def begin(*steps: Step, others: Sequence[EscalationPolicy] = (), now: float = 0) -> Escalation:
    first = policy(*steps)
    return Escalation.begin(first, {one.name: one for one in (first, *others)}, int(now * MINUTE_MS))


def around(calendars: Mapping[str, Calendar] | None = None, incidents: int = 1) -> Surroundings:
    return Surroundings(calendars=calendars or {}, count=lambda policy, within_ms: incidents)


def told(run: Escalation, minutes: float, surroundings: Surroundings | None = None) -> list[str]:
    """What `advance` hands out, such as "lead" or "2 outside_hours"."""
    due = run.advance(int(minutes * MINUTE_MS), surroundings or around())
    return [",".join(one.notify) if one.is_done else f"{one.step} {one.reason}" for one in due]


def next_due(run: Escalation) -> float | None:
    return None if run.next_due is None else run.next_due / MINUTE_MS


def test_step_after_step() -> None:
    run = begin(OPS, TEN_MINUTES, LEAD, TEN_MINUTES, LEAD)
    assert next_due(run) == 0
    assert told(run, 0) == ["oncall:ops,owner"]
    assert (next_due(run), run.step) == (10, 3)
    assert told(run, 9.9) == []
    assert told(run, 10) == ["lead"]
    assert told(run, 10) == []
    assert told(run, 20) == ["lead"]
    assert next_due(run) is None
    assert told(run, 1000) == []


def test_what_is_handed_out_says_where_it_stands() -> None:
    run = begin(LEAD, TEN_MINUTES, Step(do="repeat", repeat=1), Step(do="next", next="managers"), others=[MANAGERS])
    found = run.advance(0, around()) + run.advance(10 * MINUTE_MS, around()) + run.advance(20 * MINUTE_MS, around())
    common: dict[str, Any] = {"reason": StepReason.DUE, "step": 1}
    assert found == [
        StepDue(policy="page", round=1, waited=False, notify=("lead",), **common),
        StepDue(policy="page", round=2, waited=True, notify=("lead",), **common),
        StepDue(policy="managers", round=1, waited=True, notify=("managers",), **common),
    ]
    assert (run.policy, run.round, next_due(run)) == ("managers", 1, None)


MANAGERS = policy(Step(do="notify", notify=("managers",)), name="managers")


def test_it_begins_again_as_often_as_it_says() -> None:
    run = begin(LEAD, TEN_MINUTES, Step(do="repeat", repeat=3))
    times = [minute for minute in range(100) if told(run, minute)]
    assert times == [0, 10, 20, 30]
    assert next_due(run) is None


def test_late_ticks_do_not_add_up() -> None:
    run = begin(LEAD, TEN_MINUTES, LEAD, TEN_MINUTES, LEAD)
    assert told(run, 0.5) == ["lead"]
    assert next_due(run) == 10
    assert told(run, 12) == ["lead"]
    assert next_due(run) == 20
    # Up to half of the wait.
    for late, expected in ((5, 10), (5.5, 15.5)):
        run = begin(LEAD, TEN_MINUTES, LEAD)
        assert told(run, late) == ["lead"]
        assert next_due(run) == expected


def test_after_an_outage_the_steps_that_were_missed_do_not_come_in_a_burst() -> None:
    run = begin(OPS, TEN_MINUTES, LEAD, TEN_MINUTES, OPS, TEN_MINUTES, LEAD)
    assert told(run, 0) == ["oncall:ops,owner"]
    # All of it would have been over by now; the lead has never heard of it, and gets the whole time to answer.
    assert told(run, 60) == ["lead"]
    assert next_due(run) == 70
    assert told(run, 69) == []
    assert told(run, 70) == ["oncall:ops,owner"]
    # From then on it keeps time again.
    assert told(run, 81) == ["lead"]


def test_a_step_is_left_out_outside_of_its_hours() -> None:
    by_day = Calendar("day", (Interval(times=((0, 15),)),))
    run = begin(LEAD, TEN_MINUTES, Step(do="notify", notify=("ops",), only_in="day"), TEN_MINUTES, OPS)
    around_day = around({"day": by_day})
    assert told(run, 0, around_day) == ["lead"]
    assert told(run, 10, around_day) == ["ops"]
    late = begin(Step(do="notify", notify=("ops",), only_in="day"), LEAD, now=20)
    assert told(late, 20, around_day) == ["1 outside_hours", "lead"]
    # Somebody has taken the calendar out of the file meanwhile: better one message too many.
    gone = begin(Step(do="notify", notify=("ops",), only_in="day"))
    assert told(gone, 20, around()) == ["ops"]


def test_a_step_is_left_out_where_too_few_incidents_began() -> None:
    asked = []

    def count(policy: str, within_ms: int) -> int:
        asked.append((policy, within_ms))
        return 2

    for limit, expected in ((2, ["lead"]), (3, ["1 too_few"])):
        run = begin(Step(do="notify", notify=("lead",), only_if_count=limit, only_if_within_ms=5_000))
        assert told(run, 0, Surroundings(calendars={}, count=count)) == expected
    assert asked == [("page", 5_000)] * 2


def test_conditions_of_next_and_repeat() -> None:
    many = {"only_if_count": 5, "only_if_within_ms": 1_000}
    steps = (
        LEAD,
        TEN_MINUTES,
        Step(do="repeat", repeat=1, **many),  # type: ignore[arg-type]  # one dict for two steps
        Step(do="next", next="managers", **many),  # type: ignore[arg-type]  # the same
        OPS,
    )
    quiet = begin(*steps, others=[MANAGERS])
    assert told(quiet, 0) == ["lead"]
    assert told(quiet, 10) == ["3 too_few", "4 too_few", "oncall:ops,owner"]
    storm = begin(*steps, others=[MANAGERS])
    assert [told(storm, minute, around(incidents=5)) for minute in (0, 10, 20)] == [["lead"], ["lead"], ["managers"]]


def test_a_change_of_the_file_does_not_touch_what_runs() -> None:
    policies = {"page": policy(LEAD, TEN_MINUTES, Step(do="next", next="managers")), "managers": MANAGERS}
    run = Escalation.begin(policies["page"], policies, 0)
    assert told(run, 0) == ["lead"]
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(run.state()))
    policies.clear()
    for one in (run, Escalation.restore(state)):
        assert told(one, 10) == ["managers"]
    with pytest.raises(StoreError, match="version 2, got 3"):
        Escalation.restore(state | {"version": 3})


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([Step(do="next", next="page")], "a circle: page -> page"),
        ([Step(do="next", next="back")], "a circle: page -> back -> page"),
        ([Step(do="next", next="nobody")], "step 1 of page: expected a known policy, got 'nobody'"),
        ([LEAD, Step(do="next", next="p0")], f"at most {MOST_POLICIES} policies"),
        ([LEAD, Step(do="repeat", repeat=2), TEN_MINUTES], "step 2 of page: expected a wait .* before it"),
        ([Step(do="wait", wait_ms=5, only_in="day"), Step(do="repeat", repeat=2)], "expected a wait without"),
        ([TEN_MINUTES, Step(do="repeat", repeat=6)], "step 2 of page: expected 1 to 5, got 6"),
        ([TEN_MINUTES, Step(do="repeat")], "step 2 of page: expected 1 to 5, got 0"),
    ],
)
def test_policies_that_never_end_or_tell_everything_at_once_are_refused(steps: list[Step], expected: str) -> None:
    chain = [policy(Step(do="next", next=f"p{number + 1}"), name=f"p{number}") for number in range(MOST_POLICIES)]
    with pytest.raises(ConfigError, match=expected):
        begin(*steps, others=[policy(Step(do="next", next="page"), name="back"), *chain, policy(name="p10")])


def test_two_ways_to_one_policy_are_no_circle() -> None:
    left, right = (policy(Step(do="next", next="managers"), name=name) for name in ("left", "right"))
    first = policy(Step(do="next", next="left", only_in="day"), Step(do="next", next="right"))
    policies = {one.name: one for one in (first, left, right, MANAGERS)}
    assert [one.name for one in chain_of(first, policies)] == ["page", "left", "managers", "right"]


STEPS = st.lists(
    st.one_of(
        st.just(LEAD),
        st.integers(1, 30).map(lambda minutes: Step(do="wait", wait_ms=minutes * MINUTE_MS)),
        st.just(Step(do="notify", notify=("ops",), only_if_count=2, only_if_within_ms=1_000)),
    ),
    max_size=6,
)


@given(
    steps=STEPS,
    repeat=st.integers(0, 5),
    moves=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 2), st.booleans()), max_size=20),
)
def test_each_step_once_a_round_in_order_and_never_in_a_burst(
    steps: list[Step], repeat: int, moves: list[tuple[int, int, bool]]
) -> None:
    # In the end there is time for all that is left.
    moves = [*moves, *[(30, 1, False)] * 50]
    steps = [*steps, TEN_MINUTES, *([Step(do="repeat", repeat=repeat)] if repeat else [])]
    run, now = begin(*steps), 0
    places: list[tuple[int, int]] = []
    done_at: dict[tuple[int, int], int] = {}
    for minutes, incidents, restarts in moves:
        now += minutes * MINUTE_MS
        if restarts:
            run = Escalation.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(run.state())))
        for due in run.advance(now, around(incidents=incidents)):
            places.append((due.round, due.step))
            done_at[due.round, due.step] = now
        assert run.next_due is None or run.next_due > now
    notified = [number for number, step in enumerate(steps, 1) if step.do == "notify"]
    whole = [(round_, number) for round_ in range(1, repeat + 2) for number in notified]
    assert places == whole
    assert run.next_due is None
    for (round_, number), at in done_at.items():
        for other, later in done_at.items():
            if other[0] == round_ and other[1] > number:
                waits = sum(step.wait_ms for step in steps[number : other[1] - 1])
                assert later - at >= waits / 2
