"""Who is meant: from an alert's labels to routes, and from the names in a route to channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alerting.alert import Alert
from alerting.desk.matchers import match_all
from alerting.desk.policy import ON_CALL, OWNER, AlertingPolicy, Receiver, Route


@dataclass(frozen=True, slots=True)
class Target:
    """One channel to be used, on behalf of whom, and who is to look at it."""

    receiver: str
    send_resolved: bool
    mentions: tuple[str, ...] = ()

    def beside(self, other: Target | None) -> Target:
        """For both on one channel; the other one comes first."""
        if other is None:
            return self
        return Target(
            other.receiver,
            other.send_resolved or self.send_resolved,
            tuple(dict.fromkeys(other.mentions + self.mentions)),
        )


def labels_of(alert: Alert) -> dict[str, str]:
    """What matchers and groups see: the rule's own labels, under those that every alert has."""
    return {
        **alert.labels,
        "rule": alert.rule,
        "severity": alert.severity,
        "model_id": alert.model_id,
        "model_version": alert.model_version,
        "owner": owner_of(alert),
    }


def owner_of(alert: Alert) -> str:
    """Whose alert it is; empty where nobody is named."""
    owner = alert.related.get("owner", "")
    return owner if isinstance(owner, str) else ""


def routes_of(route: Route, labels: Mapping[str, str]) -> list[Route]:
    """The routes that take an alert with these labels: depth first, of siblings the first one that fits and, where it
    `goes_on`, those after it; the node itself where none of its children takes it."""
    if not match_all(route.matchers, labels):
        return []
    found: list[Route] = []
    for child in route.routes:
        taken = routes_of(child, labels)
        found += taken
        if taken and not child.goes_on:
            break
    return found or [route]


def all_routes(route: Route) -> dict[str, Route]:
    """Every node of the tree by its name."""
    found = {route.name: route}
    for child in route.routes:
        found |= all_routes(child)
    return found


def targets_of(policy: AlertingPolicy, names: Iterable[str], alert: Alert, now_ms: int) -> dict[str, Target]:
    """Channel -> target, for the names in a route or a step. Who owns the alert, and who is on call, is settled now."""
    targets: dict[str, Target] = {}
    for name in names:
        receiver = _receiver(policy, name, alert, now_ms)
        if receiver is None:
            continue
        mentions = (receiver.mention,) if receiver.mention else ()
        for channel in receiver.channels:
            target = Target(receiver.name, receiver.send_resolved, mentions)
            targets[channel] = target.beside(targets.get(channel))
    return targets


def muted_by(policy: AlertingPolicy, route: Route, now_ms: int) -> str:
    """Which calendar keeps a route quiet now, `not NAME` for one outside of which it is; empty if none does."""
    for name in route.mute_in:
        if policy.calendars[name].covers(now_ms):
            return name
    if route.active_in and not any(policy.calendars[name].covers(now_ms) for name in route.active_in):
        return "not " + ", ".join(route.active_in)
    return ""


def _receiver(policy: AlertingPolicy, name: str, alert: Alert, now_ms: int) -> Receiver | None:
    if name == OWNER:
        return policy.receivers.get(owner_of(alert)) or policy.receivers.get(policy.default_owner)
    if name.startswith(ON_CALL):
        rotation = policy.rotations.get(name.removeprefix(ON_CALL))
        person = rotation.on_call(now_ms) if rotation is not None else None
        return policy.receivers.get(person) if person is not None else None
    return policy.receivers.get(name)
