"""The judge of the crash tests must see each kind of wrong."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import orjson
import pytest

from tests.crash.traffic import Traffic, random_traffic, shop_traffic
from tests.crash.verdict import Outcome
from tests.feature_oracle import DriftKey
from tests.oracle import Key

T0 = 1_777_629_600_000
HOME = (("home", "v1"), T0)
CART = (("cart", ""), T0)
AGE, CITY = (*HOME, "age", "psi"), (*HOME, "city", "psi")
TRAFFIC = Traffic(
    [],
    {HOME: (10, 2), CART: (5, 0)},
    frozenset({b"<html>"}),
    T0,
    served={HOME: (7, 1, 6)},
    # Nobody told a city in this minute, only in those before it.
    compared={AGE: 30, CITY: 9},
    alone={AGE: 10},
)


def window(key: Key, impressions: int, clicks: int, *, final: bool = True) -> bytes:
    (model_id, version), start = key
    row = {"kind": "ctr", "model_id": model_id, "model_version": version, "window_start": start, "final": final}
    return orjson.dumps(row | {"impressions": impressions, "clicks": clicks, "ctr": clicks / impressions})


def serving(key: Key, requests: int, errors: int, latencies: int) -> bytes:
    (model_id, version), start = key
    row = {"kind": "serving", "model_id": model_id, "model_version": version, "window_start": start, "final": True}
    return orjson.dumps(row | {"requests": requests, "errors": errors, "latency_ms": {"count": latencies}})


def drift(key: DriftKey, n: int, *, final: bool = True) -> bytes:
    (model_id, version), start, feature, method = key
    row = {"kind": "drift", "model_id": model_id, "model_version": version, "window_start": start, "final": final}
    return orjson.dumps(row | {"feature": feature, "method": method, "n": n})


def dead_letter(value: bytes, reason: str) -> bytes:
    return orjson.dumps({"value": b64encode(value).decode(), "reason": reason})


@pytest.fixture
def outcome() -> Outcome:
    """All as it has to be."""
    outcome = Outcome()
    outcome.take_window(window(HOME, 7, 1, final=False))
    outcome.take_window(window(HOME, 10, 2))
    outcome.take_window(window(CART, 5, 0))
    outcome.take_window(serving(HOME, 7, 1, 6))
    outcome.take_window(drift(AGE, 12, final=False))
    outcome.take_window(drift(AGE, 30))
    outcome.take_window(drift(CITY, 9))
    outcome.take_dead_letter(dead_letter(b"<html>", "not_json"))
    return outcome


def test_what_is_right_passes_even_if_it_is_told_twice(outcome: Outcome) -> None:
    outcome.take_window(window(HOME, 10, 2))
    outcome.take_dead_letter(dead_letter(b"<html>", "not_json"))
    assert outcome.faults(TRAFFIC) == []
    assert outcome.repeated == 1


@pytest.mark.parametrize("numbers", [(10, 3), (9, 2), (11, 2)])
def test_a_final_row_with_other_numbers(outcome: Outcome, numbers: tuple[int, int]) -> None:
    outcome.take_window(window(HOME, *numbers))
    assert "expected (10, 2)" in outcome.faults(TRAFFIC)[0]


def test_a_window_that_nobody_expects(outcome: Outcome) -> None:
    outcome.take_window(window((HOME[0], T0 + 60_000), 1, 0))
    assert "not expected" in outcome.faults(TRAFFIC)[0]


def test_a_window_that_is_only_provisional() -> None:
    outcome = Outcome()
    outcome.take_window(window(HOME, 10, 2))
    outcome.take_window(window(CART, 5, 0, final=False))
    outcome.take_dead_letter(dead_letter(b"<html>", "not_json"))
    assert outcome.missing(TRAFFIC) == {CART, HOME, AGE, CITY}
    assert "no final row" in outcome.faults(TRAFFIC)[0]


@pytest.mark.parametrize("numbers", [(8, 1, 6), (7, 2, 6), (7, 1, 5)])
def test_a_serving_row_with_other_numbers(outcome: Outcome, numbers: tuple[int, int, int]) -> None:
    outcome.take_window(serving(HOME, *numbers))
    assert "expected (7, 1, 6)" in outcome.faults(TRAFFIC)[0]


@pytest.mark.parametrize("n", [29, 31])
def test_a_drift_row_with_another_n(outcome: Outcome, n: int) -> None:
    outcome.take_window(drift(AGE, n))
    assert "expected 30" in outcome.faults(TRAFFIC)[0]


@pytest.mark.parametrize(("n", "fault"), [(10, ""), (30, ""), (9, "at least 10"), (31, "expected 30")])
def test_without_the_store_drift_knows_the_own_minute_at_least_and_the_horizon_at_most(n: int, fault: str) -> None:
    outcome = Outcome()
    outcome.take_window(drift(AGE, n))
    only_drift = replace(TRAFFIC, expected={}, served={}, broken=frozenset())
    found = outcome.faults(only_drift, horizon_lost=True)
    assert fault in found[0] if fault else found == []


def test_only_the_join_takes_no_notice_of_records_that_were_sent_twice(outcome: Outcome) -> None:
    outcome.take_window(serving(HOME, 8, 1, 7))
    outcome.take_window(drift(AGE, 31))
    assert outcome.faults(TRAFFIC, doubled=True) == []
    outcome.take_window(window(HOME, 11, 2))
    assert "expected (10, 2)" in outcome.faults(TRAFFIC, doubled=True)[0]


def test_a_broken_record_that_went_lost(outcome: Outcome) -> None:
    outcome.dead.clear()
    assert outcome.faults(TRAFFIC) == ["no dead letter for b'<html>'"]


def test_a_good_record_that_was_taken_for_late(outcome: Outcome) -> None:
    outcome.take_dead_letter(dead_letter(b'{"user_id":"u"}', "late"))
    assert outcome.faults(TRAFFIC) == ["dead letters for good records: {'late': 1}"]


@pytest.mark.parametrize("traffic", [shop_traffic(1, rate=5, minutes=2, start_ms=T0), random_traffic(1, events=200)])
def test_slices_hold_every_record_once_and_in_order(traffic: Traffic) -> None:
    sliced = traffic.slices(seconds=2.0, slice_s=0.2)
    for part, bunches in sliced.items():
        lines = [line for _, bunch in bunches for line in bunch]
        assert lines == [line for line in traffic.lines if (line.topic, line.partition) == part]
        assert all(0.0 <= due <= 2.0 for due, _ in bunches)
    assert sum(len(bunch) for bunches in sliced.values() for _, bunch in bunches) == len(traffic.lines)
