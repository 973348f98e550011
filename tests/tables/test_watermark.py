"""The watermark against a model that goes event by event."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.watermark import CLICKS, END, IMPRESSIONS, UNKNOWN, Watermark, reached

LAG, IDLE = 5, 15
T0 = 1_000


@dataclass
class Model:
    """The contract's sentence, one event or tick at a time."""

    clock: int
    seen: list[int] = field(init=False)
    high: list[int] = field(default_factory=lambda: [UNKNOWN, UNKNOWN])
    value: int = UNKNOWN

    def __post_init__(self) -> None:
        self.seen = [self.clock, self.clock]

    def look(self, clock: int) -> int:
        awake = [high for high, seen in zip(self.high, self.seen, strict=True) if clock - seen <= IDLE]
        self.value = max(self.value, (min(awake) if awake else max(self.high)) - LAG)
        return self.value

    def event(self, side: int, time: int, clock: int) -> int:
        self.high[side] = max(self.high[side], time)
        self.seen[side] = clock
        return self.look(clock)


sides = st.sampled_from([IMPRESSIONS, CLICKS])
events = st.lists(st.tuples(sides, st.integers(0, 100), st.integers(0, 12)), max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), events),
        st.tuples(st.just("tick"), st.integers(0, 40)),
        st.tuples(st.just("touch"), sides),
        st.tuples(st.just("lift"), st.integers(0, 120)),
        st.tuples(st.just("restore"), st.none()),
    ),
    max_size=20,
)


@given(steps)
def test_equals_the_model_however_events_are_cut_into_batches(steps: list[tuple[str, object]]) -> None:
    clock = 0
    tested, model = Watermark(LAG, IDLE, clock), Model(clock)
    for what, argument in steps:
        if what == "batch" and isinstance(argument, list) and argument:
            clocks = (clock + np.cumsum([pause for _, _, pause in argument])).tolist()
            clock = clocks[-1]
            is_click = np.array([side == CLICKS for side, _, _ in argument])
            times = np.array([T0 + time for _, time, _ in argument], np.int64)
            marks = tested.advance(is_click, times, np.array(clocks, np.int64))
            expected = [model.event(s, T0 + t, now) for (s, t, _), now in zip(argument, clocks, strict=True)]
            assert marks.tolist() == expected
        elif what == "tick" and isinstance(argument, int):
            clock += argument
            assert tested.tick(clock) == model.look(clock)
            silent = min(clock - seen for seen in model.seen)
            assert tested.is_idle(clock) == (silent > IDLE)
            assert tested.idle_for(clock) == (silent if silent > IDLE else 0)
        elif what == "touch" and isinstance(argument, int):
            tested.touch(argument, clock)
            model.seen[argument] = clock
        elif what == "lift" and isinstance(argument, int):
            tested.lift(T0 + argument)
            model.value = max(model.value, T0 + argument)
        elif what == "restore":
            state, tested = tested.state(), Watermark(LAG, IDLE, 0)
            tested.restore(state, clock)
            model.seen = [clock, clock]
        assert tested.value == model.value


def test_one_clock_for_a_whole_batch() -> None:
    tested = Watermark(LAG, IDLE, 0)
    marks = tested.advance(np.array([False, True, True]), np.array([T0 + 50, T0 + 20, T0 + 90], np.int64), 3)
    assert marks.tolist() == [UNKNOWN, T0 + 20 - LAG, T0 + 50 - LAG]


def test_before_both_inputs_have_spoken_nothing_is_known() -> None:
    tested = Watermark(LAG, IDLE, 0)
    tested.advance(np.array([False]), np.array([T0], np.int64), 0)
    assert tested.value == tested.tick(IDLE) == UNKNOWN
    assert tested.tick(IDLE + 1) == T0 - LAG


def test_while_frozen_it_only_takes_note() -> None:
    tested = Watermark(LAG, IDLE, 0)
    tested.lift(T0)
    tested.frozen = True
    marks = tested.advance(np.array([False, True]), np.array([T0 + 50, T0 + 90], np.int64), 1)
    tested.lift(END)
    assert (marks.tolist(), tested.tick(1_000), tested.value) == ([T0, T0], T0, T0)

    tested.frozen = False
    assert tested.tick(1) == T0 + 50 - LAG


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        ([], UNKNOWN),
        ([(10, False), (20, False)], 10),
        ([(10, True), (20, False), (30, False)], 20),  # idle ones hold nothing back
        ([(10, True), (30, True)], 30),  # and if all are idle, so do none
    ],
)
def test_how_far_all_partitions_are(partitions: list[tuple[int, bool]], expected: int) -> None:
    assert reached(partitions) == expected
