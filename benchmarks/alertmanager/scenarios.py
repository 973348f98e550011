"""What both have to do: Alertmanager's own acceptance tests (v0.25, Apache-2.0), restated as data.

A time at which something is told is a range that fits both: Alertmanager looks at a group every `group_interval`,
tidemark as soon as `group_wait` and `group_interval` allow.
"""

from __future__ import annotations

from typing import Final

from benchmarks.alertmanager.dedup import DEDUPLICATION, ONE_GROUP, RESTLESS, A, B, C, D
from benchmarks.alertmanager.scenario import (
    EndSilence,
    HandOver,
    Inhibit,
    Node,
    Push,
    Receiver,
    Reload,
    Scenario,
    Sent,
    Setting,
    Silence,
    Stop,
    Told,
    alert,
    push,
    resolve,
)

GROUPS: Final = (
    Scenario(
        name="batching",
        like="TestBatching",
        about="What begins within the wait of a group is one message, what begins later the next one.",
        setting=Setting(route=Node(receiver="team", group_by=("model_id",), repeat_interval=2.5)),
        actions=(push(0.2, A), push(0.7, B), push(2.4, C, D)),
        told=(
            Told("team", 1.2, 1.5, firing=(A, B)),
            Told("team", 3.2, 3.6, firing=(A, B, C, D)),
            Told("team", 5.7, 6.6, firing=(A, B, C, D)),
        ),
        ends=7.2,
    ),
    Scenario(
        name="groups by label",
        about="Alerts with other values of the labels by which it is grouped are told apart.",
        setting=Setting(route=Node(receiver="team", group_by=("alertname", "zone"))),
        actions=(push(0.2, alert("a", zone="x"), alert("a", "critical", zone="x"), alert("a", zone="y"), B),),
        told=(
            Told("team", 1.2, 1.5, firing=(alert("a", zone="x"), alert("a", "critical", zone="x"))),
            Told("team", 1.2, 1.5, firing=(alert("a", zone="y"),)),
            Told("team", 1.2, 1.5, firing=(B,)),
        ),
        ends=3.0,
    ),
    Scenario(
        name="groups by all labels",
        about="`...` tells every alert by itself.",
        setting=Setting(route=Node(receiver="team", group_by=("...",))),
        actions=(push(0.2, A, B, alert("a", zone="x")),),
        told=tuple(Told("team", 1.2, 1.5, firing=(one,)) for one in (A, B, alert("a", zone="x"))),
        ends=3.0,
    ),
    Scenario(
        name="one condition, several senders",
        like="TestMergeAlerts",
        about="Who pushes it anew with another start adds no alert; what people read is what came last.",
        setting=RESTLESS,
        actions=(
            push(0.2, A, summary="v1"),
            push(0.5, A, summary="v2", is_anew=True),
            push(1.6, A, summary="v3", is_anew=True),
        ),
        told=(
            Told("team", 1.2, 1.5, firing=(A,), summary="v2"),
            Told("team", 2.2, 2.6, firing=(A,), summary="v3"),
        ),
        ends=2.8,
    ),
    Scenario(
        name="back after its end",
        like="TestMergeAlerts",
        about="What fires again after its end is a new alert.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), resolve(1.6, A), push(3.2, A)),
        told=(
            Told("team", 1.2, 1.5, firing=(A,)),
            Told("team", 2.2, 2.8, resolved=(A,)),
            Told("team", 3.2, 4.5, firing=(A,)),
        ),
        ends=5.5,
    ),
)

