"""Escalations of incidents: what their steps say, and where."""

from __future__ import annotations

from alerting.desk.book import DeskBook
from alerting.desk.decisions import Decision, Reason
from alerting.desk.escalation import Escalation, StepDue, Surroundings, chain_of
from alerting.desk.incident_record import Incident
from alerting.desk.notices import labels_of_one, make_notice, note_told
from alerting.desk.routing import targets_of
from alerting.desk.telling import ASK_AGAIN_MS
from alerting.notification import Stage


class Escalating:
    """Carries out the policies of the incidents in a book."""

    def __init__(self, book: DeskBook) -> None:
        self._book = book

    def begin(self, incident: Incident, name: str, now_ms: int) -> None:
        """Start a policy, as it is now."""
        policies = self._book.policy.escalations
        policy = policies[name]
        incident.escalations[name] = Escalation.begin(policy, policies, now_ms)
        for one in chain_of(policy, policies):
            self._book.began(one.name, now_ms)

    def stop(self, incident: Incident) -> None:
        """Nobody has to be told any more."""
        incident.escalations = {}
        self._book.timers.set(("step", incident.id), None)

    def skip_to(self, incident: Incident, now_ms: int) -> None:
        """Take the steps that are due for done: they were before the memory was lost."""
        for run in incident.escalations.values():
            run.advance(now_ms, self._surroundings(now_ms))
            run.was_told()
        self.arm(incident)

    def step(self, incident: Incident, now_ms: int) -> list[Decision]:
        """Do what has come due in the incident's escalations."""
        decisions: list[Decision] = []
        for policy, run in incident.escalations.items():
            for due in run.advance(now_ms, self._surroundings(now_ms)):
                decisions += self._escalate(incident, policy, due, now_ms)
        self.arm(incident)
        return decisions

    def resume(self, incident: Incident, now_ms: int) -> list[Decision]:
        """It is no longer kept quiet: policies that went by meanwhile begin anew."""
        if not incident.is_loud:
            return []
        begun_anew = [
            run.resume(now_ms)
            for policy, run in incident.escalations.items()
            if run.is_left_out and not self._book.is_muted(incident, now_ms, policies=(policy,))
        ]
        return self.step(incident, now_ms) if any(begun_anew) else []

    def arm(self, incident: Incident) -> None:
        """Set the time of the next step."""
        due = [run.next_due for run in incident.escalations.values() if run.next_due is not None]
        self._book.timers.set(("step", incident.id), min(due, default=None))

    def _escalate(self, incident: Incident, policy: str, due: StepDue, now_ms: int) -> list[Decision]:
        alert_id = incident.alert.alert_id
        run = incident.escalations[policy]
        where = f"step {due.step} of {due.policy}"
        obstacle = (
            due.reason.value
            if not due.is_done
            else Reason.SILENCED.value
            if incident.silenced_by
            else Reason.INHIBITED.value
            if incident.inhibited_by
            else Reason.MUTED.value
            if self._book.is_muted(incident, now_ms, policies=(policy,))
            else ""
        )
        if obstacle:
            if due.is_done:
                run.was_left_out()
            return [Decision(Reason.ESCALATION_SKIPPED, alert_id, note=f"{where}: {obstacle}")]
        targets = targets_of(self._book.policy, due.notify, incident.alert, now_ms)
        if not targets:
            run.found_nobody(due, now_ms + ASK_AGAIN_MS)
            return [Decision(Reason.NOBODY, alert_id, note=f"{where}: {', '.join(due.notify)}")]
        run.was_told()
        # The group, or a step without a wait before this one, may just have told some of them.
        targets = {
            channel: target
            for channel, target in targets.items()
            if (told := incident.told.get(channel)) is None
            or told.at < now_ms
            or not set(target.mentions) <= set(told.mentions)
        }
        if not targets:
            return [Decision(Reason.ESCALATION_SKIPPED, alert_id, note=f"{where}: told already")]
        why = Reason.NOT_ACKNOWLEDGED if due.waited else Reason.ESCALATED
        stage: Stage = "escalation" if due.waited else "firing"
        decisions: list[Decision] = []
        for channel, target in targets.items():
            note_told(incident, channel, target, incident.id, now_ms, policy=policy)
            note = make_notice(
                self._book,
                channel,
                target,
                stage,
                [incident.alert],
                incident.id,
                labels_of_one(incident),
                now_ms,
                why,
                step=due.step,
                round_=due.round - 1,
            )
            decisions.append(Decision(why, alert_id, note, note=where))
        return decisions

    def _surroundings(self, now_ms: int) -> Surroundings:
        def count(policy: str, within_ms: int) -> int:
            return sum(at > now_ms - within_ms for at in self._book.begun.get(policy, ()))

        return Surroundings(calendars=self._book.policy.calendars, count=count)
