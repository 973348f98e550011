"""Incidents that are under way when the routes change: they move, and nobody is told again of what they know."""

from __future__ import annotations

from collections.abc import Iterable

from alerting.desk.book import DeskBook
from alerting.desk.grouping import Group, Heard, group_key, group_labels
from alerting.desk.incident_record import Incident, Told
from alerting.desk.policy import Route
from alerting.desk.routing import targets_of
from alerting.desk.telling import Teller


class Regrouping:
    """Puts incidents into the groups that the present routes give them."""

    def __init__(self, book: DeskBook, teller: Teller) -> None:
        self._book = book
        self._teller = teller

    def move(self, incidents: Iterable[Incident], now_ms: int) -> None:
        """Channels that the new routes name and that have not been told are told after `group_wait`; of the end hear
        those who were told, whether the new routes name them or not."""
        for incident in list(incidents):
            wanted = {
                group_key(route, group_labels(route, incident.labels)): route
                for route in self._book.routes_for(incident)
                if route.notify
            }
            for told in incident.told.values():
                told.route = ""  # until it joins
            # Joined first: a group that loses its last member is forgotten.
            for route in wanted.values():
                if incident.is_open or self._knowing(incident, route, now_ms):
                    self._move_to(incident, route, now_ms)
            for key in [key for key in incident.groups if key not in wanted]:
                self._book.leave(incident, key)
            if not incident.is_open:
                self._teller.owe(incident)
                self._teller.forget_if_done(incident)

    def join(self, incident: Incident, route: Route, now_ms: int) -> Group:
        """Put it into its group under this route, which takes note of who has been told of it."""
        group = self._book.join(incident, route, now_ms)
        for channel, told in self._knowing(incident, route, now_ms).items():
            group.heard.setdefault(channel, Heard(told.receiver, now_ms)).firing.add(incident.id)
            if not told.policy:
                told.group_key, told.route = group.key, route.name
        return group

    def _knowing(self, incident: Incident, route: Route, now_ms: int) -> dict[str, Told]:
        """Those of the route's channels that take it to be firing, and need not be told so again."""
        targets = targets_of(self._book.policy, route.notify, incident.alert, now_ms)
        listeners = incident.listeners
        return {
            channel: listeners[channel]
            for channel in targets
            if channel in listeners and not (incident.is_open and listeners[channel].is_stale)
        }

    def _move_to(self, incident: Incident, route: Route, now_ms: int) -> None:
        book = self._book
        group = self.join(incident, route, now_ms)
        targets = targets_of(book.policy, route.notify, incident.alert, now_ms)
        is_news = incident.is_loud and bool(targets.keys() - self._knowing(incident, route, now_ms).keys())
        if is_news or not (incident.is_open or incident.is_hushed):
            book.flush_at(group, group.change_due(route, now_ms), at_latest=True)
        elif incident.is_loud:
            book.flush_at(group, now_ms + route.repeat_interval_ms, at_latest=True)
