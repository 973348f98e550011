from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from alerting.channels.base import Budget
from alerting.message import Message, Parcel
from alerting.notification import Link, Notification
from alerting.sending.backoff import Backoff
from alerting.sending.notifier import LaneSettings, Notifier
from tables.checkpoint import Lease
from tables.errors import ConfigError, StoreUnavailable
from tables.memory_ledger import MemoryLedger
from tests.alerting.sending.lanes import (
    FlyingTime,
    Hold,
    Notes,
    Scripted,
    bench,
    busy,
    note,
    passes,
    refusal,
    throttled,
)

TO_MAIL = {"ops": LaneSettings(fallback="mail")}


async def test_what_is_submitted_is_sent_in_order_and_its_gate_hears_of_it() -> None:
    channel = Scripted()
    async with bench(channel) as on:
        await on.deliver(note("a"), note("b"), note("c"))
        assert on.gate.settled == channel.sent == ["a", "b", "c"]
        assert on.counts == {"ops sent": 3}
    assert channel.closed == 1


async def test_each_goes_to_its_own_channel_in_that_channel_s_words() -> None:
    chat, mail = Scripted("chat"), Scripted("mail")
    link = Link(title="Board", url="https://tidemark.example/")
    async with bench(chat, mail, settings={"chat": LaneSettings(locale="zh")}, links=lambda _: [link]) as on:
        await on.deliver(note("a", channel="chat"), note("b", channel="mail"))
    assert (chat.sent, mail.sent) == (["a"], ["b"])
    assert [(each.messages[0].locale, "触发" in each.messages[0].title) for each in (chat, mail)] == [
        ("zh", True),
        ("en", False),
    ]
    assert mail.messages[0].links[0].url == link.url


async def test_the_most_urgent_goes_first_and_among_equals_the_first() -> None:
    hold = Hold()
    channel = Scripted("ops", hold)
    async with bench(channel) as on:
        on.submit(note("first"))
        await hold.reached.wait()
        severities: dict[str, Any] = {"i1": "minor", "a1": "major", "i2": "minor", "c1": "critical", "a2": "major"}
        on.submit(*(note(name, severity) for name, severity in severities.items()), note("c2", "critical"))
        hold.released.set()
        await on.deliver()
    assert channel.sent == ["first", "c1", "c2", "a1", "a2", "i1", "i2"]


async def test_a_failed_attempt_is_followed_by_another_after_a_jittered_pause() -> None:
    channel = Scripted("ops", busy(), busy(), busy())
    async with bench(channel) as on:
        rng = random.Random(1)
        await on.deliver(note("a"))
        assert on.time.now == pytest.approx(1000 + sum(rng.uniform(0, cap) for cap in (1, 2, 4)))
        assert on.counts == {"ops retried": 3, "ops sent": 1}
    assert channel.attempts == ["a"] * 4


async def test_a_receiver_that_asks_for_more_time_gets_it() -> None:
    channel = Scripted("ops", busy(retry_after_s=90))
    async with bench(channel) as on:
        await on.deliver(note("a"))
        assert on.time.now == 1090


async def test_after_the_pause_the_most_urgent_goes_first_again() -> None:
    channel = Scripted("ops", busy(), busy())
    async with bench(channel) as on:
        on.submit(note("a"), note("b"))
        await on.time.settle()
        await on.deliver(note("c", "critical"))
    assert channel.attempts == ["a", "c", "c", "a", "b"]


async def test_tries_run_out_and_the_dead_letter_says_why() -> None:
    channel = Scripted("ops", *[busy()] * 9)
    async with bench(channel, backoff=Backoff(tries=3)) as on:
        await on.deliver(note("a"))
        assert on.dead == [("a", "ops", "gave_up: HTTP 503 (after 3 tries)")]
        assert on.gate.lost == [("a", "gave_up: HTTP 503 (after 3 tries)")]
        assert on.counts == {"ops retried": 2, "ops gave_up": 1, "ops dead": 1}
        await on.deliver(note("b", "critical"))
        assert len(on.dead) == 2
    assert channel.sent == []


async def test_a_receiver_that_is_away_for_minutes_gets_it_when_it_is_back() -> None:
    channel = Scripted("ops", *[busy()] * 8)
    async with bench(channel) as on:
        await on.deliver(note("a", "critical"), at_most_s=400)
        assert (on.dead, channel.sent) == ([], ["a"])
        assert on.counts == {"ops retried": 8, "ops sent": 1}


