"""The section `alerting` of the configuration file: who is told what, when.

A mistake is noted in the section and a default takes its place, so that reading goes on and finds the rest.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from agents import config_values as values
from agents.channel_config import ChannelConfig
from agents.config_file import Mistakes, Section, read_text
from agents.config_on_call import (
    DAY_MS,
    NO_NAMES,
    check_names,
    mapping_of,
    read_calendars,
    read_escalations,
    read_rotations,
    targets_of,
)
from alerting.desk.calendars import Calendar
from alerting.desk.matchers import Matcher, parse_matchers
from alerting.desk.policy import (
    DEFAULT_INHIBITION,
    HOUR_MS,
    ON_CALL,
    OWNER,
    AlertingPolicy,
    EscalationPolicy,
    Flapping,
    InhibitRule,
    Receiver,
    Route,
    matching,
)
from alerting.durations import say_duration

EVERYBODY = "everybody"
"""The receiver with all channels, where the file names none."""
EVERYTHING = "everything"
"""Beside it, the one with the channels that ask for minor alerts by their `min_severity`, if any does."""
OPERATIONS = "operations"
DATA_SCIENCE = "data-science"
"""The receivers that, where there is no `route`, get what the mission gives to operations and data scientists."""
NO_ESCALATION = "none"
"""Takes back the `escalation` of the route above."""
NO_MATCHERS: tuple[Matcher, ...] = ()


def read_alerting(top: Section, channels: Sequence[ChannelConfig]) -> AlertingPolicy:
    """`alerting`: receivers, people, rotations, calendars, escalations, routes, inhibition, flapping."""
    section = top.section("alerting")
    receivers = _read_receivers(section, channels)
    calendars = read_calendars(section.section("calendars"))
    rotations = read_rotations(section.section("rotations"), receivers, calendars)
    targets = targets_of(receivers, section.section("rotations").keys())
    escalations = read_escalations(section.section("escalations"), targets, calendars)
    default_owner = section.take("default_owner", values.text, "")
    check_names(section, "default_owner", [default_owner] if default_owner else [], receivers, "receiver")
    names = _Names(targets=targets, calendars=calendars, escalations=escalations, has_owner=bool(default_owner))
    if section.plain("route") is not None:
        route = _read_route(section.section("route"), Route(name=""), "/", names)
    else:
        route = _default_route(section, receivers)
    policy = AlertingPolicy(
        route=route,
        receivers=receivers,
        escalations=escalations,
        rotations=rotations,
        calendars=calendars,
        inhibition=_read_inhibition(section),
        flapping=_read_flapping(section.section("flapping")),
        default_owner=default_owner,
        stale_after_ms=section.take("stale_after", values.duration_between(HOUR_MS, 30 * DAY_MS), 7 * DAY_MS),
    )
    section.finish()
    return policy


def default_alerting(channels: Sequence[ChannelConfig]) -> AlertingPolicy:
    """What holds where the file says nothing of it: critical and major alerts go to every channel."""
    mistakes = Mistakes()
    return read_alerting(read_text("", "defaults", mistakes), channels)


def check_renewal(top: Section, channels: Sequence[ChannelConfig], policy: AlertingPolicy) -> None:
    """Note an Alertmanager that would take for over what fires on: nothing renews it before `resolve_after`."""
    if all(channel.type != "alertmanager" for channel in channels):
        return
    routes = [policy.route]
    for route in routes:
        routes += route.routes
    for section, channel in zip(top.sections("channels"), channels, strict=False):
        receivers = {name for name, receiver in policy.receivers.items() if channel.name in receiver.channels}
        # An owner or who is on call may be any of the receivers.
        longest = max(
            (
                route.repeat_interval_ms
                for route in routes
                if receivers and any(name in receivers or name not in policy.receivers for name in route.notify)
            ),
            default=0,
        )
        if channel.type == "alertmanager" and channel.resolve_after_ms <= longest:
            section.mistake(
                "resolve_after" if "resolve_after" in section else "",
                f"expected a resolve_after longer than the longest repeat_interval, {say_duration(longest)}, or "
                f"Alertmanager takes for over what still fires; got {say_duration(channel.resolve_after_ms)}",
            )


def _read_receivers(section: Section, channels: Sequence[ChannelConfig]) -> dict[str, Receiver]:
    """`receivers` and `people`, which are receivers as well."""
    receivers: dict[str, Receiver] = {}
    names = tuple(channel.name for channel in channels)
    if "receivers" not in section:
        receivers[EVERYBODY] = Receiver(name=EVERYBODY, channels=names)
        if asking := tuple(channel.name for channel in channels if channel.min_severity == "minor"):
            receivers[EVERYTHING] = Receiver(name=EVERYTHING, channels=asking)
    for field in ("receivers", "people"):
        named = section.section(field)
        for name in list(named.keys()):
            if name == OWNER or name.startswith(ON_CALL) or not name.isprintable() or not 1 <= len(name) <= 100:
                named.mistake(name, f"expected 1 to 100 printable characters, neither {OWNER} nor {ON_CALL}...")
            elif name in receivers:
                named.mistake(name, "the name is taken by another receiver")
            receivers[name] = _read_receiver(named, name, names, name if field == "people" else "")
    return receivers


def _read_receiver(named: Section, name: str, channels: Collection[str], mention: str) -> Receiver:
    if isinstance(named.plain(name), list):
        told = named.take(name, values.texts, NO_NAMES)
        check_names(named, name, told, channels, "channel")
        return Receiver(name=name, channels=_once(told), mention=mention)
    section = mapping_of(named, name)
    if section is None:
        return Receiver(name=name, channels=())
    told = section.take("channels", values.texts, NO_NAMES)
    check_names(section, "channels", told, channels, "channel")
    if section.plain("channels") in (None, []):
        named.mistake(name, "expected channels, such as {channels: [terminal]}")
    receiver = Receiver(
        name=name,
        channels=_once(told),
        send_resolved=section.take("send_resolved", _flag, True),
        mention=section.take("mention", values.text, mention),
    )
    section.finish()
    return receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What routes may name."""

    targets: Collection[str]
    calendars: Mapping[str, Calendar]
    escalations: Mapping[str, EscalationPolicy]
    has_owner: bool


