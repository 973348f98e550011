"""Conversations about conditions: how they begin, go on under other ids, are taken on, and end."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from alerting.alert import Alert
from alerting.desk.book import DeskBook
from alerting.desk.decisions import Decision, Reason
from alerting.desk.escalating import Escalating
from alerting.desk.grouping import Heard
from alerting.desk.incident_record import Incident
from alerting.desk.notices import note_told
from alerting.desk.regrouping import Regrouping
from alerting.desk.routing import targets_of
from alerting.desk.suppression import Suppression
from alerting.desk.telling import Teller

KEPT_MS: Final = 3_600_000
"""How long an incident that is over is remembered at most while its last notices are under way."""


class Conversations:
    """Takes in what is said of alerts; of what the owner has told before (`told`, a rebuild) it only takes note."""

    def __init__(
        self,
        book: DeskBook,
        teller: Teller,
        escalating: Escalating,
        suppression: Suppression,
        regrouping: Regrouping,
    ) -> None:
        self._book = book
        self._teller = teller
        self._escalating = escalating
        self._suppression = suppression
        self._regrouping = regrouping

    # -- firing

    def fires(self, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
        """Somebody says that it fires: a new incident, or more of one."""
        book = self._book
        known = book.find(alert.alert_id)
        if known is not None:
            if known.alert.alert_id != alert.alert_id or not known.is_open or known.held is not None:
                return [Decision(Reason.OUT_OF_ORDER, alert.alert_id)]
            book.heard(known, now_ms)
            return [Decision(Reason.DUPLICATE, alert.alert_id)]
        if book.is_closed(alert.alert_id):
            return [Decision(Reason.OUT_OF_ORDER, alert.alert_id)]
        if not told:  # a rebuild reads all begins at one time
            book.flaps.began(alert.fingerprint, now_ms)
        former = book.find_condition(alert.fingerprint)
        if former is not None and former.is_open:
            return self._supersede(former, alert, now_ms, told)
        if former is not None and (former.groups or former.owed or former.waiting):
            return self._reopen(former, alert, now_ms, told)
        incident = book.open(alert, now_ms)
        return [Decision(Reason.OPENED, alert.alert_id), *self._begin(incident, now_ms, told)]

    def _supersede(self, former: Incident, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
        book = self._book
        reason = Reason.SUPERSEDED if former.held is None else Reason.FLAPPING_HELD
        former.held = None
        book.timers.set(("held", former.id), None)
        book.remember_closed(former.alert.alert_id)
        decisions = [Decision(reason, alert.alert_id, note=former.id)]
        affected = book.follow(former, alert)
        book.heard(former, now_ms)
        if former.acked_at is not None:
            self.take_on(former, former.acked_by, former.comment, former.acked_at)
            decisions.append(Decision(Reason.ACKNOWLEDGED, alert.alert_id, alert=former.alert))
        if affected:
            self._regrouping.move([former], now_ms)
            self._escalating.begin_missing(former, now_ms, is_new=not told)
            decisions += self._suppression.look(affected, now_ms, say=not told)
            if told:
                self._escalating.skip_to(former, now_ms)
            else:
                decisions += self._escalating.step(former, now_ms)
        return decisions

    def _reopen(self, former: Incident, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
        book = self._book
        was_taken_on = former.acked_at is not None
        former.closed_at, former.owed = None, []
        former.acked_at, former.acked_by, former.comment = None, "", ""
        book.timers.set(("kept", former.id), None)
        book.follow(former, alert)
        for channel, known in list(former.told.items()):
            if known.end in former.waiting:
                known.end = ""  # it is not sent any more: see Trimming
            elif known.end:
                del former.told[channel]
        if was_taken_on:  # whoever took it on thinks that it is over: it is told as if it had not been
            book.make_news(former)
            for key in list(former.groups):
                book.leave(former, key)
        begun = self._begin(former, now_ms, told, goes_on=not was_taken_on)
        return [Decision(Reason.REOPENED, alert.alert_id, note=former.id), *begun]

    def _begin(self, incident: Incident, now_ms: int, told: bool, *, goes_on: bool = False) -> list[Decision]:
        book = self._book
        book.heard(incident, now_ms)
        affected = book.add_to_inhibition(incident)
        decisions: list[Decision] = []
        routes = book.routes_for(incident)
        for route in routes:
            if route.notify:
                join = self._regrouping.join if goes_on else book.join
                join(incident, route, now_ms)
        self._escalating.begin_missing(incident, now_ms, is_new=not told)
        if not any(route.notify or route.escalation for route in routes):
            decisions.append(Decision(Reason.RECORDED_ONLY, incident.alert.alert_id))
        if len(book.incidents) > book.limit:
            evicted, others = book.evict()
            decisions.append(evicted)
            affected += others
        decisions += self._suppression.look(affected, now_ms, say=not told)
        if incident.id not in book.incidents:
            return decisions
        if told:
            self._mark_told(incident, now_ms)
            return decisions
        return decisions + self._announce(incident, now_ms) + self._escalating.step(incident, now_ms)

    def _announce(self, incident: Incident, now_ms: int) -> list[Decision]:
        """Let its groups tell of it, now or in a while; what is quiet now is told when that ends."""
        book = self._book
        decisions: list[Decision] = []
        for group in [book.groups[key] for key in incident.groups]:
            due = group.change_due(book.routes[group.route], now_ms)
            if due <= now_ms:
                decisions += self._teller.flush(group, now_ms)
            else:
                book.flush_at(group, due, at_latest=True)
                decisions.append(Decision(Reason.GROUPED, incident.alert.alert_id, note=group.key))
        return decisions

    def _mark_told(self, incident: Incident, now_ms: int) -> None:
        book = self._book
        for group in [book.groups[key] for key in incident.groups]:
            route = book.routes[group.route]
            for channel, target in targets_of(book.policy, route.notify, incident.alert, now_ms).items():
                note_told(incident, channel, target, group.key, now_ms, route=route.name)
                incident.told[channel].reached = True
                group.heard.setdefault(channel, Heard(target.receiver, now_ms)).firing.add(incident.id)
            book.flush_at(group, now_ms + route.repeat_interval_ms, at_latest=True)
        self._escalating.skip_to(incident, now_ms)

    # -- acknowledged, over

    def was_acknowledged(self, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
        """Somebody, on another worker or in an earlier life, has taken it on."""
        book = self._book
        incident = book.find(alert.alert_id)
        if incident is None:
            if book.is_closed(alert.alert_id):
                return [Decision(Reason.OUT_OF_ORDER, alert.alert_id)]
            return [Decision(Reason.UNKNOWN_ALERT, alert.alert_id)]
        if incident.acked_at is not None:
            return [Decision(Reason.DUPLICATE, alert.alert_id)]
        if not incident.is_open:
            return [Decision(Reason.OUT_OF_ORDER, alert.alert_id)]
        by, comment = (str(alert.related.get(name, "")) for name in ("acknowledged_by", "acknowledged_comment"))
        self.take_on(incident, by, comment, now_ms)
        decisions = [Decision(Reason.ACKNOWLEDGED, alert.alert_id)]
        return decisions if told else decisions + self._teller.acknowledged(incident, now_ms)

    def take_on(self, incident: Incident, by: str, comment: str, at_ms: int) -> None:
        """Note who looks after it."""
        incident.acked_at, incident.acked_by, incident.comment = at_ms, by, comment
        noted = {"acknowledged_by": by, "acknowledged_at": at_ms, "acknowledged_comment": comment}
        incident.alert = replace(incident.alert, status="acknowledged", related={**incident.alert.related, **noted})
        self._escalating.stop(incident)

    def is_over(self, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
        """Somebody says that it is over."""
        book = self._book
        incident = book.find(alert.alert_id)
        if incident is None:
            if book.is_closed(alert.alert_id):
                return [Decision(Reason.DUPLICATE, alert.alert_id)]
            book.remember_closed(alert.alert_id)
            return [Decision(Reason.NEVER_OPENED, alert.alert_id)]
        if not incident.is_open or incident.held is not None:
            return [Decision(Reason.DUPLICATE, alert.alert_id)]
        if incident.alert.alert_id != alert.alert_id:
            return [Decision(Reason.SUPERSEDED, alert.alert_id, note=incident.alert.alert_id)]
        book.heard(incident, now_ms)
        until = book.flaps.held_until(alert.fingerprint, now_ms)
        if until is not None:
            incident.held = alert
            book.timers.set(("held", incident.id), until)
            return [Decision(Reason.FLAPPING_HELD, alert.alert_id)]
        return [Decision(Reason.RESOLVED, alert.alert_id), *self.close(incident, alert, now_ms, told)]

    def close(self, incident: Incident, alert: Alert, now_ms: int, told: bool = False) -> list[Decision]:
        """It is over."""
        book = self._book
        incident.alert, incident.closed_at, incident.held = alert, now_ms, None
        # Who has heard of it is to hear of its end, whoever else fires.
        incident.inhibited_by = ""
        book.remember_closed(alert.alert_id)
        book.rank(incident)
        self._escalating.stop(incident)
        for name in ("stale", "held"):
            book.timers.set((name, incident.id), None)
        book.timers.set(("kept", incident.id), now_ms + KEPT_MS)
        affected = book.inhibition.remove(incident.id, incident.labels)
        decisions: list[Decision] = []
        if told:
            book.forget(incident)
        else:
            self._teller.owe(incident)
            for key in list(incident.groups):
                if not any(incident.id in heard.firing for heard in book.groups[key].heard.values()):
                    book.leave(incident, key)
            decisions = self._announce(incident, now_ms) + self._teller.pay(incident, now_ms)
        return decisions + self._suppression.look(affected, now_ms, say=not told)