async def test_time_runs_out_too() -> None:
    async with bench(Scripted("ops", *[busy(60)] * 9), backoff=Backoff(budget_s=100)) as on:
        await on.deliver(note("a"))
        assert on.dead == [("a", "ops", "gave_up: HTTP 503 (after 2 tries)")]


async def test_a_refusal_is_final_and_a_broken_channel_too() -> None:
    channel = Scripted("ops", refusal(), ZeroDivisionError("no secret of ours"))
    async with bench(channel) as on:
        await on.deliver(note("a"), note("b"), note("c"))
        assert on.dead == [("a", "ops", "refused: HTTP 400"), ("b", "ops", "broken: ZeroDivisionError")]
        assert on.counts == {"ops refused": 1, "ops broken": 1, "ops dead": 2, "ops sent": 1}
    assert channel.attempts == ["a", "b", "c"]


async def test_an_attempt_that_hangs_is_cut_off_and_made_again() -> None:
    hold = Hold()
    channel = Scripted("ops", hold)
    async with bench(channel, attempt_timeout_s=0.05) as on:
        on.submit(note("a"))
        await hold.reached.wait()
        await asyncio.sleep(0.1)
        await on.deliver()
        assert on.counts == {"ops retried": 1, "ops sent": 1}


async def test_parcels_go_in_order_and_a_retry_resumes_at_the_one_that_failed() -> None:
    channel = Scripted("ops", passes, busy(), busy(), parts=3)
    async with bench(channel, backoff=Backoff(tries=3)) as on:
        await on.deliver(note("a"), note("b"))
    # After two failures another one has its turn: it may be a/2 that cannot be taken.
    assert channel.attempts == ["a/1", "a/2", "a/2", "b/1", "a/2", "a/3", "b/2", "b/3"]
    assert on.counts == {"ops retried": 2, "ops sent": 2}


async def test_each_parcel_has_tries_of_its_own() -> None:
    channel = Scripted("ops", busy(), busy(), passes, busy(), busy(), parts=2)
    async with bench(channel, backoff=Backoff(tries=3)) as on:
        await on.deliver(note("a"))
        assert on.counts == {"ops retried": 4, "ops sent": 1}


async def test_a_critical_one_goes_between_the_parcels_of_another() -> None:
    channel = Scripted("ops", passes, busy(), parts=2)
    async with bench(channel) as on:
        on.submit(note("a"))
        await on.time.settle()
        await on.deliver(note("c", "critical"))
    assert channel.sent == ["a/1", "c/1", "c/2", "a/2"]


# Standing in


async def test_another_channel_stands_in_and_the_gate_need_not_know() -> None:
    ops, mail = Scripted("ops", refusal()), Scripted("mail")
    async with bench(ops, mail, settings=TO_MAIL) as on:
        await on.deliver(note("a"))
        assert on.gate.settled == ["a"]
        assert on.counts == {"ops refused": 1, "ops fell_back": 1, "mail sent": 1}
    [said] = mail.messages[0].notifications
    assert (said.channel, said.fallback_of) == ("mail", ("ops",))
    assert said.key != note("a").key


async def test_a_chain_of_them_ends_after_each_was_asked_once() -> None:
    names = ("ops", "mail", "chat")
    settings = {"ops": LaneSettings(fallback="mail"), "mail": LaneSettings(fallback="chat")}
    settings["chat"] = LaneSettings(fallback="ops")
    channels = [Scripted(name, refusal(), refusal()) for name in names]
    async with bench(*channels, settings=settings) as on:
        await on.deliver(note("a"))
        assert on.dead == [("a", "chat", "refused: HTTP 400")]
        assert on.gate.lost == [("a", "refused: HTTP 400")]
    assert [channel.attempts for channel in channels] == [["a"]] * 3


async def test_what_stood_in_is_not_sent_again_by_a_later_owner() -> None:
    time = FlyingTime()
    ledger = MemoryLedger(clock=time.clock)
    ops, mail = Scripted("ops", refusal()), Scripted("mail")
    async with bench(ops, mail, time=time, ledger=ledger, settings=TO_MAIL) as on:
        await on.deliver(note("a"))
    async with bench(ops, mail, time=time, ledger=ledger, settings=TO_MAIL) as on:
        await on.deliver(note("a"))
        assert (on.counts, on.gate.settled) == ({"ops already_sent": 1}, ["a"])
    assert (ops.sent, mail.sent) == ([], ["a"])