def _read_route(section: Section, parent: Route, path: str, names: _Names) -> Route:
    """A route with all below it; what it does not say it has from its parent."""
    matchers = section.take("match", _matchers, NO_MATCHERS)
    if path == "/" and "match" in section:
        section.mistake("match", "expected none at the top of the tree, which takes every alert; put it under routes")
    elif path != "/" and "match" not in section:
        section.mistake("", "expected match, such as ['severity=\"major\"']")
    notify = section.take("notify", values.texts, parent.notify)
    check_names(section, "notify", notify if "notify" in section else (), names.targets, "receiver")
    if notify == (OWNER,) and "notify" in section and not names.has_owner:
        section.mistake("notify", "expected default_owner too, or nobody is told where a rule has no owner")
    escalation = section.take("escalation", values.text, parent.escalation)
    if escalation == NO_ESCALATION:
        escalation = ""
    check_names(section, "escalation", [escalation] if escalation else [], names.escalations, "policy")
    mute_in = section.take("mute_in", values.texts, parent.mute_in)
    check_names(section, "mute_in", mute_in if "mute_in" in section else (), names.calendars, "calendar")
    active_in = section.take("active_in", values.texts, parent.active_in)
    check_names(section, "active_in", active_in if "active_in" in section else (), names.calendars, "calendar")
    route = Route(
        name=path,
        matchers=matchers,
        notify=_once(notify),
        escalation=escalation,
        group_by=_once(section.take("group_by", values.texts, parent.group_by)),
        group_wait_ms=section.take("group_wait", values.duration_between(0, HOUR_MS), parent.group_wait_ms),
        group_interval_ms=section.take(
            "group_interval", values.duration_between(1_000, DAY_MS), parent.group_interval_ms
        ),
        repeat_interval_ms=section.take(
            "repeat_interval", values.duration_between(60_000, 30 * DAY_MS), parent.repeat_interval_ms
        ),
        mute_in=mute_in,
        active_in=active_in,
        goes_on=section.take("continue", _flag, False),
    )
    children = section.sections("routes")
    section.finish()
    below = tuple(
        _read_route(child, route, f"{path.rstrip('/')}/{index}", names) for index, child in enumerate(children)
    )
    return replace(route, routes=below)


def _default_route(section: Section, receivers: Mapping[str, Receiver]) -> Route:
    """Critical at once, major soon, minor only to channels that ask for it."""
    critical = major = minor = NO_NAMES
    if {OPERATIONS, DATA_SCIENCE} <= receivers.keys():
        critical, major = (OWNER, OPERATIONS), (DATA_SCIENCE,)
    elif EVERYBODY in receivers:
        critical = major = (EVERYBODY,)
        minor = (EVERYTHING,) if EVERYTHING in receivers else NO_NAMES
    else:
        section.mistake(
            "receivers",
            f"expected a route that says who is told what, or receivers named {OPERATIONS} and {DATA_SCIENCE}",
        )
    return Route(
        name="/",
        routes=(
            Route(name="/0", matchers=matching('severity="critical"'), notify=critical, group_wait_ms=0),
            Route(name="/1", matchers=matching('severity="major"'), notify=major),
            Route(name="/2", matchers=matching('severity="minor"'), notify=minor),
        ),
    )


def _read_inhibition(section: Section) -> tuple[InhibitRule, ...]:
    """`inhibit`: where it is absent critical alerts hide the others of their model, an empty list hides none."""
    if "inhibit" not in section:
        return DEFAULT_INHIBITION
    rules = []
    for part in section.sections("inhibit"):
        if missing := {"source", "target"} - part.keys():
            part.mistake("", f"expected source and target, got no {' and no '.join(sorted(missing))}")
        rules.append(
            InhibitRule(
                source=part.take("source", _matchers, NO_MATCHERS),
                target=part.take("target", _matchers, NO_MATCHERS),
                equal=part.take("equal", values.texts, NO_NAMES),
            )
        )
        part.finish()
    return tuple(rules)


def _read_flapping(section: Section) -> Flapping:
    default = Flapping()
    flapping = Flapping(
        times=section.take("times", values.integer(2, 100), default.times),
        within_ms=section.take("within", values.duration_between(60_000, DAY_MS), default.within_ms),
        quiet_ms=section.take("quiet", values.duration_between(1_000, DAY_MS), default.quiet_ms),
    )
    section.finish()
    return flapping


def _matchers(value: object) -> tuple[Matcher, ...]:
    """Matchers as a text or a list of texts."""
    found = tuple(
        matcher
        for text in values.texts([value] if isinstance(value, str) else value)
        for matcher in parse_matchers(text)
    )
    if not found:
        raise ValueError("expected matchers such as ['severity=\"major\"']")
    return found


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
