from __future__ import annotations

from typing import Any

import pytest

from alerting.desk.calendars import Calendar
from alerting.desk.policy import AlertingPolicy, Receiver, Route, matching
from alerting.desk.routing import Target, all_routes, labels_of, muted_by, routes_of, targets_of
from tests.alerting.samples import an_alert

NOON = 1_777_636_800_000


class Fixed:
    """A calendar or rotation that always says the same."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def covers(self, at_ms: int) -> bool:
        return bool(self.answer)

    def on_call(self, at_ms: int) -> str | None:
        person: str | None = self.answer
        return person


def a_policy(route: Route | None = None, **changes: Any) -> AlertingPolicy:
    receivers = {
        "operations": Receiver(name="operations", channels=("pager", "chat")),
        "ann": Receiver(name="ann", channels=("mail", "chat"), send_resolved=False, mention="ann"),
        "bob": Receiver(name="bob", channels=("chat",), mention="bob"),
    }
    return AlertingPolicy(route=route or Route(name="/"), receivers=receivers, **changes)


# The shape of the tree in Alertmanager's route_test.go: two branches, one with children that go on.
TREE = Route(
    name="/",
    routes=(
        Route(
            name="/0",
            matchers=matching('owner="team-A"'),
            routes=(
                Route(name="/0/0", matchers=matching('env="testing"')),
                Route(name="/0/1", matchers=matching('env="production"'), goes_on=True),
                Route(name="/0/2", matchers=matching('env=~"produ.*"'), goes_on=True),
                Route(name="/0/3", matchers=matching('job="aaa"')),
            ),
        ),
        Route(name="/1", matchers=matching('owner=~"team-(B|C)"')),
    ),
)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({}, ["/"]),
        ({"owner": "team-A"}, ["/0"]),
        ({"owner": "team-A", "env": "unset"}, ["/0"]),
        ({"owner": "team-A", "env": "testing"}, ["/0/0"]),
        ({"owner": "team-A", "env": "testing", "job": "aaa"}, ["/0/0"]),  # the first one that fits, and no more
        ({"owner": "team-A", "env": "production"}, ["/0/1", "/0/2"]),
        ({"owner": "team-A", "env": "producing", "job": "aaa"}, ["/0/2", "/0/3"]),
        ({"owner": "team-C"}, ["/1"]),
        ({"owner": "team-D"}, ["/"]),
    ],
)
def test_which_routes_take_an_alert(labels: dict[str, str], names: list[str]) -> None:
    assert [route.name for route in routes_of(TREE, labels)] == names


def test_every_route_has_its_name() -> None:
    assert list(all_routes(TREE)) == ["/", "/0", "/0/0", "/0/1", "/0/2", "/0/3", "/1"]


def test_a_rule_cannot_pass_its_alerts_off_as_others() -> None:
    alert = an_alert(labels={"team": "recsys", "severity": "critical", "owner": "ann"}, related={"owner": "bob"})
    labels = labels_of(alert)
    assert labels == {
        "team": "recsys",
        "severity": "major",
        "owner": "bob",
        "rule": "ctr-low",
        "model_id": "recommender-home",
        "model_version": "3",
    }


def test_one_channel_of_two_receivers_is_used_once_and_mentions_both() -> None:
    targets = targets_of(a_policy(), ("ann", "bob"), an_alert(), NOON)
    assert targets == {
        "mail": Target("ann", send_resolved=False, mentions=("ann",)),
        "chat": Target("ann", send_resolved=True, mentions=("ann", "bob")),
    }


def test_the_owner_is_settled_by_the_alert() -> None:
    owned, orphan = an_alert(related={"owner": "bob"}), an_alert(related={})
    assert list(targets_of(a_policy(), ("owner",), owned, NOON)) == ["chat"]
    assert targets_of(a_policy(), ("owner",), orphan, NOON) == {}
    by_default = a_policy(default_owner="operations")
    assert list(targets_of(by_default, ("owner",), orphan, NOON)) == ["pager", "chat"]
    assert list(targets_of(by_default, ("owner",), an_alert(related={"owner": "who?"}), NOON)) == ["pager", "chat"]


@pytest.mark.parametrize(("person", "channels"), [("bob", ["chat"]), (None, []), ("gone", [])])
def test_who_is_on_call_is_settled_when_it_is_told(person: str | None, channels: list[str]) -> None:
    policy = a_policy(rotations={"ops": Fixed(person)})
    assert list(targets_of(policy, ("oncall:ops",), an_alert(), NOON)) == channels
    assert targets_of(policy, ("oncall:other",), an_alert(), NOON) == {}


@pytest.mark.parametrize(
    ("mute_in", "active_in", "muted"),
    [
        ((), (), ""),
        (("never", "always"), (), "always"),
        ((), ("always", "never"), ""),
        ((), ("never",), "not never"),
        (("always",), ("always",), "always"),
    ],
)
def test_what_keeps_a_route_quiet(mute_in: tuple[str, ...], active_in: tuple[str, ...], muted: str) -> None:
    calendars: dict[str, Any] = {"always": Fixed(True), "never": Fixed(False)}
    route = Route(name="/", mute_in=mute_in, active_in=active_in)
    assert muted_by(a_policy(calendars=calendars), route, NOON) == muted


def test_a_real_calendar_mutes_too() -> None:
    policy = a_policy(calendars={"none": Calendar(name="none", intervals=())})
    assert muted_by(policy, Route(name="/", mute_in=("none",)), NOON) == ""
