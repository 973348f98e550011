"""The impressions that fill a worker's open windows are all distinct, and none of them is expired by the others."""

from __future__ import annotations

import orjson

from benchmarks import growth
from benchmarks.growth import BASE
from benchmarks.live_worker import OPEN_MINUTES, backlog_lines, live_lines
from tables.join_policy import WINDOW_MS, JoinPolicy

IMPRESSIONS = 22_000


def test_all_impressions_lie_in_open_windows_and_fill_each_of_them() -> None:
    lines = [*live_lines(IMPRESSIONS), *backlog_lines(100)]
    events = [(line.topic, orjson.loads(line.value or b"")) for line in lines]
    shown = [event for topic, event in events if topic == "impressions"]
    newest = max(event["event_time"] for _, event in events)
    policy = JoinPolicy()

    first_open = policy.first_open(newest - policy.out_of_orderness_ms)

    assert len({(event["user_id"], event["item_id"]) for event in shown}) == IMPRESSIONS + 100
    starts = sorted({event["event_time"] // WINDOW_MS * WINDOW_MS for event in shown})
    assert starts == [first_open + minute * WINDOW_MS for minute in range(OPEN_MINUTES)]


def test_every_click_has_its_impression_on_the_same_partition() -> None:
    placed: dict[str, set[tuple[int, bytes | None]]] = {"impressions": set(), "clicks": set()}
    for line in live_lines(IMPRESSIONS):
        placed[line.topic].add((line.partition, line.key))

    assert len(placed["clicks"]) == IMPRESSIONS // 20
    assert placed["clicks"] < placed["impressions"]


def test_more_impressions_can_be_added_to_those_there_are() -> None:
    first, more = (
        {line.value for line in lines if line.topic == "impressions"} for lines in (live_lines(60), live_lines(100, 60))
    )

    users = {orjson.loads(value or b"")["user_id"] for value in first | more}
    assert users == {f"user-{number}" for number in range(100)}
    assert (len(first), len(more)) == (60, 40)


def test_the_cost_of_an_event_is_measured_in_both_of_its_parts() -> None:
    cost = growth.measure(BASE, events=10_000)

    assert 0 < cost.apply < 100
    assert 0 < cost.checkpoint < 100


def test_a_curve_has_a_point_for_each_value_with_the_range_of_its_rounds() -> None:
    points = list(growth.curves(["open_windows"], events=2_000, rounds=2))

    assert [(point.what, point.value) for point in points] == [("open_windows", n) for n in (2, 11, 31, 61)]
    assert all(0 < point.total.low <= point.total.median <= point.total.high for point in points)
