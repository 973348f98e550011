"""Who hears of an end, and of a condition that comes back: once, and only of what they had heard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alerting.desk.decisions import Reason
from alerting.desk.policy import AlertingPolicy, matching
from tests.alerting.desk.desk_world import HOUR, MINUTE, World, a_policy, a_route, a_silence, a_span, fires, over

A = fires("a")
A2 = replace(A, alert_id="a2")
OWNED = fires("a", related={"owner": "ann"})
OWNED_AGAIN = replace(OWNED, alert_id="a2")


def pager_at_once_and_chat_later(**changes: Any) -> AlertingPolicy:
    return a_policy(
        a_route(
            name="/0", matchers=matching('severity="major"'), notify=("operations",), group_wait_ms=0, goes_on=True
        ),
        a_route(name="/1", **changes),
        calendars={"night": a_span(5, 600)},
    )


# -- an end is said once


def test_reloads_repeat_no_end() -> None:
    policy = pager_at_once_and_chat_later(mute_in=("night",))
    world = World(policy)
    world.hear(A)
    world.at(6 * MINUTE).hear(over(A))
    for minute in (10, 20, 30):
        world.at(minute * MINUTE).take(world.desk.replace_policy(policy, world.now))
    assert world.at(700 * MINUTE).said() == [
        "0:00 pager firing a",
        "0:10 chat firing a",
        "6:00 pager resolved -a",
        "600:00 chat resolved -a",
    ]


def test_reloads_repeat_no_end_to_whom_an_escalation_told() -> None:
    world = World(a_policy(a_route(escalation="page")))
    world.hear(OWNED)
    world.at(MINUTE).hear(over(OWNED))
    world.at(2 * MINUTE).take(world.desk.replace_policy(world.policy, world.now))
    assert world.at(HOUR).said() == [
        "0:00 mail firing a",
        "0:10 chat firing a",
        "1:00 mail resolved -a",
        "5:10 chat resolved -a",
    ]


def test_channels_are_told_in_the_order_of_the_route() -> None:
    world = World(a_policy(a_route(notify=("both", "ann"), group_wait_ms=0)))
    world.hear(A)
    elsewhere = a_policy(a_route(name="/new", notify=("both", "ann")))
    world.at(MINUTE).take(world.desk.replace_policy(elsewhere, world.now))
    world.said()
    world.hear(over(A))
    assert world.at(HOUR).said() == ["1:10 chat resolved -a", "1:10 pager resolved -a", "1:10 mail resolved -a"]


# -- back before all have heard of the end


def test_who_heard_of_the_end_hears_that_it_is_back() -> None:
    world = World(a_policy(a_route(escalation="page")))
    world.hear(OWNED)
    world.at(MINUTE).hear(over(OWNED))
    world.at(2 * MINUTE).hear(OWNED_AGAIN)
    world.at(3 * MINUTE).hear(over(OWNED_AGAIN))
    assert world.at(HOUR).said() == [
        "0:00 mail firing a",
        "0:10 chat firing a",
        "1:00 mail resolved -a",
        "2:00 mail firing a2",
        "3:00 mail resolved -a2",
        "5:10 chat resolved -a2",
    ]


def test_who_did_not_hear_that_it_is_back_does_not_hear_of_its_end() -> None:
    world = World(pager_at_once_and_chat_later())
    world.hear(A)
    world.at(MINUTE).hear(over(A))
    world.silence(a_silence('rule="a"', start=MINUTE, end=10 * MINUTE))
    world.at(2 * MINUTE).hear(A2)
    world.at(3 * MINUTE).hear(over(A2))
    assert world.at(HOUR).said() == [
        "0:00 pager firing a",
        "0:10 chat firing a",
        "1:00 pager resolved -a",
        "10:00 chat resolved -a2",
    ]


def test_somebody_took_it_on_and_it_is_back_before_its_end_was_told() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).ack("a")
    world.at(2 * MINUTE).hear(over(A))
    assert world.at(3 * MINUTE).hear(A2) == ["reopened", "grouped"]
    assert [(view.status, view.acked_by) for view in world.desk.incidents()] == [("firing", "")]
    world.at(4 * MINUTE).hear(over(A2))
    assert world.at(HOUR).said() == [
        "0:10 chat firing a",
        "1:00 chat acknowledged -a",
        "3:10 chat firing a2",
        "8:10 chat resolved -a2",
    ]


def test_somebody_took_it_on_and_all_the_rest_is_muted() -> None:
    world = World(a_policy(a_route(mute_in=("night",)), calendars={"night": a_span(2, 600)}))
    world.hear(A)
    world.at(MINUTE).ack("a")
    world.at(3 * MINUTE).hear(over(A))
    world.at(4 * MINUTE).hear(A2)
    world.at(60 * MINUTE).hear(over(A2))
    assert world.at(700 * MINUTE).said() == [
        "0:10 chat firing a",
        "1:00 chat acknowledged -a",
        "600:00 chat resolved -a2",
    ]


# -- back while messages are on their way


def slow(*told: str) -> World:
    """Everything is told at once, and what has been decided waits in `world.queue`."""
    world = World(a_policy(a_route(group_wait_ms=0)), sends=False)
    world.hear(A)
    for _ in told:
        world.desk.sent(world.queue[-1], world.now)
    return world


def test_an_end_that_was_not_sent_yet_is_not_sent_when_it_is_back() -> None:
    world = slow("chat")
    world.at(MINUTE).hear(over(A))
    assert world.at(2 * MINUTE).hear(A2) == ["reopened", "nothing_new"]
    end = world.queue[-1]
    assert world.desk.trim(end, world.now) == (None, Reason.REOPENED)
    world.at(3 * MINUTE).hear(over(A2))
    assert world.desk.trim(end, world.now) == (None, Reason.REOPENED)
    assert world.said()[-1] == "3:00 chat resolved -a2"


def test_an_end_that_was_being_sent_when_it_is_back() -> None:
    world = slow("chat")
    world.at(MINUTE).hear(over(A))
    end = world.queue[-1]
    world.at(2 * MINUTE).hear(A2)
    world.desk.sent(end, world.now)
    assert world.at(3 * MINUTE).said()[2:] == ["2:00 chat firing a2"]


def test_an_end_that_was_left_out_of_a_message_was_not_said() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).sends = False
    world.hear(fires("b"), over(A))
    (mixed,) = world.at(6 * MINUTE).queue[1:]
    world.hear(A2)
    left, _ = world.desk.trim(mixed, world.now)
    assert left is not None
    assert left.alert_ids == ("b",)
    world.desk.sent(mixed, world.now)  # as it was decided, whatever was left of it
    assert world.at(HOUR).said() == ["0:10 chat firing a", "5:10 chat firing b -a"]


def test_a_begin_that_waited_until_it_was_over_and_back_is_told_as_it_is_now() -> None:
    world = slow()
    world.at(MINUTE).hear(over(A))
    world.at(2 * MINUTE).hear(A2)
    (left, why) = world.desk.trim(world.queue[0], world.now)
    assert left is not None
    assert (left.alert_ids, left.stage, why) == (("a2",), "firing", Reason.STILL_TRUE)


def test_an_acknowledgement_that_waited_until_it_was_over_and_back() -> None:
    world = slow("chat")
    world.ack("a")
    (taken_on,) = world.queue[1:]
    world.at(MINUTE).hear(over(A), A2)
    assert world.desk.trim(taken_on, world.now) == (None, Reason.REOPENED)


@pytest.mark.parametrize("by_stand_in", [False, True])
def test_an_end_that_is_owed_to_a_channel_of_which_more_is_known_meanwhile(by_stand_in: bool) -> None:
    world = World(a_policy(a_route(notify=(), escalation="page")), sends=False)
    world.hear(OWNED)
    (begin,) = world.queue
    world.silence(a_silence('rule="a"', end=10 * MINUTE))
    world.at(MINUTE).hear(over(OWNED))
    if by_stand_in:
        world.desk.sent(begin.on("pager"), world.now)
    else:
        assert world.desk.trim(begin, world.now) == (None, Reason.ALREADY_RESOLVED)
    assert world.at(HOUR).said()[1:] == (["10:00 pager resolved -a"] if by_stand_in else [])
