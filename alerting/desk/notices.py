"""Notifications as they are made: their keys and labels, and the note that a channel has been told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alerting.alert import Alert
from alerting.desk.book import DeskBook
from alerting.desk.decisions import Reason
from alerting.desk.incident_record import Incident, Told
from alerting.desk.policy import Route
from alerting.desk.routing import Target
from alerting.notification import Notification, Stage, key_of


def make_notice(
    book: DeskBook,
    channel: str,
    target: Target,
    stage: Stage,
    alerts: Sequence[Alert],
    group_key: str,
    group_labels: Mapping[str, str],
    now_ms: int,
    why: Reason,
    *,
    step: int = 0,
    round_: int = 0,
) -> Notification:
    """A notification that is decided now, with a key that no other has."""
    return Notification(
        key=key_of(group_key, channel, stage, book.ordinal(now_ms)),
        channel=channel,
        stage=stage,
        alerts=tuple(alerts),
        group_key=group_key,
        group_labels=dict(group_labels),
        receiver=target.receiver,
        at=now_ms,
        step=step,
        round=round_,
        mentions=target.mentions,
        why=why.value,
    )


def note_told(
    incident: Incident,
    channel: str,
    target: Target,
    group_key: str,
    now_ms: int,
    *,
    route: str = "",
    policy: str = "",
) -> None:
    """The channel is about to be told that the incident fires, by the group under a route or by a policy."""
    told = incident.told.get(channel)
    if told is None:
        told = incident.told[channel] = Told(target.receiver, target.send_resolved, group_key, route, policy)
    elif told.policy and route:
        told.group_key, told.route, told.policy, told.send_resolved = group_key, route, "", target.send_resolved
    told.mentions = tuple(dict.fromkeys(told.mentions + target.mentions))
    told.is_stale, told.by_step, told.at = False, bool(policy), now_ms


def retry_after(route: Route, failures: int) -> int:
    """How long after so many failures in a row a channel is tried again: `group_interval`, doubled each time up to
    `repeat_interval`."""
    longest = max(route.group_interval_ms, route.repeat_interval_ms)
    return max(1, min(route.group_interval_ms << min(failures - 1, 30), longest))


def labels_of_one(incident: Incident) -> dict[str, str]:
    """What stands for a group's labels where an incident is told by itself."""
    return {name: incident.labels[name] for name in ("rule", "model_id", "model_version")}
