"""The histogram against sorted values, against its own algebra, and against Prometheus' bucket bounds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tables.exponential_histogram import (
    BUCKETS_AN_OCTAVE,
    HIGHEST,
    LOWEST,
    MAX_MS,
    MAX_SUM_NS,
    ExponentialHistogram,
    PackedHistogram,
    bucket_of,
    upper_bound,
)

Values = NDArray[np.float64]

latencies = st.floats(0, 1e12) | st.floats(0.1, 1e4) | st.sampled_from([0.0, -0.0, 1.0, 125.0, MAX_MS, math.inf])


def histogram_of(values: Values) -> ExponentialHistogram:
    histogram = ExponentialHistogram()
    histogram.add(values)
    return histogram


def seconds(*values: float) -> list[int]:
    buckets: list[int] = bucket_of(np.array(values)).tolist()
    return buckets


class TestBuckets:
    def test_a_power_of_two_ends_a_bucket(self) -> None:
        assert seconds(0.5, 1, 2, 4) == [-32, 0, 32, 64]
        above = [math.nextafter(value, math.inf) for value in (0.5, 1, 2, 4)]
        assert seconds(*above) == [-31, 1, 33, 65]

    @pytest.mark.parametrize(
        ("schema", "values", "buckets"),
        [(3, [1, 2, 3], [0, 8, 13]), (2, [1, 1.2, 1.4, 1.8, 2], [0, 2, 2, 4, 4])],
    )
    def test_a_coarser_schema_joins_neighbours(self, schema: int, values: list[float], buckets: list[int]) -> None:
        # Observations of client_golang's tests, and the buckets that they fall into there.
        width = BUCKETS_AN_OCTAVE >> schema
        assert [-(-bucket // width) for bucket in seconds(*values)] == buckets

    def test_bounds_are_those_of_client_golang(self) -> None:
        # Its table for schema 5, rounded to 15 digits: it has been computed with an error of up to 3 units in the last
        # place of a double, which ours has not.
        known = [
            *(0.5, 0.510948574327058, 0.522136891213707, 0.533570200338412, 0.545253866332629, 0.557193371297946),
            *(0.569394317378346, 0.581862429388789, 0.594603557501360, 0.607623679990234, 0.620928906036742),
            *(0.634525478595867, 0.648419777325505, 0.662618321579871, 0.677127773468446, 0.691954940981916),
            *(0.707106781186548, 0.722590403488523, 0.738413072969750, 0.754582213796711, 0.771105412703970),
            *(0.787990422553943, 0.805245165974627, 0.822877739076983, 0.840896415253714, 0.859309649061239),
            *(0.878126080186650, 0.897354537501553, 0.917004043204671, 0.937083817055150, 0.957603280698574),
            0.978572062087700,
        ]
        ours = [upper_bound(bucket) for bucket in range(-BUCKETS_AN_OCTAVE, 0)]
        assert ours == pytest.approx(known, rel=1e-14)

    def test_every_bucket_ends_with_its_bound(self) -> None:
        buckets = np.arange(LOWEST, HIGHEST + 1)
        bounds = np.array([upper_bound(bucket) for bucket in buckets.tolist()])
        assert (bucket_of(bounds) == buckets).all()
        assert (bucket_of(np.nextafter(bounds, math.inf))[:-1] == buckets[1:]).all()

    @given(st.integers(LOWEST, HIGHEST))
    def test_bounds_are_powers_of_the_root(self, bucket: int) -> None:
        # Two neighbouring doubles enclose the exact bound, whose 32nd power is a power of two.
        bound = upper_bound(bucket)
        below, above = (Fraction(math.nextafter(bound, to)) for to in (0, math.inf))
        assert below**32 < Fraction(2) ** bucket < above**32

    def test_what_is_out_of_range_falls_into_the_buckets_at_the_ends(self) -> None:
        assert seconds(0, 5e-324, 2.0**-30) == [LOWEST] * 3
        assert seconds(2.0**20, 2.0**30, math.inf) == [HIGHEST] * 3


def distributions() -> dict[str, Callable[[np.random.Generator, int], Values]]:
    """Latencies in ms of many shapes: smooth, heavy tailed, in steps, in clusters, constant."""
    return {
        "uniform": lambda rng, n: rng.uniform(5, 500, n),
        "narrow": lambda rng, n: rng.uniform(99, 101, n),
        "normal": lambda rng, n: np.abs(rng.normal(80, 20, n)),
        "exponential": lambda rng, n: rng.exponential(30, n),
        "lognormal": lambda rng, n: rng.lognormal(3, 1, n),
        "wide_lognormal": lambda rng, n: rng.lognormal(3, 4, n),
        "gamma": lambda rng, n: rng.gamma(2, 25, n),
        "weibull": lambda rng, n: 50 * rng.weibull(0.5, n),
        "pareto": lambda rng, n: 10 * (1 + rng.pareto(1.1, n)),
        "cauchy": lambda rng, n: np.abs(rng.standard_cauchy(n)) * 20,
        "bimodal": lambda rng, n: np.where(rng.random(n) < 0.9, rng.normal(20, 2, n), rng.normal(900, 50, n)),
        "timeouts": lambda rng, n: np.minimum(rng.lognormal(4, 1.5, n), 1000),
        "whole_ms": lambda rng, n: rng.poisson(12, n) + 1.0,
        "powers_of_two": lambda rng, n: 1000 * 2.0 ** rng.integers(-10, 5, n),
        "constant": lambda rng, n: np.full(n, 37.5),
        "two_values": lambda rng, n: rng.choice([1.0, 10_000.0], n),
        "microseconds": lambda rng, n: rng.lognormal(-7, 1, n),
        "hours": lambda rng, n: rng.lognormal(15, 1, n),
        "rising": lambda rng, n: np.linspace(1, 5000, n),
        "with_zeros": lambda rng, n: np.where(rng.random(n) < 0.3, 0.0, rng.lognormal(2, 1, n)),
    }


class TestQuantiles:
    @pytest.mark.parametrize("size", [1, 10, 137, 5_000, 100_000])
    @pytest.mark.parametrize("shape", distributions())
    def test_within_one_point_one_percent(self, shape: str, size: int) -> None:
        rng = np.random.default_rng([size, *shape.encode()])
        values = distributions()[shape](rng, size)
        # Merged in random order from pieces of random size.
        pieces = np.split(rng.permutation(values), np.sort(rng.integers(0, size, 7)))
        merged = ExponentialHistogram()
        for piece in pieces:
            merged.merge(histogram_of(piece))
        for histogram in (histogram_of(values), merged):
            for q in (0.5, 0.9, 0.95, 0.99, 0.999):
                exact = np.quantile(values, q, method="inverted_cdf")
                found = histogram.quantile(q)
                assert found is not None
                assert abs(found - exact) <= 0.011 * exact
                assert found <= values.max()
            assert histogram.quantile(1) == histogram.max_ms == values.max()

    @given(st.lists(latencies, min_size=1), st.floats(0, 1))
    def test_the_rank_is_the_documented_one(self, values: list[float], q: float) -> None:
        found = histogram_of(np.array(values)).quantile(q)
        assert found is not None
        exact = min(sorted(values)[max(1, math.ceil(q * len(values))) - 1], MAX_MS)
        # A nanosecond is as good as zero.
        assert found == pytest.approx(exact, rel=0.0109, abs=1e-6)

    def test_zero_is_zero(self) -> None:
        assert histogram_of(np.array([0.0, 0.0, 5.0])).quantile(0.5) == 0.0

    def test_there_is_none_of_nothing(self) -> None:
        assert ExponentialHistogram().quantile(0.5) is None

    @pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
    def test_there_is_none_outside_of_0_to_1(self, q: float) -> None:
        with pytest.raises(ValueError, match="expected a quantile from 0 to 1"):
            ExponentialHistogram().quantile(q)


class TestAlgebra:
    @given(st.lists(latencies, max_size=60), st.randoms(use_true_random=False))
    def test_any_split_in_any_order_is_the_same_to_the_last_bit(self, values: list[float], rng: random.Random) -> None:
        whole = histogram_of(np.array(values))
        parts: list[ExponentialHistogram] = [ExponentialHistogram() for _ in range(rng.randint(1, 5))]
        for value in rng.sample(values, len(values)):
            rng.choice(parts).add(np.array([value]))
        while len(parts) > 1:
            one = parts.pop(rng.randrange(len(parts)))
            # Some have been through a checkpoint.
            rng.choice(parts).merge(ExponentialHistogram.restore(one.pack()) if rng.random() < 0.5 else one)
        [merged] = parts
        assert repr(merged.pack()) == repr(whole.pack())
        assert (merged.count, merged.sum_ms) == (whole.count, whole.sum_ms)

    @given(st.lists(latencies))
    def test_the_sum_is_that_of_the_nanoseconds(self, values: list[float]) -> None:
        exact = sum(round(min(value, MAX_MS) * 1e6) for value in values)
        assert histogram_of(np.array(values)).sum_ns == exact

    def test_a_sum_of_very_many_long_ones_does_not_overflow(self) -> None:
        # 10,000 of them are more than 64 bits hold.
        histogram = histogram_of(np.full(10_000, MAX_MS))
        assert histogram.sum_ns == MAX_SUM_NS
        histogram.merge(histogram_of(np.array([1.0])))
        assert (histogram.count, histogram.sum_ns) == (10_001, MAX_SUM_NS)

    def test_merging_leaves_the_other_alone(self) -> None:
        empty, other = ExponentialHistogram(), histogram_of(np.array([5.0]))
        empty.merge(other)
        empty.add(np.array([5.0]))
        assert (empty.count, other.count, other.quantile(0.5)) == (2, 1, 5.0)
        assert other.buckets()[1].tolist() == [1]

    @pytest.mark.parametrize("value", [-1.0, -1e-300, -math.inf])
    def test_what_is_no_latency_is_refused_and_changes_nothing(self, value: float) -> None:
        histogram = histogram_of(np.array([1.0]))
        with pytest.raises(ValueError, match="expected latencies of 0 ms or more"):
            histogram.add(np.array([2.0, value]))
        assert histogram.pack() == histogram_of(np.array([1.0])).pack()


class TestBucketCounts:
    @given(st.lists(latencies), st.lists(st.integers(LOWEST - 5, HIGHEST + 5), min_size=1))
    def test_counts_up_to_a_bound_are_exact(self, values: list[float], buckets: list[int]) -> None:
        found = histogram_of(np.array(values)).count_up_to(np.array(buckets))
        for bucket, count in zip(buckets, found.tolist(), strict=True):
            bound = math.inf if bucket >= HIGHEST else upper_bound(bucket) if bucket >= LOWEST else -1.0
            assert count == sum(value / 1000 <= bound for value in values)


class TestPacking:
    def test_it_is_small(self) -> None:
        histogram = histogram_of(np.random.default_rng(0).lognormal(3, 1, 10_000))
        assert len(msgspec.msgpack.encode(histogram.pack())) < 700

    def test_memory_is_bounded(self) -> None:
        histogram = histogram_of(np.array([0.0, math.inf]))
        assert histogram._counts.nbytes < 13_000

    @pytest.mark.parametrize(
        "damaged",
        [
            (5, 1.0, [10], []),
            (5, 1.0, [10, 0], [1, 1]),
            (5, 1.0, [1600, 1], [1, 1]),
        ],
    )
    def test_what_is_no_histogram_is_refused(self, damaged: tuple[int, float, list[int], list[int]]) -> None:
        with pytest.raises(ValueError, match="expected the buckets of a histogram in order"):
            ExponentialHistogram.restore(PackedHistogram(*damaged))

    @pytest.mark.parametrize(
        "damaged",
        [
            (-1, 1.0, [10], [1]),
            (5, math.nan, [10], [1]),
            (5, 1.0, [-1], [1]),
            (5, 1.0, [2**40], [1]),
            (5, 1.0, [10], [0]),
            (5, 1.0, [10], [2**63]),
        ],
    )
    def test_numbers_out_of_range_do_not_get_in(self, damaged: tuple[int, float, list[int], list[int]]) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(msgspec.msgpack.encode(damaged), type=PackedHistogram)
