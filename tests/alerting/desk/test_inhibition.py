from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.desk.inhibition import Inhibition
from alerting.desk.matchers import match_all
from alerting.desk.policy import DEFAULT_INHIBITION, InhibitRule, matching

CRITICAL = {"severity": "critical", "model_id": "home", "model_version": "3"}
MAJOR = {**CRITICAL, "severity": "major"}


def test_a_model_that_fails_says_nothing_of_its_ctr() -> None:
    inhibition = Inhibition(DEFAULT_INHIBITION)
    assert inhibition.add("low", MAJOR) == ["low"]
    assert inhibition.inhibitor("low", MAJOR) == ""
    assert set(inhibition.add("down", CRITICAL)) == {"down", "low"}
    assert inhibition.inhibitor("low", MAJOR) == "down"
    assert inhibition.inhibitor("down", CRITICAL) == ""
    assert inhibition.remove("down", CRITICAL) == ["low"]
    assert inhibition.inhibitor("low", MAJOR) == ""


def test_another_model_is_not_meant() -> None:
    inhibition = Inhibition(DEFAULT_INHIBITION)
    inhibition.add("down", CRITICAL)
    other = {**MAJOR, "model_version": "4"}
    inhibition.add("low", other)
    assert inhibition.inhibitor("low", other) == ""


def test_what_is_about_the_whole_model_is_about_the_version_that_fails_too() -> None:
    inhibition = Inhibition(DEFAULT_INHIBITION)
    whole = {**MAJOR, "model_version": ""}
    inhibition.add("errors", whole)
    assert set(inhibition.add("down", CRITICAL)) == {"down", "errors"}
    assert inhibition.inhibitor("errors", whole) == "down"


def test_the_same_incident_twice_is_one() -> None:
    inhibition = Inhibition(DEFAULT_INHIBITION)
    for _ in range(2):
        inhibition.add("down", CRITICAL)
    inhibition.add("low", MAJOR)
    inhibition.remove("down", CRITICAL)
    assert inhibition.inhibitor("low", MAJOR) == ""
    assert inhibition.remove("never seen", CRITICAL) == []


@pytest.mark.parametrize("first", ["a", "b"])
def test_two_that_fit_both_sides_do_not_keep_each_other_quiet(first: str) -> None:
    both = InhibitRule(source=matching('severity=~"critical|major"'), target=matching('severity=~"major|minor"'))
    inhibition = Inhibition([both])
    for name in sorted("ab", reverse=first == "b"):
        inhibition.add(name, MAJOR)
    assert [inhibition.inhibitor(name, MAJOR) for name in "ab"] == ["", ""]
    minor = {**MAJOR, "severity": "minor"}
    inhibition.add("c", minor)
    assert inhibition.inhibitor("c", minor) == first
    inhibition.add("d", CRITICAL)
    assert [inhibition.inhibitor(name, MAJOR) for name in "ab"] == ["d", "d"]


RULES = (
    *DEFAULT_INHIBITION,
    InhibitRule(source=matching('a="1"'), target=matching('b="1"'), equal=("model_id",)),
    InhibitRule(source=matching('a=~"."'), target=()),
)
labels_ = st.fixed_dictionaries(
    {
        "severity": st.sampled_from(["critical", "major", "minor"]),
        "model_id": st.sampled_from("xy"),
        "a": st.sampled_from(["", "1"]),
        "b": st.sampled_from(["", "1"]),
    }
)


@given(st.lists(st.tuples(st.sampled_from("pqrst"), labels_), max_size=30))
def test_against_all_pairs_and_whoever_changes_is_named(moves: list[tuple[str, dict[str, str]]]) -> None:
    inhibition = Inhibition(RULES)
    present: dict[str, dict[str, str]] = {}
    before: dict[str, bool] = {}
    for name, labels in moves:
        if name in present:
            affected = inhibition.remove(name, present.pop(name))
            before.pop(name)
        else:
            present[name] = labels
            affected = inhibition.add(name, labels)
        after = {one: bool(inhibition.inhibitor(one, labels)) for one, labels in present.items()}
        assert after == {one: any(inhibits(present, other, one) for other in present) for one in present}
        assert {one for one in present if after[one] != before.get(one)} <= set(affected)
        before = after


def inhibits(present: dict[str, dict[str, str]], source: str, target: str) -> bool:
    """Alertmanager's rule, word by word."""
    s, t = present[source], present[target]
    for rule in RULES:
        equal = all(s.get(name, "") == t.get(name, "") for name in rule.equal)
        if source == target or not (equal and match_all(rule.source, s) and match_all(rule.target, t)):
            continue
        if match_all(rule.source, t) and match_all(rule.target, s):
            continue
        return True
    return False
