"""All that the desk remembers, and how it is kept within bounds and carried over to the next owner."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from alerting.alert import SEVERITIES, Alert
from alerting.desk.decisions import Decision, Reason
from alerting.desk.flapping import FlapWatch
from alerting.desk.grouping import Group, group_key, group_labels
from alerting.desk.incident_record import Incident
from alerting.desk.inhibition import Inhibition
from alerting.desk.policy import MOST_BEGINS, AlertingPolicy, Route
from alerting.desk.routing import all_routes, labels_of, muted_by, routes_of
from alerting.desk.silences import Silence
from alerting.desk.timers import Timers
from alerting.notification import key_of
from tables.errors import ConfigError, StoreError

_STATE_VERSION: Final = 2
_ALIASES: Final = 8


class DeskBook:
    """Incidents with their groups, silences, timers; what belongs together changes together here."""

    def __init__(self, policy: AlertingPolicy, limit: int) -> None:
        if limit < 1:
            raise ConfigError(f"limit: expected at least 1 incident, got {limit}")
        self.limit = limit
        self._clear(policy)

    def _clear(self, policy: AlertingPolicy) -> None:
        self.policy = policy
        self.routes = all_routes(policy.route)
        self.incidents: dict[str, Incident] = {}
        self.groups: dict[str, Group] = {}
        self.silences: dict[str, Silence] = {}
        self.timers = Timers()
        self.edges = Timers()
        """When it changes who is to be kept quiet; of what is due at once this comes first."""
        self.inhibition = Inhibition(policy.inhibition)
        self.flaps = FlapWatch(policy.flapping, self.limit)
        self.begun: dict[str, list[int]] = {}
        """When incidents began under each escalation policy."""
        self.handover_at: int | None = None
        """When somebody else may be on call; kept, so that it is not missed while nobody is there."""
        self._by_id: dict[str, str] = {}
        self._by_fingerprint: dict[str, str] = {}
        # The first to be evicted is first: what is over, then by severity; within each the oldest.
        self._ranks: list[dict[str, None]] = [{} for _ in range(len(SEVERITIES) + 1)]
        self._closed: dict[str, None] = {}
        self._ordinal = 0

    # -- incidents

    def find(self, alert_id: str) -> Incident | None:
        """The incident that has, or had, this alert."""
        return self.incidents.get(self._by_id.get(alert_id, ""))

    def find_condition(self, fingerprint: str) -> Incident | None:
        """The incident of this condition that began last, if it is remembered."""
        return self.incidents.get(self._by_fingerprint.get(fingerprint, ""))

    def is_closed(self, alert_id: str) -> bool:
        """Whether this incident is known to be over; only the last `limit` are remembered."""
        return alert_id in self._closed

    def remember_closed(self, alert_id: str) -> None:
        """Take note that it is over."""
        self._closed.pop(alert_id, None)
        self._closed[alert_id] = None
        if len(self._closed) > self.limit:
            del self._closed[next(iter(self._closed))]

    def open(self, alert: Alert, now_ms: int) -> Incident:
        """Enter a new incident; it is in no group yet."""
        incident = Incident(alert.alert_id, alert, opened_at=now_ms, heard_at=now_ms, labels=labels_of(alert))
        self._enter(incident)
        return incident

    def follow(self, incident: Incident, alert: Alert) -> list[str]:
        """The incident goes on with another alert, and with its labels; returns those that may be inhibited, or no
        longer, where these are other ones."""
        aliases = [*incident.aliases, incident.alert.alert_id]
        for alert_id in aliases[:-_ALIASES]:
            del self._by_id[alert_id]
        incident.aliases = aliases[-_ALIASES:]
        incident.alert = alert
        self._by_id[alert.alert_id] = incident.id
        labels = labels_of(alert)
        if labels == incident.labels:
            return []
        affected = self.inhibition.remove(incident.id, incident.labels)
        incident.labels = labels
        return affected + self.add_to_inhibition(incident)

    def heard(self, incident: Incident, now_ms: int) -> None:
        """A record of it has come."""
        incident.heard_at = now_ms
        self.timers.set(("stale", incident.id), now_ms + self.policy.stale_after_ms)

    def add_to_inhibition(self, incident: Incident) -> list[str]:
        """It is open, with these labels; returns those that may be inhibited now."""
        # Last among the incidents as it is there, so that a restored desk names the same inhibitors.
        self.incidents[incident.id] = self.incidents.pop(incident.id)
        self.rank(incident)
        return self.inhibition.add(incident.id, incident.labels)

    def rank(self, incident: Incident) -> None:
        """Put it last in its place in the order in which incidents are evicted."""
        for rank in self._ranks:
            rank.pop(incident.id, None)
        place = len(SEVERITIES) - SEVERITIES.index(incident.alert.severity) if incident.is_open else 0
        self._ranks[place][incident.id] = None

    def forget(self, incident: Incident) -> None:
        """Drop all that is known of it."""
        del self.incidents[incident.id]
        for alert_id in {*incident.aliases, incident.alert.alert_id}:
            del self._by_id[alert_id]
        if self._by_fingerprint.get(incident.alert.fingerprint) == incident.id:
            del self._by_fingerprint[incident.alert.fingerprint]
        for rank in self._ranks:
            rank.pop(incident.id, None)
        for key in list(incident.groups):
            self.leave(incident, key)
        for name in ("stale", "held", "kept", "step"):
            self.timers.set((name, incident.id), None)

    def evict(self) -> tuple[Decision, list[str]]:
        """Forget the one that matters least; returns also those that it may have inhibited."""
        incident = self.incidents[next(id_ for rank in self._ranks for id_ in rank)]
        affected = self.inhibition.remove(incident.id, incident.labels)
        self.forget(incident)
        return Decision(Reason.EVICTED, incident.alert.alert_id), affected

    def _enter(self, incident: Incident) -> None:
        self.incidents[incident.id] = incident
        self._by_fingerprint[incident.alert.fingerprint] = incident.id
        for alert_id in (*incident.aliases, incident.alert.alert_id):
            self._by_id[alert_id] = incident.id
        self.rank(incident)

    # -- groups

    def join(self, incident: Incident, route: Route, now_ms: int) -> Group:
        """Put it into its group under this route."""
        labels = group_labels(route, incident.labels)
        key = group_key(route, labels)
        group = self.groups.get(key)
        if group is None:
            group = Group(key, route.name, labels, muted=muted_by(self.policy, route, now_ms))
            self.groups[key] = group
        group.members[incident.id] = None
        if key not in incident.groups:
            incident.groups.append(key)
        return group

    def leave(self, incident: Incident, key: str) -> None:
        """Take it out of a group; a group without members is no more."""
        incident.groups.remove(key)
        group = self.groups[key]
        group.members.pop(incident.id, None)
        for heard in group.heard.values():
            heard.firing.discard(incident.id)
        if not group.members:
            del self.groups[key]
            self.timers.set(("flush", key), None)

    def make_news(self, incident: Incident) -> None:
        """It is to be told as if it had not been yet."""
        for key in incident.groups:
            for heard in self.groups[key].heard.values():
                heard.firing.discard(incident.id)
        for told in incident.told.values():
            told.is_stale, told.by_step = True, False

    def flush_at(self, group: Group, at_ms: int | None, *, at_latest: bool = False) -> None:
        """Look at the group then; `at_latest`: or sooner, if that is what was planned."""
        if at_latest and at_ms is not None and group.flush_at is not None:
            at_ms = min(at_ms, group.flush_at)
        group.flush_at = at_ms
        self.timers.set(("flush", group.key), at_ms)

    def routes_for(self, incident: Incident) -> list[Route]:
        """The routes that take it."""
        return routes_of(self.policy.route, incident.labels)

    def is_muted(self, incident: Incident, now_ms: int, *, route: str = "", policies: Collection[str] = ()) -> bool:
        """Whether calendars keep the incident quiet: on all of its routes, or on those of them that have this name or
        ask for one of these escalation policies, if any do.

        What counts are the routes that it has now, since a name is a position: after a reload another one may have it.
        """
        meant = self.routes_meant(incident, route=route, policies=policies)
        return bool(meant) and all(muted_by(self.policy, one, now_ms) for one in meant)

    def routes_meant(self, incident: Incident, *, route: str = "", policies: Collection[str] = ()) -> list[Route]:
        """Those of its routes that have this name or ask for one of these escalation policies; all where none does."""
        routes = self.routes_for(incident)
        return [one for one in routes if one.name == route or one.escalation in policies] or routes

    # -- the rest

    def ordinal(self, now_ms: int) -> int:
        """A number that no notification had before, in this life or in one of which the memory was lost."""
        self._ordinal = max(self._ordinal + 1, now_ms)
        return self._ordinal

    def began(self, policy: str, now_ms: int) -> None:
        """An incident begins under this escalation policy."""
        self.begun[policy] = [*self.begun.get(policy, ()), now_ms][-MOST_BEGINS:]

    def set_policy(self, policy: AlertingPolicy) -> None:
        """Other rules; the caller puts the incidents into their groups anew."""
        self.policy = policy
        self.routes = all_routes(policy.route)
        self.flaps.flapping = policy.flapping
        self._index()

    def state(self) -> dict[str, Any]:
        """Plain data, msgpack-able."""
        return {
            "version": _STATE_VERSION,
            "ordinal": self._ordinal,
            "routing": _routing_of(self.policy),
            "incidents": [incident.state() for incident in self.incidents.values()],
            "groups": [group.state() for group in self.groups.values()],
            "silences": [silence.to_json() for silence in self.silences.values()],
            "closed": list(self._closed),
            "flapping": self.flaps.state(),
            "handover_at": self.handover_at,
            "begun": {policy: list(begun) for policy, begun in self.begun.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Go on from a `state()`; the caller sets the timers. Returns whether it is of other routes or receivers.

        Raises StoreError when the state is of another version or damaged; the book is then unchanged.
        """
        before = dict(self.__dict__)
        try:
            if state["version"] != _STATE_VERSION:
                raise StoreError(f"alerts of state version {state['version']!r}; this is {_STATE_VERSION}")
            self._clear(self.policy)
            self._ordinal = int(state["ordinal"])
            for incident in map(Incident.restore, state["incidents"]):
                self._enter(incident)
            for incident in sorted(self.incidents.values(), key=lambda one: one.closed_at or 0):
                self.rank(incident)
            groups = [Group.restore(group) for group in state["groups"]]
            self.groups = {group.key: group for group in groups}
            silences = [Silence.from_json(silence) for silence in state["silences"]]
            self.silences = {silence.id: silence for silence in silences}
            self._closed = dict.fromkeys(state["closed"])
            self.flaps.restore(state["flapping"])
            self.handover_at = state["handover_at"]
            self.begun = {policy: list(begun) for policy, begun in state["begun"].items()}
            self._index()
            return bool(state["routing"] != _routing_of(self.policy))
        except StoreError:
            self.__dict__.update(before)
            raise
        except (ConfigError, LookupError, TypeError, ValueError, AttributeError) as error:
            self.__dict__.update(before)
            raise StoreError(f"alerts cannot be restored: {type(error).__name__}: {error}") from error

    def _index(self) -> None:
        self.inhibition = Inhibition(self.policy.inhibition)
        for incident in self.incidents.values():
            if incident.is_open:
                self.inhibition.add(incident.id, incident.labels)


def _routing_of(policy: AlertingPolicy) -> str:
    return key_of(policy.route, sorted(policy.receivers.items()))
