"""What tidemark does better, mostly things that Alertmanager's users ask for; both systems run these too."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from benchmarks.alertmanager.dedup import ONE_GROUP, A, B
from benchmarks.alertmanager.scenario import (
    Acknowledge,
    HandOver,
    Inhibit,
    Node,
    Receiver,
    Reload,
    Scenario,
    Setting,
    Silence,
    Stop,
    Told,
    alert,
    push,
    resolve,
)
from benchmarks.alertmanager.scenarios import DOWN, INHIBITING, JOB

_CAUSE: Final = alert("model_down", "critical")
_CTR: Final = alert("ctr_low")
_INHIBITING: Final = Setting(
    route=Node(receiver="team"), inhibit=(Inhibit('severity="critical"', 'severity="major"', ("model_id",)),)
)
_MUTED: Final = Setting(route=Node(receiver="rest", routes=(Node(receiver="team", match=('severity="major"',)),)),
    receivers={"team": Receiver(("team",)), "rest": Receiver(("rest",))},
    mute_until=5.0,
)  # fmt: skip
_MUTING: Final = replace(
    _MUTED, route=Node(receiver="rest", routes=(Node(receiver="team", match=('severity="major"',), mute=True),))
)
_ESCALATING: Final = Setting(
    route=Node(receiver="team", escalation=((2.5, "lead"), (4.0, "boss"))),
    receivers={name: Receiver((name,)) for name in ("team", "lead", "boss")},
)

BETTER: Final = (
    Scenario(
        name="restart under inhibition",
        like="#4064",
        about="What was inhibited stays so after a restart, whichever alert is pushed first.",
        setting=_INHIBITING,
        actions=(push(0.2, _CAUSE, _CTR), Stop(2.0), push(2.8, _CTR), push(3.3, _CAUSE)),
        told=(Told("team", 1.2, 1.5, firing=(_CAUSE,)),),
        ends=6.5,
        instead="tells at once what fires for longer than `group_wait`, before it knows what inhibits it",
    ),
    Scenario(
        name="both over at one time",
        like="TestAlwaysInhibiting",
        about="When an alert and what it inhibits are over together, nobody is told the end of what nobody heard of.",
        setting=INHIBITING,
        actions=(push(0.2, A, JOB, DOWN), resolve(1.8, JOB, DOWN)),
        told=(
            Told("team", 1.2, 1.5, firing=(A, JOB)),
            Told("team", 1.8, 2.9, firing=(A,), resolved=(JOB,)),
        ),
        ends=4.5,
        instead="tells the end of both, as its own test asks for",
    ),
    Scenario(
        name="firing at the end of a mute time",
        like="#3367",
        about="What was told before a mute time and fires on is told again at its end.",
        setting=_MUTED,
        actions=(push(0.2, A), Reload(2.0, _MUTING)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 5.0, 6.2, firing=(A,))),
        ends=8.0,
        instead="says nothing until the repeat interval (4 h by default) is over",
    ),
    Scenario(
        name="firing at the end of a silence",
        like="#2896",
        about="What was told before a silence and fires on is told again at its end.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), Silence(1.8, 'alertname="a"', 3.8)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 3.8, 5.0, firing=(A,))),
        ends=6.5,
        instead="says nothing until the repeat interval (4 h by default) is over",
    ),
    Scenario(
        name="a silence ends within a long group interval",
        like="#2496",
        about="What began while it was silenced is told as soon as that ends.",
        setting=Setting(route=Node(receiver="team", group_interval=300.0)),
        actions=(push(0.2, A), Silence(0.6, 'alertname="a"', 3.0)),
        told=(Told("team", 3.0, 3.3, firing=(A,)),),
        ends=6.0,
        instead="says nothing until the next look at the group (5 min by default)",
    ),
    Scenario(
        name="over while silenced",
        like="#226",
        about="Who was told that it fires is told that it is over when the silence ends.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), Silence(1.8, 'alertname="a"', 4.5), resolve(2.4, A)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 4.5, 5.8, resolved=(A,))),
        ends=7.0,
        instead="never says that it is over",
    ),
    Scenario(
        name="two replicas and a receiver that is down",
        like="#4108",
        about="When the receiver is back it is told once, though the partition changed hands meanwhile.",
        setting=ONE_GROUP,
        replicas=2,
        outages={"team": (0.0, 4.5)},
        actions=(push(0.2, A), HandOver(2.5)),
        told=(Told("team", 4.5, 6.5, firing=(A,)),),
        ends=8.0,
        instead="retries in both replicas, and both tell",
    ),
    Scenario(
        name="crash",
        about="Nobody is told again after a worker was killed.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), Stop(2.2, kill=True), push(2.9, A), push(4.2, B)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 4.2, 5.6, firing=(A, B))),
        ends=6.5,
        instead="has lost its notes, which it writes when it stops and every 15 min, and tells again",
    ),
    Scenario(
        name="the end of what fired before a crash",
        about="What is over after a crash is told to be over, though nobody pushed it again before.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), Stop(2.2, kill=True), resolve(3.2, A)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 3.2, 4.6, resolved=(A,))),
        ends=6.0,
        instead="has forgotten whom it told, and says nothing",
    ),
    Scenario(
        name="flapping",
        like="#3048",
        about="A condition that comes and goes is held open: no end and begin each time, one end when it is quiet.",
        setting=replace(ONE_GROUP, quiet=2.5),
        actions=(
            push(0.2, A),
            resolve(0.4, A),
            push(0.6, A),
            resolve(0.8, A),
            push(1.0, A),
            resolve(2.0, A),
            push(3.2, A),
            resolve(4.0, A),
        ),
        told=(Told("team", 1.2, 2.2, firing=(A,)), Told("team", 5.7, 7.0, resolved=(A,))),
        ends=8.0,
        instead="tells every end and every begin",
    ),
    Scenario(
        name="acknowledge",
        like="#1860",
        about="Who acknowledges is not told again, everybody is told that somebody did, and of the end.",
        setting=Setting(route=Node(receiver="team", repeat_interval=1.5)),
        actions=(push(0.2, A), Acknowledge(1.9, A), resolve(5.0, A)),
        told=(
            Told("team", 1.2, 1.5, firing=(A,)),
            Told("team", 1.9, 2.2, acknowledged=(A,)),
            Told("team", 5.0, 6.3, resolved=(A,)),
        ),
        ends=7.5,
        instead="knows no acknowledgement, and repeats",
    ),
    Scenario(
        name="escalation",
        like="grafana/oncall",
        about="As nobody acknowledges, the next ones are told, and all of them of the end.",
        setting=_ESCALATING,
        actions=(push(0.2, A), resolve(5.0, A)),
        told=(
            Told("team", 1.2, 1.5, firing=(A,)),
            Told("lead", 2.7, 3.0, firing=(A,)),
            Told("boss", 4.2, 4.5, firing=(A,)),
            *(Told(who, 5.0, 6.3, resolved=(A,)) for who in ("team", "lead", "boss")),
        ),
        ends=7.5,
        instead="has no escalation: a team that does not look is all that is told",
    ),
    Scenario(
        name="acknowledge ends the escalation",
        like="grafana/oncall",
        about="Nobody further is told once somebody has acknowledged.",
        setting=_ESCALATING,
        actions=(push(0.2, A), Acknowledge(3.3, A)),
        told=(
            Told("team", 1.2, 1.5, firing=(A,)),
            Told("lead", 2.7, 3.0, firing=(A,)),
            *(Told(who, 3.3, 3.6, acknowledged=(A,)) for who in ("team", "lead")),
        ),
        ends=6.0,
        instead="has neither",
    ),
)
