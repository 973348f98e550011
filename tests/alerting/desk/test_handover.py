"""Somebody else comes on call while something fires."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from alerting.desk.policy import EscalationPolicy, Receiver, Step
from alerting.desk.rotations import Rotation
from tests.alerting.desk.desk_world import (
    HOUR,
    MINUTE,
    RECEIVERS,
    SECOND,
    World,
    a_policy,
    a_route,
    a_silence,
    fires,
    over,
)

A = fires("a")
EVERY_TWO_HOURS = Rotation(
    name="ops",
    time_zone=ZoneInfo("UTC"),
    start=datetime(2026, 5, 1, 9),  # an hour ago
    every_ms=2 * HOUR,
    people=("ann", "bob"),
)
BOB = Receiver(name="bob", channels=("chat",), mention="bob")


def on_call(**changes: Any) -> World:
    """Ann until eleven, then Bob."""
    steps = (
        Step(do="notify", notify=("oncall:ops",)),
        Step(do="wait", wait_ms=10 * MINUTE),
        Step(do="notify", notify=("operations", "oncall:ops")),
    )
    given: dict[str, Any] = {
        "receivers": {**RECEIVERS, "bob": BOB},
        "rotations": {"ops": EVERY_TWO_HOURS},
        "escalations": {"page": EscalationPolicy(name="page", steps=steps)},
    }
    given |= {"receivers": changes.pop("receivers")} if "receivers" in changes else {}
    return World(a_policy(a_route(**{"notify": ("oncall:ops",)} | changes), **given))


def test_who_comes_on_call_is_told_of_what_fires() -> None:
    world = on_call()
    world.hear(A)
    world.at(30 * MINUTE).restarted()
    assert world.at(2 * HOUR).said() == ["0:10 mail firing a", "60:00 chat firing a"]
    world.hear(over(A))
    assert world.at(3 * HOUR).said() == ["120:10 mail resolved -a", "120:10 chat resolved -a"]


def test_a_handover_while_nobody_was_there() -> None:
    world = on_call()
    world.hear(A)
    world.at(30 * MINUTE)
    world.now += HOUR
    assert world.restarted().at(2 * HOUR).said() == ["0:10 mail firing a", "90:00 chat firing a"]


def test_who_comes_on_call_in_the_same_room_is_mentioned() -> None:
    in_one_room = {
        "ann": Receiver(name="ann", channels=("chat",), mention="ann"),
        "bob": BOB,
    }
    world = on_call(receivers=in_one_room)
    world.hear(A)
    world.at(4 * HOUR)
    assert [note.mentions for note in world.queue] == [("ann",), ("bob",)]
    assert world.said() == ["0:10 chat firing a", "60:00 chat firing a"]


def test_who_comes_on_call_is_told_of_what_is_escalated_and_others_not_again() -> None:
    world = on_call(notify=(), escalation="page")
    world.hear(A)
    world.at(30 * MINUTE).restarted()
    assert world.at(2 * HOUR).said() == [
        "0:00 mail firing a",
        "10:00 pager escalation a",
        "10:00 mail escalation a",
        "60:00 chat firing a",
    ]


def test_nobody_is_told_of_what_is_taken_on_quiet_or_about_to_be_told() -> None:
    world = on_call(group_by=("rule",))
    world.hear(A, fires("b"))
    world.at(MINUTE).ack("a")
    world.silence(a_silence('rule="b"', end=5 * HOUR))
    world.said()
    world.at(HOUR - SECOND).hear(fires("c"))
    assert world.at(2 * HOUR).said() == ["60:09 chat firing c"]
