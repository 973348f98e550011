"""One partition of the alerts agent: what may be said when, and what a checkpoint keeps of it."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from agents.dead_letters import VALUE_BYTES
from agents.desk_commands import PutSilence, encode_command
from alerting.alert import Alert
from alerting.desk.desk import Reason
from tests.agents.alerts_partition import (
    ALERTS,
    COMMANDS,
    DEAD,
    Partition,
    acked,
    at_once,
    silenced,
    told,
    unsilenced,
)
from tests.alerting.desk.desk_world import HOUR, MINUTE, a_policy, a_silence, fires, over


def test_nothing_is_said_before_the_checkpoint_that_holds_it() -> None:
    here = Partition()
    here.hear(fires("a1"))
    assert here.ready() == []
    here.checkpoint()
    assert here.state.take_saved(here.number - 1) == []
    assert here.ready() == ["firing a1"]
    assert here.ready() == []  # and once


def test_what_comes_while_a_checkpoint_is_saved_waits_for_the_next_one() -> None:
    here = Partition()
    here.hear(fires("a1"))
    here.checkpoint()
    here.hear(fires("b1", model_id="search"))
    assert here.ready() == ["firing a1"]
    here.checkpoint()
    assert here.ready() == ["firing b1"]


def test_checkpoints_that_were_missed_are_caught_up_with_in_order() -> None:
    here = Partition()
    for name in ("a1", "b1", "c1"):
        here.hear(fires(name, model_id=name))
        here.checkpoint()
    assert here.ready() == ["firing a1", "firing b1", "firing c1"]


def test_a_checkpoint_does_not_change_once_it_was_made() -> None:
    here = Partition()
    here.hear(fires("a1"), fires("c1", model_id="other"))
    here.command(silenced('rule="b1"'))
    changes = here.checkpoint()
    before = msgspec.msgpack.encode(changes.state)
    # The publisher is waited for between here and the store, and records go on to come.
    here.hear(fires("b1", model_id="search"), over(fires("a1")))
    here.command(acked("c1"), unsilenced())
    here.state.failed(next(iter(here.state.take_saved(1))), "down")
    assert msgspec.msgpack.encode(changes.state) == before


def test_without_news_there_is_no_checkpoint() -> None:
    here = Partition()
    assert here.state.changes(1, 1) is None
    here.hear(fires("a1"))
    here.checkpoint()
    here.state.tick()
    assert here.state.changes(1, 2) is None
    (note,) = here.state.take_saved(1)
    here.state.sent(note, note)
    here.checkpoint()
    here.state.sent(note, note)  # twice is once
    assert here.state.changes(1, 3) is None


def test_the_next_owner_says_what_is_not_known_to_be_said() -> None:
    here = Partition()
    here.hear(fires("a1"), fires("b1", model_id="search"))
    here.checkpoint()
    first, _ = here.state.take_saved(1)
    here.state.sent(first, first)
    changes = here.checkpoint()
    here.restored(changes)
    assert not here.state.caught_up
    assert here.ready() == ["firing b1"]
    assert here.ready() == []
    # It stays in the checkpoints until something has become of it.
    here.hear(fires("c1", model_id="third"))
    here.restored(here.checkpoint())
    assert here.ready() == ["firing b1", "firing c1"]


def test_what_was_dropped_or_given_up_is_not_said_by_the_next_owner() -> None:
    here = Partition()
    here.hear(*(fires(f"{name}1", model_id=name) for name in "abc"))
    here.checkpoint()
    a, b, c = here.state.take_saved(1)
    here.state.sent(a, a)
    here.state.dropped(b)
    here.state.failed(c, "too_many_attempts: 500")
    changes = here.checkpoint()
    assert changes.state["outbox"] == []
    here.restored(changes)
    assert here.ready() == []


def test_a_notification_that_nobody_could_deliver_is_a_dead_letter_once() -> None:
    here = Partition()
    alert = fires("a1")
    here.hear(fires("b1", model_id="search"), alert)
    here.checkpoint()
    _, note = here.state.take_saved(1)
    here.state.failed(note, "too_many_attempts: 500")
    here.state.failed(note, "too_many_attempts: 500")
    (letter,) = told(here.checkpoint().before, DEAD)
    assert (letter["topic"], letter["partition"], letter["offset"]) == (ALERTS, 3, 1)
    assert letter["reason"] == "undelivered: chat: too_many_attempts: 500"
    assert base64.b64decode(letter["value"]) == alert.to_json()[:VALUE_BYTES]
    assert here.metrics.dead_letters.labels(ALERTS, "undelivered")._value.get() == 1
    # It still fires: it is tried again.
    here.now += 6 * MINUTE
    here.state.tick()
    here.checkpoint()
    assert here.ready() == ["firing a1"]


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        (ALERTS, None),
        (ALERTS, b""),
        (ALERTS, b"\xff"),
        (ALERTS, b'{"alert_id": "a1"}'),
        (ALERTS, fires("a1").to_json()[:-1]),
        (COMMANDS, None),
        (COMMANDS, b"[]"),
        (COMMANDS, b"\xff"),
        (COMMANDS, b'{"type": "dance"}'),
        (COMMANDS, b'{"type": "put_silence", "silence": {}}'),
        (COMMANDS, b'{"type": "put_silence", "silence": {"matchers": [7]}}'),
        (
            COMMANDS,
            encode_command(PutSilence({**a_silence('x="1"').to_json(), "starts_at": 2**64 - 1, "ends_at": 2**64})),
        ),
        (COMMANDS, b'{"type": "acknowledge", "by": "x", "alert_id": "' + b"a" * 20_000 + b'"}'),
    ],
)
def test_what_is_no_alert_and_no_command_is_a_dead_letter_and_harms_nobody(topic: str, value: bytes | None) -> None:
    here = Partition()
    here.hear(fires("b1"))
    here.take(topic, value)
    here.hear(fires("c1", model_id="search"))
    (letter,) = told(here.checkpoint().before, DEAD)
    assert (letter["topic"], letter["offset"]) == (topic, here.ends[topic] - (2 if topic == ALERTS else 1))
    assert letter["reason"].startswith("not_usable: ")
    assert here.ready() == ["firing b1", "firing c1"]
    # It is said once, also where it is read again.
    here.again(topic, value, first=0, skip={topic: 1})
    assert told(here.checkpoint().before, DEAD) == []


def test_that_somebody_looks_after_it_is_published_to_the_same_partition() -> None:
    here = Partition()
    here.hear(fires("a1"))
    here.command(acked("a1", "alice"), acked("nobody-knows-it"))
    changes = here.checkpoint()
    (alert,) = told(changes.before, ALERTS)
    assert (alert["alert_id"], alert["status"]) == ("a1", "acknowledged")
    assert alert["related"]["acknowledged_by"] == "alice"
    (message,) = changes.before
    assert (message.partition, message.key) == (3, b"recommender-home")
    # Its own record comes back, and is nothing new.
    here.take(ALERTS, message.value)
    assert here.checkpoint().before == ()
    assert here.ready() == ["firing a1", "acknowledged a1"]


# -- without the store: what is read again


def reads_again(here: Partition, alerts: list[Alert], *commands: bytes, commands_first: bool = False) -> None:
    """All of it, as it was read before; then the partition is rebuilt."""
    here.state = here.fresh()
    here.state.restore_time({})
    skip = {ALERTS: len(alerts), COMMANDS: len(commands)}
    parts: list[tuple[str, list[bytes]]] = [
        (ALERTS, [alert.to_json() for alert in alerts]),
        (COMMANDS, list(commands)),
    ]
    for topic, values in reversed(parts) if commands_first else parts:
        here.again(topic, *values, first=0, skip=skip)
    here.state.rebuilt()
    here.ends = dict(skip)


def test_what_is_read_again_opens_its_incident_and_says_nothing() -> None:
    here = Partition()
    reads_again(here, [fires("a1"), fires("b1", model_id="search"), over(fires("b1", model_id="search"))])
    assert here.checkpoint().before == ()
    assert here.ready() == []
    assert [each.alert.alert_id for each in here.state.desk.incidents()] == ["a1"]
    # Its end is told to those who had been told that it fires.
    here.hear(over(fires("a1")))
    here.checkpoint()
    assert here.ready() == ["resolved a1"]


@pytest.mark.parametrize("commands_first", [False, True])
def test_a_command_that_is_read_again_says_and_publishes_nothing(commands_first: bool) -> None:
    here = Partition()
    here.hear(fires("a1"), fires("b1", model_id="search"))
    here.command(acked("a1"), silenced('model_id="search"'), unsilenced(), silenced('model_id="third"', name="t"))
    (published,) = told(here.checkpoint().before, ALERTS)
    here.ready()
    alerts = [
        fires("a1"),
        fires("b1", model_id="search"),
        Alert.from_json(msgspec.json.encode(published)),
        fires("c1", model_id="third"),
    ]
    commands = [
        msgspec.json.encode(command)
        for command in (
            acked("a1"),
            silenced('model_id="search"'),
            unsilenced(),
            silenced('model_id="third"', name="t"),
        )
    ]
    reads_again(here, alerts, *commands, commands_first=commands_first)
    assert here.checkpoint().before == ()
    assert here.ready() == []
    statuses = {each.alert.alert_id: each.status for each in here.state.desk.incidents()}
    assert statuses == {"a1": "acknowledged", "b1": "firing", "c1": "firing"}
    assert [silence.id for silence in here.state.desk.silences()] == ["t"]


def test_what_is_open_bounds_from_where_it_is_read_again() -> None:
    here = Partition()
    here.hear(fires("a1"), over(fires("a1")), fires("b1"), fires("c1", model_id="search"))
    here.command(acked("x"), acked("x"), silenced('rule="z"'), acked("x"))
    changes = here.checkpoint()
    for note in here.state.take_saved(1):
        here.state.sent(note, note)
    assert changes.rebuild == {ALERTS: 0, COMMANDS: 2}  # the end of a1 is still to be told
    changes = here.checkpoint()
    assert changes.rebuild == {ALERTS: 2, COMMANDS: 2}
    here.restored(changes)
    here.hear(over(fires("b1")))
    here.command(unsilenced())
    here.checkpoint()
    for note in here.state.take_saved(here.number):
        here.state.sent(note, note)
    assert here.checkpoint().rebuild == {ALERTS: 3, COMMANDS: 5}
    here.hear(over(fires("c1", model_id="search")))
    here.checkpoint()
    for note in here.state.take_saved(here.number):
        here.state.sent(note, note)
    # Nothing is open: it begins where it goes on.
    changes = here.checkpoint()
    assert changes.rebuild == {ALERTS: 6, COMMANDS: 5}
    assert changes.state["offsets"] == {}


def test_a_silence_that_is_put_again_is_read_from_where_it_was_put_last() -> None:
    here = Partition()
    here.command(silenced('rule="z"'), acked("x"), silenced('rule="y"'))
    assert here.checkpoint().rebuild == {ALERTS: 0, COMMANDS: 2}


def test_a_long_incident_that_is_said_again_is_still_read_from_its_begin() -> None:
    here = Partition()
    here.hear(fires("a1"), fires("b1", model_id="search"), fires("a1"))
    assert here.checkpoint().rebuild[ALERTS] == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"desk": {"version": 99}},
        {"desk": {}},
        {"outbox": [{"key": "k"}]},
        {"outbox": 7},
        {"offsets": None},
        {"next": None},
    ],
)
def test_a_state_of_another_version_does_not_fit_so_that_the_custodian_rebuilds(broken: dict[str, Any]) -> None:
    here = Partition()
    here.hear(fires("a1"))
    kept = dict(here.checkpoint().state)
    here.fresh().restore(kept, {})
    with pytest.raises((ValueError, TypeError)):
        here.fresh().restore({**kept, **broken}, {})
    with pytest.raises(KeyError):
        here.fresh().restore({name: value for name, value in kept.items() if name not in broken}, {})


def test_time_passes_only_where_something_is_due_and_every_decision_is_counted() -> None:
    here = Partition(a_policy(at_once(repeat_interval_ms=30 * MINUTE)))
    here.hear(fires("a1"))
    here.checkpoint()
    (note,) = here.state.take_saved(1)
    here.state.sent(note, note)
    here.checkpoint()
    here.now += 29 * MINUTE
    here.state.tick()
    assert here.state.changes(1, 3) is None
    here.now += MINUTE
    here.state.tick()
    here.checkpoint()
    assert here.ready() == ["repeat a1"]

    def counted(reason: Reason) -> float:
        return float(here.metrics.desk_decisions.labels(reason.value)._value.get())

    assert [counted(each) for each in (Reason.OPENED, Reason.FIRST_NOTIFICATION, Reason.REPEAT_INTERVAL)] == [1, 1, 1]


def test_another_policy_holds_at_once_and_is_checkpointed() -> None:
    here = Partition(a_policy(at_once(notify=())))
    here.hear(fires("a1"))
    here.checkpoint()
    assert here.ready() == []
    here.state.replace_policy(a_policy(at_once()))
    here.checkpoint()
    assert here.ready() == ["firing a1"]


def test_a_state_of_the_same_process_goes_on_with_all_that_it_knew() -> None:
    here = Partition(a_policy(at_once()))
    here.hear(fires("a1"), fires("b1", model_id="b"))
    here.command(silenced('rule="c1"'))
    here.checkpoint()
    first, _ = here.state.take_saved(here.number)
    here.state.sent(first, first)
    former, here.state = here.state, here.fresh()
    here.state.inherit(former)
    # What is read again it knows.
    here.again(ALERTS, fires("a1").to_json(), fires("b1", model_id="b").to_json(), first=0, skip={ALERTS: 2})
    here.hear(fires("c1", model_id="c"))
    here.checkpoint()
    assert here.ready() == ["firing b1"]
    assert [silence.id for silence in here.state.desk.silences()] == ["s"]


def test_a_checkpoint_is_renewed_before_it_dies() -> None:
    here = Partition()
    here.hear(fires("a1"))
    here.command(acked("a1"))
    here.checkpoint()
    for note in here.state.take_saved(here.number):
        here.state.dropped(note)
    here.checkpoint()
    saved = 0
    for _ in range(24):
        here.now += HOUR
        here.state.tick()
        saved += here.state.changes(1, 1) is not None
    assert saved == 24


@pytest.mark.parametrize("deep", [b'{"type":"put_silence","silence":{"a":' + b"[" * 8000, b"[" * 16_000])
def test_no_command_however_deep_stops_it(deep: bytes) -> None:
    here = Partition()
    here.take(COMMANDS, deep)
    (letter,) = told(here.checkpoint().before, DEAD)
    assert letter["reason"].startswith("not_usable: not a command: ")
