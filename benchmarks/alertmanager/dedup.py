"""Alertmanager's table of when to notify (`TestDedupStageNeedsUpdate`, v0.25, Apache-2.0), restated as stories from the
outside.
"""

from __future__ import annotations

from typing import Final

from benchmarks.alertmanager.scenario import Node, Receiver, Scenario, Setting, Told, alert, push, resolve

A: Final = alert("a")
B: Final = alert("b")
C: Final = alert("c")
D: Final = alert("d")

ONE_GROUP: Final = Setting(route=Node(receiver="team", group_by=("model_id",)))
PATIENT: Final = Setting(
    route=Node(receiver="team", group_by=("model_id",)), receivers={"team": Receiver(("team",), False)}
)
RESTLESS: Final = Setting(route=Node(receiver="team", group_by=("model_id",), repeat_interval=0.001))

DEDUPLICATION: Final = (
    Scenario(
        name="first notification",
        like="TestDedupStageNeedsUpdate 1, 5",
        about="What fires is told once, and not again before the repeat interval, however often it is pushed.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), push(1.9, A), push(3.1, A)),
        told=(Told("team", 1.2, 1.5, firing=(A,)),),
        ends=4.5,
    ),
    Scenario(
        name="over before anybody knew",
        like="TestDedupStageNeedsUpdate 2",
        about="The end of something of which nobody has heard is not told.",
        setting=ONE_GROUP,
        actions=(resolve(0.2, B, C),),
        told=(),
        ends=3.5,
    ),
    Scenario(
        name="a new alert in a group",
        like="TestDedupStageNeedsUpdate 3",
        about="One that has not been told is news; what else fires in its group is said with it.",
        setting=ONE_GROUP,
        actions=(push(0.2, A, B), push(1.6, C)),
        told=(Told("team", 1.2, 1.5, firing=(A, B)), Told("team", 2.2, 2.8, firing=(A, B, C))),
        ends=4.0,
    ),
    Scenario(
        name="repeat interval",
        like="TestDedupStageNeedsUpdate 4, 6; TestRepeat",
        about="What fires on is told again after the repeat interval, and no sooner.",
        setting=Setting(route=Node(receiver="team", group_interval=0.5, repeat_interval=1.8)),
        actions=(push(0.2, A),),
        told=(
            Told("team", 1.2, 1.5, firing=(A,)),
            Told("team", 3.0, 3.4, firing=(A,)),
            Told("team", 4.8, 5.4, firing=(A,)),
        ),
        ends=6.2,
    ),
    Scenario(
        name="ends after all was over",
        like="TestDedupStageNeedsUpdate 7",
        about="When all that was told is over, the ends of others in the group are no news.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), resolve(1.6, A), resolve(3.4, B, C)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 2.2, 2.8, resolved=(A,))),
        ends=5.5,
    ),
    Scenario(
        name="some over, nobody wants to hear of it",
        like="TestDedupStageNeedsUpdate 8",
        about="With `send_resolved: false` an end is not told while others fire.",
        setting=PATIENT,
        actions=(push(0.2, A, B), resolve(1.6, B)),
        told=(Told("team", 1.2, 1.5, firing=(A, B)),),
        ends=4.0,
    ),
    Scenario(
        name="some over",
        like="TestDedupStageNeedsUpdate 9",
        about="An end is told with what fires on.",
        setting=ONE_GROUP,
        actions=(push(0.2, A, B), resolve(1.6, B)),
        told=(Told("team", 1.2, 1.5, firing=(A, B)), Told("team", 2.2, 2.8, firing=(A,), resolved=(B,))),
        ends=4.5,
    ),
    Scenario(
        name="all over, nobody wants to hear of it",
        like="TestDedupStageNeedsUpdate 10",
        about="It is not told, but taken note of: when it fires again that is news at once.",
        setting=PATIENT,
        actions=(push(0.2, A), resolve(1.6, A), push(3.6, A)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 4.2, 4.9, firing=(A,))),
        ends=6.0,
    ),
    Scenario(
        name="all over",
        like="TestDedupStageNeedsUpdate 11",
        about="The end of the last one is told.",
        setting=ONE_GROUP,
        actions=(push(0.2, A, B), resolve(1.6, A, B)),
        told=(Told("team", 1.2, 1.5, firing=(A, B)), Told("team", 2.2, 2.8, resolved=(A, B))),
        ends=4.5,
    ),
)
