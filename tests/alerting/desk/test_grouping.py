from __future__ import annotations

import msgspec
import pytest

from alerting.desk.decisions import Reason
from alerting.desk.grouping import Group, Heard, group_key, group_labels, news
from alerting.desk.policy import Route

MINUTE = 60_000
LONG_AGO = 10**12


# The eleven rows of Alertmanager's TestDedupStageNeedsUpdate: what a channel heard to fire and to be over, how long
# ago; what fires and what is over now; whether it wants to hear of the end; what follows.
@pytest.mark.parametrize(
    ("heard", "heard_over", "ago", "firing", "over", "send_resolved", "reason"),
    [
        (None, "", 0, "bcd", "", False, Reason.FIRST_NOTIFICATION),
        (None, "", 0, "", "bcd", False, None),
        ("abc", "", LONG_AGO, "bcd", "", False, Reason.NEW_ALERTS),
        ("abc", "", LONG_AGO, "abc", "", False, Reason.REPEAT_INTERVAL),
        ("abc", "", 9 * MINUTE, "abc", "", False, None),
        ("abc", "", 11 * MINUTE, "abc", "", False, Reason.REPEAT_INTERVAL),
        ("", "abc", 11 * MINUTE, "", "cde", True, None),
        ("ab", "c", 9 * MINUTE, "a", "bc", False, None),
        ("ab", "c", 9 * MINUTE, "a", "bc", True, Reason.SOME_RESOLVED),
        ("ab", "c", 9 * MINUTE, "", "abc", False, Reason.ALL_RESOLVED),
        ("ab", "c", 9 * MINUTE, "", "abc", True, Reason.ALL_RESOLVED),
    ],
)
def test_when_a_channel_has_to_be_told(
    heard: str | None,
    heard_over: str,
    ago: int,
    firing: str,
    over: str,
    send_resolved: bool,
    reason: Reason | None,
) -> None:
    found = news(
        heard,
        firing,
        set(over) - set(heard_over),
        since_ms=ago,
        repeat_ms=10 * MINUTE,
        send_resolved=send_resolved,
    )
    assert found is reason


def test_what_is_over_is_said_once() -> None:
    nothing_new = news("a", "a", "", since_ms=0, repeat_ms=MINUTE, send_resolved=True)
    assert nothing_new is None


def test_a_group_is_its_route_and_the_labels_that_it_groups_by() -> None:
    route = Route(name="/0", group_by=("model_id", "rule"))
    home = group_labels(route, {"rule": "ctr-low", "model_id": "home", "team": "recsys"})
    assert home == {"model_id": "home", "rule": "ctr-low"}
    assert group_key(route, home) == '/0:{"model_id":"home","rule":"ctr-low"}'
    assert group_key(Route(name="/1"), home) != group_key(route, home)
    # Text from events cannot forge another group.
    forged = group_labels(route, {"rule": "ctr-low", "model_id": 'home","rule":"x'})
    assert group_key(route, forged).count('"rule":') == 1


def test_three_dots_group_by_all_labels_and_nothing_by_none() -> None:
    labels = {"rule": "ctr-low", "model_id": "home", "team": "recsys"}
    assert group_labels(Route(name="/", group_by=("...",)), labels) == labels
    assert group_labels(Route(name="/", group_by=()), labels) == {}
    assert group_labels(Route(name="/", group_by=("missing",)), labels) == {"missing": ""}


@pytest.mark.parametrize(
    ("wait", "told_at", "due"),
    [
        (10, None, 1_010),  # the first of a group waits for more to come with it
        (10, 990, 1_290),  # 300 after what was said last
        (10, 100, 1_010),  # the group has been silent for long enough
        (0, 990, 1_000),  # a route that waits for nothing
    ],
)
def test_when_a_change_at_1000_is_told(wait: int, told_at: int | None, due: int) -> None:
    route = Route(name="/", group_wait_ms=wait, group_interval_ms=300)
    assert Group("key", "/", {}, told_at=told_at).change_due(route, 1_000) == due


def test_a_group_survives_its_state() -> None:
    group = Group(
        "key", "/", {"rule": "x"}, {"a": None}, {"chat": Heard("ops", 5, {"a"}, 2)}, 5, 9, {"chat": 1}, "nights"
    )
    assert Group.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(group.state()))) == group
