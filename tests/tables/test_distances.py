"""Distances: what others compute, what must always hold, and what chance may do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tables.distances import Distance, distances, js, kl, ks, psi, reference_distances, shares
from tables.drift_policy import DriftPolicy
from tables.feature_bins import Bins, CategoryBins, Counts, NumericBins
from tables.reference import FeatureReference, Reference

Pair = tuple[list[int], list[int]]


def pairs_of(counts: st.SearchStrategy[int]) -> st.SearchStrategy[Pair]:
    """Counts of reference and current, up to twelve places."""

    def of_width(width: int) -> st.SearchStrategy[Pair]:
        side = st.lists(counts, min_size=width, max_size=width)
        return st.tuples(side, side)

    return st.integers(1, 12).flatmap(of_width)


pairs = pairs_of(st.integers(0, 20) | st.integers(0, 10**12))


def vector(*rows: int) -> Counts:
    return np.array(rows, np.int64)


def categorical(*rows: int) -> FeatureReference:
    """As many categories as there are counts, less unseen and missing."""
    return FeatureReference("x", CategoryBins(tuple(f"c{i}" for i in range(len(rows) - 2))), rows)


def numeric(*rows: int) -> FeatureReference:
    return FeatureReference("x", NumericBins(tuple(float(i) for i in range(len(rows) - 3))), rows)


def by_method(found: list[Distance]) -> dict[str, Distance]:
    return {distance.method: distance for distance in found}


# --- the same numbers as others


def test_the_deciles_of_deequ() -> None:
    expected = vector(428, 425, 414, 427, 440, 447, 380, 386, 444, 386)
    actual = vector(426, 437, 429, 391, 469, 433, 360, 443, 371, 418)

    assert psi(expected, actual, smoothing=0) == pytest.approx(0.007406694184014186, rel=1e-12)
    # With four thousand rows smoothing moves the third digit.
    assert psi(expected, actual) == pytest.approx(0.007406694184014186, rel=5e-3)


def test_the_linf_of_deequ() -> None:
    # Samples 1 2 3 4 and 2 3 4 5, one bin a value.
    assert ks(vector(1, 1, 1, 1, 0), vector(0, 1, 1, 1, 1)) == 0.25


@pytest.mark.parametrize(("alpha", "robust"), [(0.003, 0.2726338046550349), (0.1, 0.33774199396969184)])
def test_the_robust_linf_of_deequ_is_what_exceeds_our_critical_value(alpha: float, robust: float) -> None:
    # Its categories a to g; the greatest difference is at the first, so that the order does not matter.
    reference, current = (207, 20, 25, 14, 25, 0, 13, 0, 0), (22, 20, 25, 12, 13, 15, 0, 0, 0)

    found = by_method(distances(numeric(*reference), vector(*current), DriftPolicy(confidence=1 - alpha)))

    assert found["ks"].value - found["ks"].critical == pytest.approx(robust, rel=1e-12)


@pytest.mark.parametrize(
    ("n", "m", "bins", "p", "threshold"),
    [
        (500, 500, 10, 0.001, 0.11150865948502628),
        (1000, 1500, 32, 0.05, 0.07497557213394188),
        (777, 666, 42, 0.01, 0.18111345503169146),
    ],
)
def test_critical_values_are_the_automatic_thresholds_of_feature_engine(
    n: int, m: int, bins: int, p: float, threshold: float
) -> None:
    reference, current = categorical(*spread(n, bins), 0, 0), vector(*spread(m, bins), 0, 0)

    found = by_method(distances(reference, current, DriftPolicy(confidence=1 - p)))

    assert found["psi"].critical == pytest.approx(threshold, rel=1e-12)
    # To second order KL is half of PSI, JS divergence an eighth of it, in nats.
    assert found["kl"].critical == pytest.approx(threshold / 2, rel=1e-12)
    assert found["js"].critical == pytest.approx(math.sqrt(threshold / (8 * math.log(2))), rel=1e-12)


@given(pairs)
def test_scipy_agrees(rows: Pair) -> None:
    reference, current = np.array(rows[0], np.int64), np.array(rows[1], np.int64)
    if not reference.any() or not current.any():
        return
    p, q = shares(reference, current, 0.5)

    assert p.sum() == pytest.approx(1) and q.sum() == pytest.approx(1)
    assert kl(reference, current) == pytest.approx(stats.entropy(p, q), rel=1e-9, abs=1e-12)
    assert psi(reference, current) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-9, abs=1e-12)
    assert js(reference, current) == pytest.approx(jensenshannon(p, q, base=2), rel=1e-9, abs=1e-7)
    assert js(reference, current, smoothing=0) == pytest.approx(jensenshannon(current, reference, base=2), abs=1e-7)


@given(pairs_of(st.integers(0, 20)).filter(lambda rows: min(map(sum, rows)) > 1))
def test_ks_is_that_of_the_rows_behind_the_counts(rows: Pair) -> None:
    places = np.arange(len(rows[0]))

    expected = stats.ks_2samp(np.repeat(places, rows[0]), np.repeat(places, rows[1]), method="asymp").statistic

    assert ks(vector(*rows[0]), vector(*rows[1])) == pytest.approx(expected, abs=1e-12)


# --- what must always hold


@given(pairs)
def test_every_distance_is_finite_and_in_its_range(rows: Pair) -> None:
    reference, current = vector(*rows[0]), vector(*rows[1])

    assert 0 <= psi(reference, current) < math.inf
    assert 0 <= kl(reference, current) < math.inf
    assert 0 <= js(reference, current) <= 1
    assert 0 <= ks(reference, current) <= 1
    if not reference.any() or not current.any():
        assert (
            psi(reference, current) == kl(reference, current) == js(reference, current) == ks(reference, current) == 0
        )


@given(pairs)
def test_all_but_kl_are_symmetric(rows: Pair) -> None:
    reference, current = vector(*rows[0]), vector(*rows[1])

    assert psi(reference, current) == psi(current, reference)
    assert js(reference, current) == js(current, reference)
    assert ks(reference, current) == ks(current, reference)
    both = kl(reference, current) + kl(current, reference)
    assert psi(reference, current) == pytest.approx(both, rel=1e-9, abs=1e-12)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_categories_and_empty_places_are_nothing(rows: Pair, rng: object) -> None:
    order = list(range(len(rows[0])))
    rng.shuffle(order)  # type: ignore[attr-defined]
    reference, current = vector(*rows[0], 0, 0), vector(*rows[1], 0, 0)
    before = distances(categorical(*reference.tolist()), current)

    # In another order, and with a category that nobody has.
    after = distances(categorical(*reference[order].tolist(), 0, 0, 0), vector(*current[order], 0, 0, 0))

    for one, other in zip(before, after, strict=True):
        assert (one.method, one.n, one.reference_n) == (other.method, other.n, other.reference_n)
        assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-7)
        assert one.critical == pytest.approx(other.critical, rel=1e-9, abs=1e-7)


@given(pairs.map(lambda rows: rows[0]), st.integers(1, 1000))
def test_more_of_the_same_is_no_drift(rows: list[int], times: int) -> None:
    reference = vector(*rows, 0, 0)

    found = distances(numeric(*reference.tolist()), reference * times)

    assert all(distance.level == "none" for distance in found)
    assert all(distance.value <= distance.critical + 1e-12 for distance in found)


def test_a_place_that_is_empty_on_one_side_is_never_left_out() -> None:
    reference, current = vector(900, 100, 0), vector(850, 100, 50)

    without = psi(reference[:2], current[:2])

    assert psi(reference, current) > without + 0.2
    assert psi(current, reference) > without + 0.2
    assert psi(reference, current, smoothing=0) == math.inf
    # One that is empty on both is no place at all.
    assert psi(vector(900, 100, 0, 0), vector(850, 100, 50, 0)) == psi(reference, current)


@given(st.lists(st.tuples(st.booleans(), pairs), max_size=6))
def test_a_feature_has_the_same_numbers_alone_and_among_others(
    drawn: list[tuple[bool, Pair]],
) -> None:
    features, current = [], []
    for number, (is_numeric, rows) in enumerate(drawn):
        bins: Bins = NumericBins(tuple(map(float, range(len(rows[0]) - 1))))
        if not is_numeric:
            bins = CategoryBins(tuple(map(str, range(len(rows[0])))))
        features.append(FeatureReference(f"f{number}", bins, (*rows[0], 1, 2)))
        current.append(vector(*rows[1], 3, 0))
    reference = Reference("home", None, tuple(features), 0, "")

    together = reference_distances(reference, np.concatenate([vector(), *current]))

    assert together == [
        (feature.name, tuple(distances(feature, rows))) for feature, rows in zip(features, current, strict=True)
    ]


@given(pairs)
def test_the_numbers_are_those_of_the_formulas_done_by_hand(rows: Pair) -> None:
    reference, current = rows
    n, m = sum(current), sum(reference)
    found = by_method(distances(numeric(*reference, 0, 0), vector(*current, 0, 0)))
    if not n or not m:
        assert found == {}
        return
    used = [(x, y) for x, y in zip(current, reference, strict=True) if x or y]
    b = len(used)
    p, q = ([(side[i] + 0.5) / (of + b / 2) for side in used] for i, of in ((0, n), (1, m)))
    both = list(zip(p, q, strict=True))
    middle = [(pi + qi) / 2 for pi, qi in both]
    values = {
        "psi": math.fsum((pi - qi) * math.log(pi / qi) for pi, qi in both),
        "ks": max(abs(sum(current[:i]) / n - sum(reference[:i]) / m) for i in range(len(current) + 1)),
        "kl": math.fsum(pi * math.log(pi / qi) for pi, qi in both),
        "js": math.sqrt(max(0.0, math.fsum(
            (pi * math.log2(pi / mi) + qi * math.log2(qi / mi)) / 2 for (pi, qi), mi in zip(both, middle, strict=True)
        ))),
    }  # fmt: skip
    assert list(found) == ["psi", "ks", "kl", "js"]
    for method, distance in found.items():
        assert distance.value == pytest.approx(values[method], rel=1e-9, abs=1e-7)
        assert (distance.n, distance.reference_n) == (n, m)


# --- what chance may do


def test_critical_values_shrink_with_the_rows_of_both_sides() -> None:
    reference = numeric(*[1_000] * 10, 0, 0)
    chance = stats.chi2.ppf(0.99, 9)

    for rows in (100, 1_000, 100_000):
        found = by_method(distances(reference, vector(*[rows // 10] * 10, 0, 0)))
        scale = 1 / rows + 1 / 10_000
        assert found["psi"].critical == pytest.approx(chance * scale, rel=1e-12)
        assert found["kl"].critical == pytest.approx(chance * scale / 2, rel=1e-12)
        assert found["ks"].critical == pytest.approx(1.6276 * math.sqrt(scale), rel=1e-4)


def test_smoothing_is_not_taken_for_drift() -> None:
    # One row in a million has no value; that none of a hundred is without tells nothing.
    reference = numeric(*[99_999] * 10, 0, 10)
    current = vector(*[10] * 10, 0, 0)
    found = by_method(distances(reference, current))
    full = by_method(distances(numeric(*[99_999] * 10, 0, 0), current))

    assert found["psi"].value > full["psi"].value + 0.02
    assert found["psi"].critical > full["psi"].critical + 0.02
    # The same the other way round, with a small reference and a million rows.
    swapped = by_method(distances(numeric(*current.tolist()), vector(*reference.counts)))
    assert swapped["psi"].critical == pytest.approx(found["psi"].critical, rel=1e-12)
    # Not so when a bin is empty that there should have been ten rows in.
    gone = by_method(distances(reference, vector(*[11] * 9, 0, 0, 0)))
    assert gone["psi"].critical == pytest.approx(found["psi"].critical, rel=0.05)


def test_features_without_rows_have_no_distance() -> None:
    reference = numeric(5, 5, 0, 0)

    assert distances(reference, vector(0, 0, 0, 0)) == []
    assert distances(numeric(0, 0, 0, 0), vector(1, 0, 0, 0)) == []
    assert reference_distances(Reference("m", None, (), 0, ""), vector()) == []


def test_ks_is_for_numbers() -> None:
    values = vector(10, 20, 30, 4, 6)

    assert "ks" not in by_method(distances(categorical(10, 20, 30, 0, 0), values))
    # Those that are missing have no place in an order.
    found = by_method(distances(numeric(10, 20, 30, 0, 40), values))
    assert (found["ks"].n, found["ks"].reference_n, found["ks"].value) == (60, 60, 0)
    assert (found["psi"].n, found["psi"].reference_n) == (70, 100)
    # Nor has KS anything to say where all are; PSI has.
    found = by_method(distances(numeric(10, 20, 30, 0, 0), vector(0, 0, 0, 0, 90)))
    assert "ks" not in found
    assert found["psi"].level == "severe"


def test_a_shift_is_severe_once_there_are_enough_rows_to_tell() -> None:
    reference = categorical(80_000, 20_000, 0, 0)  # new users: 20 %

    def levels(rows: int) -> NDArray[np.str_]:
        half = rows // 2
        return np.array([d.level for d in distances(reference, vector(rows - half, half, 0, 0))])

    assert (levels(4) == "none").all()
    assert (levels(100) == "severe").all()
    assert (levels(3_000) == "severe").all()


def spread(rows: int, bins: int) -> list[int]:
    """Rows as evenly as it goes."""
    return [rows // bins + (place < rows % bins) for place in range(bins)]
