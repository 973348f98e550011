"""What the shop was like a day before serves as the reference for what comes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agents.simulation.day_before import references_of_day_before
from agents.simulation.scenarios import SILENCE, Phase, Scenario, scenario_named
from agents.simulation.shop import Shop
from tables.distances import distances
from tables.feature_bins import NumericBins
from tables.reference import Reference, ReferenceBook

MAY_DAY = replace(scenario_named("may-day"), noise=SILENCE)
STEADY = replace(scenario_named("steady"), noise=SILENCE)
HOME = "recommender-home"
START_MS = 1_777_629_000_000

Event = dict[str, Any]


@pytest.fixture(scope="module")
def book() -> ReferenceBook:
    return ReferenceBook(references_of_day_before(MAY_DAY, 100, 1, START_MS))


def inferences(scenario: Scenario, *, minutes: float) -> list[Event]:
    """What the home recommender is asked for."""
    lines = (line for lines in Shop(scenario, 100, 2, minutes, START_MS).slices() for line in lines)
    events = (json.loads(line.value or b"") for line in lines if line.topic == "inferences")
    return [event for event in events if event["model_id"] == HOME]


def during(phase: Phase) -> Scenario:
    return replace(MAY_DAY, phases=(replace(phase, share=1.0),), anchor_phase=0, incidents=())


def drifting(reference: Reference | None, events: list[Event]) -> dict[str, float]:
    """Feature -> PSI, of those that drift by it."""
    assert reference is not None
    found: dict[str, float] = {}
    for feature in reference.features:
        counts = feature.bins.count([(event["features"] | event).get(feature.name) for event in events])
        (psi,) = (each for each in distances(feature, counts) if each.method == "psi")
        if psi.level != "none":
            found[feature.name] = psi.value
    return found


def test_every_model_has_a_reference_for_all_its_versions(book: ReferenceBook) -> None:
    models = [(reference.model_id, reference.model_version) for reference in book.references]
    assert models == [(model_id, None) for model_id in sorted(model.model_id for model in MAY_DAY.models)]


def test_all_features_but_the_hour_are_in_it(book: ReferenceBook) -> None:
    reference = book.find(HOME, "v3")
    assert reference is not None
    sent = {name for event in inferences(STEADY, minutes=0.2) for name in event["features"]}
    assert {feature.name for feature in reference.features} == sent - {"hour"} | {"prediction"}
    numbers = {feature.name for feature in reference.features if isinstance(feature.bins, NumericBins)}
    assert numbers == {"affinity", "age", "prediction", "score"}


def test_the_same_arguments_give_the_same_references(book: ReferenceBook) -> None:
    again = references_of_day_before(MAY_DAY, 100, 1, START_MS)
    assert [reference.id for reference in again] == [reference.id for reference in book.references]


def test_an_ordinary_morning_is_like_it(book: ReferenceBook) -> None:
    assert drifting(book.find(HOME, "v3"), inferences(during(MAY_DAY.phases[0]), minutes=10)) == {}


def test_the_promotion_is_not_and_these_two_features_say_why(book: ReferenceBook) -> None:
    found = drifting(book.find(HOME, "v3"), inferences(during(MAY_DAY.phases[1]), minutes=10))
    # 0.21 and 0.42 are those of the shares drawn from.
    assert found == {"gender": pytest.approx(0.21, abs=0.03), "new_user": pytest.approx(0.42, abs=0.05)}


@pytest.mark.parametrize("rate", [0.05, 100_000])
def test_any_rate_will_do(rate: float) -> None:
    references = references_of_day_before(STEADY, rate, 0, START_MS)
    assert sum(reference.features[0].n for reference in references) == pytest.approx(28_000, rel=0.05)