async def test_a_channel_that_is_down_is_looked_at_now_and_then_and_the_others_do_not_wait_for_it() -> None:
    ops, mail = Scripted("ops", *[busy()] * 4), Scripted("mail")
    async with bench(ops, mail, settings=TO_MAIL, backoff=Backoff(tries=3)) as on:
        await on.deliver(*(note(f"a{number}") for number in range(50)), at_most_s=10)
        await on.deliver(note("b"), at_most_s=1)
        assert (len(ops.attempts), len(mail.sent)) == (3, 51)
        assert on.counts["ops avoided"] == 50
        await on.time.pass_by(60)
        await on.deliver(note("c"), at_most_s=1)  # tried, once
        assert ops.attempts[3:] == ["c"]
        await on.time.pass_by(50)
        await on.deliver(note("d"), at_most_s=1)
        await on.time.pass_by(10)
        await on.deliver(note("e"), at_most_s=1)  # it is well again
        await on.deliver(note("f"), at_most_s=1)
    assert ops.sent == ["e", "f"]
    assert mail.sent[50:] == ["b", "c", "d"]


async def test_a_throttled_channel_rests_and_only_critical_ones_go_elsewhere() -> None:
    ops, mail = Scripted("ops", throttled(600)), Scripted("mail")
    async with bench(ops, mail, settings=TO_MAIL) as on:
        on.submit(note("a"))
        await on.time.settle()
        on.submit(note("b"), note("c", "critical"))
        await on.time.pass_by(599)
        assert (ops.sent, mail.sent) == ([], ["c"])
        await on.deliver()
        assert on.time.now == 1600
        assert on.counts == {
            "ops retried": 1,
            "ops avoided": 1,
            "ops fell_back": 1,
            "mail sent": 1,
            "ops sent": 2,
        }


async def test_a_short_rest_moves_nobody_and_an_endless_one_is_cut() -> None:
    ops, mail = Scripted("ops", throttled(20), throttled(86_400)), Scripted("mail")
    async with bench(ops, mail, settings=TO_MAIL) as on:
        await on.deliver(note("c", "critical"))
        assert (ops.attempts, mail.sent) == (["c", "c"], ["c"])
        assert on.time.now == 1020
        await on.deliver(note("a"))
        assert on.time.now == 1020 + 900
    assert ops.sent == ["a"]


async def test_without_anybody_to_stand_in_even_a_critical_one_waits() -> None:
    ops = Scripted("ops", throttled(600))
    async with bench(ops) as on:
        await on.deliver(note("c", "critical"))
        assert (ops.sent, on.time.now) == (["c"], 1600)


# Budgets and digests

A_MINUTE = (Budget(5, 60_000),)  # one of them for critical ones alone


async def test_a_budget_holds_and_the_reserve_is_for_critical_ones() -> None:
    channel = Scripted(budgets=A_MINUTE)
    async with bench(channel) as on:
        on.submit(*(note(f"a{number}") for number in range(6)))
        await on.time.pass_by(30)
        assert channel.sent == ["a0", "a1", "a2", "a3"]
        on.submit(note("c", "critical"))
        await on.time.settle()
        assert channel.sent[4:] == ["c"]
        await on.deliver()
    assert channel.sent[5:] == ["a4", "a5"]


async def test_what_was_taken_from_the_reserve_is_for_nothing_else() -> None:
    channel = Scripted(budgets=(Budget(2, 60_000),))
    async with bench(channel) as on:
        on.submit(note("a"), note("b"))
        await on.time.settle()
        on.gate.done.add("c")  # acknowledged already
        on.submit(note("c", "critical"))
        await on.time.pass_by(59)
        assert channel.sent == ["a"]
        await on.deliver()
        assert on.counts == {"ops sent": 2, "ops withdrawn": 1}


async def test_every_parcel_and_every_attempt_costs_one() -> None:
    channel = Scripted("ops", passes, busy(), parts=2, budgets=(Budget(1, 60_000),))
    async with bench(channel) as on:
        await on.deliver(note("a"), note("b"))
        assert on.time.now >= 1000 + 4 * 60
    assert channel.attempts == ["a/1", "a/2", "a/2", "b/1", "b/2"]


