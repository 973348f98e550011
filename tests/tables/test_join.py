"""The join table against the contract's words (tests.oracle), on random streams."""

from __future__ import annotations

import random
from typing import Literal

import numpy as np
import pytest

from tables.join import JoinTable
from tables.join_policy import JoinPolicy
from tests.oracle import ArrivalOracle, Click, Event, Impression
from tests.tables.streams import T0, FinalCounts, columns, random_stream

Attribution = Literal["all", "last"]
HOME = ("home", "v1")


def run(
    stream: list[Event],
    clocks: list[int],
    attribution: Attribution,
    rng: random.Random,
    restores: bool = False,
) -> tuple[FinalCounts, list[Event]]:
    """Feed a stream cut into random batches, settling, checkpointing and restoring at random moments."""
    policy = JoinPolicy(attribution=attribution)
    table = JoinTable(policy, clocks[0] if clocks else 0)
    counts, late = FinalCounts(table), []
    chunks: dict[str, bytes] = {}
    position = 0
    while position < len(stream):
        batch = stream[position : position + rng.randrange(1, 25)]
        applied = table.apply(columns(table, batch), np.array(clocks[position : position + len(batch)], np.int64))
        late += [batch[i] for i in applied.late]
        position += len(batch)
        if rng.random() < 0.5:
            counts.take(table.settle())
            append, drop = table.take_changes()
            for name in drop:
                chunks.pop(name, None)
            for name, data in append.items():
                chunks[name] = chunks.get(name, b"") + data
            if restores and rng.random() < 0.5:
                state = table.state()
                seen = table.watermark._seen  # a replay's clock goes on, which a checkpoint does not keep
                table = JoinTable(policy, 0)
                table.restore(state, chunks, 0)
                table.watermark._seen = seen
                table.settle()
    table.finish()
    counts.take(table.settle())
    return counts, late


@pytest.mark.parametrize("attribution", ["all", "last"])
@pytest.mark.parametrize("seed", range(600))
def test_equals_the_oracle_on_random_streams(seed: int, attribution: Attribution) -> None:
    rng = random.Random(seed)
    stream = random_stream(rng, disorder_ms=rng.choice([0, 4_000, 60_000, 20 * 60_000]))
    tick = rng.choice([0, 100, 20_000])
    clocks = [T0 + i * tick for i in range(len(stream))]
    oracle = ArrivalOracle(attribution, clock=clocks[0])
    for event, clock in zip(stream, clocks, strict=True):
        oracle.arrive(event, clock)

    counts, late = run(stream, clocks, attribution, rng, restores=seed % 2 == 1)

    assert counts.final == oracle.end()
    assert late == oracle.late


def told(table: JoinTable) -> dict[tuple[tuple[str, str], int], tuple[int, int]]:
    """What the table says of each window, the last word counting."""
    return {(c.model, c.start): (c.impressions, c.clicks) for step in table.settle() for c in step.counts}


def test_a_click_may_come_before_its_impression() -> None:
    table = JoinTable(JoinPolicy(), T0)
    table.apply(columns(table, [Click("u", "i", T0 + 700)]), T0)
    table.settle()
    table.apply(columns(table, [Impression("u", "i", T0, HOME)]), T0)
    assert told(table) == {(HOME, T0): (1, 1)}


@pytest.mark.parametrize(("delay", "clicks"), [(-1, 0), (0, 1), (600_000, 1), (600_001, 0)])
def test_both_ends_of_the_attribution_time_are_inclusive(delay: int, clicks: int) -> None:
    table = JoinTable(JoinPolicy(), T0)
    table.apply(columns(table, [Impression("u", "i", T0 + 1, HOME), Click("u", "i", T0 + 1 + delay)]), T0)
    assert told(table) == {(HOME, T0): (1, clicks)}


def test_with_last_a_tie_goes_to_the_greater_model() -> None:
    table = JoinTable(JoinPolicy(attribution="last"), T0)
    shown = [Impression("u", "i", T0, ("home", "v9")), Impression("u", "i", T0, ("home", "v10"))]
    table.apply(columns(table, [*shown, Click("u", "i", T0 + 5)]), T0)
    assert told(table) == {(("home", "v10"), T0): (1, 0), (("home", "v9"), T0): (1, 1)}


def test_an_idle_input_stops_holding_the_watermark_back() -> None:
    table = JoinTable(JoinPolicy(), clock_ms=0)
    table.apply(columns(table, [Impression("u", "i", T0, HOME), Click("u", "i", T0)]), 0)
    table.apply(columns(table, [Impression("u", "j", T0 + 11 * 60_000 + 5_000, HOME)]), 14_000)
    assert table.first_open < T0  # clicks may still come
    table.tick(15_001)
    assert table.first_open == T0 + 60_000
    late = table.apply(columns(table, [Click("u", "i", T0 + 1)]), 15_002).late
    assert late.tolist() == [0]


def test_an_idle_partition_adopts_what_the_others_reached() -> None:
    table = JoinTable(JoinPolicy(), clock_ms=0)
    table.apply(columns(table, [Impression("u", "i", T0, HOME)]), 0)
    table.tick(10_000, others=T0 + 3_600_000)
    assert table.first_open < T0
    table.tick(15_001, others=T0 + 3_600_000)
    assert table.settle()[-1].watermark == T0 + 3_600_000
    assert not list(table.open_windows)


def test_rows_beyond_the_limit_find_no_room() -> None:
    table = JoinTable(JoinPolicy(max_rows=3), clock_ms=0)
    applied = table.apply(columns(table, [Impression("u", str(i), T0, HOME) for i in range(5)]), 0)
    assert applied.no_room.tolist() == [3, 4]


def test_a_model_number_is_given_again_when_its_last_window_closes() -> None:
    table = JoinTable(JoinPolicy(max_models=1), clock_ms=0)
    table.apply(columns(table, [Impression("u", "i", T0, HOME)]), 0)
    assert table.models.number(("other", "")) == -1
    later = T0 + 3_600_000
    table.apply(columns(table, [Click("u", "i", later), Impression("u", "i", later, HOME)]), 0)
    table.finish()
    table.settle()
    assert table.models.number(("other", "")) == 0
