"""Whatever happens in whatever order: who has to be told is told, nobody of what is not so, restarts change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from alerting.alert import Alert
from alerting.desk.desk import Decision, Desk
from alerting.desk.policy import AlertingPolicy, Flapping, matching
from tests.alerting.desk.desk_world import HOUR, MINUTE, SECOND, a_policy, a_route, a_silence, a_span, fires, over
from tests.alerting.samples import TEN_O_CLOCK

WAIT, INTERVAL, REPEAT = 10 * SECOND, 5 * MINUTE, HOUR
SEVERITIES = {"a": "critical", "b": "critical", "c": "major", "d": "major", "e": "minor"}

conditions = st.sampled_from(sorted(SEVERITIES))


def the_policy(**changes: Any) -> AlertingPolicy:
    batched = {"group_wait_ms": WAIT, "group_interval_ms": INTERVAL, "repeat_interval_ms": REPEAT}
    return a_policy(
        a_route(
            name="/0",
            matchers=matching('severity="critical"'),
            notify=("both",),
            escalation="page",
            goes_on=True,
            **batched | {"group_wait_ms": 0},
        ),
        a_route(name="/1", matchers=matching('severity=~"critical|major"'), mute_in=("lunch",), **batched),
        a_route(name="/2", notify=()),
        calendars={"lunch": a_span(20, 40)},
        default_owner="ann",
        flapping=Flapping(times=3, within_ms=30 * MINUTE, quiet_ms=10 * MINUTE),
        **changes,
    )


class DeskMachine(RuleBasedStateMachine):
    """Two desks hear the same; one of them is restored from its state all the time."""

    @initialize()
    def begin(self) -> None:
        self.policy = the_policy()
        self.desk, self.restarted = Desk(self.policy), Desk(self.policy)
        self.now = self.saved_at = TEN_O_CLOCK
        self.firing: dict[str, Alert] = {}
        self.keys: set[str] = set()
        self.count = 0

    def both(self, call: Any) -> None:
        """Let both do the same; they decide the same."""
        decided: list[Decision] = call(self.desk)
        other = Desk(self.policy)
        other.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(self.restarted.state())), self.saved_at)
        assert other.tick(self.saved_at) == []
        self.restarted, self.saved_at = other, self.now
        assert call(self.restarted) == decided
        for decision in decided:
            if decision.notification is not None:
                self.check(decision)

    def check(self, decision: Decision) -> None:
        note = decision.notification
        assert note is not None
        assert note.key not in self.keys
        self.keys.add(note.key)
        for desk in (self.desk, self.restarted):
            desk.sent(note, self.now)
        views = {view.alert.alert_id: view for view in self.desk.incidents()}
        for alert in note.alerts:
            if alert.status != "firing":
                continue
            view = views[alert.alert_id]
            assert view.status == "firing"
            assert not (view.silenced_by or view.inhibited_by)
            assert alert.severity != "minor"

    @rule(name=conditions)
    def begins(self, name: str) -> None:
        if name not in self.firing:
            self.count += 1
            alert = fires(f"{name}{self.count}", fingerprint=name, rule=name, severity=SEVERITIES[name])
            self.firing[name] = alert
            self.both(lambda desk: desk.observe(alert, self.now))

    @rule(name=conditions)
    def is_over(self, name: str) -> None:
        if name in self.firing:
            alert = self.firing.pop(name)
            self.both(lambda desk: desk.observe(over(alert), self.now))

    @rule(name=conditions)
    def repeats_itself(self, name: str) -> None:
        if name in self.firing:
            self.both(lambda desk: desk.observe(self.firing[name], self.now))

    @rule(name=conditions)
    def comes_again_without_an_end(self, name: str) -> None:
        if name in self.firing:
            self.count += 1
            self.firing[name] = replace(self.firing[name], alert_id=f"{name}{self.count}")
            self.both(lambda desk: desk.observe(self.firing[name], self.now))

    @rule(name=conditions)
    def is_acknowledged(self, name: str) -> None:
        if name in self.firing:
            alert = self.firing[name]
            self.both(lambda desk: desk.acknowledge(alert.alert_id, "ann", self.now))

    @rule(name=conditions, minutes=st.integers(1, 60), later=st.integers(0, 10))
    def is_silenced(self, name: str, minutes: int, later: int) -> None:
        start = self.now - TEN_O_CLOCK + later * MINUTE
        silence = a_silence(f'rule="{name}"', start=start, end=start + minutes * MINUTE, name=name)
        self.both(lambda desk: desk.put_silence(silence, self.now))

    @rule(name=conditions)
    def is_silenced_no_more(self, name: str) -> None:
        self.both(lambda desk: desk.end_silence(name, self.now))

    @rule(passed=st.sampled_from([SECOND, WAIT, MINUTE, INTERVAL, HOUR]))
    def time_passes(self, passed: int) -> None:
        until = self.now + passed
        for _ in range(1_000):
            due = self.desk.next_due()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.both(lambda desk: desk.tick(self.now))
            assert self.desk.tick(self.now) == []
        else:
            raise AssertionError("the desk never comes to rest")
        self.now = until

    @rule(passed=st.sampled_from([MINUTE, INTERVAL, HOUR]))
    def nobody_looks_for_a_while(self, passed: int) -> None:
        self.now += passed
        self.both(lambda desk: desk.tick(self.now))

    @rule()
    def rules_are_read_again(self) -> None:
        self.both(lambda desk: desk.replace_policy(self.policy, self.now))

    @invariant()
    def all_that_fires_is_known_and_told(self) -> None:
        """Whatever fires and is not kept quiet has been told to its channels, or will be within the group's times."""
        lunch = 20 * MINUTE <= self.now - TEN_O_CLOCK < 40 * MINUTE
        views = {view.alert.alert_id: view for view in self.desk.incidents()}
        due = self.desk.next_due()
        for name, alert in self.firing.items():
            view = views[alert.alert_id]
            assert not view.is_held
            if view.status != "firing" or view.silenced_by or view.inhibited_by or alert.severity == "minor":
                continue
            wanted = {"chat", "pager"} if alert.severity == "critical" else set() if lunch else {"chat"}
            if not wanted <= set(view.channels):
                assert alert.severity == "major", name
                assert due is not None
                assert due <= self.now + WAIT + INTERVAL

    @invariant()
    def what_is_remembered_is_what_is_open_or_about_to_be_told(self) -> None:
        open_ids = {alert.alert_id for alert in self.firing.values()}
        for view in self.desk.incidents():
            if view.alert.alert_id not in open_ids:
                assert view.is_held or view.status == "resolved"


DeskMachine.TestCase.settings = settings(
    # To explain a failure hypothesis traces every line, which takes minutes here.
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
TestDesk = DeskMachine.TestCase
