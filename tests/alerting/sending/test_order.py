"""What goes first, together, and at all when there is not room for everything."""

from __future__ import annotations

from dataclasses import replace

from alerting.channels.base import Budget
from alerting.notification import Notification, Stage
from tables.memory_ledger import MemoryLedger
from tests.alerting.sending.lanes import FlyingTime, Hold, Notes, Scripted, bench, note

A_MINUTE = (Budget(5, 60_000),)  # one of them for critical ones alone


def critical(name: str, stage: Stage = "firing", condition: str = "") -> Notification:
    made = note(name, "critical")
    alert = replace(made.alerts[0], fingerprint=condition or name)
    return replace(made, stage=stage, alerts=(alert,))


async def test_who_is_called_for_comes_before_what_is_over() -> None:
    hold = Hold()
    channel = Scripted("ops", hold)
    async with bench(channel) as on:
        on.submit(note("first"))
        await hold.reached.wait()
        on.submit(critical("over", "resolved"), critical("taken", "acknowledged"), note("major"), critical("call"))
        hold.released.set()
        await on.deliver()
    assert channel.sent == ["first", "call", "over", "taken", "major"]


async def test_but_never_the_end_of_a_condition_after_its_next_begin() -> None:
    hold = Hold()
    channel = Scripted("ops", hold)
    async with bench(channel) as on:
        on.submit(note("first"))
        await hold.reached.wait()
        on.submit(critical("other", "resolved"), critical("a1", "resolved", "a"), critical("a2", condition="a"))
        hold.released.set()
        await on.deliver()
    # Else who reads them by condition, as PagerDuty, takes the second for over.
    assert channel.sent == ["first", "a1", "a2", "other"]


async def test_critical_ones_come_together_when_each_alone_would_have_to_wait() -> None:
    channel = Scripted(budgets=A_MINUTE, digest_bytes=2000)
    async with bench(channel) as on:
        on.submit(*(critical(f"c{number}") for number in range(5)))
        await on.time.settle()
        assert channel.sent == ["c0", "c1", "c2", "c3", "c4"]
        on.submit(critical("d0"), note("a"), critical("d1"), critical("d2"))
        await on.time.pass_by(63)
        assert channel.sent[5:6] == ["d0+d1+d2"]
        await on.deliver()
    assert channel.sent[6:] == ["a"]
    assert channel.messages[5].stage == "digest"


async def test_a_crowd_of_critical_ones_comes_together_even_before_the_budget_is_short() -> None:
    hold = Hold()
    channel = Scripted("ops", hold, digest_bytes=2000)
    async with bench(channel) as on:
        on.submit(note("first"))
        await hold.reached.wait()
        on.submit(*(critical(f"c{number}") for number in range(6)), note("a"))
        hold.released.set()
        await on.deliver()
    assert channel.sent == ["first", "c0+c1+c2+c3+c4+c5", "a"]


async def test_a_major_one_pushes_out_a_minor_one() -> None:
    hold = Hold()
    channel = Scripted("ops", hold)
    async with bench(channel, queue_size=3) as on:
        on.submit(note("first"))
        await hold.reached.wait()
        assert on.submit(*(note(name, "minor") for name in ("i1", "i2")), note("a")) == [True, True, True]
        assert [name for name, _, _ in on.dead] == ["i2"]
        hold.released.set()
        await on.deliver()
    assert channel.sent == ["first", "a", "i1"]


async def test_the_budget_holds_though_the_ledger_has_forgotten_it() -> None:
    time = FlyingTime()
    ledger = MemoryLedger(clock=time.clock)
    channel = Scripted(budgets=(Budget(5, 60_000),))
    async with bench(channel, time=time, ledger=ledger) as on:
        on.submit(*(critical(f"c{number}") for number in range(5)))
        await on.time.settle()
        ledger._logs.clear()
        on.submit(critical("d"))
        await on.time.pass_by(59)
        assert len(channel.sent) == 5
        await on.deliver()
    assert channel.sent[5:] == ["d"]


async def test_on_the_way_down_only_what_can_go_is_waited_for() -> None:
    hold = Hold()
    slow, short = Scripted("slow", hold), Scripted("short", budgets=(Budget(1, 60_000),))
    async with bench(slow, short) as on:
        on.submit(note("a", channel="slow"), *(note(name, channel="short") for name in "bc"))
        await hold.reached.wait()
        assert not await on.notifier.settle(0.02)
        hold.released.set()
        assert await on.notifier.settle(5)  # not a minute later
        assert (slow.sent, short.sent) == (["a"], ["b"])
        assert on.notifier.waiting() == {"slow": 0, "short": 1}


async def test_what_comes_while_a_channel_only_waits_keeps_nobody() -> None:
    channel = Scripted(budgets=(Budget(1, 3_600_000),))
    async with bench(channel) as on:
        on.submit(note("a"), note("b"))
        await on.time.settle()
        on.notifier.withdraw(on.gate)
        on.submit(note("c"), gate=Notes(partition=1))
        assert await on.notifier.settle(5)


async def test_a_note_that_something_was_sent_counts_though_the_partition_has_another_owner_by_now() -> None:
    time, hold = FlyingTime(), Hold()
    ledger = MemoryLedger(clock=time.clock)
    ours, theirs = Scripted("ops", hold), Scripted("ops")
    async with bench(ours, time=time, ledger=ledger) as old, bench(theirs, time=time, ledger=ledger) as new:
        old.submit(note("a"))
        await hold.reached.wait()
        await ledger.unsent(Notes(epoch=2).lease, [])
        hold.released.set()
        await old.deliver()
        new.submit(note("a"), gate=Notes(epoch=2))
        await new.deliver()
    assert (ours.sent, theirs.sent) == (["a"], [])
