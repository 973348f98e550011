"""What a channel in trouble does to what waits for it: as little as can be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from alerting.channels.base import DeliveryFailed
from alerting.message import Message, Parcel
from alerting.notification import Notification
from alerting.sending.backoff import Backoff
from alerting.sending.notifier import LaneSettings
from tables.memory_ledger import MemoryLedger
from tests.alerting.sending.lanes import FlyingTime, Hold, Notes, Scripted, bench, busy, note, passes, refusal


class Choosy(Scripted):
    """Fails with every parcel that has this text in it."""

    def __init__(self, name: str, dislikes: str, failure: Callable[[], DeliveryFailed], **options: Any) -> None:
        super().__init__(name, **options)
        self.dislikes = dislikes
        self.failure = failure

    async def send(self, parcel: Parcel) -> None:
        if self.dislikes in parcel.body:
            self.attempts.append(parcel.body)
            raise self.failure()
        await super().send(parcel)


async def test_one_that_cannot_be_taken_does_not_hold_up_the_others() -> None:
    channel = Choosy("ops", "bad", busy)
    async with bench(channel) as on:
        on.submit(note("bad", "critical"), *(note(f"c{number}", "critical") for number in range(9)))
        await on.time.pass_by(10)
        assert len(channel.sent) == 9
        await on.deliver()
        # It has its tries and its five minutes all the same.
        assert [name for name, _, _ in on.dead] == ["bad"]
        assert 5 < channel.attempts.count("bad") <= 30
        assert 1240 < on.time.now < 1420


async def test_a_critical_one_does_not_wait_out_the_pause_of_another() -> None:
    channel = Choosy("ops", "bad", busy)
    async with bench(channel, backoff=Backoff(base_s=60)) as on:
        on.submit(note("bad", "minor"))
        await on.time.settle()
        on.submit(note("c", "critical"))
        await on.time.pass_by(5.1)
        assert channel.sent == ["c"]


async def test_while_a_channel_is_down_critical_ones_knock_now_and_then_only() -> None:
    channel = Scripted("ops", *[busy()] * 1000)
    async with bench(channel, backoff=Backoff(base_s=60)) as on:
        for number in range(600):
            on.submit(note(f"c{number}", "critical"))
            await on.time.pass_by(0.1)
        assert 5 < len(channel.attempts) < 20


async def test_who_only_knocks_does_not_lose_its_time() -> None:
    channel = Scripted("ops", *[busy()] * 1000)
    async with bench(channel) as on:
        for number in range(100):
            on.submit(note(f"c{number}", "critical"))
        await on.time.pass_by(900)
        assert len(on.dead) <= 4  # a few minutes each, one after the other
        channel.script.clear()
        await on.deliver()
        assert len(on.gate.settled) == 100 - len(on.dead)


async def test_one_that_is_refused_does_not_take_its_digest_with_it() -> None:
    channel = Choosy("ops", "bad", refusal, digest_bytes=2000)
    async with bench(channel) as on:
        await on.deliver(*(note(name) for name in ("a", "b", "bad", "c", "d", "e")))
        assert on.dead == [("bad", "ops", "refused: HTTP 400")]
        assert sorted(on.gate.settled) == ["a", "b", "c", "d", "e"]


async def test_words_that_differ_each_time_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    script = [DeliveryFailed(f"HTTP 400, request {number}", retryable=False) for number in range(500)]
    async with bench(Scripted("ops", *script)) as on:
        await on.deliver(*(note(f"a{number}") for number in range(500)))
        assert len(on.dead) == 500
        await on.time.pass_by(60)
        on.notifier._lanes["ops"].channel.script = [refusal()]  # type: ignore[attr-defined]
        await on.deliver(note("b"))
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "ops: refused: notifications are lost: HTTP 400, request 0",
        "ops: refused: notifications are lost: HTTP 400",
    ]


async def test_a_full_queue_is_relieved_by_the_channel_that_stands_in() -> None:
    ops, mail = Scripted("ops", Hold()), Scripted("mail")
    async with bench(ops, mail, settings={"ops": LaneSettings(fallback="mail")}, queue_size=2) as on:
        on.submit(note("first", "minor"))
        await on.time.settle()
        assert on.submit(note("i", "minor"), note("a"), note("b")) == [True, True, False]
        await on.time.settle()
        assert (mail.sent, on.dead) == (["b", "i"], [])


# Several parcels


class EachByItself(Scripted):
    """As a webhook: a parcel for each alert."""

    def prepare(self, message: Message) -> Sequence[Parcel]:
        return [
            Parcel(key=f"{message.key} {alert.alert_id}", body=alert.alert_id, alert_id=alert.alert_id)
            for alert in message.alerts
        ]


def a_group(*names: str) -> Notification:
    return replace(note("group"), alerts=tuple(note(name).alerts[0] for name in names))


async def test_a_crash_within_a_group_repeats_the_one_on_its_way_and_no_other() -> None:
    time, hold = FlyingTime(), Hold()
    ledger = MemoryLedger(clock=time.clock)
    channel = EachByItself("ops", passes, passes, hold)
    group = a_group("a", "b", "c", "d")
    async with bench(channel, time=time, ledger=ledger) as on:
        on.submit(group)
        await hold.reached.wait()
    async with bench(channel, time=time, ledger=ledger) as on:
        on.submit(group, gate=Notes(epoch=2))
        await on.deliver()
    assert channel.attempts == ["a", "b", "c", "c", "d"]


async def test_of_a_group_that_is_on_its_way_its_gate_learns_alert_by_alert() -> None:
    channel = EachByItself("ops", passes, busy())
    async with bench(channel) as on:
        on.submit(a_group("a", "b", "c"))
        await on.time.settle()
        assert (on.gate.in_part, on.gate.settled) == (["a"], [])
        await on.deliver()
        assert (on.gate.in_part, on.gate.settled) == (["a", "b"], ["a", "b", "c"])


async def test_what_is_acknowledged_while_its_group_is_on_its_way_is_not_said() -> None:
    channel = EachByItself("ops", passes, busy())
    async with bench(channel) as on:
        on.submit(a_group("a", "b", "c", "d"))
        await on.time.settle()
        on.gate.done |= {"b", "d"}
        await on.deliver()
        assert on.gate.settled == ["a", "b", "c", "d"]
    assert channel.sent == ["a", "c"]


# Who has heard it


async def test_the_gate_learns_which_channel_has_said_it() -> None:
    time = FlyingTime()
    ledger = MemoryLedger(clock=time.clock)
    settings = {"ops": LaneSettings(fallback="mail")}
    ops, mail = Scripted("ops", refusal()), Scripted("mail")
    async with bench(ops, mail, time=time, ledger=ledger, settings=settings) as on:
        await on.deliver(note("a"), note("b"))
        assert sorted(zip(on.gate.settled, on.gate.said_on, strict=True)) == [("a", "mail"), ("b", "ops")]
    # So does a later owner, from the ledger.
    async with bench(ops, mail, time=time, ledger=ledger, settings=settings) as on:
        await on.deliver(note("a"), note("b"))
        assert sorted(zip(on.gate.settled, on.gate.said_on, strict=True)) == [("a", "mail"), ("b", "ops")]
        assert on.counts == {"ops already_sent": 2}


class InItsPlace(Notes):
    """Has something else said than what was submitted."""

    def trim(self, submitted: Notification, here: Notification) -> Notification | None:
        return note("b").like(here)


async def test_what_is_said_in_the_place_of_another_is_known_to_be_said_too() -> None:
    time = FlyingTime()
    ledger = MemoryLedger(clock=time.clock)
    channel = Scripted("ops")
    async with bench(channel, time=time, ledger=ledger) as on:
        on.submit(note("a"), gate=InItsPlace())
        await on.deliver()
    async with bench(channel, time=time, ledger=ledger) as on:
        await on.deliver(note("a"), note("b"))
        assert on.counts == {"ops already_sent": 2}
    assert channel.sent == ["b"]
