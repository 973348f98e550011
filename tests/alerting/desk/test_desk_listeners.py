"""What each channel hears makes sense to somebody who hears nothing else, whatever happens while messages wait.

The oracle is a listener: for each condition it knows whether it was last told that it fires.
"""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import msgspec
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from alerting.alert import Alert
from alerting.desk.decisions import Decision, Reason
from alerting.desk.desk import Desk
from alerting.desk.policy import AlertingPolicy, Flapping, matching
from alerting.notification import Notification
from tests.alerting.desk.desk_world import HOUR, MINUTE, SECOND, a_policy, a_route, a_silence, a_span, fires, over
from tests.alerting.samples import TEN_O_CLOCK

SEVERITIES = {"a": "critical", "b": "critical", "c": "major", "d": "major"}
conditions = st.sampled_from(sorted(SEVERITIES))


def policies() -> tuple[AlertingPolicy, ...]:
    """No channel is named by two routes, so that each condition is one conversation there."""
    times = {"group_wait_ms": 10 * SECOND, "group_interval_ms": 5 * MINUTE, "repeat_interval_ms": HOUR}

    def one(escalation: str, wait_ms: int, mute_in: tuple[str, ...]) -> AlertingPolicy:
        critical = matching('severity="critical"')
        at_once = times | {"group_wait_ms": wait_ms}
        return a_policy(
            a_route(
                name="/0", matchers=critical, notify=("operations",), escalation=escalation, goes_on=True, **at_once
            ),
            a_route(name="/1", mute_in=mute_in, **times),
            calendars={"lunch": a_span(30, 60)},
            default_owner="ann",
            inhibition=(),
            flapping=Flapping(times=3, within_ms=30 * MINUTE, quiet_ms=10 * MINUTE),
        )

    return one("page", 0, ()), one("page", 10 * SECOND, ("lunch",)), one("", 0, ("lunch",))


class ListenerMachine(RuleBasedStateMachine):
    """A desk, the messages that wait, and what the channels have heard."""

    @initialize()
    def begin(self) -> None:
        self.policy = policies()[0]
        self.desk, self.now = Desk(self.policy), TEN_O_CLOCK
        self.firing: dict[str, Alert] = {}
        self.done: set[str] = set()
        """Ids that are over or taken on."""
        self.queue: list[Notification] = []
        self.heard: set[tuple[str, str]] = set()
        self.count = 0

    def take(self, decisions: list[Decision]) -> list[Reason]:
        self.queue += [decision.notification for decision in decisions if decision.notification is not None]
        return [decision.reason for decision in decisions]

    @rule(number=st.integers(1, 5))
    def some_are_sent(self, number: int) -> None:
        for notification in self.queue[:number]:
            left, _ = self.desk.trim(notification, self.now)
            for alert in left.alerts if left is not None else ():
                self.hears((notification.channel, alert.fingerprint), alert)
            if left is not None:
                self.desk.sent(notification, self.now)  # as it was decided
        del self.queue[:number]

    def hears(self, conversation: tuple[str, str], alert: Alert) -> None:
        if alert.status == "resolved":
            assert conversation in self.heard, "an end without a begin"
            self.heard.discard(conversation)
        elif alert.status == "firing":
            assert alert.alert_id not in self.done, "it does not fire any more"
            self.heard.add(conversation)

    @rule(name=conditions)
    def begins(self, name: str) -> None:
        self.count += 1
        former = self.firing.get(name) or fires(name, fingerprint=name, severity=SEVERITIES[name])
        self.firing[name] = replace(former, alert_id=f"{name}{self.count}")
        reasons = self.take(self.desk.observe(self.firing[name], self.now))
        if Reason.ACKNOWLEDGED in reasons:
            self.done.add(self.firing[name].alert_id)

    @rule(name=conditions)
    def is_over(self, name: str) -> None:
        if name in self.firing:
            alert = self.firing.pop(name)
            if Reason.FLAPPING_HELD not in self.take(self.desk.observe(over(alert), self.now)):
                self.done.add(alert.alert_id)

    @rule(name=conditions)
    def is_acknowledged(self, name: str) -> None:
        if name in self.firing:
            self.take(self.desk.acknowledge(self.firing[name].alert_id, "ann", self.now))
            self.done.add(self.firing[name].alert_id)

    @rule(name=conditions, minutes=st.integers(1, 40))
    def is_silenced(self, name: str, minutes: int) -> None:
        start = self.now - TEN_O_CLOCK
        silence = a_silence(f'rule="{name}"', start=start, end=start + minutes * MINUTE, name=name)
        self.take(self.desk.put_silence(silence, self.now))

    @rule(number=st.integers(0, 2))
    def other_routes_hold(self, number: int) -> None:
        self.policy = policies()[number]
        self.take(self.desk.replace_policy(self.policy, self.now))

    @rule()
    def another_worker_takes_over(self) -> None:
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(self.desk.state()))
        self.desk = Desk(self.policy)
        self.desk.restore(state, self.now)

    @rule(passed=st.sampled_from([SECOND, 15 * SECOND, MINUTE, 6 * MINUTE, 20 * MINUTE]))
    def time_passes(self, passed: int) -> None:
        # Longer than an hour the desk does not remember what is on its way.
        self.some_are_sent(sum(self.now - waiting.at > 30 * MINUTE for waiting in self.queue))
        until = self.now + passed
        while (due := self.desk.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.take(self.desk.tick(self.now))
        self.now = until

    @precondition(lambda self: self.firing)
    @rule()
    def in_the_end_everybody_knows(self) -> None:
        """Who is to know that something fires knows it after a while, and nobody takes to be firing what is over."""
        for silence in self.desk.silences():
            self.take(self.desk.end_silence(silence.id, self.now))
        for pause in (0, HOUR, 20 * MINUTE, 20 * MINUTE):
            self.time_passes(pause)
            self.some_are_sent(len(self.queue))
        loud = {view.alert.fingerprint for view in self.desk.incidents() if view.status == "firing"}
        wanted = {("chat", name) for name in loud}
        wanted |= {("pager", name) for name in loud if SEVERITIES[name] == "critical"}
        assert wanted <= self.heard
        open_ones = {view.alert.fingerprint for view in self.desk.incidents() if view.status != "resolved"}
        assert {name for _, name in self.heard} <= open_ones


ListenerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    # To explain a failure hypothesis traces every line, which takes minutes here.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
TestListeners = ListenerMachine.TestCase
