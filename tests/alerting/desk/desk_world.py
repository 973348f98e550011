"""A desk with a clock that is moved by hand, for stories and for properties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from alerting.alert import Alert
from alerting.desk.calendars import Calendar, Interval
from alerting.desk.desk import Decision, Desk
from alerting.desk.policy import AlertingPolicy, EscalationPolicy, Receiver, Route, Step, matching
from alerting.desk.silences import Silence
from alerting.notification import Notification
from tests.alerting.samples import TEN_O_CLOCK, an_alert

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000

RECEIVERS = {
    "operations": Receiver(name="operations", channels=("pager",)),
    "science": Receiver(name="science", channels=("chat",)),
    "ann": Receiver(name="ann", channels=("mail",), mention="ann"),
    "quiet": Receiver(name="quiet", channels=("log",), send_resolved=False),
    "both": Receiver(name="both", channels=("chat", "pager")),
}
PAGE = EscalationPolicy(
    name="page",
    steps=(
        Step(do="notify", notify=("owner",)),
        Step(do="wait", wait_ms=10 * MINUTE),
        Step(do="notify", notify=("operations",)),
        Step(do="wait", wait_ms=10 * MINUTE),
        Step(do="repeat", repeat=1),
    ),
)


def a_policy(*routes: Route, **changes: Any) -> AlertingPolicy:
    """Major alerts to science after 10 s, if nothing else is said."""
    given: dict[str, Any] = {"receivers": RECEIVERS, "escalations": {"page": PAGE}}
    root = routes[0] if len(routes) == 1 else Route(name="/", routes=routes)
    return AlertingPolicy(route=root if routes else a_route(), **given | changes)


def a_route(**changes: Any) -> Route:
    return Route(**{"name": "/", "notify": ("science",), "group_by": ("model_id",)} | changes)


def fires(name: str, **changes: Any) -> Alert:
    """An alert of the condition `name`; another incident of it with `alert_id`."""
    return an_alert(**{"alert_id": name, "fingerprint": f"f-{name[0]}", "rule": name, "related": {}} | changes)


def over(alert: Alert) -> Alert:
    return replace(alert, status="resolved", resolved_at=alert.started_at + HOUR)


def a_silence(*matchers: str, start: int = 0, end: int = HOUR, name: str = "s") -> Silence:
    """Times after ten o'clock."""
    return Silence(
        id=name,
        matchers=matching(*matchers),
        starts_at=TEN_O_CLOCK + start,
        ends_at=TEN_O_CLOCK + end,
        created_by="ann",
        created_at=TEN_O_CLOCK,
    )


def a_span(start_min: int, end_min: int) -> Calendar:
    """Minutes after ten o'clock."""
    span = (TEN_O_CLOCK + start_min * MINUTE, TEN_O_CLOCK + end_min * MINUTE)
    return Calendar(name="span", intervals=(Interval(span_ms=span),))


class World:
    """Times are after ten o'clock. All that is decided on the way is kept; sent at once unless `sends` is off."""

    def __init__(self, policy: AlertingPolicy | None = None, *, sends: bool = True, **keys: Any) -> None:
        self.policy = policy or a_policy()
        self.desk = Desk(self.policy, **keys)
        self.now = TEN_O_CLOCK
        self.sends = sends
        self.decisions: list[Decision] = []
        self.queue: list[Notification] = []

    def at(self, after_ms: int) -> World:
        """Let time pass, stopping wherever something is due."""
        until = TEN_O_CLOCK + after_ms
        for _ in range(10_000):
            due = self.desk.next_due()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.take(self.desk.tick(self.now))
        else:
            raise AssertionError("the desk never comes to rest")
        self.now = until
        return self

    def take(self, decisions: Iterable[Decision]) -> list[str]:
        found = list(decisions)
        self.decisions += found
        for decision in found:
            if decision.notification is not None:
                self.queue.append(decision.notification)
                if self.sends:
                    self.desk.sent(decision.notification, self.now)
        return [decision.reason.value for decision in found]

    def hear(self, *alerts: Alert, told: bool = False) -> list[str]:
        return [reason for alert in alerts for reason in self.take(self.desk.observe(alert, self.now, told=told))]

    def ack(self, alert_id: str, by: str = "ann") -> list[str]:
        return self.take(self.desk.acknowledge(alert_id, by, self.now))

    def silence(self, silence: Silence) -> list[str]:
        return self.take(self.desk.put_silence(silence, self.now))

    def said(self) -> list[str]:
        """What was said since the last time, such as `0:10 chat firing a b`: minutes and seconds after ten."""
        said, self.queue = [shown(notification) for notification in self.queue], []
        return said

    def restarted(self, policy: AlertingPolicy | None = None) -> World:
        """Another worker takes over."""
        state = self.desk.state()
        self.desk = Desk(policy or self.policy)
        self.desk.restore(state, self.now)
        return self


def shown(notification: Notification) -> str:
    minutes, seconds = divmod((notification.at - TEN_O_CLOCK) // SECOND, 60)
    alerts = [alert.alert_id if alert.status == "firing" else f"-{alert.alert_id}" for alert in notification.alerts]
    return f"{minutes}:{seconds:02} {notification.channel} {notification.stage} {' '.join(alerts)}"


def whys(decisions: Sequence[Decision]) -> list[str]:
    """Reasons of the notifications."""
    return [decision.notification.why for decision in decisions if decision.notification is not None]