ENDS: Final = (
    Scenario(
        name="resolve timeout",
        like="TestResolved",
        about="An alert of which nothing is heard any more is over.",
        setting=Setting(route=Node(receiver="team", group_by=("model_id",)), resolve_timeout=3.0),
        actions=(push(0.2, A, B, C),),
        told=(Told("team", 1.2, 1.5, firing=(A, B, C)), Told("team", 3.2, 4.5, resolved=(A, B, C))),
        ends=6.0,
    ),
    Scenario(
        name="who hears of ends",
        like="TestResolvedFilter",
        about="Of two receivers of one alert, only the one that wants to hear of its end does.",
        setting=Setting(
            route=Node(
                receiver="both",
                routes=(
                    Node(receiver="one", match=('severity="major"',), goes_on=True),
                    Node(receiver="other", match=('alertname="a"',)),
                ),
            ),
            receivers={
                "both": Receiver(("both",)),
                "one": Receiver(("one",), send_resolved=True),
                "other": Receiver(("other",), send_resolved=False),
            },
        ),
        actions=(push(0.2, A), resolve(1.6, A)),
        told=(
            Told("one", 1.2, 1.5, firing=(A,)),
            Told("other", 1.2, 1.5, firing=(A,)),
            Told("one", 2.2, 2.8, resolved=(A,)),
        ),
        ends=4.5,
    ),
)

DELIVERY: Final = (
    Scenario(
        name="retry",
        like="TestRetry",
        about="A webhook that answers 503 gets it when it is back; the other one of the receiver is not held up.",
        setting=Setting(route=Node(receiver="team"), receivers={"team": Receiver(("broken", "sound"))}),
        outages={"broken": (0.0, 3.0)},
        actions=(push(0.2, A),),
        told=(Told("sound", 1.2, 1.5, firing=(A,)), Told("broken", 3.0, 5.0, firing=(A,))),
        ends=6.5,
    ),
    Scenario(
        name="reload",
        like="TestReload",
        about="Nobody is told again after a reload. (Alertmanager's timers begin anew, tidemark's go on.)",
        setting=Setting(route=Node(receiver="team", group_by=("model_id",), group_interval=3.0)),
        actions=(
            push(0.2, A),
            Reload(2.0, Setting(route=Node(receiver="team", group_by=("model_id",), group_interval=3.0))),
            push(2.8, B),
        ),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 4.2, 6.3, firing=(A, B))),
        ends=7.0,
    ),
    Scenario(
        name="restart",
        about="Nobody is told again after an orderly restart.",
        setting=ONE_GROUP,
        actions=(push(0.2, A), Stop(2.0), push(2.8, A)),
        told=(Told("team", 1.2, 1.5, firing=(A,)),),
        ends=5.5,
    ),
    Scenario(
        name="two replicas",
        like="TestClusterDeduplication",
        about="Two that run side by side (tidemark: one takes over from the other, which does not know) tell once.",
        setting=ONE_GROUP,
        replicas=2,
        actions=(push(0.2, A), HandOver(0.8), push(3.4, B)),
        told=(Told("team", 1.2, 1.5, firing=(A,)), Told("team", 4.2, 4.9, firing=(A, B))),
        ends=6.5,
    ),
)

DOWN, DOWN_Y = (alert("instance_down", "minor", job="web", zone=zone) for zone in "xy")
JOB: Final = alert("job_down", "critical", job="web", zone="x")
INHIBITING: Final = Setting(
    route=Node(receiver="team", group_by=("model_id",)),
    inhibit=(Inhibit('alertname="job_down"', 'alertname="instance_down"', ("job", "zone")),),
)

