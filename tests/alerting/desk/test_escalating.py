"""Whom the steps of an escalation reach: through silences, mute times, reloads, and when nobody is on call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alerting.desk.policy import AlertingPolicy, matching
from tests.alerting.desk.desk_world import HOUR, MINUTE, World, a_policy, a_route, a_span, fires, over

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
