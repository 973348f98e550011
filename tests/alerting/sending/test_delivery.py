"""Notifier, ledger and a real server; and a worker that dies at every single step of a delivery."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import orjson
import pytest

from alerting.channels.base import Budget
from alerting.channels.webhook import WebhookChannel
from alerting.message import Parcel
from alerting.notification import Notification
from alerting.sending.backoff import Backoff
from alerting.sending.notifier import Notifier
from tables.checkpoint import Lease
from tables.memory_ledger import MemoryLedger
from tables.redis_connection import RedisConnection
from tables.redis_ledger import RedisLedger
from tables.redis_url import parse_store_url
from tables.send_ledger import Limit, SendLedger
from tests.alerting.channels.receiver import Receiver, hang, receiving, reset, status
from tests.alerting.sending.lanes import Bench, FlyingTime, Notes, Scripted, bench, note

FAST = Backoff(tries=6, base_s=0.001, retry_after_cap_s=0.05)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def redis_ledger(redis_url: str) -> AsyncIterator[RedisLedger]:
    async with RedisConnection(parse_store_url(redis_url)) as connection:
        yield RedisLedger(connection, "shop")


async def deliver(receiver: Receiver, ledger: SendLedger) -> tuple[dict[str, int], list[str]]:
    """One notification to the receiver; the outcomes counted, and why it died if it did."""
    dead: list[str] = []

    def bury(_: Notification, reason: str) -> None:
        dead.append(reason)

    channel = WebhookChannel(receiver.url, name="ops", timeout_s=0.2)
    async with Notifier({"ops": channel}, ledger=ledger, backoff=FAST, on_dead=bury) as notifier:
        notifier.submit(note("a"), Notes())
        assert await notifier.drain(10)
    return {outcome: count for (_, outcome), count in notifier.counts.items()}, dead


async def test_an_error_a_hang_and_a_reset_then_well_again(receiver: Receiver, redis_ledger: RedisLedger) -> None:
    receiver.answer(500, hang, reset)
    assert await deliver(receiver, redis_ledger) == ({"retried": 3, "sent": 1}, [])
    assert len(receiver.received) == 4
    assert len({(request.body, request.headers["Idempotency-Key"]) for request in receiver.received}) == 1


async def test_too_many_requests_with_a_time_to_wait(receiver: Receiver, redis_ledger: RedisLedger) -> None:
    receiver.answer(status(429, Retry_After="0"))
    assert await deliver(receiver, redis_ledger) == ({"retried": 1, "sent": 1}, [])


async def test_a_refusal_is_final(receiver: Receiver, redis_ledger: RedisLedger) -> None:
    receiver.answer(status(400, "unknown alert format"))
    assert await deliver(receiver, redis_ledger) == (
        {"refused": 1, "dead": 1},
        ["refused: HTTP 400: unknown alert format"],
    )
    assert len(receiver.received) == 1


async def test_a_receiver_that_stays_down_is_given_up(receiver: Receiver, redis_ledger: RedisLedger) -> None:
    receiver.answer(*[503] * 6)
    outcomes, dead = await deliver(receiver, redis_ledger)
    assert outcomes == {"retried": 5, "gave_up": 1, "dead": 1}
    assert dead == ["gave_up: HTTP 503 (after 6 tries)"]


# A worker that dies


class Steps:
    """Counts the steps of a delivery, and stops for ever at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.fatal = fatal
        self.taken: list[str] = []
        self.reached = asyncio.Event()

    async def step(self, name: str) -> None:
        self.taken.append(name)
        if len(self.taken) - 1 == self.fatal:
            self.reached.set()
            await asyncio.Event().wait()

    async def around(self, name: str, what: Callable[[], Awaitable[Any]]) -> Any:
        await self.step(f"before {name}")
        result = await what()
        await self.step(f"after {name}")
        return result


class SteppedLedger:
    def __init__(self, ledger: SendLedger, steps: Steps) -> None:
        self._ledger = ledger
        self._steps = steps

    async def unsent(self, lease: Lease, keys: Any) -> Any:
        return await self._steps.around("unsent", lambda: self._ledger.unsent(lease, keys))

    async def mark(self, lease: Lease, keys: Any) -> None:
        await self._steps.around("mark", lambda: self._ledger.mark(lease, keys))

    async def take(self, name: str, limits: Any, *, urgent: bool) -> Any:
        return await self._steps.around("take", lambda: self._ledger.take(name, limits, urgent=urgent))


class SteppedChannel(Scripted):
    steps: Steps

    async def send(self, parcel: Parcel) -> None:
        await self.steps.around("send", lambda: super(SteppedChannel, self).send(parcel))


LOST_WITH_THE_WORKER = ("after send", "before mark")
"""Between these it has been told, and nobody knows."""
STORY = [note("a"), note("b", "minor"), note("c", "critical"), *(note(f"d{number}", "minor") for number in range(6))]


