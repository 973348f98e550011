"""What a worker says of itself, and when."""

from __future__ import annotations

from agents.health import LOOP_STALLED_S, Health


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_is_ready_when_it_owns_what_it_restored() -> None:
    health = Health()
    assert health.why_not_ready() == ["waiting for the consumer group to assign partitions"]

    health.assigned = True
    health.restoring = {"windows": {3}, "join": {10, 2}, "alerts": set()}
    assert health.why_not_ready() == ["join: restoring partitions 2, 10", "windows: restoring partitions 3"]

    health.restoring = {"windows": set(), "join": set()}
    assert health.why_not_ready() == []


def test_it_says_who_is_away() -> None:
    health = Health(assigned=True, store_error="redis://h:6379/0 does not answer", broker_error="no leader")
    assert health.why_not_ready() == ["store: redis://h:6379/0 does not answer", "broker: no leader"]
    assert health.why_not_live() == []  # a restart would bring nobody back


def test_a_worker_that_stops_is_not_ready() -> None:
    assert Health(assigned=True, stopping=True).why_not_ready() == ["stopping"]


def test_only_a_main_loop_that_stands_still_calls_for_a_restart() -> None:
    clock = Clock()
    health = Health(clock)
    clock.now += LOOP_STALLED_S
    assert health.why_not_live() == []
    clock.now += 1
    assert health.why_not_live() == ["the main loop has not turned for 31 s"]
    health.turn()
    assert health.why_not_live() == []
