"""Escalations of incidents: what their steps say, and where."""

from __future__ import annotations

from alerting.desk.book import DeskBook
from alerting.desk.decisions import Decision, Reason
from alerting.desk.escalation import Escalation, StepDue, Surroundings, chain_of
from alerting.desk.incident_record import Incident, Missed
from alerting.desk.notices import labels_of_one, make_notice, note_told, retry_after
from alerting.desk.routing import Target, targets_of
from alerting.desk.telling import ASK_AGAIN_MS
from alerting.notification import Notification, Stage


class Escalating:
    """Carries out the policies of the incidents in a book."""

    def __init__(self, book: DeskBook) -> None:
        self._book = book

    def begin(self, incident: Incident, name: str, now_ms: int, *, is_new: bool = True) -> None:
        """Start a policy, as it is now; `is_new`: to be counted among the incidents that begin now."""
        policies = self._book.policy.escalations
        policy = policies[name]
        incident.escalations[name] = Escalation.begin(policy, policies, now_ms)
        for one in chain_of(policy, policies) if is_new else ():
            self._book.began(one.name, now_ms)

    def begin_missing(self, incident: Incident, now_ms: int, *, is_new: bool = True) -> None:
        """Start the policies that its routes ask for and that it has not begun."""
        if incident.is_open and incident.acked_at is None:
            for route in self._book.routes_for(incident):
                if route.escalation and route.escalation not in incident.escalations:
                    self.begin(incident, route.escalation, now_ms, is_new=is_new)
            self.arm(incident)

    def stop(self, incident: Incident) -> None:
        """Nobody has to be told any more."""
        incident.escalations, incident.missed = {}, {}
        self._book.timers.set(("step", incident.id), None)

    def skip_to(self, incident: Incident, now_ms: int) -> None:
        """Take the steps that are due for done: they were before the memory was lost."""
        for run in incident.escalations.values():
            for due in run.advance(now_ms, self._surroundings(now_ms)):
                run.was_told(due)
        self.arm(incident)

    def step(self, incident: Incident, now_ms: int) -> list[Decision]:
        """Do what has come due in the incident's escalations."""
        decisions: list[Decision] = []
        for policy, run in incident.escalations.items():
            for due in run.advance(now_ms, self._surroundings(now_ms)):
                decisions += self._escalate(incident, policy, due, now_ms)
        for channel, missed in incident.missed.items():
            if not missed.is_under_way and missed.at is not None and missed.at <= now_ms:
                decisions += self._say_again(incident, channel, missed, now_ms)
        self.arm(incident)
        return decisions

    def resume(self, incident: Incident, now_ms: int) -> list[Decision]:
        """It is no longer kept quiet: policies that went by meanwhile begin anew, and what was put off is said."""
        if not incident.is_loud:
            return []
        begun_anew = [
            run.resume(now_ms)
            for policy, run in incident.escalations.items()
            if run.is_left_out and not self._book.is_muted(incident, now_ms, policies=(policy,))
        ]
        if any(begun_anew):
            for told in incident.told.values():
                told.is_stale = told.is_stale or told.at < now_ms
        put_off = [
            (channel, missed)
            for channel, missed in incident.missed.items()
            if missed.at is None and not self._book.is_muted(incident, now_ms, policies=(missed.policy,))
        ]
        for channel, missed in put_off:
            missed.at = now_ms
            # Its group may just have told it.
            missed.is_under_way = channel in incident.told and incident.told[channel].at == now_ms
        return self.step(incident, now_ms) if put_off or any(begun_anew) else []

    def hand_over(self, incident: Incident, now_ms: int) -> list[Decision]:
        """Somebody else may be on call: they are told of what others were told before."""
        for run in incident.escalations.values():
            run.hand_over(now_ms)
        return self.step(incident, now_ms)

    def arm(self, incident: Incident) -> None:
        """Set the time of the next step."""
        due = [run.next_due for run in incident.escalations.values() if run.next_due is not None]
        due += [again.at for again in incident.missed.values() if again.at is not None and not again.is_under_way]
        self._book.timers.set(("step", incident.id), min(due, default=None))

    def _escalate(self, incident: Incident, policy: str, due: StepDue, now_ms: int) -> list[Decision]:
        alert_id = incident.alert.alert_id
        run = incident.escalations[policy]
        where = f"step {due.step} of {due.policy}"
        obstacle = self._obstacle(incident, policy, now_ms) if due.is_done else due.reason.value
        if obstacle:
            if due.is_done:
                run.was_left_out()
            return [Decision(Reason.ESCALATION_SKIPPED, alert_id, note=f"{where}: {obstacle}")]
        targets = targets_of(self._book.policy, due.notify, incident.alert, now_ms)
        if not targets:
            run.found_nobody(due, now_ms + ASK_AGAIN_MS)
            return [Decision(Reason.NOBODY, alert_id, note=f"{where}: {', '.join(due.notify)}")]
        run.was_told(due)
        targets = {
            channel: target
            for channel, target in targets.items()
            if not self._knows(incident, channel, target, due, now_ms)
        }
        if not targets:
            return [Decision(Reason.ESCALATION_SKIPPED, alert_id, note=f"{where}: told already")]
        why = Reason.NOT_ACKNOWLEDGED if due.waited else Reason.ESCALATED
        stage: Stage = "escalation" if due.waited else "firing"
        notices = [
            self._tell(incident, channel, target, policy, stage, now_ms, why, due.step, due.round - 1)
            for channel, target in targets.items()
        ]
        return [Decision(why, alert_id, notice, note=where) for notice in notices]

    def _knows(self, incident: Incident, channel: str, target: Target, due: StepDue, now_ms: int) -> bool:
        """Whether its group, or another step, has told the channel so recently that nobody has had time to answer."""
        told = incident.told.get(channel)
        if told is None or not set(target.mentions) <= set(told.mentions):
            return False
        return told.at == now_ms or not (told.is_stale or (due.waited and not due.is_again))

    def _obstacle(self, incident: Incident, policy: str, now_ms: int) -> str:
        if incident.silenced_by:
            return Reason.SILENCED.value
        if incident.inhibited_by:
            return Reason.INHIBITED.value
        return Reason.MUTED.value if self._book.is_muted(incident, now_ms, policies=(policy,)) else ""

    def _tell(
        self,
        incident: Incident,
        channel: str,
        target: Target,
        policy: str,
        stage: Stage,
        now_ms: int,
        why: Reason,
        step: int,
        round_: int,
    ) -> Notification:
        note_told(incident, channel, target, incident.id, now_ms, policy=policy)
        if channel in incident.missed:
            incident.missed[channel].is_under_way = True
        labels = labels_of_one(incident)
        alerts = [incident.alert]
        return make_notice(
            self._book, channel, target, stage, alerts, incident.id, labels, now_ms, why, step=step, round_=round_
        )

    # -- what could not be delivered

    def missed(self, incident: Incident, notice: Notification, now_ms: int) -> None:
        """A notice could not be delivered: it is said again, after ever longer times."""
        former = incident.missed.get(notice.first_channel)
        tries = former.tries + 1 if former is not None else 1
        if incident.escalations:
            policy = self._policy_of(incident, notice)
            routes = self._book.routes_meant(incident, policies=(policy,))
            wait_ms = retry_after(routes[0], tries) if routes else ASK_AGAIN_MS
            self.put_off(incident, notice, now_ms + wait_ms, tries)

    def put_off(self, incident: Incident, notice: Notification, at_ms: int | None, tries: int = 0) -> None:
        """A notice is to be said again then; None: as soon as the incident is no longer kept quiet."""
        if incident.escalations:
            policy = self._policy_of(incident, notice)
            target = Target(notice.receiver, self._wants_the_end(incident, notice), notice.mentions)
            incident.missed[notice.first_channel] = Missed(
                at_ms, tries, policy, notice.stage, notice.step, notice.round, target
            )
            self.arm(incident)

    def _policy_of(self, incident: Incident, notice: Notification) -> str:
        told = incident.told.get(notice.first_channel)
        return (told.policy if told is not None else "") or next(iter(incident.escalations))

    def _wants_the_end(self, incident: Incident, notice: Notification) -> bool:
        told = incident.told.get(notice.first_channel)
        return told is None or told.send_resolved

    def _say_again(self, incident: Incident, channel: str, missed: Missed, now_ms: int) -> list[Decision]:
        where = f"step {missed.step} of {missed.policy}, again"
        alert_id = incident.alert.alert_id
        obstacle = self._obstacle(incident, missed.policy, now_ms)
        if obstacle:
            missed.at = None
            return [Decision(Reason.ESCALATION_SKIPPED, alert_id, note=f"{where}: {obstacle}")]
        why = Reason.NOT_ACKNOWLEDGED if missed.stage == "escalation" else Reason.ESCALATED
        notice = self._tell(
            incident, channel, missed.target, missed.policy, missed.stage, now_ms, why, missed.step, missed.round
        )
        return [Decision(why, alert_id, notice, note=where)]

    def _surroundings(self, now_ms: int) -> Surroundings:
        def count(policy: str, within_ms: int) -> int:
            return sum(at > now_ms - within_ms for at in self._book.begun.get(policy, ()))

        return Surroundings(calendars=self._book.policy.calendars, count=count)