def is_over(on: Bench, steps: Steps) -> bool:
    return steps.reached.is_set() or not any(on.notifier.waiting().values())


async def live_and_die(fatal: int | None, digest_bytes: int) -> tuple[Steps, list[str]]:
    """A worker that dies at step `fatal`, and the one after it, which is given what the first one's checkpoint held;
    what the receiver has read."""
    time, steps = FlyingTime(), Steps(fatal)
    channel = SteppedChannel(digest_bytes=digest_bytes, budgets=(Budget(3, 1000),))
    ledger = MemoryLedger(clock=time.clock)
    for stepping in (steps, Steps(None)):
        channel.steps = stepping
        async with bench(channel, time=time, ledger=SteppedLedger(ledger, stepping)) as on:
            on.submit(*STORY)
            await time.pass_until(partial(is_over, on, stepping))
            if not stepping.reached.is_set():
                assert sorted(on.gate.settled) == sorted(each.alert_ids[0] for each in STORY)
                assert on.dead == []
    return steps, channel.sent


@pytest.mark.parametrize("digest_bytes", [0, 2000])
async def test_a_worker_that_dies_at_any_step_repeats_at_most_what_was_on_its_way(digest_bytes: int) -> None:
    steps, undisturbed = await live_and_die(None, digest_bytes)
    assert {"c", "a", "b"} <= set("+".join(undisturbed).split("+"))
    assert len(undisturbed) == (9 if not digest_bytes else 2)
    for fatal, name in enumerate(steps.taken):
        _, sent = await live_and_die(fatal, digest_bytes)
        told = Counter(alert for parcel in sent for alert in parcel.split("+"))
        assert set(told) == {each.alert_ids[0] for each in STORY}
        again = {alert for alert, times in told.items() if times > 1}
        if name not in LOST_WITH_THE_WORKER:
            assert again == set()
        else:
            [once_more] = [parcel for parcel, times in Counter(sent).items() if times > 1]
            assert again == set(once_more.split("+"))
            assert max(told.values()) == 2
    assert set(LOST_WITH_THE_WORKER) < set(steps.taken)


async def test_the_same_over_http_and_redis(receiver: Receiver, redis_ledger: RedisLedger) -> None:
    names = [f"{number:016x}" for number in range(4)]
    for fatal, name, repeats in ((0, "before unsent", 0), (2, "before mark", 1), (3, "after mark", 0)):
        receiver.received.clear()
        story = [note(alert, at=fatal, key=f"{fatal}{alert}") for alert in names]
        steps = Steps(fatal)
        for ledger, gate in ((SteppedLedger(redis_ledger, steps), Notes(1)), (redis_ledger, Notes(2))):
            channel = WebhookChannel(receiver.url, name="ops")
            async with Notifier({"ops": channel}, ledger=ledger) as notifier:
                for each in story:
                    notifier.submit(each, gate)
                if gate.lease.epoch == 1:
                    await asyncio.wait_for(steps.reached.wait(), 10)
                else:
                    assert await notifier.drain(10)
        assert steps.taken[fatal] == name
        keys = Counter(request.headers["Idempotency-Key"] for request in receiver.received)
        told = Counter(orjson.loads(request.body)["alert_id"] for request in receiver.received)
        assert set(told) == set(names)
        assert sum(told.values()) == len(names) + repeats
        assert len(keys) == len(names)  # by its key a receiver can tell the repeat


async def test_a_paused_worker_that_wakes_up_says_nothing(receiver: Receiver, redis_ledger: RedisLedger) -> None:
    old, new = Notes(1), Notes(2)
    awake = asyncio.Event()

    async def sleep(_: float) -> None:
        await awake.wait()

    ours = [WebhookChannel(receiver.url, name="ops", budgets=[Budget(1, 300)]) for _ in range(2)]
    assert await redis_ledger.take("ops", [Limit(1, 300)], urgent=True) == 0
    async with (
        Notifier({"ops": ours[0]}, ledger=redis_ledger, sleep=sleep) as paused,
        Notifier({"ops": ours[1]}, ledger=redis_ledger) as alive,
    ):
        paused.submit(note("a"), old)  # has to wait for the budget, and is paused there
        await asyncio.sleep(0.1)
        alive.submit(note("a"), new)
        assert await alive.drain(10)
        await asyncio.sleep(0.3)
        # The new owner's checkpoint says so.
        connection: Any = redis_ledger._connection
        await connection.client.hset("tidemark:{shop:alerts:0}:head", "epoch", 2)
        awake.set()
        assert await paused.drain(10)
        assert (old.settled, new.settled) == ([], ["a"])
        assert paused.counts == {("ops", "fenced"): 1}
    assert len(receiver.received) == 1
