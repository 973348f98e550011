"""The scenarios say what they claim."""

from math import log

import pytest

from agents.simulation.scenarios import SCENARIOS, Scenario, scenario_named
from tables.errors import ConfigError


def psi(expected: tuple[float, ...], actual: tuple[float, ...]) -> float:
    return sum((a - e) * log(a / e) for e, a in zip(expected, actual, strict=True))


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_all_shares_sum_to_one(scenario: Scenario) -> None:
    assert sum(phase.share for phase in scenario.phases) == pytest.approx(1)
    assert sum(model.traffic for model in scenario.models) == pytest.approx(1)
    for model in scenario.models:
        assert sum(model.versions.values()) == pytest.approx(1)
    for phase in scenario.phases:
        assert sum(phase.genders) == pytest.approx(1)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_every_rate_that_a_phase_changes_belongs_to_a_model(scenario: Scenario) -> None:
    known = {model.model_id for model in scenario.models}
    assert all(set(phase.ctr) <= known for phase in scenario.phases)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_incidents_leave_what_is_shown_as_it_is(scenario: Scenario) -> None:
    slates = {model.model_id: model.slate for model in scenario.models}
    for incident in scenario.incidents:
        assert 0 <= incident.start < incident.start + incident.length <= 1
        # A request that fails shows nothing.
        assert not incident.errors or slates[incident.model_id] == (0, 0)


def test_may_day_is_the_case_study() -> None:
    may_day = scenario_named("may-day")
    before, promotion, after = may_day.phases
    usual = {model.model_id: model.ctr for model in may_day.models}
    assert usual["recommender-home"] == 0.08
    assert promotion.ctr == {"recommender-home": 0.04}
    # One fall is one alert: with two versions there would be two.
    assert [list(model.versions) for model in may_day.models if model.model_id == "recommender-home"] == [["v3"]]
    assert (before.new_users, promotion.new_users) == (0.2, 0.5)
    assert psi(before.genders, promotion.genders) == pytest.approx(0.21, abs=0.005)
    assert psi((0.8, 0.2), (0.5, 0.5)) > 0.2
    # Nothing else is wrong while that story is told.
    assert all(incident.start >= before.share + promotion.share for incident in may_day.incidents)
    assert (after.ctr, after.new_users, after.genders) == (before.ctr, before.new_users, before.genders)


def test_an_unknown_scenario_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown scenario 'mayday', did you mean may-day; known are steady"):
        scenario_named("mayday")
