"""From incidents and groups to notifications: what is said where, and what is remembered of having said it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from alerting.desk.book import DeskBook
from alerting.desk.decisions import Decision, Reason
from alerting.desk.grouping import Group, Heard, news
from alerting.desk.incident_record import Incident, Told
from alerting.desk.notices import labels_of_one, make_notice, note_told
from alerting.desk.policy import Route
from alerting.desk.routing import Target, targets_of
from alerting.notification import Notification, Stage

_STAGES: Final[Mapping[Reason, Stage]] = {
    Reason.FIRST_NOTIFICATION: "firing",
    Reason.NEW_ALERTS: "firing",
    Reason.SOME_RESOLVED: "resolved",
    Reason.ALL_RESOLVED: "resolved",
    Reason.REPEAT_INTERVAL: "repeat",
}
_NOBODY: Final = Target("", send_resolved=False)
ASK_AGAIN_MS: Final = 60_000
"""After which it is looked, at the soonest, whether there is somebody to be told by now."""


class Teller:
    """Says what there is to say of the incidents in a book."""

    def __init__(self, book: DeskBook) -> None:
        self._book = book

    # -- groups

    def flush(self, group: Group, now_ms: int, cause: Reason | None = None) -> list[Decision]:
        """Tell each channel what is news to it; `cause` is why now, where it is not the group's own time."""
        book = self._book
        book.flush_at(group, None)
        members = [book.incidents[id_] for id_ in group.members]
        if group.muted:
            return [Decision(Reason.MUTED, members[0].alert.alert_id, note=group.muted)]
        route = book.routes[group.route]
        targets: dict[str, Target] = {}
        wanted: dict[str, list[tuple[Incident, Target]]] = {}
        decisions: list[Decision] = []
        unheard = False
        for incident in members:
            if incident.is_loud:
                found = targets_of(book.policy, route.notify, incident.alert, now_ms)
                for channel, target in found.items():
                    targets[channel] = target.beside(targets.get(channel))
                    wanted.setdefault(channel, []).append((incident, target))
                if not found:
                    decisions.append(Decision(Reason.NOBODY, incident.alert.alert_id, note=", ".join(route.notify)))
                    unheard = True
        over = [incident for incident in members if not incident.is_open and not incident.is_hushed]
        said = [
            decision
            for channel in dict.fromkeys([*wanted, *group.heard])
            if (decision := self._tell(group, channel, targets, wanted.get(channel, []), over, now_ms, cause))
        ]
        if said:
            group.told_at = now_ms
        for incident in over:
            book.leave(incident, group.key)
            self.forget_if_done(incident)
        if group.members:
            self._plan(group, route, list(wanted), unheard, now_ms)
        return decisions + (said or [Decision(Reason.NOTHING_NEW, note=group.key)])

    def _tell(
        self,
        group: Group,
        channel: str,
        targets: Mapping[str, Target],
        wanted: Sequence[tuple[Incident, Target]],
        over: Sequence[Incident],
        now_ms: int,
        cause: Reason | None,
    ) -> Decision | None:
        book = self._book
        loud = [incident for incident, _ in wanted]
        heard = group.heard.get(channel)
        by_step = {incident.id for incident in loud if (told := incident.told.get(channel)) and told.by_step}
        known = by_step | (heard.firing if heard else set())
        known -= {incident.id for incident, own in wanted if not self._has_mentioned(incident, channel, own)}
        # Of what it knows some may be quiet, but is not over.
        firing = {incident.id for incident in loud} | (known - {incident.id for incident in over})
        ended = [incident for incident in over if incident.id in known and self._wants_the_end(incident, channel)]
        reason = news(
            known if heard or by_step else None,
            firing,
            [incident.id for incident in ended],
            since_ms=now_ms - heard.at if heard else 0,
            repeat_ms=book.routes[group.route].repeat_interval_ms,
            send_resolved=bool(ended),
        )
        alerts = [] if reason is None else [incident.alert for incident in loud]
        if reason is not Reason.REPEAT_INTERVAL:
            alerts += [incident.alert for incident in ended]
        target = targets.get(channel) or replace(_NOBODY, receiver=heard.receiver if heard else "")
        rounds = heard.rounds + 1 if heard and reason is Reason.REPEAT_INTERVAL else 0
        if not firing:
            group.heard.pop(channel, None)
        elif heard is None or reason is not None:
            group.heard[channel] = Heard(target.receiver, now_ms, firing, rounds)
        else:
            heard.firing = firing
        if reason is None or not alerts:
            return None
        stage = _STAGES[reason]
        why = reason if cause is None else Reason.RESOLVED_WHILE_MUTED if stage == "resolved" else cause
        for incident, own in wanted:
            note_told(incident, channel, own, group.key, now_ms, route=group.route)
        note = make_notice(book, channel, target, stage, alerts, group.key, group.labels, now_ms, why, round_=rounds)
        for incident in ended:
            incident.told[channel].end = note.key
            incident.waiting.append(note.key)
        return Decision(why, note.alerts[0].alert_id, note)

    def _plan(self, group: Group, route: Route, channels: Sequence[str], unheard: bool, now_ms: int) -> None:
        """When to look at the group again, even if nothing changes."""
        due = [group.heard[channel].at + route.repeat_interval_ms for channel in channels if channel in group.heard]
        soonest = now_ms + max(1, route.group_interval_ms)
        if due:
            self._book.flush_at(group, max(min(due), soonest), at_latest=True)
        if unheard:
            self._book.flush_at(group, max(now_ms + ASK_AGAIN_MS, soonest), at_latest=True)

    # -- single incidents

    def owe(self, incident: Incident) -> None:
        """Settle which channels are to hear of the end of an incident without its groups."""
        groups = [self._book.groups[key] for key in incident.groups]
        incident.owed = [
            channel
            for channel, told in incident.listeners.items()
            if told.send_resolved
            and not any(channel in group.heard and incident.id in group.heard[channel].firing for group in groups)
        ]

    def pay(self, incident: Incident, now_ms: int, cause: Reason = Reason.ALL_RESOLVED) -> list[Decision]:
        """Tell those channels, but for those that have to wait until a mute time is over."""
        decisions: list[Decision] = []
        for channel in () if incident.is_hushed else tuple(incident.owed):
            told = incident.told[channel]
            if self._is_muted(incident, told, now_ms):
                continue
            incident.owed.remove(channel)
            note = self._of_one(incident, channel, told, "resolved", now_ms, cause)
            told.end = note.key
            incident.waiting.append(note.key)
            decisions.append(Decision(cause, incident.alert.alert_id, note))
        self.forget_if_done(incident)
        return decisions

    def acknowledged(self, incident: Incident, now_ms: int) -> list[Decision]:
        """Tell those who have been told that it fires that somebody has taken it on."""
        if incident.is_hushed:
            return []
        return [
            Decision(
                Reason.ACKNOWLEDGED,
                incident.alert.alert_id,
                self._of_one(incident, channel, told, "acknowledged", now_ms, Reason.ACKNOWLEDGED),
            )
            for channel, told in incident.told.items()
            if not self._is_muted(incident, told, now_ms)
        ]

    def forget_if_done(self, incident: Incident) -> None:
        """Forget an incident that is over, and of which nothing has to be said any more."""
        is_done = not (incident.is_open or incident.groups or incident.owed or incident.waiting)
        if is_done and incident.id in self._book.incidents:
            self._book.forget(incident)

    # -- inside

    def _of_one(
        self, incident: Incident, channel: str, told: Told, stage: Stage, now_ms: int, why: Reason
    ) -> Notification:
        group = self._book.groups.get(told.group_key)
        labels = labels_of_one(incident) if group is None else group.labels
        target = Target(told.receiver, told.send_resolved)
        return make_notice(self._book, channel, target, stage, [incident.alert], told.group_key, labels, now_ms, why)

    def _has_mentioned(self, incident: Incident, channel: str, target: Target) -> bool:
        """Whether nobody has come on call since, who is reached on the same channel."""
        told = incident.told.get(channel)
        return told is None or set(target.mentions) <= set(told.mentions)

    def _is_muted(self, incident: Incident, told: Told, now_ms: int) -> bool:
        return self._book.is_muted(incident, now_ms, route=told.route, policies=(told.policy,) if told.policy else ())

    def _wants_the_end(self, incident: Incident, channel: str) -> bool:
        told = incident.told.get(channel)
        return told is not None and told.send_resolved
