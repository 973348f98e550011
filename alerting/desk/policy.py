"""Who is told what, when: the alerting part of the configuration, as values.

The vocabulary is Prometheus Alertmanager's where it has a word for it (route, receiver, matcher, group_wait,
inhibition, silence, mute times), since the people who write this know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from alerting.desk.calendars import Calendar
from alerting.desk.matchers import Matcher, parse_matcher
from alerting.desk.rotations import Rotation

OWNER: Final = "owner"
"""Stands for the receiver that has the name of the alert's owner; for `default_owner` where there is none."""
ON_CALL: Final = "oncall:"
"""Before the name of a rotation: stands for whoever is on call."""

MOST_BEGINS: Final = 1_000
"""Of incidents, that are remembered for each escalation policy."""

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS

NOBODY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Some channels under one name: a team, a duty, a person on call."""

    name: str
    channels: tuple[str, ...]
    send_resolved: bool = True
    mention: str = ""
    """Who is to be mentioned; a person's name. Empty for teams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an escalation policy. Exactly one of `notify` and `wait_ms`, `repeat` and `next` says what to do; the
    conditions say when it is left out."""

    do: Literal["notify", "wait", "repeat", "next"]
    notify: tuple[str, ...] = ()
    """Names of receivers, `owner`, `oncall:ROTATION`."""
    wait_ms: int = 0
    repeat: int = 0
    """Begin again from the first step, at most so often: 1 to 5."""
    next: str = ""
    """Go on with another policy."""
    only_in: str = ""
    """Left out except within this calendar."""
    only_if_count: int = 0
    """Left out unless so many incidents began under this policy within `only_if_within_ms`; 0: no condition."""
    only_if_within_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationPolicy:
    """What is done, one step after the other, until somebody acknowledges or all is well again."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A node of the tree of routes; what it does not say it has from its parent."""

    name: str
    """Path in the tree, such as `/` or `/0/2`; part of the group key."""
    matchers: tuple[Matcher, ...] = ()
    notify: tuple[str, ...] = ()
    """As in Step; nobody: recorded only."""
    escalation: str = ""
    """A policy for each incident, beside what `notify` does for the group."""
    group_by: tuple[str, ...] = ("rule", "model_id", "model_version")
    """Labels; `...` means all of them."""
    group_wait_ms: int = 10_000
    group_interval_ms: int = 5 * MINUTE_MS
    repeat_interval_ms: int = 4 * HOUR_MS
    mute_in: tuple[str, ...] = ()
    """Calendars in which nobody is told; what still fires at their end is told then."""
    active_in: tuple[str, ...] = ()
    """Calendars outside of which nobody is told."""
    goes_on: bool = False
    """Whether the siblings after it may take the alert as well (`continue`)."""
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InhibitRule:
    """While an alert that fits `source` fires, those that fit `target` and have equal labels `equal` are not told."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flapping:
    """A condition that begins `times` within `within_ms` is flapping: it is held open until it has been quiet for
    `quiet_ms`."""

    times: int = 3
    within_ms: int = 30 * MINUTE_MS
    quiet_ms: int = 10 * MINUTE_MS


def matching(*texts: str) -> tuple[Matcher, ...]:
    """Matchers as they are written."""
    return tuple(parse_matcher(text) for text in texts)


#: A model that fails says nothing of its click-through rate or drift.
DEFAULT_INHIBITION: Final = (
    InhibitRule(
        source=matching('severity="critical"'),
        target=matching('severity=~"major|minor"'),
        equal=("model_id", "model_version"),
    ),
    # What is about all versions of a model is about the one that fails, too.
    InhibitRule(
        source=matching('severity="critical"'),
        target=matching('severity=~"major|minor"', 'model_version=""'),
        equal=("model_id",),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertingPolicy:
    """All of it, with every name in it known to exist (the reader of the configuration sees to that)."""

    route: Route
    receivers: Mapping[str, Receiver]
    escalations: Mapping[str, EscalationPolicy] = field(default_factory=lambda: NOBODY)
    rotations: Mapping[str, Rotation] = field(default_factory=lambda: NOBODY)
    calendars: Mapping[str, Calendar] = field(default_factory=lambda: NOBODY)
    inhibition: tuple[InhibitRule, ...] = DEFAULT_INHIBITION
    flapping: Flapping = field(default_factory=Flapping)
    default_owner: str = ""
    """The receiver for alerts whose owner is none; empty: nobody."""
    stale_after_ms: int = 7 * 24 * HOUR_MS
    """An incident of which nothing has been heard for so long is closed: whoever watched it is gone."""
