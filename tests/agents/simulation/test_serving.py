"""What the models of the simulated shop answer: latencies, failures, features, and what comes over them on May Day."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from statistics import quantiles
from typing import Any

import numpy as np
import pytest

from agents.simulation.scenarios import GENDERS, SILENCE, Incident, Scenario, scenario_named
from agents.simulation.shop import Shop

MINUTE = 60_000
Event = dict[str, Any]

MAY_DAY = replace(scenario_named("may-day"), noise=SILENCE)
STEADY = replace(scenario_named("steady"), noise=SILENCE)
HOME, SEARCH, PRICES = "recommender-home", "search-ranking", "price-estimator"
STAY = ("age", "device", "affinity", "score", "prediction")
"""Features whose shares never change; `hour` moves by itself."""


def events_of(scenario: Scenario, *, minutes: float, rate: float = 100, seed: int = 1) -> dict[str, list[Event]]:
    """Topic -> its events."""
    events: dict[str, list[Event]] = defaultdict(list)
    for lines in Shop(scenario, rate, seed, minutes).slices():
        for line in lines:
            events[line.topic].append(json.loads(line.value or b""))
    return events


@pytest.fixture(scope="module")
def may_day() -> list[list[Event]]:
    """The inferences of the three phases, ten minutes each."""
    shop = Shop(MAY_DAY, 1, 1, 30)
    inferences = events_of(MAY_DAY, minutes=30)["inferences"]
    return [
        [event for event in inferences if stage.start_ms <= event["event_time"] < stage.end_ms] for stage in shop.stages
    ]


@pytest.fixture(scope="module")
def steady() -> list[list[Event]]:
    """Two halves of half an hour."""
    inferences = events_of(STEADY, minutes=30)["inferences"]
    return [inferences[: len(inferences) // 2], inferences[len(inferences) // 2 :]]


# ---------------------------------------------------------------- what is in an inference


def test_every_request_has_one_inference_with_the_visitor_of_its_impressions() -> None:
    events = events_of(STEADY, minutes=1)
    inferences = {event["request_id"]: event for event in events["inferences"]}
    assert len(inferences) == len(events["inferences"])
    for shown in events["impressions"]:
        asked = inferences[shown["request_id"]]
        for name in ("model_id", "model_version", "event_time", "user_id"):
            assert shown[name] == asked[name]
        for name in ("gender", "age", "new_user", "hour"):
            assert shown["features"][name] == asked["features"][name]


def test_some_features_are_missing_or_null(steady: list[list[Event]]) -> None:
    features = [event["features"] for event in steady[0]]
    assert sum("device" not in each for each in features) / len(features) == pytest.approx(0.01, abs=0.005)
    assert sum(each["affinity"] is None for each in features) / len(features) == pytest.approx(0.04, abs=0.01)
    assert {each["device"] for each in features if "device" in each} == {"app", "desktop", "mobile", "tablet"}
    for name in ("affinity", "score"):
        values = [each[name] for each in features if each[name] is not None]
        assert 0 <= min(values) < 0.1 < 0.9 < max(values) < 1


def test_a_user_keeps_device_and_affinity(steady: list[list[Event]]) -> None:
    kinds: dict[str, tuple[object, ...]] = {}
    for event in steady[0]:
        kind = event["features"].get("device"), event["features"]["affinity"]
        assert kinds.setdefault(event["user_id"], kind) == kind
    assert len(kinds) < len(steady[0])


# ---------------------------------------------------------------- latencies and failures


def latencies(events: list[Event], model_id: str) -> list[float]:
    return [e["latency_ms"] for e in events if e["model_id"] == model_id and e["status"] == "ok"]


@pytest.mark.parametrize("model_id", [model.model_id for model in STEADY.models])
def test_latencies_are_log_normal_and_each_models_own(steady: list[list[Event]], model_id: str) -> None:
    (model,) = (model for model in STEADY.models if model.model_id == model_id)
    cuts = quantiles(latencies(steady[0] + steady[1], model_id), n=20)
    assert cuts[9] == pytest.approx(model.latency_median_ms, rel=0.05)
    # 1.645 is the 95th percentile of the standard normal distribution.
    assert cuts[18] == pytest.approx(model.latency_median_ms * np.exp(1.645 * model.latency_spread), rel=0.1)


def test_few_requests_fail_and_some_that_time_out_have_no_latency() -> None:
    events = events_of(replace(STEADY, failures=0.1), minutes=5)["inferences"]
    statuses = Counter(event["status"] for event in events)
    assert statuses["error"] / statuses.total() == pytest.approx(0.075, abs=0.02)
    measured = Counter(event.get("latency_ms") for event in events if event["status"] == "timeout")
    assert set(measured) == {None, 2000.0}
    assert measured[None] / measured.total() == pytest.approx(0.5, abs=0.15)
    assert all("latency_ms" in event for event in events if event["status"] != "timeout")
    assert all(("prediction" in event) == (event["status"] == "ok") for event in events)


def test_in_life_two_requests_in_a_thousand_fail(steady: list[list[Event]]) -> None:
    events = steady[0] + steady[1]
    assert sum(event["status"] != "ok" for event in events) / len(events) == pytest.approx(0.002, abs=0.001)


# ---------------------------------------------------------------- incidents


def test_after_the_promotion_search_is_slow_and_prices_fail(may_day: list[list[Event]]) -> None:
    start = Shop(MAY_DAY, 1, 1, 30).start_ms
    by_minute: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in may_day[0] + may_day[1] + may_day[2]:
        by_minute[event["model_id"], (event["event_time"] - start) // MINUTE].append(event)
    slow, failing = defaultdict(list), defaultdict(list)
    for (model_id, minute), events in sorted(by_minute.items()):
        if quantiles(latencies(events, model_id), n=20)[18] > 500:
            slow[model_id].append(minute)
        if sum(event["status"] != "ok" for event in events) > 0.05 * len(events):
            failing[model_id].append(minute)
    assert slow == {SEARCH: [22, 23, 24, 25, 26, 27]}
    assert failing == {PRICES: [21, 22, 23]}


def test_an_incident_is_its_models_alone_and_changes_nothing_that_is_shown_or_clicked() -> None:
    quiet = events_of(STEADY, minutes=1)
    incidents = (
        Incident(name="slow", model_id=SEARCH, start=0.5, length=0.25, slowness=1000),
        Incident(name="fails", model_id=PRICES, start=0.5, length=0.5, errors=1.0),
    )
    loud = events_of(replace(STEADY, incidents=incidents), minutes=1)
    assert (loud["impressions"], loud["clicks"]) == (quiet["impressions"], quiet["clicks"])
    start = Shop(STEADY, 1, 1, 1).start_ms
    touched: Counter[str] = Counter()
    for was, now in zip(quiet["inferences"], loud["inferences"], strict=True):
        second = (now["event_time"] - start) / 1000
        if now["model_id"] == SEARCH and 30 <= second < 45:
            # Nobody waits for longer than this.
            assert now["latency_ms"] == 2000
            touched["slow"] += 1
        elif now["model_id"] == PRICES and second >= 30:
            assert now["status"] != "ok"
            touched["failed"] += 1
        else:
            assert was == now
    assert min(touched["slow"], touched["failed"]) > 10


# ---------------------------------------------------------------- drift


def values_of(events: list[Event], feature: str) -> list[Any]:
    if feature == "prediction":
        return [event.get(feature) for event in events]
    return [event["features"].get(feature) for event in events]


def psi(reference: list[Any], current: list[Any]) -> float:
    """Over ten quantile bins for numbers and one bin a category, missing values in a bin of their own."""
    numbers = [value for value in reference if isinstance(value, float)]
    if numbers:
        edges = np.quantile(numbers, np.arange(1, 10) / 10)
        reference, current = (
            [None if value is None else int(np.searchsorted(edges, value)) for value in values]
            for values in (reference, current)
        )
    before, now = Counter(reference), Counter(current)
    bins = before.keys() | now.keys()
    expected = {each: (before[each] + 0.5) / (before.total() + len(bins) / 2) for each in bins}
    actual = {each: (now[each] + 0.5) / (now.total() + len(bins) / 2) for each in bins}
    return float(sum((actual[each] - expected[each]) * np.log(actual[each] / expected[each]) for each in bins))


def of_model(events: list[Event], model_id: str | None) -> list[Event]:
    return [event for event in events if model_id in (None, event["model_id"])]


@pytest.mark.parametrize("model_id", [None, HOME])
def test_the_promotion_moves_gender_and_new_users_and_nothing_else(
    may_day: list[list[Event]], model_id: str | None
) -> None:
    before, promotion, after = (of_model(events, model_id) for events in may_day)
    assert psi(values_of(before, "new_user"), values_of(promotion, "new_user")) > 0.3
    # 0.21 is that of the shares drawn from; ten minutes of them are a sample.
    assert psi(values_of(before, "gender"), values_of(promotion, "gender")) == pytest.approx(0.21, abs=0.03)
    for feature in STAY:
        assert psi(values_of(before, feature), values_of(promotion, feature)) < 0.02
    for feature in ("gender", "new_user"):
        assert psi(values_of(before, feature), values_of(after, feature)) < 0.01


@pytest.mark.parametrize("model_id", [None, HOME])
def test_against_the_usual_shares_gender_passes_the_severe_mark(
    may_day: list[list[Event]], model_id: str | None
) -> None:
    expected = dict(zip(GENDERS, MAY_DAY.phases[0].genders, strict=True))
    genders = Counter(values_of(of_model(may_day[1], model_id), "gender"))
    actual = {gender: count / genders.total() for gender, count in genders.items()}
    assert sum((actual[each] - expected[each]) * np.log(actual[each] / expected[each]) for each in expected) > 0.2


@pytest.mark.parametrize("model_id", [None, HOME])
def test_on_an_ordinary_day_nothing_moves(steady: list[list[Event]], model_id: str | None) -> None:
    first, second = (of_model(events, model_id) for events in steady)
    for feature in ("gender", "new_user", *STAY):
        assert psi(values_of(first, feature), values_of(second, feature)) < 0.02