async def test_budgets_of_the_configuration_stand_in_for_those_of_the_channel() -> None:
    settings = {"ops": LaneSettings(budgets=(Budget(1, 1000),))}
    async with bench(Scripted(budgets=A_MINUTE), settings=settings) as on:
        await on.deliver(*(note(f"a{number}") for number in range(10)))
        assert 1009 <= on.time.now < 1011


async def test_what_had_to_wait_for_the_budget_comes_together() -> None:
    channel = Scripted(budgets=A_MINUTE, digest_bytes=2000)
    async with bench(channel) as on:
        on.submit(*(note(f"a{number}") for number in range(4)))
        await on.time.settle()
        on.submit(note("b"), note("c", "minor"), note("d"))
        await on.deliver()
        assert on.counts == {"ops sent": 4, "ops digested": 3}
        assert on.gate.settled[4:] == ["b", "d", "c"]
        await on.time.pass_by(300)
        await on.deliver(note("e"), note("f"))  # neither had to wait: each by itself
    assert channel.sent == ["a0", "a1", "a2", "a3", "b+d+c", "e", "f"]
    assert channel.messages[4].stage == "digest"


async def test_a_crowd_comes_together_and_a_critical_one_alone_and_first() -> None:
    hold = Hold()
    channel = Scripted("ops", hold, digest_bytes=2000)
    async with bench(channel) as on:
        on.submit(note("first"))
        await hold.reached.wait()
        on.submit(*(note(f"a{number}") for number in range(6)), note("c1", "critical"), note("c2", "critical"))
        hold.released.set()
        await on.deliver()
    assert channel.sent == ["first", "c1", "c2", "a0+a1+a2+a3+a4+a5"]


async def test_machines_get_each_by_itself() -> None:
    channel = Scripted(digest_bytes=0)
    async with bench(channel) as on:
        await on.deliver(*(note(f"a{number}") for number in range(30)))
    assert len(channel.sent) == 30


async def test_a_digest_that_fails_is_made_anew_with_what_has_come_since() -> None:
    channel = Scripted("ops", busy(), digest_bytes=2000)
    async with bench(channel) as on:
        on.submit(*(note(f"a{number}") for number in range(6)))
        await on.time.settle()
        on.gate.done.add("a2")
        await on.deliver(note("b"))
        assert on.counts == {"ops retried": 6, "ops withdrawn": 1, "ops digested": 6}
    assert channel.sent == ["a0+a1+a3+a4+a5+b"]


async def test_a_digest_that_has_begun_is_brought_to_its_end() -> None:
    channel = Scripted("ops", passes, busy(), digest_bytes=2000, parts=2)
    async with bench(channel) as on:
        on.submit(*(note(f"a{number}") for number in range(6)))
        await on.time.settle()
        on.gate.done.add("a2")
        await on.deliver(note("b"), note("c", "critical"))
    assert channel.sent == ["a0+a1+a2+a3+a4+a5/1", "c/1", "c/2", "a0+a1+a2+a3+a4+a5/2", "b/1", "b/2"]


class Picky(Scripted):
    """Cannot make a message of anything with `bad` in it."""

    def prepare(self, message: Message) -> Sequence[Parcel]:
        if any(alert.alert_id == "bad" for alert in message.alerts):
            raise ValueError("cannot say that")
        return super().prepare(message)


async def test_one_of_which_no_message_can_be_made_takes_no_other_with_it() -> None:
    channel = Picky(digest_bytes=2000)
    async with bench(channel) as on:
        await on.deliver(*(note(name) for name in ("a", "b", "bad", "c", "d", "e", "f")))
        assert on.dead == [("bad", "ops", "broken: ValueError")]
    assert sorted(channel.sent) == ["a", "b", "c", "d", "e", "f"]


# Gates


async def test_what_was_acknowledged_meanwhile_is_not_said() -> None:
    channel = Scripted("ops", busy())
    async with bench(channel) as on:
        on.submit(note("a"), note("b"))
        await on.time.settle()
        on.gate.done.add("a")
        await on.deliver()
        assert on.counts == {"ops retried": 1, "ops withdrawn": 1, "ops sent": 1}
        assert on.gate.settled == ["b"]
    assert channel.sent == ["b"]


