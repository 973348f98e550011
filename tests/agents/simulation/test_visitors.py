"""Users and items that are worked out from their numbers."""

import json
from statistics import quantiles

import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from agents.simulation.visitors import (
    MAX_USERS,
    ages_of,
    is_promoted,
    item_features,
    items_by_popularity,
    lognormal_quantiles,
    partitions_of,
    popular_ranks,
    user_ids,
)


@given(st.lists(st.integers(0, MAX_USERS - 1), max_size=50), st.integers(1, 64))
def test_users_go_where_kafka_would_send_them(users: list[int], partitions: int) -> None:
    numbers = np.array(users, dtype=np.int64)
    choose = DefaultPartitioner()
    every = list(range(partitions))
    expected = [choose(user_id, every, every) for user_id in user_ids(numbers)]
    assert partitions_of(numbers, partitions).tolist() == expected


def test_user_ids_are_distinct_and_of_one_length() -> None:
    assert user_ids(np.array([0, 7, 1234567, MAX_USERS - 1])) == [
        b"u0000000", b"u0000007", b"u1234567", b"u9999999",
    ]  # fmt: skip


def test_ages_are_those_of_adults() -> None:
    ages = ages_of(np.arange(100_000))
    assert ages.min() >= 18
    assert ages.max() < 80
    assert ages.mean() == pytest.approx(37, abs=1)


def test_click_delays_have_the_median_and_the_tail_that_were_asked_for() -> None:
    delays = lognormal_quantiles(8000, 1.05)
    cuts = quantiles(delays.tolist(), n=100)
    assert cuts[49] == pytest.approx(8000, rel=0.01)
    assert cuts[94] == pytest.approx(45_000, rel=0.01)


@given(st.integers(0, 100_000))
def test_an_items_features_are_json(item: int) -> None:
    features = json.loads(f"{{{item_features(item)}}}")
    assert features["promoted"] is is_promoted(item)
    assert 1 < features["price"] < 200


def test_one_item_in_ten_is_promoted() -> None:
    ordinary, promoted = items_by_popularity(2000)
    assert (len(ordinary), len(promoted)) == (1800, 200)
    assert all(is_promoted(item) for item in promoted.tolist())
    assert not any(is_promoted(item) for item in ordinary.tolist())


@given(
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
    st.integers(1, 10**7),
    st.integers(1, 4),
)
def test_ranks_stay_below_the_size(uniform: list[float], size: int, skew: int) -> None:
    ranks = popular_ranks(np.array(uniform), size, skew=skew)
    assert ranks.min() >= 0
    assert ranks.max() < size


def test_the_most_popular_come_up_most() -> None:
    uniform = (np.arange(100_000) + 0.5) / 100_000
    counts = np.bincount(popular_ranks(uniform, 1000, skew=3), minlength=1000)
    assert counts[0] > 4 * counts[5] > 16 * counts[500]
    assert counts.min() > 0