QUIET: Final = (
    Scenario(
        name="inhibition",
        like="TestInhibiting",
        about="What is inhibited is left out, only where the labels are equal, and told again when that ends.",
        setting=INHIBITING,
        actions=(push(0.2, A, DOWN, DOWN_Y), push(1.4, JOB), resolve(2.8, JOB)),
        told=(
            Told("team", 1.2, 1.5, firing=(A, DOWN, DOWN_Y)),
            Told("team", 2.2, 2.6, firing=(A, DOWN_Y, JOB)),
            Told("team", 2.8, 3.5, firing=(A, DOWN, DOWN_Y), resolved=(JOB,)),
        ),
        ends=5.0,
    ),
    Scenario(
        name="inhibited from begin to end",
        about="Of what is inhibited as long as it fires nothing is told, not even its end.",
        setting=INHIBITING,
        actions=(push(0.2, A, JOB, DOWN), resolve(1.8, DOWN), resolve(2.8, JOB)),
        told=(
            Told("team", 1.2, 1.5, firing=(A, JOB)),
            Told("team", 2.8, 3.9, firing=(A,), resolved=(JOB,)),
        ),
        ends=5.5,
    ),
    Scenario(
        name="silence",
        like="TestSilencing",
        about="What is silenced is left out until the silence ends.",
        setting=RESTLESS,
        actions=(push(0.2, A, B), Silence(1.5, 'alertname="a"', 3.7)),
        told=(
            Told("team", 1.2, 1.5, firing=(A, B)),
            Told("team", 2.2, 2.5, firing=(B,)),
            Told("team", 3.2, 3.5, firing=(B,)),
            Told("team", 3.7, 4.3, firing=(A, B)),
        ),
        ends=4.6,
    ),
    Scenario(
        name="silence taken back",
        like="TestSilenceDelete",
        about="What is silenced is told when somebody ends the silence.",
        setting=RESTLESS,
        actions=(push(0.2, A, B), Silence(0.6, 'alertname="a"', 60.0), EndSilence(2.7)),
        told=(
            Told("team", 1.2, 1.5, firing=(B,)),
            Told("team", 2.2, 2.5, firing=(B,)),
            Told("team", 2.7, 3.3, firing=(A, B)),
        ),
        ends=3.6,
    ),
    Scenario(
        name="mute time",
        about="What begins within a mute time is told after it.",
        setting=Setting(
            route=Node(receiver="rest", routes=(Node(receiver="team", match=('severity="major"',), mute=True),)),
            receivers={"team": Receiver(("team",)), "rest": Receiver(("rest",))},
            mute_until=4.0,
        ),
        actions=(push(0.2, A, alert("a", "critical")),),
        told=(Told("rest", 1.2, 1.5, firing=(alert("a", "critical"),)), Told("team", 4.0, 5.4, firing=(A,))),
        ends=7.0,
    ),
)

_ROUTES: Final = Node(
    receiver="default",
    routes=(
        Node(
            receiver="search",
            match=('team="search"',),
            routes=(
                Node(receiver="search-pager", match=('severity="critical"',)),
                Node(receiver="search-night", match=('alertname=~"night|dawn"', 'zone!="x"')),
            ),
        ),
        Node(receiver="audit", match=('audited=~".+"',), goes_on=True),
        Node(receiver="fraud", match=('team=~"fraud|payments"',)),
        Node(receiver="unnamed", match=('team=""', 'severity!~"major|critical"')),
    ),
)
_RECEIVERS: Final = ("default", "search", "search-pager", "search-night", "audit", "fraud", "unnamed")
_ROUTED: Final = (
    (alert("a"), ("default",)),
    (alert("b", "minor"), ("unnamed",)),
    (alert("c", team="search"), ("search",)),
    (alert("d", "critical", team="search"), ("search-pager",)),
    (alert("night", team="search"), ("search-night",)),
    (alert("night", team="search", zone="x"), ("search",)),
    (alert("nightly", team="search"), ("search",)),
    (alert("e", team="fraud"), ("fraud",)),
    (alert("f", team="payments", audited="yes"), ("audit", "fraud")),
    (alert("g", team="ads", audited="yes"), ("audit",)),
    (alert("h", team="fraudulent"), ("default",)),
)

ROUTING: Final = (
    Scenario(
        name="routing",
        like="TestRouteMatch",
        about="The first child that fits takes it, with `continue` the next ones too; none: the node itself.",
        setting=Setting(route=_ROUTES, receivers={name: Receiver((name,)) for name in _RECEIVERS}),
        actions=(Push(0.2, tuple(Sent(labels) for labels, _ in _ROUTED)),),
        told=tuple(Told(name, 1.2, 1.5, firing=(labels,)) for labels, names in _ROUTED for name in names),
        ends=3.0,
    ),
)

PARITY: Final = (*DEDUPLICATION, *GROUPS, *ENDS, *DELIVERY, *QUIET, *ROUTING)
