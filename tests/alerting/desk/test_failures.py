"""What could not be delivered is tried again while it is true, ever less often."""

from __future__ import annotations

from alerting.desk.decisions import Reason
from alerting.desk.policy import EscalationPolicy, Step
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
from tests.alerting.samples import TEN_O_CLOCK

A, B = fires("a"), fires("b")
OWNED = fires("a", related={"owner": "ann"})
ONE_STEP = {"page": EscalationPolicy(name="page", steps=(Step(do="notify", notify=("owner",)),))}


def fail(world: World, *channels: str) -> list[str]:
    """All that was decided is sent, but on these channels it fails; returns what failed."""
    notices, world.queue = world.queue, []
    for notice in notices:
        if notice.channel not in channels:
            world.desk.sent(notice, world.now)
    failed = [notice for notice in notices if notice.channel in channels]
    for notice in failed:
        world.desk.failed(notice, world.now)
    return [f"{(notice.at - TEN_O_CLOCK) // MINUTE} {notice.stage}" for notice in failed]


def failing(world: World, until: int, *channels: str) -> list[str]:
    """When what was tried on these channels, in minutes after ten o'clock."""
    found = []
    while world.now < TEN_O_CLOCK + until:
        found += fail(world.at(world.now - TEN_O_CLOCK + 10 * SECOND), *channels)
    return found


def test_a_channel_that_is_gone_is_tried_ever_less_often() -> None:
    world = World(a_policy(a_route(repeat_interval_ms=HOUR)), sends=False)
    world.hear(A)
    assert failing(world, 4 * HOUR, "chat") == [
        "0 firing",
        "5 firing",
        "15 firing",
        "35 firing",
        "75 firing",
        "135 firing",
        "195 firing",
    ]
    assert len(fail(world.restarted().at(260 * MINUTE), "chat")) == 1


def test_after_a_message_has_arrived_it_is_tried_again_as_often_as_ever() -> None:
    world = World(a_policy(a_route()), sends=False)
    world.hear(A)
    failing(world, 16 * MINUTE, "chat")
    failing(world, 36 * MINUTE)
    world.hear(B)
    assert failing(world, 50 * MINUTE, "chat") == ["40 firing", "45 firing"]


def test_a_repeat_that_failed_is_tried_again() -> None:
    world = World(sends=False)
    world.hear(A)
    failing(world, 5 * MINUTE)
    world.at(239 * MINUTE)
    assert failing(world, 246 * MINUTE, "chat") == ["240 repeat", "245 firing"]
    world.hear(over(A))
    assert world.at(5 * HOUR).said()[-1] == "246:00 chat resolved -a"  # it knows of the begin


def test_a_reload_does_not_take_what_failed_for_said() -> None:
    world = World(sends=False)
    world.hear(A)
    failing(world, 5 * MINUTE)
    world.at(239 * MINUTE)
    failing(world, 241 * MINUTE, "chat")
    world.take(world.desk.replace_policy(a_policy(a_route(name="/new")), world.now))
    assert world.at(HOUR * 5).said() == ["241:10 chat firing a"]


def test_what_failed_at_the_end_of_a_silence_is_tried_again() -> None:
    world = World(sends=False)
    world.hear(A)
    failing(world, MINUTE)
    world.silence(a_silence('rule="a"', end=HOUR))
    assert failing(world, 66 * MINUTE, "chat") == ["60 firing", "65 firing"]


def test_what_an_escalation_said_is_said_again() -> None:
    world = World(a_policy(a_route(notify=(), escalation="page"), escalations=ONE_STEP), sends=False)
    world.hear(OWNED)
    assert failing(world, 16 * MINUTE, "mail") == ["0 firing", "5 firing", "15 firing"]
    failing(world.restarted(), 36 * MINUTE)
    world.hear(over(OWNED))
    assert world.at(HOUR).said() == ["36:00 mail resolved -a"]


def test_a_later_step_that_arrives_is_enough() -> None:
    world = World(a_policy(a_route(notify=(), escalation="page", group_interval_ms=15 * MINUTE)), sends=False)
    world.hear(OWNED)
    fail(world, "mail")
    failing(world, 2 * HOUR)
    assert world.desk.state()["incidents"][0]["missed"] == {}


def test_nothing_is_said_again_after_an_acknowledgement() -> None:
    world = World(a_policy(a_route(notify=(), escalation="page"), escalations=ONE_STEP), sends=False)
    world.hear(OWNED)
    fail(world, "mail")
    world.ack("a")
    assert world.at(HOUR).said() == []


def test_what_an_escalation_could_not_say_before_a_silence_is_said_after_it() -> None:
    world = World(a_policy(a_route(notify=(), escalation="page"), escalations=ONE_STEP), sends=False)
    world.hear(OWNED)
    (begin,) = world.queue
    world.silence(a_silence('rule="a"', end=HOUR))
    assert world.desk.trim(begin, world.now) == (None, Reason.SILENCED)
    assert world.at(2 * HOUR).said()[1:] == ["60:00 mail firing a"]


def test_what_is_to_be_said_again_waits_for_the_end_of_a_mute_time() -> None:
    route = a_route(notify=(), escalation="page", mute_in=("lunch",))
    world = World(a_policy(route, escalations=ONE_STEP, calendars={"lunch": a_span(2, 30)}), sends=False)
    world.hear(OWNED)
    assert fail(world, "mail") == ["0 firing"]
    assert world.at(HOUR).said() == ["30:00 mail firing a"]
    assert Reason.ESCALATION_SKIPPED in [decision.reason for decision in world.decisions]


def test_whom_a_step_told_of_the_begin_hears_of_it_again_where_the_end_was_on_its_way() -> None:
    world = World(a_policy(a_route(notify=(), escalation="page"), escalations=ONE_STEP), sends=False)
    world.hear(OWNED)
    fail(world)
    world.at(MINUTE).hear(over(OWNED))
    (end,) = world.queue
    world.at(2 * MINUTE).hear(fires("a2", rule="a", related={"owner": "ann"}))
    world.desk.sent(end, world.now)
    assert world.at(3 * MINUTE).said()[1:] == ["2:00 mail firing a2"]
