"""A scenario's configuration in tidemark's words."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from alerting.desk.calendars import Calendar, Interval
from alerting.desk.matchers import parse_matcher
from alerting.desk.policy import AlertingPolicy, EscalationPolicy, Flapping, InhibitRule, Route, Step
from alerting.desk.policy import Receiver as OurReceiver
from benchmarks.alertmanager.scenario import Node, Setting

MUTE: Final = "mute"
MUTE_MS: Final = 120_000


def policy_of(setting: Setting, mute: Calendar | None) -> AlertingPolicy:
    """All of it; what a scenario says nothing about is as by default."""
    escalations: dict[str, EscalationPolicy] = {}
    route = _route(setting.route, "/", escalations)
    return AlertingPolicy(
        route=route,
        receivers={
            name: OurReceiver(name=name, channels=receiver.hooks, send_resolved=receiver.send_resolved)
            for name, receiver in setting.receivers.items()
        },
        escalations=escalations,
        calendars={MUTE: mute} if mute is not None else {},
        inhibition=tuple(
            InhibitRule(
                source=(parse_matcher(matcher(rule.source)),),
                target=(parse_matcher(matcher(rule.target)),),
                equal=tuple(map(label_name, rule.equal)),
            )
            for rule in setting.inhibit
        ),
        flapping=Flapping() if setting.quiet is None else Flapping(quiet_ms=_milliseconds(setting.quiet)),
        stale_after_ms=_milliseconds(setting.resolve_timeout),
    )


def mute_calendar(minute: datetime | None) -> Calendar | None:
    """The two minutes before this one."""
    if minute is None:
        return None
    end = round(minute.timestamp()) * 1000
    return Calendar(MUTE, (Interval(span_ms=(end - MUTE_MS, end)),))


def label_name(name: str) -> str:
    """The rule is a label of another name."""
    return "rule" if name == "alertname" else name


def matcher(text: str) -> str:
    """As tidemark's people write it."""
    return "rule" + text.removeprefix("alertname") if text.startswith("alertname") else text


def _route(node: Node, name: str, escalations: dict[str, EscalationPolicy]) -> Route:
    if node.escalation:
        escalations[name] = EscalationPolicy(name=name, steps=tuple(_steps(node)))
    return Route(
        name=name,
        matchers=tuple(parse_matcher(matcher(text)) for text in node.match),
        notify=(node.receiver,),
        escalation=name if node.escalation else "",
        group_by=tuple(map(label_name, node.group_by)),
        group_wait_ms=_milliseconds(node.group_wait),
        group_interval_ms=_milliseconds(node.group_interval),
        repeat_interval_ms=_milliseconds(node.repeat_interval),
        mute_in=(MUTE,) if node.mute else (),
        goes_on=node.goes_on,
        routes=tuple(
            _route(child, f"{name.rstrip('/')}/{number}", escalations) for number, child in enumerate(node.routes)
        ),
    )


def _steps(node: Node) -> list[Step]:
    steps, before = [], 0.0
    for at, receiver in node.escalation:
        steps += [Step(do="wait", wait_ms=_milliseconds(at - before)), Step(do="notify", notify=(receiver,))]
        before = at
    return steps


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
