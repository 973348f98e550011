"""The desk: it hears of every alert and decides who is told of it, where and when.

A plain state machine without a clock or any I/O. Whoever owns it hands in records, acknowledgements and silences, calls
`tick` when something is due, saves `state()`, and only then sends what was decided: a crash then repeats decisions that
nobody has seen, and the keys of their notifications are the same or new, never those of something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from alerting.alert import Alert
from alerting.desk.book import DeskBook
from alerting.desk.decisions import Decision, Reason
from alerting.desk.escalating import Escalating
from alerting.desk.grouping import Heard
from alerting.desk.incident_record import Incident, IncidentView
from alerting.desk.notices import note_told
from alerting.desk.policy import AlertingPolicy
from alerting.desk.regrouping import Regrouping
from alerting.desk.routing import targets_of
from alerting.desk.silences import Silence
from alerting.desk.suppression import Suppression
from alerting.desk.telling import Teller
from alerting.desk.trimming import Trimming
from alerting.notification import Notification

__all__ = ["DEFAULT_LIMIT", "Decision", "Desk", "IncidentView", "Reason"]

DEFAULT_LIMIT: Final = 10_000
_KEPT_MS: Final = 3_600_000
"""How long an incident that is over is remembered at most while its last notices are under way."""


class Desk:
    """All times are milliseconds since the epoch by the owner's clock, and do not go back.

    Every method that takes `now_ms`, but for `trim`, `sent` and `failed`, first does what has come due until then.
    """

    def __init__(self, policy: AlertingPolicy, *, limit: int = DEFAULT_LIMIT) -> None:
        """At most `limit` incidents are remembered. Raises ConfigError where that is below 1."""
        self._book = DeskBook(policy, limit)
        self._teller = Teller(self._book)
        self._escalating = Escalating(self._book)
        self._suppression = Suppression(self._book, self._teller, self._escalating)
        self._regrouping = Regrouping(self._book, self._teller)
        self._trimming = Trimming(self._book, self._teller, self._escalating)
        self._book.edges.set(("again",), 0)

    # -- what comes in

    def observe(self, alert: Alert, now_ms: int, *, told: bool = False) -> list[Decision]:
        """Take in a record of `tidemark.alerts`; with `told` (a rebuild) everybody knows of it already."""
        decisions = self.tick(now_ms)
        if alert.status == "firing":
            return decisions + self._fires(alert, now_ms, told)
        if alert.status == "resolved":
            return decisions + self._is_over(alert, now_ms, told)
        return decisions + self._was_acknowledged(alert, now_ms, told)

    def acknowledge(self, alert_id: str, by: str, now_ms: int, comment: str = "") -> list[Decision]:
        """Somebody takes it on: nobody is told again that it fires."""
        decisions = self.tick(now_ms)
        incident = self._book.find(alert_id)
        if incident is None:
            return [*decisions, Decision(Reason.UNKNOWN_ALERT, alert_id)]
        if not incident.is_open:
            return [*decisions, Decision(Reason.ALREADY_RESOLVED, alert_id)]
        if incident.acked_at is not None:
            return [*decisions, Decision(Reason.DUPLICATE, alert_id, note=f"acknowledged by {incident.acked_by}")]
        self._take_on(incident, by, comment, now_ms)
        decisions.append(Decision(Reason.ACKNOWLEDGED, incident.alert.alert_id, alert=incident.alert))
        return decisions + self._teller.acknowledged(incident, now_ms)

    def put_silence(self, silence: Silence, now_ms: int) -> list[Decision]:
        """Set a silence, or replace the one of the same id; at most 1,000 that have not ended."""
        decisions = self.tick(now_ms) + self._suppression.put(silence, now_ms)
        return decisions + self.tick(now_ms)

    def end_silence(self, silence_id: str, now_ms: int) -> list[Decision]:
        """Take a silence away; what it kept quiet and still fires is told at once."""
        return self.tick(now_ms) + self._suppression.end(silence_id, now_ms)

    def replace_policy(self, policy: AlertingPolicy, now_ms: int) -> list[Decision]:
        """Other rules from now on. Nobody is told again of what they know; escalations that run keep theirs."""
        decisions = self.tick(now_ms)
        self._book.set_policy(policy)
        decisions.append(Decision(Reason.POLICY_REPLACED))
        self._move_all(now_ms)
        for incident in list(self._book.incidents.values()):
            decisions += self._teller.pay(incident, now_ms)
        decisions += self._look_at_all(now_ms)
        return decisions + self.tick(now_ms)

    # -- time

    def tick(self, now_ms: int) -> list[Decision]:
        """Do all that has come due, in the order in which it did; doing so twice does nothing more.

        A late tick settles who is to be kept quiet now before anything is said.
        """
        book = self._book
        decisions: list[Decision] = []
        while name := book.edges.pop(now_ms) or book.timers.pop(now_ms):
            decisions += self._do(name, now_ms)
        return decisions

    def next_due(self) -> int | None:
        """When `tick` has something to do; None: not before something comes in."""
        due = (self._book.edges.next_due(), self._book.timers.next_due())
        return min((at for at in due if at is not None), default=None)

    # -- what goes out

    def trim(self, notification: Notification, now_ms: int) -> tuple[Notification | None, Reason]:
        """What of it is still to be said right before it is sent; None and why, where nothing is."""
        return self._trimming.trim(notification, now_ms)

    def sent(self, notification: Notification, now_ms: int) -> None:
        """The other side has it; also to be called for what an earlier owner is known to have sent."""
        self._trimming.sent(notification, now_ms)

    def failed(self, notification: Notification, now_ms: int) -> None:
        """It was given up for good; what still fires is tried again, ever less often."""
        self._trimming.failed(notification, now_ms)

    # -- what is known

    def incidents(self) -> list[IncidentView]:
        """All that are open, and those of which the end has not been told yet."""
        groups = self._book.groups
        views = []
        for incident in self._book.incidents.values():
            muted = [groups[key].muted for key in incident.groups]
            views.append(incident.view(muted[0] if all(muted) and muted else ""))
        return views

    def silences(self) -> list[Silence]:
        """Those that have not ended as of the last tick."""
        return list(self._book.silences.values())

    def state(self) -> dict[str, Any]:
        """All that the desk remembers, as msgpack-able plain data."""
        return self._book.state()

    def restore(self, state: Mapping[str, Any], now_ms: int) -> None:
        """Go on from a `state()` in place of what the desk holds, with the rules that it has now.

        Raises StoreError when the state is of another version or damaged; the desk is then unchanged.
        """
        book = self._book
        if book.restore(state):
            self._move_all(now_ms)
        for incident in book.incidents.values():
            if incident.is_open:
                book.timers.set(("stale", incident.id), incident.heard_at + book.policy.stale_after_ms)
            else:
                book.timers.set(("kept", incident.id), (incident.closed_at or now_ms) + _KEPT_MS)
            if incident.held is not None:
                until = book.flaps.held_until(incident.alert.fingerprint, now_ms)
                book.timers.set(("held", incident.id), until or now_ms)
            self._escalating.arm(incident)
        for group in book.groups.values():
            book.timers.set(("flush", group.key), group.flush_at)
        for silence_id in book.silences:
            self._suppression.arm(silence_id, now_ms)
        # What was missed meanwhile comes after it is known who is to be kept quiet.
        book.edges.set(("again",), 0)

    # -- firing

    def _fires(self, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
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
            self._take_on(former, former.acked_by, former.comment, former.acked_at)
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

    def _was_acknowledged(self, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
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
        self._take_on(incident, by, comment, now_ms)
        decisions = [Decision(Reason.ACKNOWLEDGED, alert.alert_id)]
        return decisions if told else decisions + self._teller.acknowledged(incident, now_ms)

    def _take_on(self, incident: Incident, by: str, comment: str, at_ms: int) -> None:
        incident.acked_at, incident.acked_by, incident.comment = at_ms, by, comment
        noted = {"acknowledged_by": by, "acknowledged_at": at_ms, "acknowledged_comment": comment}
        incident.alert = replace(incident.alert, status="acknowledged", related={**incident.alert.related, **noted})
        self._escalating.stop(incident)

    def _is_over(self, alert: Alert, now_ms: int, told: bool) -> list[Decision]:
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
        return [Decision(Reason.RESOLVED, alert.alert_id), *self._close(incident, alert, now_ms, told)]

    def _close(self, incident: Incident, alert: Alert, now_ms: int, told: bool = False) -> list[Decision]:
        book = self._book
        incident.alert, incident.closed_at, incident.held = alert, now_ms, None
        # Who has heard of it is to hear of its end, whoever else fires.
        incident.inhibited_by = ""
        book.remember_closed(alert.alert_id)
        book.rank(incident)
        self._escalating.stop(incident)
        for name in ("stale", "held"):
            book.timers.set((name, incident.id), None)
        book.timers.set(("kept", incident.id), now_ms + _KEPT_MS)
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

    # -- what comes due

    def _do(self, name: tuple[str, ...], now_ms: int) -> list[Decision]:
        book = self._book
        match name:
            case ("again",):
                return self._look_at_all(now_ms)
            case ("calendar",):
                return self._suppression.look_at_calendars(now_ms)
            case ("edge", silence_id):
                return self._suppression.edge(silence_id, now_ms)
            case ("flush", key):
                return self._teller.flush(book.groups[key], now_ms)
            case ("step", id_):
                return self._escalating.step(book.incidents[id_], now_ms)
            case ("held", id_):
                incident = book.incidents[id_]
                end = incident.held or incident.alert
                return [
                    Decision(Reason.FLAPPING_OVER, end.alert_id),
                    *self._close(incident, end, now_ms),
                ]
            case ("stale", id_):
                incident = book.incidents[id_]
                related = {**incident.alert.related, "closed_as": Reason.STALE.value}
                end = replace(incident.alert, status="resolved", resolved_at=now_ms, related=related)
                return [Decision(Reason.STALE, end.alert_id), *self._close(incident, end, now_ms)]
            case ("kept", id_):
                return self._give_up_waiting(book.incidents[id_], now_ms)
        raise AssertionError(f"no such timer: {name}")

    def _move_all(self, now_ms: int) -> None:
        self._regrouping.move(self._book.incidents.values(), now_ms)
        for incident in self._book.incidents.values():
            if not incident.escalations:  # what runs goes on as it was
                self._escalating.begin_missing(incident, now_ms)

    def _look_at_all(self, now_ms: int) -> list[Decision]:
        looked = self._suppression.look(list(self._book.incidents), now_ms)
        return looked + self._suppression.look_at_calendars(now_ms)

    def _give_up_waiting(self, incident: Incident, now_ms: int) -> list[Decision]:
        """Nobody has said what became of its last notices; they have been handed over long ago."""
        incident.waiting = []
        self._book.timers.set(("kept", incident.id), now_ms + _KEPT_MS)
        self._teller.forget_if_done(incident)
        return []
