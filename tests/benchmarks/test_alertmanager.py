from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.alertmanager.__main__ import SCENARIOS
from benchmarks.alertmanager.am import version, why_not
from benchmarks.alertmanager.better import BETTER
from benchmarks.alertmanager.dedup import A, B
from benchmarks.alertmanager.judging import Heard, problems_of
from benchmarks.alertmanager.report import as_json, markdown
from benchmarks.alertmanager.run import SYSTEMS, Outcome, run_all
from benchmarks.alertmanager.scenario import Scenario, Status, Told
from benchmarks.alertmanager.scenarios import PARITY
from tests.conftest import IN_CI

STORY = replace(PARITY[0], told=(Told("team", 1.0, 2.0, firing=(A,), resolved=(B,)),), ends=5.0)


def heard(at: float, *names: str, status: Status = "resolved", hook: str = "team") -> Heard:
    """`a` fires, `b` has this status."""
    statuses: dict[str, Status] = {"a": "firing", "b": status}
    alerts = {"a": A, "b": B}
    return Heard(hook, at, tuple((statuses[name], alerts[name]) for name in names), "")


def test_what_was_to_be_told_in_any_order_of_alerts_is_no_problem() -> None:
    assert problems_of(STORY, [heard(1.5, "b", "a")]) == []


@pytest.mark.parametrize(
    "other",
    [
        heard(0.5, "a", "b"),
        heard(2.9, "a", "b"),
        heard(1.5, "a"),
        heard(1.5, "a", "b", "b"),
        heard(1.5, "a", "b", status="firing"),
        heard(1.5, "a", "b", hook="other"),
    ],
    ids=["early", "late", "incomplete", "twice", "status", "hook"],
)
def test_anything_else_is_missing_and_too_much(other: Heard) -> None:
    missing, too_much = problems_of(STORY, [other])
    assert missing.startswith("missing: team 1 to 2: a major home firing, b major home resolved")
    assert too_much == f"too much: {other}"


def test_what_comes_once_more_is_too_much_until_the_story_ends() -> None:
    assert len(problems_of(STORY, [heard(1.5, "a", "b"), heard(4.9, "a", "b")])) == 1
    assert problems_of(STORY, [heard(1.5, "a", "b"), heard(5.1, "a", "b")]) == []


def test_the_tables_say_what_was_measured() -> None:
    scenarios = [PARITY[0], BETTER[0]]
    outcomes = [
        Outcome(PARITY[0].name, "alertmanager", (), ()),
        Outcome(PARITY[0].name, "tidemark", ("missing: all",), ()),
        Outcome(BETTER[0].name, "alertmanager", ("too much: one",), ("one",)),
        Outcome(BETTER[0].name, "tidemark", (), ()),
    ]
    text = markdown(as_json(scenarios, outcomes, "0.25.0"))
    assert "Alertmanager 0.25.0 (Debian) passes 1 of 1 of what both have to do, tidemark 0 of 1." in text
    first, second = (next(line for line in text.split("\n") if line.startswith(f"| {one.name} ")) for one in scenarios)
    assert first.endswith("| passes | **fails** |")
    assert second.endswith("| [#4064](https://github.com/prometheus/alertmanager/issues/4064) | **fails** | passes |")
    assert f"- *{BETTER[0].name}*: Alertmanager tells" in text


@pytest.fixture
def alertmanager() -> None:
    """A real one. Without: skipped on a laptop, failed in CI."""
    reason = why_not()
    if reason and IN_CI:
        pytest.fail(f"CI must run these tests: {reason}")
    if reason:
        pytest.skip(reason)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("alertmanager")
async def test_tidemark_does_what_alertmanager_does_and_more() -> None:
    assert (await version()).startswith("0.")
    assert len(SCENARIOS) == len(PARITY) + len(BETTER)

    found = {(outcome.scenario, outcome.system): outcome for outcome in await run_all([*PARITY, *BETTER])}

    def failed(scenarios: tuple[Scenario, ...], *systems: str) -> list[Outcome]:
        outcomes = [found[scenario.name, system] for scenario in scenarios for system in systems]
        return [outcome for outcome in outcomes if not outcome.passed]

    assert not failed(PARITY, *SYSTEMS)
    assert not failed(BETTER, "tidemark")
    # Else there is something to be said no longer.
    assert len(failed(BETTER, "alertmanager")) == len(BETTER)
