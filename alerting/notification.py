"""What the desk decides should be said, where, and why: one notification for one channel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

import msgspec
import orjson

from alerting.alert import SEVERITIES, Alert, Severity

#: What a notification is about. `escalation`: a later step of a policy, as nobody has acknowledged.
Stage = Literal["firing", "repeat", "escalation", "acknowledged", "resolved"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)

_KEY_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One thing to be said on one channel. Times are the desk's clock, in milliseconds since the epoch."""

    key: str
    """Idempotency key: the same for the same (group or incident, stage, channel) after any crash."""
    channel: str
    stage: Stage
    alerts: tuple[Alert, ...]
    """At least one; firing ones first. Of a group also those that it holds besides the new ones."""
    group_key: str
    """Names the conversation: the route and the values of the labels that it groups by; of an escalation the
    incident."""
    group_labels: Mapping[str, str]
    receiver: str
    """Whom the route means, by the name in the configuration."""
    at: int
    """When it was decided."""
    step: int = 0
    """Of the escalation policy, from 1; 0 where there is none."""
    round: int = 0
    """How often the policy, or the repeat interval, has come round before; 0 the first time."""
    mentions: tuple[str, ...] = ()
    """Names of people who are to look at it, as in the configuration."""
    why: str = ""
    """The named reason of the decision, such as `repeat_interval` or `not_acknowledged`."""
    fallback_of: tuple[str, ...] = ()
    """Channels that could not deliver it before this one."""

    @property
    def severity(self) -> Severity:
        """The most urgent of its alerts'."""
        return min((alert.severity for alert in self.alerts), key=SEVERITIES.index)

    @property
    def alert_ids(self) -> tuple[str, ...]:
        return tuple(alert.alert_id for alert in self.alerts)

    @property
    def first_channel(self) -> str:
        """The one that it was meant for."""
        return (*self.fallback_of, self.channel)[0]

    def on(self, *channels: str) -> Notification:
        """The same for the last of these channels, which stand in one after the other."""
        notification = self
        for channel in channels:
            notification = replace(
                notification,
                key=key_of(notification.key, channel),
                channel=channel,
                fallback_of=(*notification.fallback_of, notification.channel),
            )
        return notification

    def like(self, other: Notification) -> Notification:
        """The same where `other` is said: after the same channels have failed."""
        return self.on(*(*other.fallback_of, other.channel)[1:])

    def state(self) -> dict[str, Any]:
        """For a checkpoint: msgpack-able."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Notification:
        """The reverse; raises ValueError (msgspec.ValidationError) where it is of another version."""
        return msgspec.convert(state, cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Something to click on."""

    title: str
    url: str = field(repr=False)
    """May carry a signature that lets its holder act."""


def key_of(*parts: object) -> str:
    """32 hex digits; the same parts give the same key in every process."""
    return hashlib.blake2b(orjson.dumps([str(part) for part in parts]), digest_size=_KEY_BYTES).hexdigest()
