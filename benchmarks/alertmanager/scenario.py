"""What a scenario consists of; nothing in it belongs to one of the two systems.

All times are seconds since its start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

HOUR: Final = 3600.0

Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the tree of routes; nothing is inherited."""

    receiver: str
    match: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ("alertname",)
    group_wait: float = 1.0
    group_interval: float = 1.0
    repeat_interval: float = HOUR
    mute: bool = False
    """Nobody is told until the mute time of the configuration is over."""
    goes_on: bool = False
    escalation: tuple[tuple[float, str], ...] = ()
    """Further receivers, and when they are told if nobody has acknowledged until then."""
    routes: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Receiver:
    """Some webhooks."""

    hooks: tuple[str, ...]
    send_resolved: bool = True


@dataclass(frozen=True, slots=True)
class Inhibit:
    """While an alert that fits `source` fires, those that fit `target` and have equal labels are not told."""

    source: str
    target: str
    equal: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The whole configuration."""

    route: Node
    receivers: Mapping[str, Receiver] = field(default_factory=lambda: {"team": Receiver(("team",))})
    inhibit: tuple[Inhibit, ...] = ()
    mute_until: float | None = None
    """When the mute time ends; the scenario begins so that this is at a full minute, as calendars are in minutes."""
    resolve_timeout: float = HOUR
    """After which an alert of which nothing is heard is over."""
    quiet: float | None = None
    """How long a condition that began three times has to be quiet to be over."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An alert as it is pushed."""

    labels: Labels
    is_over: bool = False
    summary: str = ""
    is_anew: bool = False
    """Comes from somebody who does not know since when it fires."""


@dataclass(frozen=True, slots=True)
class Push:
    at: float
    alerts: tuple[Sent, ...]


@dataclass(frozen=True, slots=True)
class Silence:
    """Begins at once, and ends at `until`."""

    at: float
    match: str
    until: float


@dataclass(frozen=True, slots=True)
class EndSilence:
    """Of all silences so far."""

    at: float


@dataclass(frozen=True, slots=True)
class Reload:
    at: float
    setting: Setting


@dataclass(frozen=True, slots=True)
class Stop:
    """The process ends, and another one takes over at once; `kill`: without a warning."""

    at: float
    kill: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """Another worker gets the partition, and the former one does not know. Where all replicas run all the time nothing
    happens."""

    at: float


@dataclass(frozen=True, slots=True)
class Acknowledge:
    at: float
    labels: Labels


Action: TypeAlias = Push | Silence | EndSilence | Reload | Stop | HandOver | Acknowledge

Status: TypeAlias = Literal["firing", "resolved", "acknowledged"]


@dataclass(frozen=True, slots=True)
class Told:
    """One notification that a webhook gets between two times: exactly these alerts."""

    hook: str
    after: float
    before: float
    firing: tuple[Labels, ...] = ()
    resolved: tuple[Labels, ...] = ()
    acknowledged: tuple[Labels, ...] = ()
    summary: str = ""
    """Of its first alert; empty: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A story; what `told` does not say must not be told until it ends."""

    name: str
    about: str
    """What is to happen."""
    setting: Setting
    actions: tuple[Action, ...]
    told: tuple[Told, ...]
    ends: float
    outages: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Webhook -> from when to when it answers 503."""
    replicas: int = 1
    like: str = ""
    """The test of Alertmanager's that it restates, or the request of its users."""
    instead: str = ""
    """What Alertmanager 0.25 does instead; empty: it is to do the same."""

    @property
    def is_parity(self) -> bool:
        """Whether both have to pass."""
        return not self.instead


def alert(name: str, severity: str = "major", **labels: str) -> dict[str, str]:
    """Labels of an alert; these three are those that every alert of tidemark has."""
    return {"alertname": name, "severity": severity, "model_id": "home", **labels}


def push(at: float, *alerts: Labels, **how: Any) -> Push:
    """Alerts that fire."""
    return Push(at, tuple(Sent(labels, **how) for labels in alerts))


def resolve(at: float, *alerts: Labels) -> Push:
    """Alerts that are over."""
    return push(at, *alerts, is_over=True)
