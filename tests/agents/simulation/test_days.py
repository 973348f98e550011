"""A shop that never closes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import pytest

from agents.recordings import Line
from agents.simulation.days import endless_slices
from agents.simulation.scenarios import SILENCE, scenario_named
from agents.simulation.shop import Shop
from tables.errors import ConfigError

MAY_DAY = scenario_named("may-day")
MINUTE = 60_000


def test_the_first_run_begins_as_it_would_alone() -> None:
    alone = list(islice(Shop(MAY_DAY, 20, 5, 1).slices(1000), 60))
    assert [lines for _, lines in islice(endless_slices(MAY_DAY, 20, 5, 1), 60)] == alone


def test_run_follows_run_without_a_pause_and_no_click_is_lost() -> None:
    scenario = replace(MAY_DAY, noise=SILENCE)
    slices = list(islice(endless_slices(scenario, 20, 5, 1), 240))
    ends = [end_ms for end_ms, _ in slices]
    assert all(one + 1000 == other for one, other in pairwise(ends))
    lines: list[Line] = [line for _, lines in slices for line in lines]
    times = [line.timestamp or 0 for line in lines]
    assert times == sorted(times)
    start = ends[0] - 1000
    minutes = Counter(
        (json.loads(x.value or b"")["event_time"] - start) // MINUTE for x in lines if x.topic == "impressions"
    )
    assert set(minutes) == {0, 1, 2, 3} and min(minutes.values()) > 800
    alone = [x for run in range(3) for s in Shop(scenario, 20, 5 + run, 1, start + run * MINUTE).slices() for x in s]
    due = [x.value for x in alone if x.topic == "clicks" and (x.timestamp or 0) < ends[-1]]
    assert Counter(due) - Counter(line.value for line in lines) == Counter()


def test_each_run_has_visitors_of_its_own() -> None:
    lines = [line for _, lines in islice(endless_slices(MAY_DAY, 20, 5, 1), 120) for line in lines]
    ids = Counter(event["event_id"] for line in lines if line.topic == "impressions" and (event := read(line)))
    assert max(ids.values()) <= 2  # twice is a redelivery


def read(line: Line) -> dict[str, object] | None:
    try:
        event: dict[str, object] = json.loads(line.value or b"")
    except ValueError:
        return None
    return event


def test_arguments_are_checked_like_a_shops() -> None:
    with pytest.raises(ConfigError, match="rate must be"):
        next(endless_slices(MAY_DAY, 0, 1, 1))
