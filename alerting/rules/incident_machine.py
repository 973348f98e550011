"""The state machine of one incident, driven by event time alone.

inactive ──breach──> pending ──for_ms──> firing ──keep_firing_for_ms of good windows──> inactive
                        └──────good window, or a gap longer than for_ms──────────────────^
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from alerting.alert import Severity
from alerting.rules.decisions import Reason
from alerting.rules.metric_history import Changed
from alerting.rules.reading import Judged, Kind
from alerting.rules.rule import Rule


class Key(NamedTuple):
    """Which incident; `feature` is empty where the kind has none."""

    rule: str
    model_id: str
    model_version: str
    kind: Kind
    feature: str
    silent: bool = False
    """It is not the rule's condition that holds: there are no data to judge."""


class Told(NamedTuple):
    """What was said of an incident when it fired: what is said when it is over must be of the same alert, whatever has
    become of the rule."""

    severity: Severity
    labels: tuple[tuple[str, str], ...]
    owner: str
    runbook: str
    expression: str
    metric: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Incident:
    """A condition that holds, or did a moment ago: pending until `fired_at` is set. Event-time ms."""

    started_at: int
    breached_until: int
    fired_at: int | None = None
    clear_ms: int = 0
    told: Told | None = None
    """Since it fired."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule found in one window of one series."""

    rule: Rule
    key: Key
    window_start: int
    window_end: int
    breached: bool
    value: float | None
    reading: Judged | None
    """None where a query has returned nothing for the series."""
    changed: Changed | None = None


def is_cut_off(incident: Incident, found: Judgement) -> bool:
    """Whether a pending incident's last window is too far back to say that the condition went on."""
    return incident.fired_at is None and found.window_start - incident.breached_until > found.rule.for_ms


def step(incident: Incident | None, found: Judgement) -> tuple[Reason, Incident | None]:
    """The next state, and why; no incident is the inactive state. One that fires now is still to be told."""
    rule, end = found.rule, found.window_end
    if not found.breached:
        if incident is None:
            return Reason.CONDITION_FALSE, None
        if incident.fired_at is None:
            return Reason.PENDING_DROPPED, None
        clear_ms = incident.clear_ms + end - found.window_start
        if clear_ms >= rule.keep_firing_for_ms:
            return Reason.RESOLVED, None
        return Reason.HOLDING, replace(incident, clear_ms=clear_ms)
    if incident is None:
        incident, otherwise = Incident(found.window_start, end), Reason.PENDING_STARTED
    else:
        incident = replace(incident, breached_until=end, clear_ms=0)
        otherwise = Reason.STILL_PENDING
    if incident.fired_at is not None:
        return Reason.STILL_FIRING, incident
    if end - incident.started_at >= rule.for_ms:
        return Reason.FIRED, replace(incident, fired_at=end + rule.settle_ms)
    return otherwise, incident
