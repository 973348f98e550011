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
from alerting.desk.conversations import KEPT_MS, Conversations
from alerting.desk.decisions import Decision, Reason
from alerting.desk.escalating import Escalating
from alerting.desk.handover import Handover
from alerting.desk.incident_record import Incident, IncidentView
from alerting.desk.policy import AlertingPolicy
from alerting.desk.regrouping import Regrouping
from alerting.desk.silences import Silence
from alerting.desk.suppression import Suppression
from alerting.desk.telling import Teller
from alerting.desk.trimming import Trimming
from alerting.notification import Notification

__all__ = ["DEFAULT_LIMIT", "Decision", "Desk", "IncidentView", "Reason"]

DEFAULT_LIMIT: Final = 10_000


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
        self._conversations = Conversations(
            self._book, self._teller, self._escalating, self._suppression, self._regrouping
        )
        self._handover = Handover(self._book, self._teller, self._escalating)
        self._trimming = Trimming(self._book, self._teller, self._escalating)
        self._book.edges.set(("again",), 0)

    # -- what comes in

    def observe(self, alert: Alert, now_ms: int, *, told: bool = False) -> list[Decision]:
        """Take in a record of `tidemark.alerts`; with `told` (a rebuild) everybody knows of it already."""
        decisions = self.tick(now_ms)
        if alert.status == "firing":
            return decisions + self._conversations.fires(alert, now_ms, told)
        if alert.status == "resolved":
            return decisions + self._conversations.is_over(alert, now_ms, told)
        return decisions + self._conversations.was_acknowledged(alert, now_ms, told)

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
        self._conversations.take_on(incident, by, comment, now_ms)
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
                book.timers.set(("kept", incident.id), (incident.closed_at or now_ms) + KEPT_MS)
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

    # -- what comes due

    def _do(self, name: tuple[str, ...], now_ms: int) -> list[Decision]:
        book = self._book
        match name:
            case ("again",):
                return self._look_at_all(now_ms)
            case ("calendar",):
                return self._suppression.look_at_calendars(now_ms)
            case ("handover",):
                return self._handover.look(now_ms)
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
                    *self._conversations.close(incident, end, now_ms),
                ]
            case ("stale", id_):
                incident = book.incidents[id_]
                related = {**incident.alert.related, "closed_as": Reason.STALE.value}
                end = replace(incident.alert, status="resolved", resolved_at=now_ms, related=related)
                return [Decision(Reason.STALE, end.alert_id), *self._conversations.close(incident, end, now_ms)]
            case ("kept", id_):
                return self._give_up_waiting(book.incidents[id_], now_ms)
        raise AssertionError(f"no such timer: {name}")

    def _move_all(self, now_ms: int) -> None:
        self._regrouping.move(self._book.incidents.values(), now_ms)
        for incident in self._book.incidents.values():
            if not incident.escalations:  # what runs goes on as it was
                self._escalating.begin_missing(incident, now_ms)

    def _look_at_all(self, now_ms: int) -> list[Decision]:
        self._handover.arm(now_ms)
        looked = self._suppression.look(list(self._book.incidents), now_ms)
        return looked + self._suppression.look_at_calendars(now_ms)

    def _give_up_waiting(self, incident: Incident, now_ms: int) -> list[Decision]:
        """Nobody has said what became of its last notices; they have been handed over long ago."""
        incident.waiting = []
        self._book.timers.set(("kept", incident.id), now_ms + KEPT_MS)
        self._teller.forget_if_done(incident)
        return []
