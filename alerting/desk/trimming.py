"""What of a notification is still to be said when its turn comes: it may have waited for minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from alerting.alert import Alert
from alerting.desk.book import DeskBook
from alerting.desk.decisions import Reason
from alerting.desk.escalating import Escalating
from alerting.desk.incident_record import Incident
from alerting.desk.notices import retry_after
from alerting.desk.telling import Teller
from alerting.notification import Notification, Stage, key_of

_QUIET: Final = (Reason.SILENCED, Reason.INHIBITED, Reason.MUTED)


class Trimming:
    """Follows notifications from the queue to the other side."""

    def __init__(self, book: DeskBook, teller: Teller, escalating: Escalating) -> None:
        self._book = book
        self._teller = teller
        self._escalating = escalating

    def trim(self, notification: Notification, now_ms: int) -> tuple[Notification | None, Reason]:
        """What is left of it, and why there is less.

        An incident of which the desk knows nothing (it was evicted) is kept: rather a message too many.
        """
        kept: list[Alert] = []
        why = Reason.STILL_TRUE
        for alert in notification.alerts:
            incident = self._book.find(alert.alert_id)
            obstacle = self._obstacle(notification, alert, incident, now_ms)
            if obstacle is None:
                # The condition may have come back, or gone on, under another id since this was decided.
                is_same = incident is None or alert.status == "resolved" or alert.alert_id == incident.alert.alert_id
                kept.append(alert if incident is None or is_same else incident.alert)
            else:
                why = obstacle
                if incident is not None and alert.status == "resolved":
                    self._is_out(incident, notification)
                elif incident is not None:
                    if obstacle in _QUIET and notification.group_key == incident.id:
                        self._escalating.put_off(incident, notification, None)
                    self._was_not_told(incident, notification)
        if not kept:
            return None, why
        ends = [alert for alert in kept if alert.status == "resolved"]
        if notification.stage == "resolved" and not ends:  # what fires beside it is no news
            return None, why
        stage: Stage = "resolved" if len(ends) == len(kept) else notification.stage
        return replace(notification, alerts=tuple(kept), stage=stage), Reason.STILL_TRUE

    def sent(self, notification: Notification, now_ms: int) -> None:
        """The other side has it."""
        group = self._book.groups.get(notification.group_key)
        if group is not None:
            group.failures.pop(notification.first_channel, None)
        for incident in self._incidents(notification):
            if notification.stage in ("firing", "repeat", "escalation"):
                incident.missed.pop(notification.first_channel, None)
                for channel in notification.fallback_of:
                    told = incident.told.pop(channel, None)
                    if told is not None:  # what stood in for it hears of the end, too
                        incident.told.setdefault(notification.channel, told)
                    if channel in incident.owed:
                        incident.owed[incident.owed.index(channel)] = notification.channel
                if notification.channel in incident.told:
                    incident.told[notification.channel].reached = True
            if self._is_out(incident, notification) and incident.is_open:
                self._back_meanwhile(incident, notification, now_ms)

    def failed(self, notification: Notification, now_ms: int) -> None:
        """It was given up, on this channel and on all that stand in for it; what still fires is tried again later."""
        group = self._book.groups.get(notification.group_key)
        incidents = self._incidents(notification)
        channel = notification.first_channel
        if notification.stage in ("firing", "repeat", "escalation"):
            for incident in incidents:
                if notification.group_key == incident.id:
                    self._escalating.missed(incident, notification, now_ms)
                self._was_not_told(incident, notification)
                if channel in incident.told:
                    incident.told[channel].is_stale, incident.told[channel].by_step = True, False
                if group is not None and channel in group.heard:
                    group.heard[channel].firing.discard(incident.id)
            if group is not None and any(incident.is_open for incident in incidents):
                group.failures[channel] = group.failures.get(channel, 0) + 1
                again_at = now_ms + retry_after(self._book.routes[group.route], group.failures[channel])
                self._book.flush_at(group, again_at, at_latest=True)
        for incident in incidents:
            self._is_out(incident, notification)

    def _obstacle(
        self, notification: Notification, alert: Alert, incident: Incident | None, now_ms: int
    ) -> Reason | None:
        if incident is None:
            return Reason.ALREADY_RESOLVED if self._is_past(notification, alert) else None
        channels = (notification.channel, *notification.fallback_of)
        is_known = any(incident.told[channel].reached for channel in channels if channel in incident.told)
        if alert.status == "resolved":
            if incident.is_open or incident.alert.alert_id != alert.alert_id:
                return Reason.REOPENED
            return None if is_known else Reason.NEVER_TOLD
        if not incident.is_open:
            return Reason.ALREADY_RESOLVED
        if notification.stage == "acknowledged":
            if incident.acked_at is None:
                return Reason.REOPENED
            return None if is_known else Reason.NEVER_TOLD
        if incident.acked_at is not None:
            return Reason.ALREADY_ACKNOWLEDGED
        if any(silence.silences(incident.labels, now_ms) for silence in self._book.silences.values()):
            return Reason.SILENCED
        if incident.inhibited_by:
            return Reason.INHIBITED
        return Reason.MUTED if self._is_muted(notification, incident, now_ms) else None

    def _is_past(self, notification: Notification, alert: Alert) -> bool:
        """Whether it is about an incident that is over and of which all has been said."""
        return alert.status != "resolved" and self._book.is_closed(alert.alert_id)

    def _is_muted(self, notification: Notification, incident: Incident, now_ms: int) -> bool:
        group = self._book.groups.get(notification.group_key)
        if group is not None:
            return self._book.is_muted(incident, now_ms, route=group.route)
        return self._book.is_muted(incident, now_ms, policies=incident.escalations)

    def _was_not_told(self, incident: Incident, notification: Notification) -> None:
        for channel in (notification.channel, *notification.fallback_of):
            told = incident.told.get(channel)
            if told is not None and not told.reached and told.at <= notification.at:
                del incident.told[channel]
                if channel in incident.owed:
                    incident.owed.remove(channel)
                for key in incident.groups:
                    heard = self._book.groups[key].heard.get(channel)
                    if heard is not None:
                        heard.firing.discard(incident.id)
        self._is_out(incident, notification)
        self._teller.forget_if_done(incident)

    def _back_meanwhile(self, incident: Incident, notification: Notification, now_ms: int) -> None:
        """The condition came back when its end was on its way already: whoever has heard the end is told anew."""
        for channel in (notification.channel, *notification.fallback_of):
            told = incident.told.get(channel)
            if told is None or told.at > notification.at:
                continue
            if told.policy:  # its step took it for known
                begin = replace(notification, stage="firing", receiver=told.receiver, mentions=told.mentions)
                self._escalating.put_off(incident, begin, now_ms)
            del incident.told[channel]
            for group in [self._book.groups[key] for key in incident.groups]:
                heard = group.heard.get(channel)
                if heard is not None:
                    heard.firing.discard(incident.id)
                    due = group.change_due(self._book.routes[group.route], now_ms)
                    self._book.flush_at(group, due, at_latest=True)

    def _is_out(self, incident: Incident, notification: Notification) -> bool:
        """Nothing more is to be expected of the notification; returns whether it was to tell of the incident's end."""
        for key in incident.waiting:
            stand_in = key
            for channel in (*notification.fallback_of, notification.channel)[1:]:
                stand_in = key_of(stand_in, channel)  # as Notification.on makes it
            if stand_in == notification.key:
                incident.waiting.remove(key)
                self._teller.forget_if_done(incident)
                return True
        return False

    def _incidents(self, notification: Notification) -> list[Incident]:
        found = {
            incident.id: incident for alert in notification.alerts if (incident := self._book.find(alert.alert_id))
        }
        return list(found.values())
