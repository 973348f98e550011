"""Groups: alerts that are told together, and what each channel has heard of them.

When a channel has to be told follows Alertmanager's notification log (`needsUpdate` in its notify.go).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from alerting.desk.decisions import Reason
from alerting.desk.policy import Route

ALL_LABELS: Final = "..."


def group_labels(route: Route, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels by which the route groups, sorted by name."""
    names = labels if ALL_LABELS in route.group_by else route.group_by
    return {name: labels.get(name, "") for name in sorted(names)}


def group_key(route: Route, labels: Mapping[str, str]) -> str:
    """Names a group of these `group_labels`: the same in every process, and another for every other group."""
    return f"{route.name}:{orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode()}"


@dataclass(slots=True)
class Heard:
    """What one channel has been told of a group."""

    receiver: str
    at: int
    """When, the last time."""
    firing: set[str] = field(default_factory=set)
    """Of which conversations it last heard that they fire."""
    rounds: int = 0
    """How often it has been told again since it heard something new."""


@dataclass(slots=True)
class Group:
    """One set of alerts; times are the desk's clock."""

    key: str
    route: str
    labels: dict[str, str]
    members: dict[str, None] = field(default_factory=dict)
    """Conversations, in the order in which they joined."""
    heard: dict[str, Heard] = field(default_factory=dict)
    """By channel."""
    told_at: int | None = None
    """When something was said of it last."""
    flush_at: int | None = None
    failures: dict[str, int] = field(default_factory=dict)
    """By channel: how many messages in a row could not be delivered."""
    muted: str = ""
    """The calendar that keeps it quiet, as far as is known."""

    def change_due(self, route: Route, now_ms: int) -> int:
        """When a change that comes now is to be told: after `group_wait` for more to come with it, and not sooner
        than `group_interval` after what was said last. A route that waits for nothing tells every change at once."""
        if route.group_wait_ms == 0:
            return now_ms
        soonest = now_ms + route.group_wait_ms
        return soonest if self.told_at is None else max(soonest, self.told_at + route.group_interval_ms)

    def state(self) -> list[Any]:
        """Plain data."""
        heard = [[channel, h.receiver, h.at, sorted(h.firing), h.rounds] for channel, h in self.heard.items()]
        times = [self.told_at, self.flush_at]
        return [self.key, self.route, self.labels, list(self.members), heard, dict(self.failures), *times, self.muted]

    @classmethod
    def restore(cls, state: list[Any]) -> Group:
        """The reverse."""
        key, route, labels, members, heard, failures, told_at, flush_at, muted = state
        return cls(
            key=key,
            route=route,
            labels=dict(labels),
            members=dict.fromkeys(members),
            heard={channel: Heard(who, at, set(firing), rounds) for channel, who, at, firing, rounds in heard},
            failures=dict(failures),
            told_at=told_at,
            flush_at=flush_at,
            muted=muted,
        )


def news(
    heard: Collection[str] | None,
    firing: Collection[str],
    resolved: Collection[str],
    *,
    since_ms: int,
    repeat_ms: int,
    send_resolved: bool,
) -> Reason | None:
    """Why a channel has to be told, None if it need not be.

    `heard` is what it last heard to fire, `since_ms` ago, None where it has heard nothing at all; `firing` what fires
    now, `resolved` what is over and not said to be so yet. All being over is news whatever `send_resolved` says, so
    that it is taken note of.
    """
    if heard is None:
        return Reason.FIRST_NOTIFICATION if firing else None
    if not set(firing) <= set(heard):
        return Reason.NEW_ALERTS
    if not firing:
        return Reason.ALL_RESOLVED if heard else None
    if send_resolved and resolved:
        return Reason.SOME_RESOLVED
    return Reason.REPEAT_INTERVAL if since_ms >= repeat_ms else None