async def test_of_a_group_only_the_rest_is_said() -> None:
    channel = Scripted()
    group = replace(note("a"), alerts=note("a").alerts + note("b").alerts)
    async with bench(channel) as on:
        on.gate.done.add("a")
        await on.deliver(group)
        assert on.gate.settled == ["a", "b"]  # as it was submitted
    assert channel.sent == ["b"]


async def test_a_gate_that_is_broken_stops_nothing() -> None:
    class Broken(Notes):
        def trim(self, submitted: Notification, here: Notification) -> Notification | None:
            raise ZeroDivisionError

        sent = failed = trim  # type: ignore[assignment]

    channel = Scripted("ops", passes, refusal())
    async with bench(channel) as on:
        on.submit(note("a"), note("b"), note("c"), gate=Broken())
        await on.deliver()
    assert channel.sent == ["a", "c"]


async def test_a_partition_given_up_takes_back_what_waits_and_buries_nothing() -> None:
    ops, mail = Scripted("ops", busy()), Scripted("mail", Hold())
    other = Notes(partition=1)
    async with bench(ops, mail) as on:
        on.submit(note("a"), note("b"), note("m", channel="mail"), note("n", channel="mail"))
        on.submit(note("x"), gate=other)
        await on.time.settle()
        on.gate.given_up = True
        on.notifier.withdraw(on.gate)
        assert on.notifier.waiting() == {"ops": 1, "mail": 0}
        await on.deliver()
        assert (on.gate.settled, on.gate.lost, on.dead) == ([], [], [])
        assert on.counts["ops withdrawn"] == on.counts["mail withdrawn"] == 2
    assert (ops.sent, other.settled) == (["x"], ["x"])


async def test_a_partition_given_up_before_anybody_said_so_is_not_spoken_for() -> None:
    hold = Hold()

    async def refuse_later() -> None:
        await hold()
        raise refusal()

    ops, mail = Scripted("ops", refuse_later), Scripted("mail")
    alone, slow = Scripted("alone", refuse_later), Scripted("slow", hold)
    async with bench(ops, mail, alone, slow, settings=TO_MAIL) as on:
        on.submit(note("a"), note("b"), note("x", channel="alone"), note("y", channel="slow"))
        await on.time.settle()
        on.gate.given_up = True
        hold.released.set()
        await on.deliver()
        assert (on.gate.settled, on.gate.lost, on.dead) == ([], [], [])
        assert on.counts == {"ops refused": 1, "ops withdrawn": 1, "alone refused": 1, "slow sent": 1}
    assert (ops.attempts, mail.attempts) == (["a"], [])


async def test_another_owner_ends_everything_under_a_gate() -> None:
    time = FlyingTime()
    ledger = MemoryLedger(clock=time.clock)
    ops, mail, hold = Scripted("ops"), Scripted("mail"), Hold()
    mail.script = [hold]
    async with bench(ops, mail, time=time, ledger=ledger) as on:
        on.submit(note("m", channel="mail"), note("n", channel="mail"))
        await hold.reached.wait()
        await ledger.unsent(Lease(on.gate.lease.scope, 2, 0), [])
        on.submit(note("a"), note("b"))
        on.submit(note("x"), gate=Notes(partition=1))
        hold.released.set()
        await on.deliver()
        assert (ops.sent, mail.sent) == (["x"], ["m"])
        assert (on.gate.settled, on.gate.lost) == ([], [])
        assert on.counts == {"ops fenced": 2, "mail fenced": 2, "ops sent": 1}


class Outage(MemoryLedger):
    """Away for its first `times` questions of each kind."""

    def __init__(self, times: int, **options: Any) -> None:
        super().__init__(**options)
        self.left = Counter(unsent=times, mark=times, take=times)

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in ("unsent", "mark", "take"):
            return method

        async def answer(*args: Any, **options: Any) -> Any:
            self.left[name] -= 1
            if self.left[name] >= 0:
                raise StoreUnavailable("the store is away")
            return await method(*args, **options)

        return answer


