"""Who is not to be told: silences, mute times and inhibition, and what is said when they end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from alerting.desk.book import DeskBook
from alerting.desk.decisions import Decision, Reason
from alerting.desk.escalating import Escalating
from alerting.desk.grouping import Group
from alerting.desk.incident_record import Incident
from alerting.desk.matchers import match_all
from alerting.desk.routing import muted_by
from alerting.desk.silences import Silence
from alerting.desk.telling import Teller

MOST_SILENCES: Final = 1_000
_LOOK_AGAIN_MS: Final = 7 * 24 * 3_600_000
"""Calendars say what changes within 8 days."""


class Suppression:
    """Keeps `silenced_by`, `inhibited_by` and the groups' `muted` as they are at the time of the last look.

    What still fires is told at once when the last of its reasons to be quiet ends, even if it had been told before:
    whoever silenced it wants to know that it is not over.
    """

    def __init__(self, book: DeskBook, teller: Teller, escalating: Escalating) -> None:
        self._book = book
        self._teller = teller
        self._escalating = escalating

    def look(self, ids: Iterable[str], now_ms: int, *, say: bool = True) -> list[Decision]:
        """Settle anew what keeps these incidents quiet; without `say` just take note of it."""
        book = self._book
        decisions: list[Decision] = []
        to_flush: dict[str, Reason] = {}
        released: list[Incident] = []
        for incident in [book.incidents[id_] for id_ in ids if id_ in book.incidents]:
            silenced, inhibited = incident.silenced_by, incident.inhibited_by
            incident.silenced_by = self._silence_of(incident, now_ms)
            incident.inhibited_by = book.inhibition.inhibitor(incident.id, incident.labels)
            alert_id = incident.alert.alert_id
            if incident.silenced_by and not silenced:
                decisions.append(Decision(Reason.SILENCED, alert_id, note=incident.silenced_by))
            if incident.inhibited_by and not inhibited:
                decisions.append(Decision(Reason.INHIBITED, alert_id, note=incident.inhibited_by))
            if say and (silenced or inhibited) and not incident.is_hushed:
                ended = Reason.SILENCE_ENDED if silenced else Reason.INHIBITION_ENDED
                to_flush |= {key: ended for key in self._release(incident)}
                released.append(incident)
                decisions += self._teller.pay(incident, now_ms, Reason.RESOLVED_WHILE_MUTED)
        for key, ended in to_flush.items():
            if key in book.groups:
                decisions += self._teller.flush(book.groups[key], now_ms, ended)
        for incident in released:  # after the groups, so that nobody is told twice
            decisions += self._escalating.resume(incident, now_ms)
        return decisions

    # -- silences

    def put(self, silence: Silence, now_ms: int) -> list[Decision]:
        """Set a silence, or replace the one of the same id."""
        silences = self._book.silences
        if silence.id not in silences and len(silences) >= MOST_SILENCES:
            return [Decision(Reason.TOO_MANY_SILENCES, note=silence.id)]
        silences[silence.id] = silence
        decisions = [Decision(Reason.SILENCE_SET, note=silence.id)]
        return decisions + self._look_at_silence(silence, now_ms)

    def end(self, silence_id: str, now_ms: int) -> list[Decision]:
        """Take a silence away."""
        silence = self._book.silences.pop(silence_id, None)
        if silence is None:
            return [Decision(Reason.SILENCE_UNKNOWN, note=silence_id)]
        decisions = [Decision(Reason.SILENCE_ENDED, note=silence_id)]
        return decisions + self._look_at_silence(silence, now_ms)

    def edge(self, silence_id: str, now_ms: int) -> list[Decision]:
        """A silence begins or ends by itself."""
        silence = self._book.silences[silence_id]
        if now_ms >= silence.ends_at:
            return self.end(silence_id, now_ms)
        return self._look_at_silence(silence, now_ms)

    def arm(self, silence_id: str, now_ms: int) -> None:
        """Set the time at which a silence begins or ends."""
        silence = self._book.silences.get(silence_id)
        at = None if silence is None else silence.starts_at if now_ms < silence.starts_at else silence.ends_at
        self._book.edges.set(("edge", silence_id), at)

    def _look_at_silence(self, silence: Silence, now_ms: int) -> list[Decision]:
        self.arm(silence.id, now_ms)
        concerned = [
            incident.id
            for incident in self._book.incidents.values()
            if incident.silenced_by == silence.id or match_all(silence.matchers, incident.labels)
        ]
        return self.look(concerned, now_ms)

    def _silence_of(self, incident: Incident, now_ms: int) -> str:
        silences = self._book.silences
        former = silences.get(incident.silenced_by)
        if former is not None and former.silences(incident.labels, now_ms):
            return former.id
        # The end of something of which nobody has heard needs no silence.
        if not incident.is_open and not (incident.groups or incident.owed):
            return ""
        found = (silence.id for silence in silences.values() if silence.silences(incident.labels, now_ms))
        return next(found, "")

    # -- mute times

    def look_at_calendars(self, now_ms: int) -> list[Decision]:
        """Settle anew which groups are muted, and when to look again."""
        book = self._book
        decisions: list[Decision] = []
        for group in list(book.groups.values()):
            before = group.muted
            group.muted = muted_by(book.policy, book.routes[group.route], now_ms)
            if group.muted and not before:
                first = book.incidents[next(iter(group.members))]
                decisions.append(Decision(Reason.MUTED, first.alert.alert_id, note=group.muted))
            elif before and not group.muted:
                for id_ in group.members:
                    self._forget_told(book.incidents[id_], group)
                decisions += self._teller.flush(group, now_ms, Reason.MUTE_ENDED)
        for incident in [incident for incident in book.incidents.values() if incident.owed]:
            decisions += self._teller.pay(incident, now_ms, Reason.RESOLVED_WHILE_MUTED)
        for incident in [incident for incident in book.incidents.values() if incident.escalations]:
            decisions += self._escalating.resume(incident, now_ms)
        used = {name for route in book.routes.values() for name in (*route.mute_in, *route.active_in)}
        changes = [change for name in used if (change := book.policy.calendars[name].next_change(now_ms)) is not None]
        if used:
            book.edges.set(("calendar",), min([now_ms + _LOOK_AGAIN_MS, *changes]))
        else:
            book.edges.set(("calendar",), None)
        return decisions

    def _release(self, incident: Incident) -> list[str]:
        """Its groups, each of which is to tell of it as if it had not been told yet."""
        if incident.is_loud:
            self._book.make_news(incident)
        return incident.groups if incident.is_loud or not incident.is_open else []

    def _forget_told(self, incident: Incident, group: Group) -> None:
        if incident.is_loud:
            for heard in group.heard.values():
                heard.firing.discard(incident.id)
            for told in incident.told.values():
                told.by_step = False
