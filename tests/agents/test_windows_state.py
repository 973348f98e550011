"""What the windows agent tells of the partials that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
import pytest

from agents.metrics import Metrics
from agents.partition_state import Changes, Outgoing
from agents.transports.batch import Batch, Section
from agents.windows_state import WindowsSetting, WindowsState
from alerting.rules.rule import Rule, parse_rule
from tables.join_policy import JoinPolicy
from tables.partials import Partial, PartialRow, encode_partial
from tests.oracle import MINUTE
from tests.tables.streams import T0

ATTRIBUTION = 10 * MINUTE
LOW = parse_rule({"name": "low", "expr": "ctr < 5%", "for": "0s", "min_impressions": 1})


def new_state(*rules: Rule, provisional: bool = True) -> WindowsState:
    setting = WindowsSetting(
        JoinPolicy(), lambda: rules, "partials", "windows", "alerts", "dead", Metrics(), provisional=lambda: provisional
    )
    return WindowsState(2, setting)


def said(watermark: int, *rows: tuple[int, int, int], number: int = 1) -> bytes:
    """A partial of the only join partition: rows are (minute, impressions, clicks) of one model."""
    return encode_partial(
        Partial(0, 1, 7, number, watermark, [PartialRow("home", "v1", T0 + m * MINUTE, i, c) for m, i, c in rows])
    )


def take(state: WindowsState, *values: bytes | None, first: int = 0, skip: Mapping[str, int] | None = None) -> None:
    offsets = range(first, first + len(values))
    state.apply(Batch(2, (Section("partials", offsets, values, offsets.stop),)), skip or {})


def checkpoint(state: WindowsState) -> Changes:
    changes = state.changes(epoch=1, number=1)
    assert changes is not None
    assert not changes.after
    return changes


def told(messages: tuple[Outgoing, ...], topic: str) -> list[dict[str, Any]]:
    return [orjson.loads(message.value or b"") for message in messages if message.topic == topic]


def test_a_row_is_told_as_long_as_it_changes_and_then_once_more() -> None:
    state = new_state()
    take(state, said(T0, (0, 10, 1)), said(T0, (0, 12, 3), number=2))
    out = checkpoint(state).before
    row = {"kind": "ctr", "model_id": "home", "model_version": "v1", "window_start": T0, "window_end": T0 + MINUTE}
    assert told(out, "windows") == [{**row, "final": False, "impressions": 12, "clicks": 3, "ctr": 0.25}]
    assert [message.key for message in out] == [b"home"]

    take(state, said(T0 + 1, number=3), first=2)
    assert checkpoint(state).before == ()  # nothing has changed but the time
    assert state.changes(1, 2) is None

    take(state, said(T0 + MINUTE + ATTRIBUTION, number=4), first=3)
    assert told(checkpoint(state).before, "windows") == [
        {**row, "final": True, "impressions": 12, "clicks": 3, "ctr": 0.25}
    ]


def test_provisional_rows_can_be_left_out() -> None:
    state = new_state(provisional=False)
    take(state, said(T0, (0, 10, 1)))
    assert checkpoint(state).before == ()


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", said(T0, (0, 5, 1))[:-1]])
def test_what_is_no_partial_is_a_dead_letter_and_harms_nobody(value: bytes | None) -> None:
    state = new_state()
    take(state, said(T0, (0, 10, 1)), value, said(T0, (1, 20, 2), number=2), first=40)
    out = checkpoint(state).before
    assert [row["impressions"] for row in told(out, "windows")] == [10, 20]
    [letter] = told(out, "dead")
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("partials", 2, 41)
    assert letter["reason"].startswith("not_a_partial: ")


def test_what_is_read_again_to_rebuild_is_not_told_again() -> None:
    lost = new_state(LOW)
    take(lost, said(T0 + 2 * MINUTE, (0, 10, 0)), b"{}", said(T0 + 3 * MINUTE, (1, 20, 0), number=2))
    changes = checkpoint(lost)
    assert (len(told(changes.before, "alerts")), len(told(changes.before, "dead"))) == (1, 1)
    assert changes.rebuild == {"partials": 0}

    state = new_state(LOW)
    state.restore_time(msgspec.msgpack.decode(msgspec.msgpack.encode(changes.rebuild_state)))
    take(state, said(T0 + 2 * MINUTE, (0, 10, 0)), b"{}", skip={"partials": 3})
    take(state, said(T0 + 3 * MINUTE, (1, 20, 0), number=2), first=2, skip={"partials": 3})
    state.rebuilt()
    out = checkpoint(state).before
    assert (told(out, "alerts"), told(out, "dead")) == ([], [])

    take(state, said(T0 + 2 * MINUTE + ATTRIBUTION, number=3), first=3, skip={"partials": 3})
    finals = [row for row in told(checkpoint(state).before, "windows") if row["final"]]
    assert [(row["window_start"], row["impressions"]) for row in finals] == [(T0, 10), (T0 + MINUTE, 20)]


def test_an_incident_lives_on_in_the_checkpoint() -> None:
    state = new_state(LOW)
    take(state, said(T0 + 2 * MINUTE, (0, 10, 0)))
    changes = checkpoint(state)
    [firing] = told(changes.before, "alerts")
    assert firing["status"] == "firing"

    restored = new_state(LOW)
    restored.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(changes.state)), {})
    quiet = [(minute, 10, 10) for minute in range(1, 12)]
    take(restored, said(T0 + 13 * MINUTE, *quiet, number=2), first=1)
    [resolved] = told(checkpoint(restored).before, "alerts")
    assert (resolved["status"], resolved["alert_id"]) == ("resolved", firing["alert_id"])


@pytest.mark.parametrize("settle", ["0s", "1m", "10m", "2h"])
def test_a_rule_judges_a_window_once_however_long_it_waits(settle: str) -> None:
    rule = parse_rule({"name": "low", "expr": "ctr < 5%", "for": "0s", "min_impressions": 1, "settle": settle})
    state = new_state(rule)
    take(state, said(T0, (0, 10, 0)))
    alerts = []
    for minute in range(1, 30):
        take(state, said(T0 + minute * MINUTE, number=1 + minute), first=minute)
        alerts += [(minute, alert["status"]) for alert in told(checkpoint(state).before, "alerts")]
    # What is final does not change any more: nobody waits longer than that.
    assert alerts[0] == (1 + min(rule.settle_ms, ATTRIBUTION) // MINUTE, "firing")
    assert [status for _, status in alerts].count("firing") == 1


def test_incidents_of_another_version_do_not_fit_so_that_the_custodian_rebuilds() -> None:
    state = new_state(LOW)
    take(state, said(T0, (0, 10, 1)))
    kept = dict(checkpoint(state).state)
    new_state(LOW).restore(kept, {})
    with pytest.raises(ValueError, match="incidents of another version"):
        new_state(LOW).restore({**kept, "judge": {**kept["judge"], "book": {"version": 99}}}, {})