async def test_without_the_ledger_everything_waits_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    time = FlyingTime()
    channel = Scripted(budgets=A_MINUTE)
    with caplog.at_level(logging.INFO):
        async with bench(channel, time=time, ledger=Outage(20, clock=time.clock)) as on:
            await on.deliver(note("a"), note("b"))
            assert on.counts == {"ops sent": 2}
            assert on.time.now > 1060
    assert channel.attempts == ["a", "b"]
    away = [record.message for record in caplog.records if "ledger" in record.message]
    assert away == ["nothing is sent until the ledger answers: the store is away", "the ledger answers again"] * 3


# Bounds


async def test_a_full_queue_refuses_at_once_and_says_so() -> None:
    async with bench(Scripted("ops", *[busy()] * 9), queue_size=2) as on:
        assert on.submit(note("a"), note("b"), note("c")) == [True, True, False]
        assert on.dead == [("c", "ops", "queue_full: 2 were waiting")]
        assert on.gate.lost == [("c", "queue_full: 2 were waiting")]
        assert on.notifier.waiting() == {"ops": 2}


async def test_a_critical_one_pushes_out_the_newest_of_the_least_urgent() -> None:
    hold = Hold()
    channel = Scripted("ops", hold)
    async with bench(channel, queue_size=4) as on:
        on.submit(note("first", "minor"))
        await hold.reached.wait()
        on.submit(note("i1", "minor"), note("a", "major"), note("i2", "minor"))
        assert on.submit(*(note(f"c{number}", "critical") for number in range(4))) == [True, True, True, False]
        assert [name for name, _, _ in on.dead] == ["i2", "i1", "a", "c3"]  # what is on its way stays
        hold.released.set()
        await on.deliver()
    assert channel.sent == ["first", "c0", "c1", "c2"]


async def test_a_channel_that_is_none_is_a_dead_letter() -> None:
    async with bench(Scripted()) as on:
        assert on.submit(note("a", channel="gone")) == [False]
        assert on.dead == [("a", "gone", "no_channel: there is no such channel")]


async def test_a_thousand_that_fail_alike_are_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    channel = Scripted("ops", *[refusal()] * 1000, passes, refusal())
    async with bench(channel) as on:
        await on.deliver(*(note(f"a{number}") for number in range(1002)))
        assert len(on.dead) == 1001
    assert [record.message for record in caplog.records] == [
        "ops: refused: notifications are lost: HTTP 400",
        "ops: refused: notifications are lost: HTTP 400",  # again after it was well
    ]


async def test_no_task_for_each_notification() -> None:
    async with bench(Scripted(budgets=A_MINUTE)) as on:
        on.submit(*(note(f"a{number}") for number in range(500)))
        await on.time.settle()
        assert len(asyncio.all_tasks()) < 10


async def test_drain_says_whether_it_is_done_and_close_keeps_what_is_left_from_the_dead() -> None:
    hold = Hold()
    channel = Scripted("ops", hold)
    async with bench(channel) as on:
        on.submit(note("a"), note("b"))
        assert not await on.notifier.drain(0.02)
        await on.notifier.close()
        assert (on.dead, on.gate.lost, channel.closed) == ([], [], 1)
        with pytest.raises(RuntimeError, match="closed"):
            on.submit(note("c"))
    async with bench(Scripted()) as on:
        on.submit(note("a"))
        assert await on.notifier.drain(10)


async def test_close_ends_a_task_that_loses_the_first_cancellation() -> None:
    reached = asyncio.Event()

    async def lose_it() -> None:
        reached.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with bench(Scripted("ops", lose_it, Hold())) as on:
        on.submit(note("a"), note("b"))
        await reached.wait()
        await asyncio.wait_for(on.notifier.close(), 10)
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("notifier")] == []


async def test_callbacks_that_fail_stop_nothing() -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    channel = Scripted("ops", refusal())
    notifier = Notifier({"ops": channel}, ledger=MemoryLedger(), on_outcome=broken, on_dead=broken)
    async with notifier:
        for name in "ab":
            notifier.submit(note(name), Notes())
        assert await notifier.drain(10)
    assert channel.sent == ["b"]


@pytest.mark.parametrize(
    "settings", [{"gone": LaneSettings()}, {"ops": LaneSettings(fallback="gone")}, {"ops": LaneSettings(time_zone="x")}]
)
def test_settings_that_name_what_there_is_not_are_refused(settings: dict[str, LaneSettings]) -> None:
    with pytest.raises(ConfigError):
        Notifier({"ops": Scripted()}, ledger=MemoryLedger(), settings=settings)
