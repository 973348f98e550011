"""Compares what the webhooks of a scenario got with what they were to get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.alertmanager.scenario import Labels, Scenario, Status, Told

TOLERANCE: Final = 0.35
"""Seconds by which a notification may be late: the machine is shared by all scenarios."""
EARLY: Final = 0.05

Content = Counter[tuple[Status, tuple[tuple[str, str], ...]]]


@dataclass(frozen=True, slots=True)
class Heard:
    """One POST that a webhook got; `at` in seconds since the start of the scenario."""

    hook: str
    at: float
    alerts: tuple[tuple[Status, Labels], ...]
    summary: str

    @property
    def content(self) -> Content:
        return Counter((status, tuple(sorted(labels.items()))) for status, labels in self.alerts)

    def __str__(self) -> str:
        return f"{self.hook} at {self.at:.2f}: {_shown(self.alerts)}"


def heard_from(hook: str, at: float, body: Any) -> Heard:
    """Read the body of a webhook in Alertmanager's form."""
    alerts: list[tuple[Status, Labels]] = []
    for one in body["alerts"]:
        # tidemark says so beside the status, as Alertmanager's form has no word for it.
        is_acknowledged = one["annotations"].get("status") == "acknowledged"
        alerts.append(("acknowledged" if is_acknowledged else one["status"], one["labels"]))
    return Heard(hook, at, tuple(alerts), body["alerts"][0]["annotations"].get("summary", ""))


def problems_of(scenario: Scenario, heard: Iterable[Heard]) -> list[str]:
    """What is missing and what is too much; nothing where all was told as it should be."""
    left = sorted((one for one in heard if one.at <= scenario.ends), key=lambda one: one.at)
    problems = []
    for told in scenario.told:
        found = next((one for one in left if _is(told, one)), None)
        if found is None:
            problems.append(f"missing: {told.hook} {told.after:g} to {told.before:g}: {_shown(_expected(told))}")
        else:
            left.remove(found)
    return problems + [f"too much: {one}" for one in left]


def _is(told: Told, heard: Heard) -> bool:
    expected = Counter((status, tuple(sorted(labels.items()))) for status, labels in _expected(told))
    return (
        told.hook == heard.hook
        and told.after - EARLY <= heard.at <= told.before + TOLERANCE
        and heard.content == expected
        and told.summary in ("", heard.summary)
    )


def _expected(told: Told) -> list[tuple[Status, Labels]]:
    return [
        *(("firing", labels) for labels in told.firing),
        *(("resolved", labels) for labels in told.resolved),
        *(("acknowledged", labels) for labels in told.acknowledged),
    ]


def _shown(alerts: Sequence[tuple[Status, Labels]]) -> str:
    return ", ".join(f"{' '.join(labels.values())} {status}" for status, labels in alerts)
