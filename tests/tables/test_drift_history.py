"""The final minutes of the horizon: any stretch of them is the sum of its minutes, whatever was stored in between."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tables.drift_history import DAY_MS, DriftHistory
from tables.feature_counts import FeatureCounts
from tables.models import Model

MINUTE = 60_000
DAY = 20_000 * DAY_MS
HOME, SEARCH = ("home", "v1"), ("search", "")


def counts(*numbers: int, bins: str = "b") -> FeatureCounts:
    return FeatureCounts(bins, np.array(numbers, np.int64))


def numbers_of(total: object) -> list[int]:
    return np.asarray(total).tolist() if isinstance(total, np.ndarray) else [0, 0]


def saved(history: DriftHistory, store: dict[str, bytes]) -> DriftHistory:
    """What comes back from a checkpoint; `store` is left with its chunks."""
    append, drop = history.take_changes()
    for name in drop:
        store.pop(name, None)
    store.update(append)
    again = DriftHistory()
    again.restore(store)
    return again


@given(st.integers(0, 2**32))
def test_any_stretch_is_the_sum_of_its_minutes(seed: int) -> None:
    rng = random.Random(seed)
    history, store = DriftHistory(), dict[str, bytes]()
    kept: dict[tuple[Model, int], list[int]] = {}
    horizon = rng.randrange(1, 12) * MINUTE
    for minute in range(rng.randrange(1, 40)):
        start = DAY + minute * MINUTE
        for model in (HOME, SEARCH):
            if rng.random() < 0.7:
                kept[model, start] = [rng.randrange(9), rng.randrange(9)]
                history.keep(model, start, counts(*kept[model, start]))
        history.forget_before(start + MINUTE - horizon, start)
        if rng.random() < 0.3:
            history = saved(history, store)
        begin = start + MINUTE - rng.randrange(horizon + 1)
        for model in (HOME, SEARCH):
            mine = [n for (m, at), n in kept.items() if m == model and begin <= at <= start]
            expected = [sum(column) for column in zip(*mine, strict=True)] or [0, 0]
            assert numbers_of(history.total(model, "b", begin, start + MINUTE)) == expected
    saved(history, store)
    assert len(store) <= horizon // MINUTE + 1  # one a minute, and one for the days


def test_other_bins_begin_anew() -> None:
    history, store = DriftHistory(), dict[str, bytes]()
    history.keep(HOME, DAY, counts(5, 5))
    saved(history, store)
    history.keep(HOME, DAY + MINUTE, counts(1, 2, 3, bins="other"))
    for each in (history, saved(history, store)):
        assert numbers_of(each.total(HOME, "other", DAY, DAY + DAY_MS)) == [1, 2, 3]
        assert each.total(HOME, "b", DAY, DAY + DAY_MS) == 0


def test_days_grow_until_they_are_the_day_before_yesterday() -> None:
    history, store = DriftHistory(), dict[str, bytes]()
    history.keep(HOME, DAY, counts(1, 0))
    history.keep(HOME, DAY + MINUTE, counts(1, 1))
    assert [(model, day, found.counts.tolist()) for model, day, found in history.take_days()] == [(HOME, DAY, [2, 1])]
    assert list(history.take_days()) == []

    history = saved(history, store)
    history.keep(HOME, DAY + 2 * MINUTE, counts(0, 1))
    assert [found.counts.tolist() for _, _, found in history.take_days()] == [[2, 2]]

    history.keep(HOME, DAY + DAY_MS, counts(7, 7))
    history.forget_before(DAY, DAY + 2 * DAY_MS)  # yesterday is DAY + DAY_MS now
    history.keep(HOME, DAY + 2 * DAY_MS, counts(8, 8))
    assert [day for _, day, _ in history.take_days()] == [DAY + DAY_MS, DAY + 2 * DAY_MS]


def test_a_flood_of_versions_finds_no_room() -> None:
    history = DriftHistory(most_models=2)
    kept = [history.keep(("home", f"v{n}"), DAY, counts(1, 1)) for n in range(4)]
    assert kept == [True, True, False, False]
    assert history.keep(("home", "v0"), DAY + MINUTE, counts(1, 1))  # who is known stays known
    history.forget_before(DAY + MINUTE, DAY)
    assert history.keep(("home", "v2"), DAY + MINUTE, counts(1, 1))  # v1 has left
