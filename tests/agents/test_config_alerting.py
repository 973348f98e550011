"""The section `alerting`: what it says is what holds, and every mistake in it names its line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agents.channel_config import ChannelConfig
from agents.config import find_mistakes
from agents.config_alerting import default_alerting, read_alerting
from agents.config_file import Mistakes, read_text
from alerting.alert import Severity
from alerting.desk.calendars import instant
from alerting.desk.policy import (
    DEFAULT_INHIBITION,
    HOUR_MS,
    MINUTE_MS,
    AlertingPolicy,
    Flapping,
    InhibitRule,
    Receiver,
    Route,
    Step,
    matching,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY_MS = 24 * HOUR_MS

WHOLE = """\
alerting:
  receivers:
    operations: {channels: [wecom-ops, pager]}
    data-science: [dingtalk-ds, dingtalk-ds]
    search-team: {channels: [mail-search], send_resolved: false}
    managers: [mail-search]
  people:
    alice: {channels: [mail-alice], mention: alice.w}
    bob: [wecom-ops]
  rotations:
    ops:
      time_zone: Asia/Shanghai
      start: "2026-01-05 09:00"
      every: 1w
      people: [alice, bob]
      restricted_to: working-hours
      overrides: [{from: 2026-01-06 00:00, to: 2026-01-07, person: bob}]
  calendars:
    nights: {time_zone: Asia/Shanghai, times: ["22:00-08:00"]}
    working-hours:
      - {times: 09:00-18:00, weekdays: mon-fri}
      - {times: [10:00-12:00], weekdays: [sat, sun], months: [6, nov-dec], days_of_month: [1, "-3:-1"], years: 2026}
    june-18: {time_zone: Asia/Shanghai, from: "2026-06-17 20:00", to: 2026-06-20 02:00:00}
  escalations:
    page:
      - {notify: ["oncall:ops", owner]}
      - {wait: 10m}
      - {notify: [operations], only_in: working-hours}
      - {notify: [managers], only_if: {incidents: 3, within: 10m}}
      - {repeat: 3}
      - {next: managers}
    managers: [{notify: [managers]}]
  default_owner: operations
  route:
    group_by: [model_id]
    escalation: managers
    routes:
      - {match: ['severity="critical"'], notify: [owner, operations], escalation: page, group_wait: 0s}
      - {match: 'severity="major", owner=~"search-.*"', notify: [search-team], continue: true, repeat_interval: 1d}
      - match: ['severity="major"']
        notify: [data-science]
        mute_in: [nights]
        group_interval: 1m
        routes: [{match: ['model_id="rec"'], group_by: ['...'], notify: [alice], active_in: [june-18]}]
      - {match: ['severity="minor"'], escalation: none}
  inhibit:
    - {source: ['severity="critical"'], target: ['severity=~"major|minor"'], equal: [model_id]}
  flapping: {times: 4, within: 1h, quiet: 5m}
  stale_after: 2d
