"""Building a join partition again from the broker when the store has lost it."""

from __future__ import annotations

import orjson

from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.metrics import Metrics
from agents.partition_state import Changes
from agents.transports.batch import Batch, Section
from tables.join_policy import JoinPolicy
from tables.partials import decode_partial
from tables.watermark import UNKNOWN
from tests.oracle import MINUTE

T0 = 1_777_629_600_000
TOPICS = JoinTopics("impressions", "clicks", "partials", "dead_letters")


def new_state() -> JoinState:
    setting = JoinSetting(
        policy=JoinPolicy(),
        topics=TOPICS,
        hash_key=bytes(16),
        now_ms=lambda: T0 + 60 * MINUTE,
        metrics=Metrics(),
        sources=lambda: 1,
        targets=lambda: 1,
    )
    return JoinState(0, setting, clock_ms=0)


def impressions(first: int, minutes: range) -> Section:
    """One a minute, all of one user and item."""
    values = [{"user_id": "u", "item_id": "i", "event_time": T0 + m * MINUTE, "model_id": "home"} for m in minutes]
    offsets = range(first, first + len(minutes))
    return Section("impressions", offsets, [orjson.dumps(value) for value in values], offsets.stop)


def clicks(first: int, minutes: range) -> Section:
    values = [{"user_id": "u", "item_id": "i", "event_time": T0 + m * MINUTE + 1} for m in minutes]
    offsets = range(first, first + len(minutes))
    return Section("clicks", offsets, [orjson.dumps(value) for value in values], offsets.stop)


def checkpoint(state: JoinState, number: int) -> Changes:
    changes = state.changes(epoch=number, number=number)
    assert changes is not None
    return changes


def counts(changes: Changes) -> dict[int, tuple[int, int]]:
    """Minute -> (impressions, clicks), as last told."""
    rows = [row for message in changes.after for row in decode_partial(message.value or b"").rows]
    return {(row.window_start - T0) // MINUTE: (row.impressions, row.clicks) for row in rows}


def test_one_topic_read_ahead_of_the_other_closes_no_window() -> None:
    owner = new_state()
    owner.apply(Batch(0, (clicks(0, range(5)), impressions(0, range(5)))), {})
    lost = checkpoint(owner, 1)

    rebuilt = new_state()
    rebuilt.restore_time(lost.rebuild_state)
    skip = {"impressions": 5, "clicks": 5}
    assert lost.rebuild == {"impressions": 0, "clicks": 0}
    # A quarter of an hour of impressions arrives before the first click is read again.
    rebuilt.apply(Batch(0, (impressions(0, range(20)),)), skip)
    rebuilt.tick(1_000, UNKNOWN)
    assert rebuilt.watermark == owner.watermark
    # Clicks from before the loss and one from after it: only now time goes on.
    rebuilt.apply(Batch(0, (clicks(0, range(5)),)), skip)
    rebuilt.rebuilt()
    rebuilt.apply(Batch(0, (clicks(5, range(19, 20)),)), skip)

    told = counts(checkpoint(rebuilt, 2))
    assert rebuilt.watermark > owner.watermark
    assert [told[minute] for minute in range(5)] == [(1, 1)] * 5, "no window was closed before its clicks were read"


def test_idle_inputs_move_nothing_while_events_are_read_again() -> None:
    owner = new_state()
    owner.apply(Batch(0, (clicks(0, range(5)), impressions(0, range(5)))), {})
    lost = checkpoint(owner, 1)

    rebuilt = new_state()
    rebuilt.restore_time(lost.rebuild_state)
    rebuilt.tick(60_000, T0 + 60 * MINUTE)
    assert rebuilt.watermark == owner.watermark
    rebuilt.rebuilt()
    rebuilt.tick(60_000, T0 + 60 * MINUTE)
    assert rebuilt.watermark == T0 + 60 * MINUTE
