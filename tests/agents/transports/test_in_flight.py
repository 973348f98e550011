"""Ranges in flight against a model that remembers every one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from agents.transports.in_flight import InFlight


@dataclass
class Model:
    delivered: list[tuple[int, int]] = field(default_factory=list)
    done: set[int] = field(default_factory=set)

    @property
    def records(self) -> int:
        return sum(records for end, records in self.delivered if end not in self.done)

    @property
    def committable(self) -> int | None:
        finished = list(takewhile(self.done.__contains__, (end for end, _ in self.delivered)))
        return finished[-1] if finished else None


# A delivery of so many records, after so many offsets that hold none; or a range, chosen among all, that is done.
deliveries = st.tuples(st.just("delivered"), st.integers(1, 50), st.integers(0, 3))
dones = st.tuples(st.just("done"), st.integers(0, 10_000), st.integers(0, 20))


@given(st.lists(st.one_of(deliveries, dones), max_size=60))
def test_equals_the_model_whatever_is_done_when(steps: list[tuple[str, int, int]]) -> None:
    tested, model, end = InFlight(), Model(), 0
    for what, number, extra in steps:
        if what == "delivered":
            end += number + extra
            tested.delivered(end, number)
            model.delivered.append((end, number))
        elif extra == 0:
            tested.done(end + number + 1)  # never delivered
        elif model.delivered:
            chosen, _ = model.delivered[number % len(model.delivered)]
            tested.done(chosen)  # perhaps for the second time
            model.done.add(chosen)
        assert (tested.records, tested.committable) == (model.records, model.committable)


def test_what_is_done_is_forgotten() -> None:
    tested = InFlight()
    for end in range(1, 1001):
        tested.delivered(end, 1)
    for end in range(1000, 0, -1):
        tested.done(end)
    assert (tested.records, tested.committable) == (0, 1000)
    assert not tested._ranges
    assert not tested._by_next
