"""Serving figures by model and minute, against counting one inference at a time."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.join_policy import MODEL_LIMIT, WINDOW_MS
from tables.serving import PackedCounts, ServingCount, ServingCounts, ServingTable
from tests.tables.streams import T0

NO_LATENCY = math.nan


class Inference(NamedTuple):
    model: int
    time: int
    error: bool = False
    latency_ms: float = NO_LATENCY


inferences = st.lists(
    st.builds(
        Inference,
        st.integers(0, 3) | st.just(MODEL_LIMIT),
        st.integers(T0, T0 + 3 * WINDOW_MS),
        st.booleans(),
        st.floats(0, 1e5) | st.just(NO_LATENCY),
    ),
    max_size=40,
)


def apply(table: ServingTable, *events: Inference) -> None:
    model, time, error, latency_ms = zip(*events, strict=True) if events else ((),) * 4
    table.apply(
        np.array(model, np.int64), np.array(time, np.int64), np.array(error, np.bool_), np.array(latency_ms, np.float64)
    )


def counted(events: list[Inference]) -> list[ServingCount]:
    """The oracle: one inference at a time."""
    windows: dict[tuple[int, int], ServingCounts] = defaultdict(ServingCounts)
    for event in events:
        counts = windows[event.time // WINDOW_MS * WINDOW_MS, event.model]
        counts.requests += 1
        counts.errors += event.error
        if not math.isnan(event.latency_ms):
            counts.latency.add(np.array([event.latency_ms]))
    return [ServingCount(model, start, counts.pack()) for (start, model), counts in sorted(windows.items())]


@given(inferences, st.randoms(use_true_random=False))
def test_any_batches_in_any_order_count_the_same(events: list[Inference], rng: random.Random) -> None:
    table = ServingTable()
    left = rng.sample(events, len(events))
    while left:
        size = rng.randint(0, len(left))
        apply(table, *left[:size])
        left = left[size:]
    assert table.take_changed() == counted(events)
    assert table.open_windows == len(counted(events))
    assert table.models == {event.model for event in events}


@given(inferences, st.randoms(use_true_random=False))
def test_a_row_is_the_same_however_partitions_shared_the_events(events: list[Inference], rng: random.Random) -> None:
    partitions = [ServingTable() for _ in range(3)]
    for event in events:
        apply(rng.choice(partitions), event)
    said: dict[tuple[int, int], list[PackedCounts]] = defaultdict(list)
    for partition in rng.sample(partitions, 3):
        for model, start, counts in partition.take_changed():
            said[start, model].append(counts)
    merged = [ServingCount(model, start, ServingCounts.restore(p).pack()) for (start, model), p in sorted(said.items())]
    assert merged == counted(events)


@given(inferences, st.randoms(use_true_random=False))
def test_a_restart_at_any_checkpoint_changes_nothing(events: list[Inference], rng: random.Random) -> None:
    table, stored = ServingTable(), dict[int, bytes]()
    first_open = T0
    for event in events:
        if event.time >= first_open:
            apply(table, event)
        if rng.random() < 0.2:
            stored.update(table.take_changes())
        if rng.random() < 0.1:
            first_open += WINDOW_MS
            for start in table.forget(first_open):
                stored.pop(start, None)
        if rng.random() < 0.2:
            stored.update(table.take_changes())
            # What was replaced window by window is all that there is.
            assert stored == table.state()
            before, table = table, ServingTable()
            table.restore(stored)
            assert table.state() == before.state()
            # What the one before may not have told any more is told again.
            assert {(row.start, row.model) for row in table.take_changed()} >= {
                (row.start, row.model) for row in before.take_changed()
            }
    table.take_changed()
    table.restore(table.state())
    kept = [row for row in counted(events) if row.start >= first_open]
    told = {(row.start, row.model): row.counts for row in table.take_changed()}
    # Events of windows that were forgotten before are not counted again.
    assert told == {(row.start, row.model): row.counts for row in kept}


def test_what_changed_is_told_once() -> None:
    table = ServingTable()
    apply(table, Inference(1, T0), Inference(2, T0))
    assert [row.model for row in table.take_changed()] == [1, 2]
    assert table.take_changed() == []
    apply(table, Inference(2, T0 + 1))
    [row] = table.take_changed()
    # Cumulative: the first one is counted in it.
    assert (row.model, row.start, row.counts.requests) == (2, T0, 2)


def test_a_checkpoint_holds_the_minutes_that_changed() -> None:
    table = ServingTable()
    apply(table, Inference(1, T0), Inference(1, T0 + WINDOW_MS))
    assert list(table.take_changes()) == [T0, T0 + WINDOW_MS]
    apply(table, Inference(2, T0))
    assert table.take_changes() == {T0: table.state()[T0]}
    assert table.take_changes() == {}


def test_what_is_forgotten_is_neither_told_nor_stored() -> None:
    table = ServingTable()
    apply(table, Inference(1, T0), Inference(2, T0 + WINDOW_MS))
    assert table.forget(T0 + WINDOW_MS) == [T0]
    assert table.models == {2}
    assert [row.start for row in table.take_changed()] == list(table.take_changes()) == [T0 + WINDOW_MS]
    assert table.forget(T0 + WINDOW_MS) == []


def test_what_was_told_does_not_change_afterwards() -> None:
    table = ServingTable()
    apply(table, Inference(1, T0, latency_ms=5.0))
    [row] = table.take_changed()
    apply(table, Inference(1, T0, latency_ms=5.0))
    assert row.counts.requests == 1
    assert row.counts.latency.counts == [1]


@pytest.mark.parametrize("bad", [Inference(-1, T0), Inference(0, T0, latency_ms=-1.0)])
def test_what_cannot_be_counted_changes_nothing(bad: Inference) -> None:
    table = ServingTable()
    with pytest.raises(ValueError, match=r"expected (model numbers|latencies of 0 ms or more)"):
        apply(table, Inference(1, T0), bad)
    assert table.take_changed() == []


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode({1: (1, -1, (0, 0.0, [], []))})])
def test_a_damaged_window_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=f"expected the counts of window {T0}"):
        ServingTable().restore({T0: data})


def test_the_fields_of_a_row() -> None:
    table = ServingTable()
    apply(table, *(Inference(1, T0 + second, second >= 57, float(second + 1)) for second in range(60)))
    [row] = table.take_changed()
    fields = ServingCounts.restore([row.counts]).fields()
    latency = fields.pop("latency_ms")
    # 60 requests in a minute, three of them failed.
    assert fields == {"requests": 60, "errors": 3, "availability": 0.95, "qps": 1.0}
    assert {name: latency.pop(name) for name in ("max", "count", "sum")} == {"max": 60.0, "count": 60, "sum": 1830.0}
    assert latency == pytest.approx({"p50": 30, "p95": 57, "p99": 60}, rel=0.011)


def test_without_latencies_there_are_no_quantiles() -> None:
    table = ServingTable()
    apply(table, Inference(1, T0))
    [row] = table.take_changed()
    latency = ServingCounts.restore([row.counts]).fields()["latency_ms"]
    assert latency == {"p50": None, "p95": None, "p99": None, "max": None, "count": 0, "sum": 0.0}


def test_without_requests_there_is_no_availability() -> None:
    fields = ServingCounts().fields()
    assert (fields["availability"], fields["qps"]) == (None, 0.0)
