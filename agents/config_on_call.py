"""The parts of the section `alerting` that say when, who and in which order: calendars, rotations, escalations."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from agents import config_values as values
from agents.config_file import Converter, Section, show
from alerting.alert import printable
from alerting.desk.calendars import (
    UTC,
    Calendar,
    Interval,
    Range,
    instant,
    parse_days_of_month,
    parse_local,
    parse_months,
    parse_time_zone,
    parse_times,
    parse_weekdays,
    parse_years,
)
from alerting.desk.escalation import MOST_REPEATS, chain_of
from alerting.desk.policy import HOUR_MS, MOST_BEGINS, ON_CALL, OWNER, EscalationPolicy, Receiver, Step
from alerting.desk.rotations import Override, Rotation, parse_every
from alerting.rules.expressions import did_you_mean
from tables.errors import ConfigError

DAY_MS = 24 * HOUR_MS
NO_NAMES: tuple[str, ...] = ()
ACTIONS = ("notify", "wait", "repeat", "next")


def check_names(section: Section, field: str, given: Collection[str], known: Collection[str], kind: str) -> None:
    """Note a mistake for each name that is not known."""
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"; known are {', '.join(sorted(known)) or 'none'}"
            section.mistake(field, f"expected the name of a {kind}, got {printable(name, 80)!r}{hint}")


def mapping_of(section: Section, field: str) -> Section | None:
    """The nested mapping; None, and a mistake, where something else is there."""
    value = section.plain(field)
    if isinstance(value, Mapping):
        return section.section(field)
    section.mistake(field, f"expected a mapping, got {show(value)}")
    return None


def one_or_more(convert: Callable[[object], Range]) -> Converter[tuple[Range, ...]]:
    """One value or a list of them."""

    def convert_all(value: object) -> tuple[Range, ...]:
        return tuple(convert(item) for item in (value if isinstance(value, list) else [value]))

    return convert_all


def read_calendars(section: Section) -> dict[str, Calendar]:
    """`alerting.calendars`: each a mapping, or a list of mappings any of which may hold."""
    calendars = {}
    for name in list(section.keys()):
        parts = section.sections(name) if isinstance(section.plain(name), list) else [mapping_of(section, name)]
        calendars[name] = Calendar(name, tuple(_read_interval(part) for part in parts if part is not None))
    return calendars


def _read_interval(section: Section) -> Interval:
    none: tuple[Range, ...] = ()
    zone = section.take("time_zone", lambda value: parse_time_zone(values.text(value)), UTC)
    start, end = (section.take(name, parse_local, None) for name in ("from", "to"))
    span = (instant(start, zone), instant(end, zone)) if start is not None and end is not None else None
    if ("from" in section) != ("to" in section):
        section.mistake("", "expected from and to, got only one of them")
    elif span is not None and span[0] >= span[1]:
        section.mistake("to", "expected a time after from")
    interval = Interval(
        time_zone=zone,
        times=section.take("times", one_or_more(parse_times), none),
        weekdays=section.take("weekdays", one_or_more(parse_weekdays), none),
        days_of_month=section.take("days_of_month", one_or_more(parse_days_of_month), none),
        months=section.take("months", one_or_more(parse_months), none),
        years=section.take("years", one_or_more(parse_years), none),
        span_ms=span,
    )
    if not section.keys() - {"time_zone"}:
        section.mistake("", "expected times, weekdays, days_of_month, months, years, or from and to, got none")
    section.finish()
    return interval


def read_rotations(
    section: Section, receivers: Mapping[str, Receiver], calendars: Mapping[str, Calendar]
) -> dict[str, Rotation]:
    """`alerting.rotations`: who is on call; `receivers` are the people that there are."""
    rotations = {}
    for name in list(section.keys()):
        part = mapping_of(section, name)
        rotation = None if part is None else _read_rotation(name, part, receivers, calendars)
        if rotation is not None:
            rotations[name] = rotation
    return rotations


def _read_rotation(
    name: str, section: Section, receivers: Mapping[str, Receiver], calendars: Mapping[str, Calendar]
) -> Rotation | None:
    zone = section.take("time_zone", lambda value: parse_time_zone(values.text(value)), UTC)
    start = section.take("start", parse_local, None)
    every_ms = section.take("every", parse_every, 0)
    people = section.take("people", values.texts, NO_NAMES)
    check_names(section, "people", people, receivers, "person")
    restricted_to = section.take("restricted_to", values.text, "")
    check_names(section, "restricted_to", [restricted_to] if restricted_to else [], calendars, "calendar")
    overrides = []
    for part in section.sections("overrides"):
        first, last = (part.take(field, parse_local, None) for field in ("from", "to"))
        person = part.take("person", values.text, "")
        check_names(part, "person", [person] if person else [], receivers, "person")
        if missing := {"from", "to", "person"} - part.keys():
            part.mistake("", f"expected from, to and person, got no {' and no '.join(sorted(missing))}")
        elif first is not None and last is not None:
            try:
                overrides.append(Override(instant(first, zone), instant(last, zone), person))
            except ConfigError as error:
                part.mistake("to", str(error))
        part.finish()
    if missing := {"start", "every", "people"} - section.keys():
        section.mistake("", f"expected start, every and people, got no {' and no '.join(sorted(missing))}")
    elif not people:
        section.mistake("people", "expected a person at least")
    section.finish()
    if start is None or not every_ms or not people:
        return None
    return Rotation(
        name=name,
        time_zone=zone,
        start=start,
        every_ms=every_ms,
        people=people,
        overrides=tuple(overrides),
        restricted_to=calendars.get(restricted_to),
    )


def read_escalations(
    section: Section, targets: Collection[str], calendars: Mapping[str, Calendar]
) -> dict[str, EscalationPolicy]:
    """`alerting.escalations`: lists of steps; `targets` are the names that `notify` may hold."""
    names = list(section.keys())
    policies = {}
    for name in names:
        steps = tuple(_read_step(part, targets, calendars, names) for part in section.sections(name))
        policies[name] = EscalationPolicy(name=name, steps=steps)
        if not any(step.do == "notify" for step in steps) and isinstance(section.plain(name), list | None):
            section.mistake(name, "expected a step that notifies somebody, got none")
    # A name that is missing has been told of already.
    if all(step.next in policies for policy in policies.values() for step in policy.steps if step.do == "next"):
        _check_chains(section, policies)
    return policies


def _check_chains(section: Section, policies: Mapping[str, EscalationPolicy]) -> None:
    told: set[str] = set()
    for name, policy in policies.items():
        try:
            chain_of(policy, policies)
        except ConfigError as error:
            # Every policy that leads to a wrong one says the same.
            if str(error) not in told:
                section.mistake(name, str(error))
            told.add(str(error))


def _read_step(
    section: Section, targets: Collection[str], calendars: Mapping[str, Calendar], policies: Collection[str]
) -> Step:
    notify = section.take("notify", values.texts, NO_NAMES)
    check_names(section, "notify", notify, targets, "receiver")
    wait_ms = section.take("wait", values.duration_between(1_000, 7 * DAY_MS), 0)
    repeat = section.take("repeat", values.integer(1, MOST_REPEATS), 1)
    following = section.take("next", values.text, "")
    check_names(section, "next", [following] if following else [], policies, "policy")
    only_in = section.take("only_in", values.text, "")
    check_names(section, "only_in", [only_in] if only_in else [], calendars, "calendar")
    condition = section.section("only_if")
    count = condition.take("incidents", values.integer(2, MOST_BEGINS), 0)
    within_ms = condition.take("within", values.duration_between(1_000, DAY_MS), 0)
    if "only_if" in section and not {"incidents", "within"} <= condition.keys():
        section.mistake("only_if", "expected incidents and within, such as {incidents: 3, within: 10m}")
    condition.finish()
    section.finish()
    given = [name for name in ACTIONS if name in section]
    if len(given) != 1:
        section.mistake("", f"expected one of {', '.join(ACTIONS)}, got {' and '.join(given) or 'none'}")
    if "wait" in section and {"only_in", "only_if"} & section.keys():
        section.mistake("wait", "expected no condition on a wait: put it on the steps after it")
    if "notify" in section and section.plain("notify") == []:
        section.mistake("notify", "expected somebody")
    step = Step(do="notify", notify=notify, only_in=only_in, only_if_count=count, only_if_within_ms=within_ms)
    if "wait" in section:
        return Step(do="wait", wait_ms=wait_ms)
    if "repeat" in section:
        return replace(step, do="repeat", notify=(), repeat=repeat)
    if "next" in section:
        return replace(step, do="next", notify=(), next=following)
    return step


def targets_of(receivers: Collection[str], rotations: Collection[str]) -> list[str]:
    """All that `notify` may name."""
    return [*receivers, OWNER, *(ON_CALL + name for name in rotations)]
