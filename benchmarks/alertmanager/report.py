"""The outcomes as JSON, and as the tables of `docs/alertmanager.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.alertmanager.run import SYSTEMS, Outcome
from benchmarks.alertmanager.scenario import Scenario

ISSUES = "https://github.com/prometheus/alertmanager/issues/"


def as_json(scenarios: Sequence[Scenario], outcomes: Sequence[Outcome], version: str) -> dict[str, Any]:
    """Everything that was measured."""
    by_name = {(outcome.scenario, outcome.system): outcome for outcome in outcomes}
    return {
        "alertmanager": version,
        "scenarios": [
            {
                "name": scenario.name,
                "is_parity": scenario.is_parity,
                "like": scenario.like,
                "about": scenario.about,
                "instead": scenario.instead,
                **{system: _outcome(by_name[scenario.name, system]) for system in SYSTEMS},
            }
            for scenario in scenarios
        ],
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The tables; without times, so that they stay the same until something changes."""
    parity = [one for one in results["scenarios"] if one["is_parity"]]
    better = [one for one in results["scenarios"] if not one["is_parity"]]
    version = results["alertmanager"]
    return "\n".join(
        [
            f"Alertmanager {version} (Debian) passes {_passed(parity, 'alertmanager')} of what both have to do, "
            f"tidemark {_passed(parity, 'tidemark')}.",
            "",
            *_table("restates", parity),
            "",
            f"Of what tidemark means to do better it passes {_passed(better, 'tidemark')}, "
            f"Alertmanager {_passed(better, 'alertmanager')}.",
            "",
            *_table("compare", better),
            "",
            *(_instead(one) for one in better if not one["alertmanager"]["passed"]),
            "",
        ]
    )


def _table(compare: str, scenarios: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"| scenario | what is to happen | {compare} | Alertmanager | tidemark |"
    yield "| --- | --- | --- | --- | --- |"
    for one in scenarios:
        passed = " | ".join("passes" if one[system]["passed"] else "**fails**" for system in SYSTEMS)
        yield f"| {one['name']} | {one['about']} | {_link(one['like'])} | {passed} |"


def _instead(scenario: Mapping[str, Any]) -> str:
    return f"- *{scenario['name']}*: Alertmanager {scenario['instead']}."


def _link(like: str) -> str:
    return f"[{like}]({ISSUES}{like[1:]})" if like.startswith("#") else like


def _passed(scenarios: Sequence[Mapping[str, Any]], system: str) -> str:
    return f"{sum(one[system]['passed'] for one in scenarios)} of {len(scenarios)}"


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "passed": outcome.passed,
        "problems": list(outcome.problems),
        "heard": list(outcome.heard),
        "tries": outcome.tries,
    }
