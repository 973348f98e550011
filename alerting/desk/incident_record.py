"""What the desk knows of one incident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from alerting.alert import Alert, Status
from alerting.desk.escalation import Escalation
from alerting.desk.routing import Target, labels_of
from alerting.notification import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """An incident as people see it; times are the desk's clock."""

    alert: Alert
    aliases: tuple[str, ...]
    """Ids that it had before, and that people may have read in messages."""
    status: Status
    opened_at: int
    silenced_by: str
    """Id of a silence; empty: not silenced. The same in the next two."""
    inhibited_by: str
    """Id of an alert."""
    muted_by: str
    """Name of a calendar, where all of its routes are quiet."""
    acked_at: int | None
    acked_by: str
    comment: str
    is_held: bool
    """The condition is flapping, and just now does not hold."""
    escalation: str
    """Name of the policy that runs; empty: none does."""
    step: int
    """Of that policy: the number of the one that comes next."""
    next_step_at: int | None
    channels: tuple[str, ...]
    """That have been told, or are about to be."""


@dataclass(slots=True)
class Told:
    """A channel that is told, or about to be, that an incident fires."""

    receiver: str
    send_resolved: bool
    group_key: str
    route: str = ""
    """Of the group that told it; empty: an escalation did, or its group is no more since the routes are other ones."""
    policy: str = ""
    """The escalation that told it, where its group did not."""
    reached: bool = False
    """It has been sent; as long as it has not, its end may be left out together with it."""
    is_stale: bool = False
    """It is to be told again: that failed, or the incident was kept quiet since, or taken on and then back."""
    by_step: bool = False
    """An escalation told it, so that its group need not."""
    at: int = 0
    """When this was decided, the last time."""
    mentions: tuple[str, ...] = ()
    """All who have been mentioned."""
    end: str = ""
    """Key of the notification of the end; empty: there is none yet."""


@dataclass(slots=True)
class Missed:
    """What an escalation said and could not be delivered, to be said again."""

    at: int | None
    """When; None: as soon as the incident is no longer kept quiet."""
    tries: int
    """In a row that failed."""
    policy: str
    stage: Stage
    step: int
    round: int
    target: Target
    is_under_way: bool = False
    """It is being said again."""


@dataclass(slots=True)
class Incident:
    """One conversation about a condition; times are the desk's clock in milliseconds since the epoch."""

    id: str
    """The id of the alert that it began with; names the conversation even when others follow."""
    alert: Alert
    """As it was heard last, or as it was changed here."""
    opened_at: int
    heard_at: int
    """When a record of it came last."""
    aliases: list[str] = field(default_factory=list)
    """Ids of the alerts before this one in the same conversation."""
    labels: dict[str, str] = field(default_factory=dict)
    """As matchers see them."""
    groups: list[str] = field(default_factory=list)
    told: dict[str, Told] = field(default_factory=dict)
    """By channel."""
    missed: dict[str, Missed] = field(default_factory=dict)
    """By channel."""
    owed: list[str] = field(default_factory=list)
    """It is over: channels that are to be told so by no group."""
    waiting: list[str] = field(default_factory=list)
    """It is over: keys of the notifications of that which have not been sent yet."""
    acked_at: int | None = None
    acked_by: str = ""
    comment: str = ""
    closed_at: int | None = None
    held: Alert | None = None
    """The end that is held back while the condition flaps."""
    silenced_by: str = ""
    inhibited_by: str = ""
    escalations: dict[str, Escalation] = field(default_factory=dict)
    """By the name of the policy that it began with."""

    @property
    def is_open(self) -> bool:
        """Not over, acknowledged or not."""
        return self.closed_at is None

    @property
    def is_loud(self) -> bool:
        """Somebody is to be told that it fires, mute times aside."""
        return self.is_open and self.acked_at is None and not self.is_hushed

    @property
    def listeners(self) -> dict[str, Told]:
        """Channels that take it to be firing, or are about to, and are not to hear of its end yet."""
        return {channel: told for channel, told in self.told.items() if not told.end}

    @property
    def is_hushed(self) -> bool:
        """A silence or another incident keeps it quiet."""
        return bool(self.silenced_by or self.inhibited_by)

    def view(self, muted_by: str) -> IncidentView:
        """For people."""
        run = next(iter(self.escalations.values()), None)
        due = [run.next_due for run in self.escalations.values() if run.next_due is not None]
        return IncidentView(
            alert=self.alert,
            aliases=tuple(self.aliases),
            status=self.alert.status,
            opened_at=self.opened_at,
            silenced_by=self.silenced_by,
            inhibited_by=self.inhibited_by,
            muted_by=muted_by,
            acked_at=self.acked_at,
            acked_by=self.acked_by,
            comment=self.comment,
            is_held=self.held is not None,
            escalation=run.policy if run is not None else "",
            step=run.step if run is not None else 0,
            next_step_at=min(due, default=None),
            channels=tuple(self.told),
        )

    def state(self) -> dict[str, Any]:
        """Plain data."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return (
            plain
            | lists
            | {
                "alert": msgspec.to_builtins(self.alert),
                "held": msgspec.to_builtins(self.held),
                "told": {channel: msgspec.to_builtins(told) for channel, told in self.told.items()},
                "missed": {channel: msgspec.to_builtins(missed) for channel, missed in self.missed.items()},
                "escalations": {policy: run.state() for policy, run in self.escalations.items()},
            }
        )

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Incident:
        """The reverse; raises ValueError, TypeError or KeyError where it is damaged."""
        alert = msgspec.convert(state["alert"], Alert)
        plain: dict[str, Any] = {name: state[name] for name in _PLAIN}
        lists: dict[str, Any] = {name: list(state[name]) for name in _LISTS}
        return cls(
            **plain,
            **lists,
            alert=alert,
            labels=labels_of(alert),
            held=msgspec.convert(state["held"], Alert | None),
            told=msgspec.convert(state["told"], dict[str, Told]),
            missed=msgspec.convert(state["missed"], dict[str, Missed]),
            escalations={policy: Escalation.restore(run) for policy, run in state["escalations"].items()},
        )


_LISTS = ("aliases", "groups", "owed", "waiting")
_PLAIN = tuple(
    field.name
    for field in fields(Incident)
    if field.name not in {"alert", "labels", "held", "told", "missed", "escalations", *_LISTS}
)
