"""Whom the steps of an escalation reach: through silences, mute times, reloads, and when nobody is on call."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from alerting.desk.policy import MOST_BEGINS, AlertingPolicy, EscalationPolicy, Receiver, Step, matching
from alerting.desk.rotations import Rotation
from tests.alerting.desk.desk_world import (
    HOUR,
    MINUTE,
    SECOND,
    World,
    a_policy,
    a_route,
    a_silence,
    a_span,
    fires,
    over,
)

OWNED = fires("a", related={"owner": "ann"})


# -- routes that change


def behind_another(**changes: Any) -> AlertingPolicy:
    """The route has another one before it, which is quiet, and so another name."""
    return a_policy(
        a_route(name="/0", matchers=matching('severity="minor"'), mute_in=("night",)),
        a_route(**{"name": "/1", "matchers": matching('severity="major"'), "notify": ()} | changes),
        calendars={"night": a_span(0, 600)},
    )


def test_a_route_that_is_put_before_others_does_not_make_them_quiet() -> None:
    alone = a_route(name="/0", matchers=matching('severity="major"'), notify=(), escalation="page")
    world = World(a_policy(alone, a_route(name="/1")))
    world.hear(OWNED)
    world.at(MINUTE).take(world.desk.replace_policy(behind_another(escalation="page"), world.now))
    world.at(25 * MINUTE).hear(over(OWNED))
    assert world.at(HOUR).said() == [
        "0:00 mail firing a",
        "10:00 pager escalation a",
        "20:00 mail escalation a",
        "25:00 mail resolved -a",
        "25:00 pager resolved -a",
    ]


def test_what_its_new_route_does_not_name_is_no_quieter_than_the_route() -> None:
    world = World(a_policy(a_route(name="/0", group_wait_ms=0), a_route(name="/1")))
    world.hear(OWNED)
    world.at(MINUTE).take(world.desk.replace_policy(behind_another(notify=("operations",)), world.now))
    world.hear(over(OWNED))
    assert world.at(HOUR).said() == ["0:00 chat firing a", "1:00 chat resolved -a"]


def test_two_routes_that_ask_for_one_policy_escalate_once() -> None:
    route = a_route(name="/0", matchers=matching('severity="major"'), notify=(), escalation="page", goes_on=True)
    world = World(a_policy(route, replace(route, name="/1")))
    world.hear(OWNED)
    assert world.at(15 * MINUTE).said() == ["0:00 mail firing a", "10:00 pager escalation a"]


def test_a_route_that_escalates_from_now_on() -> None:
    world = World()
    world.hear(OWNED)
    escalates = a_policy(a_route(escalation="page"))
    world.at(MINUTE).take(world.desk.replace_policy(escalates, world.now))
    world.at(2 * MINUTE).take(world.desk.replace_policy(escalates, world.now))
    assert world.at(15 * MINUTE).said() == ["0:10 chat firing a", "1:00 mail firing a", "11:00 pager escalation a"]


@pytest.mark.parametrize("told", [False, True])
def test_what_becomes_critical_is_escalated(told: bool) -> None:
    critical = a_route(name="/0", matchers=matching('severity="critical"'), notify=(), escalation="page")
    world = World(a_policy(critical, a_route(name="/1")))
    world.hear(OWNED, told=told)
    world.at(MINUTE).hear(replace(OWNED, alert_id="a2", severity="critical"), told=told)
    begins = [] if told else ["0:10 chat firing a", "1:00 mail firing a2"]
    assert world.at(15 * MINUTE).said() == [*begins, "11:00 pager escalation a2"]


# -- what each step says


def notify(*names: str, **conditions: Any) -> Step:
    return Step(do="notify", notify=names, **conditions)


def wait(minutes: int) -> Step:
    return Step(do="wait", wait_ms=minutes * MINUTE)


def stepping(*steps: Step, notify: tuple[str, ...] = (), **changes: Any) -> World:
    route = a_route(notify=notify, escalation="page", group_wait_ms=0)
    return World(a_policy(route, escalations={"page": EscalationPolicy(name="page", steps=steps)}, **changes))


def test_a_step_after_a_wait_tells_also_whom_the_group_has_told() -> None:
    world = stepping(wait(10), notify("owner"), notify=("owner",))
    world.hear(OWNED)
    assert world.at(HOUR).said() == ["0:00 mail firing a", "10:00 mail escalation a"]


@pytest.mark.parametrize(
    "steps",
    [
        (notify("ann"), notify("science", "ann")),
        (notify("operations", only_in="work"), notify("ann"), notify("science")),
    ],
)
def test_steps_without_a_wait_between_them_say_nothing_twice(steps: tuple[Step, ...]) -> None:
    world = stepping(*steps, notify=("science",), calendars={"work": a_span(600, 900)})
    world.hear(OWNED)
    assert world.at(HOUR).said() == ["0:00 chat firing a", "0:00 mail firing a"]


def test_whoever_is_to_be_mentioned_is_mentioned() -> None:
    people = {
        "team": Receiver(name="team", channels=("chat",)),
        "bob": Receiver(name="bob", channels=("chat",), mention="bob"),
    }
    world = stepping(notify("bob"), notify("bob", "team"), notify=("team",), receivers=people)
    world.hear(OWNED)
    assert [(note.stage, note.mentions) for note in world.queue] == [("firing", ()), ("firing", ("bob",))]


# -- kept quiet for longer than the policy lasts


def quiet_for_an_hour(how: str) -> World:
    muted = {"mute_in": ("night",)} if how == "muted" else {}
    world = World(
        a_policy(a_route(notify=(), escalation="page", **muted), calendars={"night": a_span(0, 60)}),
    )
    if how == "silenced":
        world.silence(a_silence('rule="a"', end=HOUR))
    if how == "inhibited":
        world.hear(fires("d", severity="critical", labels={}))
        world.said()
    world.at(5 * MINUTE).hear(OWNED)
    world.at(HOUR)
    if how == "inhibited":
        world.hear(over(fires("d", severity="critical")))
    return world


@pytest.mark.parametrize("how", ["silenced", "muted", "inhibited"])
def test_what_still_fires_at_the_end_of_the_quiet_is_escalated_from_the_beginning(how: str) -> None:
    world = quiet_for_an_hour(how).restarted()
    assert [said for said in world.at(75 * MINUTE).said() if not said.endswith("d")] == [
        "60:00 mail firing a",
        "70:00 pager escalation a",
    ]


def test_of_a_policy_that_ends_within_a_silence_the_owner_hears_again() -> None:
    world = World(a_policy(a_route(notify=(), escalation="page")))
    world.hear(OWNED)
    world.at(MINUTE).silence(a_silence('rule="a"', end=HOUR))
    assert world.at(65 * MINUTE).said() == ["0:00 mail firing a", "60:00 mail firing a"]


def test_a_group_and_a_policy_that_begins_again_say_nothing_twice() -> None:
    world = World(a_policy(a_route(notify=("ann",), escalation="page")))
    world.silence(a_silence('rule="a"', end=HOUR))
    world.hear(OWNED)
    assert world.at(65 * MINUTE).said() == ["60:00 mail firing a"]


# -- nobody on call


def test_a_step_that_finds_nobody_is_tried_again_while_the_others_go_on() -> None:
    start = datetime(2026, 5, 1, 10, 12, 30)
    rotation = Rotation(name="ops", time_zone=ZoneInfo("UTC"), start=start, every_ms=24 * HOUR, people=("ann",))
    world = stepping(notify("oncall:ops"), wait(10), notify("operations"), rotations={"ops": rotation})
    assert world.hear(OWNED) == ["opened", "nobody"]
    world.at(5 * MINUTE + SECOND).restarted()
    assert world.at(HOUR).said() == ["10:00 pager escalation a", "13:00 mail firing a"]


def test_nobody_is_looked_for_outside_of_the_hours_of_a_step() -> None:
    rotation = Rotation(
        name="ops", time_zone=ZoneInfo("UTC"), start=datetime(2026, 5, 1, 11), every_ms=24 * HOUR, people=("ann",)
    )
    work = {"work": a_span(0, 30)}
    world = stepping(notify("oncall:ops", only_in="work"), rotations={"ops": rotation}, calendars=work)
    world.hear(OWNED)
    assert world.at(2 * HOUR).said() == []


# -- only if many begin


def test_what_a_rebuild_reads_does_not_begin_now() -> None:
    world = stepping(notify("operations", only_if_count=3, only_if_within_ms=10 * MINUTE))
    for number in range(5):
        former = fires(f"b{number}", fingerprint=str(number))
        world.hear(former, over(former), told=True)
    assert world.hear(OWNED) == ["opened", "escalation_skipped"]


def test_as_many_begins_are_counted_as_a_step_may_ask_for() -> None:
    world = stepping(notify("operations", only_if_count=MOST_BEGINS, only_if_within_ms=HOUR))
    world.hear(*(fires(f"b{number}", fingerprint=str(number)) for number in range(MOST_BEGINS)))
    assert world.said() == [f"0:00 pager firing b{MOST_BEGINS - 1}"]
