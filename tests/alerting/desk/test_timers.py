from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerting.desk.timers import Timers


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 20)), max_size=300), st.integers(0, 20))
def test_what_is_due_comes_out_once_in_order_of_time_and_name(moves: list[tuple[str, int | None]], now_ms: int) -> None:
    timers = Timers()
    expected: dict[str, int] = {}
    for name, at_ms in moves:
        timers.set((name,), at_ms)
        expected.pop(name, None)
        if at_ms is not None:
            expected[name] = at_ms
        assert timers.next_due() == min(expected.values(), default=None)
    popped = []
    while (found := timers.pop(now_ms)) is not None:
        popped.append(found[0])
    assert popped == [name for at, name in sorted((at, name) for name, at in expected.items()) if at <= now_ms]