"""

CHANNELS = ("wecom-ops", "pager", "dingtalk-ds", "mail-search", "mail-alice")


def channel(name: str, least: Severity | None = None) -> ChannelConfig:
    return ChannelConfig(type="webhook", name=name, min_severity=least)


def read(text: str, channels: tuple[ChannelConfig, ...] | None = None) -> tuple[AlertingPolicy, list[str]]:
    mistakes = Mistakes()
    top = read_text(text, "tidemark.yaml", mistakes)
    policy = read_alerting(top, tuple(map(channel, CHANNELS)) if channels is None else channels)
    top.finish()
    return policy, mistakes.in_order()


def mistakes_of(section: str) -> list[str]:
    """Of a section that is written without its own name; its first line is line 2."""
    return read("alerting:\n" + "".join(f"  {line}\n" for line in section.splitlines()))[1]


def policy() -> AlertingPolicy:
    found, mistakes = read(WHOLE)
    assert mistakes == []
    return found


def test_receivers_and_people() -> None:
    assert policy().receivers == {
        "operations": Receiver(name="operations", channels=("wecom-ops", "pager")),
        "data-science": Receiver(name="data-science", channels=("dingtalk-ds",)),
        "search-team": Receiver(name="search-team", channels=("mail-search",), send_resolved=False),
        "managers": Receiver(name="managers", channels=("mail-search",)),
        "alice": Receiver(name="alice", channels=("mail-alice",), mention="alice.w"),
        "bob": Receiver(name="bob", channels=("wecom-ops",), mention="bob"),
    }
    assert policy().default_owner == "operations"


def test_the_tree_of_routes() -> None:
    route = policy().route
    assert (route.name, route.matchers, route.notify, route.group_by) == ("/", (), (), ("model_id",))
    critical, search, major, minor = route.routes
    assert critical == Route(
        name="/0",
        matchers=matching('severity="critical"'),
        notify=("owner", "operations"),
        escalation="page",
        group_by=("model_id",),
        group_wait_ms=0,
    )
    assert (search.goes_on, search.repeat_interval_ms, len(search.matchers)) == (True, DAY_MS, 2)
    assert (major.goes_on, major.mute_in, major.group_interval_ms) == (False, ("nights",), MINUTE_MS)
    # What it does not say it has from its parent.
    assert major.routes == (
        Route(
            name="/2/0",
            matchers=matching('model_id="rec"'),
            notify=("alice",),
            escalation="managers",
            group_by=("...",),
            group_interval_ms=MINUTE_MS,
            mute_in=("nights",),
            active_in=("june-18",),
        ),
    )
    assert (minor.notify, minor.escalation) == ((), "")


def test_calendars() -> None:
    calendars = policy().calendars

    def at(text: str) -> int:
        return instant(datetime.fromisoformat(text), SHANGHAI)

    assert calendars["nights"].covers(at("2026-06-17 23:00")) and not calendars["nights"].covers(at("2026-06-17 21:59"))
    assert calendars["june-18"].next_change(at("2026-06-17 20:00")) == at("2026-06-20 02:00")
    # These are in UTC: Friday at 9:30, Saturday the 28th of November at 11, and at 12.
    working = [calendars["working-hours"].covers(at(text)) for text in ("2026-06-19 17:30", "2026-11-28 19:00")]
    assert working == [True, True]
    assert not calendars["working-hours"].covers(at("2026-11-28 20:00"))


def test_rotations() -> None:
    ops = policy().rotations["ops"]

    def on_call(text: str) -> str | None:
        return ops.on_call(instant(datetime.fromisoformat(text), SHANGHAI))

    assert [on_call(f"2026-01-{day} 17:30") for day in ("05", "06", "07", "12", "17")] == [
        *("alice", "bob", "alice", "bob"),
        None,
    ]


def test_escalations() -> None:
    escalations = policy().escalations
    assert escalations["page"].steps == (
        Step(do="notify", notify=("oncall:ops", "owner")),
        Step(do="wait", wait_ms=10 * MINUTE_MS),
        Step(do="notify", notify=("operations",), only_in="working-hours"),
        Step(do="notify", notify=("managers",), only_if_count=3, only_if_within_ms=10 * MINUTE_MS),
        Step(do="repeat", repeat=3),
        Step(do="next", next="managers"),
    )
    assert escalations["managers"].steps == (Step(do="notify", notify=("managers",)),)


def test_the_rest() -> None:
    assert policy().inhibition == (
        InhibitRule(
            source=matching('severity="critical"'), target=matching('severity=~"major|minor"'), equal=("model_id",)
        ),
    )
    assert policy().flapping == Flapping(times=4, within_ms=HOUR_MS, quiet_ms=5 * MINUTE_MS)
    assert policy().stale_after_ms == 2 * DAY_MS
    assert read("alerting: {inhibit: []}")[0].inhibition == ()


@pytest.mark.parametrize("text", ["", "alerting:", "alerting: {}"])
def test_without_it_everybody_is_told_of_what_is_urgent(text: str) -> None:
    found, mistakes = read(text)
    assert mistakes == []
    assert found.receivers == {"everybody": Receiver(name="everybody", channels=CHANNELS)}
    assert [route.notify for route in found.route.routes] == [("everybody",), ("everybody",), ()]
    assert [route.matchers for route in found.route.routes] == [
        matching(f'severity="{severity}"') for severity in ("critical", "major", "minor")
    ]
    assert [route.group_wait_ms for route in found.route.routes] == [0, 10_000, 10_000]
    assert (found.inhibition, found.flapping) == (DEFAULT_INHIBITION, Flapping())
    assert found == default_alerting(tuple(map(channel, CHANNELS)))


def test_a_channel_that_asks_for_minor_alerts_gets_them_and_no_other_does() -> None:
    found, mistakes = read("", (channel("pager"), channel("log", "minor"), channel("mail", "critical")))
    assert mistakes == []
    assert [route.notify for route in found.route.routes] == [("everybody",), ("everybody",), ("everything",)]
    assert found.receivers["everything"].channels == ("log",)


def test_operations_and_data_scientists_need_no_route() -> None:
    found, mistakes = read(
        "alerting: {receivers: {operations: [pager], data-science: [dingtalk-ds], everybody: [pager]}}"
    )
    assert mistakes == []
    assert [route.notify for route in found.route.routes] == [("owner", "operations"), ("data-science",), ()]
    assert [route.group_wait_ms for route in found.route.routes] == [0, 10_000, 10_000]


def test_one_file_tells_all_its_mistakes() -> None:
    assert mistakes_of(
        "receivers: {ops: [pagr], owner: [pager]}\n"
        "people: {ops: [pager]}\n"
        "default_owner: opps\n"
        "route: {notify: [ops], mute_in: [nights], colour: red}"
    ) == [
        "tidemark.yaml:2: alerting.receivers.ops: expected the name of a channel, got 'pagr' (did you mean 'pager'?)",
        "tidemark.yaml:2: alerting.receivers.owner: expected 1 to 100 printable characters, "
        "neither owner nor oncall:...",
        "tidemark.yaml:3: alerting.people.ops: the name is taken by another receiver",
        "tidemark.yaml:4: alerting.default_owner: expected the name of a receiver, got 'opps' (did you mean 'ops'?)",
        "tidemark.yaml:5: alerting.route.mute_in: expected the name of a calendar, got 'nights'; known are none",
        "tidemark.yaml:5: alerting.route.colour: unknown key; known are active_in, continue, escalation, group_by, "
        "group_interval, group_wait, match, mute_in, notify, repeat_interval, routes",
    ]


PAGE = "receivers: {ops: [pager]}\nroute: {notify: [ops]}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("receivers: {ops: 5}", "2: alerting.receivers.ops: expected a mapping, got 5"),
        ("receivers: {ops: {channels: []}}", "2: alerting.receivers.ops: expected channels"),
        ("receivers: {ops: {}}", "2: alerting.receivers.ops: expected channels"),
        ("receivers: {'oncall:x': [pager]}", "2: alerting.receivers.oncall:x: expected 1 to 100 printable"),
        ("receivers: {ops: [pager]}", "2: alerting.receivers: expected a route that says who is told what"),
        ("receivers: {ops: {channels: [pager], send_resolved: 1}}", "send_resolved: expected true or false, got 1"),
        ("people: {al: {channels: [pager], phone: 1}}", "al.phone: unknown key; known are"),
        ("flapping: {times: 1}", "2: alerting.flapping.times: expected a whole number from 2 to 100, got 1"),
        ("stale_after: 5m", "2: alerting.stale_after: expected a duration from 1h to 30d"),
        ("esclations: {}", "2: alerting.esclations: unknown key; did you mean escalations?"),
        # Routes.
        (f"{PAGE}route2: 1", "4: alerting.route2: unknown key; did you mean route?"),
        ("route: {match: ['a=\"b\"']}", "2: alerting.route.match: expected none at the top"),
        ("route: {routes: [{notify: [everybody]}]}", "2: alerting.route.routes[0]: expected match"),
        ("route: {routes: [{match: []}]}", "alerting.route.routes[0].match: expected matchers such as"),
        ("route: {routes: [{match: ['a==\"b\"']}]}", "routes[0].match: expected quotes around the whole value"),
        ("route: {routes: [{match: ['a=~\"(\"']}]}", "routes[0].match: expected a regular expression (RE2), got '('"),
        ("route: {routes: [{match: 'a=b', notify: [x]}]}", "notify: expected the name of a receiver, got 'x'"),
        ("route: {notify: ['oncall:ops']}", "route.notify: expected the name of a receiver, got 'oncall:ops'"),
        ("route: {notify: [owner]}", "2: alerting.route.notify: expected default_owner too"),
        ("route: {escalation: pgae}", "route.escalation: expected the name of a policy, got 'pgae'; known are none"),
        ("route: {active_in: [x]}", "route.active_in: expected the name of a calendar, got 'x'"),
        ("route: {group_wait: 2h}", "route.group_wait: expected a duration from 0s to 1h"),
        ("route: {continue: yes please}", 'route.continue: expected true or false, got "yes please"'),
        # Inhibition.
        ("inhibit: [{source: 'a=b'}]", "2: alerting.inhibit[0]: expected source and target, got no target"),
        ("inhibit: [{source: 'a', target: 'a=b'}]", "2: alerting.inhibit[0].source: expected a matcher such as"),
        # Calendars.
        ("calendars: {c: 5}", "2: alerting.calendars.c: expected a mapping, got 5"),
        ("calendars: {c: }", "2: alerting.calendars.c: expected a mapping, got nothing"),
        ("calendars: {c: {time_zone: UTC}}", "2: alerting.calendars.c: expected times, weekdays"),
        ("calendars: {c: {time_zone: Mars, times: 09:00-10:00}}", "c.time_zone: expected a time zone such as"),
        ("calendars: {c: {times: [9-10]}}", "calendars.c.times: expected two times such as"),
        ("calendars: {c: {weekday: mon}}", "calendars.c.weekday: unknown key; did you mean weekdays?"),
        ("calendars: {c: {from: 2026-01-01}}", "2: alerting.calendars.c: expected from and to, got only one"),
        ("calendars: {c: [{from: 2026-01-02, to: 2026-01-02}]}", "c[0].to: expected a time after from"),
        # Rotations.
        ("rotations: {r: 5}", "2: alerting.rotations.r: expected a mapping, got 5"),
        (
            "rotations: {r: {every: 1w}}",
            "2: alerting.rotations.r: expected start, every and people, got no people and no",
        ),
        (
            "rotations: {r: {start: 2026-01-05, every: 1w, people: [x]}}",
            "people: expected the name of a person, got 'x'",
        ),
        ("rotations: {r: {start: 2026-01-05, every: 1w, people: []}}", "people: expected a person at least"),
        ("rotations: {r: {start: 2026-01-05, every: 1m, people: []}}", "every: expected a time from 1 hour"),
        (
            "rotations: {r: {start: soon, every: 1w, people: [everybody]}}",
            "2: alerting.rotations.r.start: expected a local time such as",
        ),
        (
            "rotations: {r: {overrides: [{from: soon, to: 2026-01-02, person: everybody}]}}",
            "r.overrides[0].from: expected a local time such as",
        ),
        ("rotations: {r: {restricted_to: x}}", "restricted_to: expected the name of a calendar, got 'x'"),
        (
            "rotations: {r: {overrides: [{person: everybody}]}}",
            "overrides[0]: expected from, to and person, got no from",
        ),
        (
            "rotations: {r: {overrides: [{from: 2026-01-02, to: 2026-01-02, person: everybody}]}}",
            "r.overrides[0].to: expected an end after the beginning",
        ),
        # Escalations.
        ("escalations: {p: 5}", "2: alerting.escalations.p: expected a list, got 5"),
        ("escalations: {p: []}", "2: alerting.escalations.p: expected a step that notifies somebody"),
        ("escalations: {p: [{wait: 5m}]}", "2: alerting.escalations.p: expected a step that notifies somebody"),
        ("escalations: {p: [{}, {notify: [everybody]}]}", "p[0]: expected one of notify, wait, repeat, next, got none"),
        (
            "escalations: {p: [{notify: [everybody], wait: 5m}]}",
            "p[0]: expected one of notify, wait, repeat, next, got",
        ),
        ("escalations: {p: [{notify: []}]}", "p[0].notify: expected somebody"),
        ("escalations: {p: [{notify: ['oncall:r']}]}", "p[0].notify: expected the name of a receiver, got 'oncall:r'"),
        ("escalations: {p: [{notify: [everybody]}, {wait: 0}]}", "p[1].wait: expected a duration from 1s to 7d"),
        ("escalations: {p: [{notify: [everybody]}, {repeat: 6}]}", "p[1].repeat: expected a whole number from 1 to 5"),
        ("escalations: {p: [{notify: [everybody]}, {repeat: 2}]}", "p: step 2 of p: expected a wait without"),
        ("escalations: {p: [{notify: [everybody]}, {next: q}]}", "p[1].next: expected the name of a policy, got 'q'"),
        (
            "escalations: {p: [{notify: [everybody]}, {next: p}]}",
            "2: alerting.escalations.p: expected policies that end",
        ),
        ("escalations: {p: [{notify: [everybody], only_in: x}]}", "p[0].only_in: expected the name of a calendar"),
        ("escalations: {p: [{notify: [everybody], only_if: {incidents: 3}}]}", "p[0].only_if: expected incidents and"),
        ("escalations: {p: [{notify: [everybody], only_if: {incidents: 1001, within: 1h}}]}", "p[0].only_if.incidents"),
        (
            "calendars: {c: {times: 09:00-10:00}}\nescalations: {p: [{notify: [everybody]}, {wait: 5m, only_in: c}]}",
            "3: alerting.escalations.p[1].wait: expected no condition on a wait",
        ),
    ],
)
def test_every_mistake_names_its_line(text: str, expected: str) -> None:
    found = mistakes_of(text)
    assert any(expected in mistake for mistake in found), found
    assert all(mistake.startswith("tidemark.yaml:") and ":0:" not in mistake for mistake in found), found


def test_a_wrong_policy_is_told_once_though_others_lead_to_it() -> None:
    found = mistakes_of(
        "escalations:\n"
        "  a: [{notify: [everybody]}, {next: b}]\n"
        "  b: [{notify: [everybody]}, {repeat: 2}]\n"
        "  c: [{notify: [everybody]}, {next: b}]"
    )
    assert len(found) == 1 and "step 2 of b" in found[0]


@pytest.mark.parametrize(
    ("channel", "alerting", "expected"),
    [
        ("resolve_after: 4h", "{}", "1: channels[0].resolve_after: expected a resolve_after longer than the longest "),
        ("locale: en", "{route: {notify: [everybody], repeat_interval: 5h}}", "1: channels[0]: expected a resolve_af"),
        (
            "locale: en",
            "{default_owner: everybody, route: {routes: [{match: ['a=b'], notify: [owner], repeat_interval: 1d}]}}",
            "the longest repeat_interval, 1 d, or Alertmanager takes for over what still fires",
        ),
        ("locale: en", "{}", ""),
        ("resolve_after: 25h", "{route: {notify: [everybody], repeat_interval: 1d}}", ""),
        ("locale: en", "{receivers: {r: [other]}, route: {notify: [r], repeat_interval: 1d}}", ""),
    ],
)
def test_an_alertmanager_is_told_again_before_it_takes_an_alert_for_over(
    tmp_path: Path, channel: str, alerting: str, expected: str
) -> None:
    file = tmp_path / "tidemark.yaml"
    file.write_text(
        f"channels: [{{type: alertmanager, url: 'http://am', {channel}}}, {{type: terminal, name: other}}]\n"
        f"alerting: {alerting}\n"
    )
    found = find_mistakes(file, {})
    assert len(found) == bool(expected), found
    assert all(expected in mistake for mistake in found)
