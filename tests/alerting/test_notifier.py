from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from alerting.alert import Alert
from alerting.backoff import Backoff
from alerting.channels.base import DeliveryFailed
from alerting.notifier import Notifier
from tables.errors import ConfigError
from tests.alerting.samples import an_alert

Script = Callable[[Alert], Awaitable[None]]


class Scripted:
    """A channel that does what a test says for its first sends, then succeeds."""

    def __init__(self, name: str = "ops", *script: BaseException | Script) -> None:
        self.name = name
        self.script = list(script)
        self.attempts: list[str] = []
        self.sent: list[str] = []
        self.closed = 0

    async def send(self, alert: Alert) -> None:
        self.attempts.append(alert.alert_id)
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, BaseException):
                raise step
            await step(alert)
        self.sent.append(alert.alert_id)

    async def close(self) -> None:
        self.closed += 1


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Gate:
    """A script step that holds the sender until the test opens it."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()

    async def __call__(self, alert: Alert) -> None:
        self.reached.set()
        await self.opened.wait()


Dead = list[tuple[str, str, str]]


@asynccontextmanager
async def notifying(*channels: Scripted, dead: Dead | None = None, **options: Any) -> AsyncIterator[Notifier]:
    buried = dead if dead is not None else []
    async with Notifier(
        channels,
        rng=random.Random(1),
        on_dead=lambda alert, channel, reason: buried.append((alert.alert_id, channel, reason)),
        **options,
    ) as notifier:
        yield notifier


def busy(retry_after_s: float | None = None) -> DeliveryFailed:
    return DeliveryFailed("HTTP 503", retryable=True, retry_after_s=retry_after_s)


def alert(number: int) -> Alert:
    return an_alert(alert_id=f"a{number}")


async def test_every_channel_gets_every_alert_in_order() -> None:
    chat, mail = Scripted("chat"), Scripted("mail")
    async with notifying(chat, mail) as notifier:
        for number in range(5):
            await notifier.submit(alert(number))
        assert await notifier.drain(5)
    assert chat.sent == mail.sent == ["a0", "a1", "a2", "a3", "a4"]
    assert notifier.counts == {("chat", "sent"): 5, ("mail", "sent"): 5}


async def test_the_same_state_of_an_incident_is_sent_once_and_the_next_state_again() -> None:
    channel = Scripted()
    async with notifying(channel) as notifier:
        for status in ("firing", "firing", "resolved", "firing"):
            await notifier.submit(an_alert(status=status))
        await notifier.drain(5)
    assert len(channel.sent) == 2
    assert notifier.counts["ops", "duplicate"] == 2


async def test_the_memory_of_what_was_sent_is_bounded() -> None:
    channel = Scripted()
    async with notifying(channel, remember=2) as notifier:
        for number in (1, 2, 3, 1):  # the first one is forgotten when the third comes
            await notifier.submit(alert(number))
        await notifier.drain(5)
    assert channel.sent == ["a1", "a2", "a3", "a1"]


async def test_what_is_submitted_again_and_again_is_remembered_longest() -> None:
    channel = Scripted()
    async with notifying(channel, remember=2) as notifier:
        for number in (1, 2, 1, 3, 1):
            await notifier.submit(alert(number))
        await notifier.drain(5)
    assert channel.sent == ["a1", "a2", "a3"]


async def test_minor_alerts_are_recorded_and_disturb_nobody_but_who_asks_for_them() -> None:
    chat, log = Scripted("chat"), Scripted("log")
    async with notifying(chat, log, min_severity_of={"log": "minor"}) as notifier:
        await notifier.submit(an_alert(severity="minor"))
        await notifier.drain(5)
    assert (len(chat.sent), len(log.sent)) == (0, 1)
    assert notifier.counts["chat", "below_severity"] == 1


async def test_a_failing_delivery_is_tried_again_with_growing_jittered_waits() -> None:
    time, channel = Time(), Scripted("ops", busy(), busy(), busy())
    async with notifying(channel, sleep=time.sleep, clock=time.clock) as notifier:
        await notifier.submit(alert(1))
        await notifier.drain(5)
    assert channel.sent == ["a1"]
    rng = random.Random(1)
    assert time.slept == [rng.uniform(0, 1), rng.uniform(0, 2), rng.uniform(0, 4)]
    assert notifier.counts == {("ops", "retried"): 3, ("ops", "sent"): 1}


async def test_what_the_receiver_asks_for_is_waited_within_reason() -> None:
    time, channel = Time(), Scripted("ops", busy(30), busy(86_400))
    async with notifying(channel, sleep=time.sleep, clock=time.clock) as notifier:
        await notifier.submit(alert(1))
        await notifier.drain(5)
    assert channel.sent == ["a1"]
    assert time.slept == [30, 120]


async def test_after_the_last_try_the_alert_goes_to_the_dead_and_the_next_one_has_its_turn() -> None:
    time, channel = Time(), Scripted("ops", *(busy() for _ in range(6)))
    dead: Dead = []
    async with notifying(channel, dead=dead, sleep=time.sleep, clock=time.clock) as notifier:
        await notifier.submit(alert(1))
        await notifier.submit(alert(2))
        await notifier.drain(5)
    assert channel.attempts == ["a1"] * 6 + ["a2"]
    assert dead == [("a1", "ops", "gave_up: HTTP 503 (after 6 tries)")]
    assert notifier.counts == {("ops", "retried"): 5, ("ops", "gave_up"): 1, ("ops", "sent"): 1}


async def test_tries_end_with_the_time_that_there_is() -> None:
    time = Time()
    dead: Dead = []
    channel = Scripted("ops", *(busy(120) for _ in range(100)))
    backoff = Backoff(tries=100, budget_s=300)
    async with notifying(channel, dead=dead, backoff=backoff, sleep=time.sleep, clock=time.clock) as notifier:
        await notifier.submit(alert(1))
        await notifier.drain(5)
    assert time.slept == [120, 120]  # a third wait would end after 360 s
    assert dead == [("a1", "ops", "gave_up: HTTP 503 (after 3 tries)")]


async def test_a_final_refusal_is_not_tried_again() -> None:
    channel = Scripted("ops", DeliveryFailed("HTTP 400", retryable=False))
    dead: Dead = []
    async with notifying(channel, dead=dead) as notifier:
        await notifier.submit(alert(1))
        await notifier.drain(5)
    assert channel.attempts == ["a1"]
    assert dead == [("a1", "ops", "refused: HTTP 400")]
    assert notifier.counts == {("ops", "refused"): 1}


async def test_what_died_may_be_submitted_again() -> None:
    channel = Scripted("ops", DeliveryFailed("HTTP 400", retryable=False))
    async with notifying(channel) as notifier:
        for _ in range(2):
            await notifier.submit(alert(1))
            await notifier.drain(5)
    assert channel.sent == ["a1"]


async def test_a_channel_with_a_mistake_in_it_goes_on_with_the_next_alert() -> None:
    channel = Scripted("ops", KeyError("oops"))
    dead: Dead = []
    async with notifying(channel, dead=dead) as notifier:
        await notifier.submit(alert(1))
        await notifier.submit(alert(2))
        await notifier.drain(5)
    assert channel.sent == ["a2"]
    assert dead == [("a1", "ops", "broken: KeyError")]


async def test_a_channel_that_never_returns_is_cut_off_and_tried_again() -> None:
    channel = Scripted("ops", Gate())
    async with notifying(channel, attempt_timeout_s=0.02, backoff=Backoff(base_s=0)) as notifier:
        await notifier.submit(alert(1))
        assert await notifier.drain(5)
    assert channel.attempts == ["a1", "a1"]
    assert channel.sent == ["a1"]


async def test_a_slow_channel_disturbs_no_other_one() -> None:
    gate = Gate()
    slow, quick = Scripted("slow", gate), Scripted("quick")
    async with notifying(slow, quick) as notifier:
        for number in range(10):
            await notifier.submit(alert(number))
        assert not await notifier.drain(0.05)
        assert (len(slow.sent), len(quick.sent)) == (0, 10)
        assert notifier.waiting() == {"slow": 10, "quick": 0}
        gate.opened.set()
        assert await notifier.drain(5)
    assert len(slow.sent) == 10


async def test_submitting_waits_while_a_queue_is_full() -> None:
    gate = Gate()
    slow, quick = Scripted("slow", gate), Scripted("quick")
    async with notifying(slow, quick, queue_size=1) as notifier:
        await notifier.submit(alert(0))
        await gate.reached.wait()  # in delivery
        await notifier.submit(alert(1))  # in the queue
        third = asyncio.create_task(notifier.submit(alert(2)))
        await asyncio.sleep(0.02)
        assert not third.done()
        assert quick.sent == ["a0", "a1", "a2"]  # which does not wait for the other
        gate.opened.set()
        await third
        await notifier.drain(5)
    assert slow.sent == ["a0", "a1", "a2"]


async def test_a_queue_that_stays_full_sheds_alerts_and_recovers() -> None:
    gate = Gate()
    dead: Dead = []
    channel = Scripted("slow", gate)
    async with notifying(channel, dead=dead, queue_size=1, patience_s=0.03) as notifier:
        await notifier.submit(alert(0))
        await gate.reached.wait()
        for number in (1, 2, 3):
            await notifier.submit(alert(number))
        assert dead == [(f"a{number}", "slow", "queue_full: the queue of 1 stayed full") for number in (2, 3)]
        gate.opened.set()
        await notifier.drain(5)
        await notifier.submit(alert(4))
        await notifier.drain(5)
    assert channel.sent == ["a0", "a1", "a4"]


async def test_nobody_waits_for_a_queue_that_has_not_moved_since_the_last_wait() -> None:
    gate = Gate()
    dead: Dead = []
    channel = Scripted("slow", gate)
    async with notifying(channel, dead=dead, queue_size=1, patience_s=0.2) as notifier:
        await notifier.submit(alert(0))
        await gate.reached.wait()
        async with asyncio.timeout(2):  # eighteen waits would take 3.6 s
            for number in range(1, 20):
                await notifier.submit(alert(number))
        assert len(dead) == 18
        gate.opened.set()
        await notifier.drain(5)

        again = Gate()  # it moved: a full queue is worth a wait again
        channel.script.append(again)
        await notifier.submit(alert(20))
        await again.reached.wait()
        await notifier.submit(alert(21))
        waiting = asyncio.create_task(notifier.submit(alert(22)))
        await asyncio.sleep(0.02)
        again.opened.set()
        await waiting
        await notifier.drain(5)
    assert channel.sent == ["a0", "a1", "a20", "a21", "a22"]


async def test_closing_hands_over_what_was_not_delivered() -> None:
    gate = Gate()
    dead: Dead = []
    channel = Scripted("ops", gate)
    async with notifying(channel, dead=dead, queue_size=1) as notifier:
        await notifier.submit(alert(0))
        await gate.reached.wait()
        await notifier.submit(alert(1))
        waiting = asyncio.create_task(notifier.submit(alert(2)))
        await asyncio.sleep(0)
        await notifier.close()
        await waiting
        assert [number for number, _, _ in dead] == ["a0", "a1", "a2"]
        assert {reason for _, _, reason in dead} == {"closed: the notifier was closed"}
        assert notifier.waiting() == {"ops": 0}
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(RuntimeError, match="closed"):
            await notifier.submit(alert(3))
    assert channel.closed


async def test_closing_during_a_wait_between_tries_does_not_wait_for_it() -> None:
    channel = Scripted("ops", busy(100))
    dead: Dead = []
    failed = asyncio.Event()
    options: dict[str, Any] = {"on_outcome": lambda *_: failed.set()}
    async with asyncio.timeout(5), notifying(channel, dead=dead, **options) as notifier:
        await notifier.submit(alert(1))
        await failed.wait()
    assert dead == [("a1", "ops", "closed: the notifier was closed")]


async def test_mistakes_in_callbacks_do_not_stop_deliveries() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    channel = Scripted("ops", DeliveryFailed("HTTP 400", retryable=False))
    async with Notifier([channel], on_outcome=fail, on_dead=fail) as notifier:
        await notifier.submit(alert(1))
        await notifier.submit(alert(2))
        assert await notifier.drain(5)
    assert channel.sent == ["a2"]


async def test_outcomes_are_counted_as_they_happen() -> None:
    seen: list[tuple[str, str]] = []
    channel = Scripted("ops", busy(0))
    options: dict[str, Any] = {"on_outcome": lambda name, outcome: seen.append((name, outcome))}
    async with notifying(channel, backoff=Backoff(base_s=0), **options) as notifier:
        await notifier.submit(alert(1))
        await notifier.drain(5)
    assert seen == [("ops", "retried"), ("ops", "sent")]


async def test_without_channels_alerts_go_nowhere() -> None:
    async with notifying() as notifier:
        await notifier.submit(alert(1))
        assert await notifier.drain(0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"channels": [Scripted("a"), Scripted("a")]}, "'a' 2 times"),
        ({"channels": [Scripted("a")], "min_severity_of": {"b": "minor"}}, "unknown channel 'b'; expected a"),
        (
            {"channels": [Scripted("a")], "min_severity": "urgent"},
            "expected critical, major, minor, got 'urgent'",
        ),
        ({"channels": [Scripted("a")], "queue_size": 0}, "expected a queue and a memory of at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Notifier(**options)
