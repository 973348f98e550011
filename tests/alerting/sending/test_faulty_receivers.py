"""Real servers that misbehave: what they are sent is tried again or goes elsewhere, and nobody else feels it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import orjson
import pytest
from aiohttp import web

from alerting.channels.base import Channel
from alerting.channels.webhook import WebhookChannel
from alerting.channels.wecom import WeComChannel
from alerting.sending.backoff import Backoff
from alerting.sending.notifier import LaneSettings, Notifier
from tables.redis_connection import RedisConnection
from tables.redis_ledger import RedisLedger
from tables.redis_url import parse_store_url
from tests.alerting.channels.receiver import Answer, Receiver, hang, receiving, reset, status, told
from tests.alerting.sending.lanes import Notes, note

FAST = Backoff(tries=4, base_s=0.01, cap_s=0.1, retry_after_cap_s=0.1)
WELL = told({"errcode": 0, "errmsg": "ok"})
FAULTS: dict[str, Answer] = {
    "errors": status(500, "no idea"),
    "hangs": hang,
    "resets": reset,
    "refuses_in_the_body": told({"errcode": 93000, "errmsg": "invalid webhook url"}),
    "busy_in_the_body": told({"errcode": -1, "errmsg": "system busy"}),
    "too_many": status(429, "slow down", Retry_After="1"),
    "not_json": status(200, "<html>a proxy of ours</html>"),
}
FINAL = {"refuses_in_the_body"}


@pytest.fixture
async def ledger(redis_url: str) -> AsyncIterator[RedisLedger]:
    async with RedisConnection(parse_store_url(redis_url)) as connection:
        yield RedisLedger(connection, "shop")


def robot(name: str, receiver: Receiver, timeout_s: float = 0.15) -> Channel:
    """Every message by itself, as fast as it likes."""
    return WeComChannel("a-key", name=name, base_url=receiver.base_url, budgets=(), digest_bytes=0, timeout_s=timeout_s)


def heard(receiver: Receiver, names: list[str]) -> Counter[str]:
    return Counter(name for request in receiver.received for name in names if name in request.body.decode())


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_passes_is_tried_again(fault: str, ledger: RedisLedger) -> None:
    names, gate = [f"{number:016x}" for number in range(3)], Notes()
    async with receiving() as receiver:
        receiver.otherwise = WELL
        receiver.answer(FAULTS[fault], FAULTS[fault])
        async with Notifier({"chat": robot("chat", receiver)}, ledger=ledger, backoff=FAST) as notifier:
            for name in names:
                assert notifier.submit(note(name, channel="chat"), gate)
            assert await notifier.drain(30)
        counts = {outcome: count for (_, outcome), count in notifier.counts.items()}
        if fault in FINAL:
            assert counts == {"refused": 2, "dead": 2, "sent": 1}
            assert heard(receiver, names) == Counter(names)
        else:
            assert counts == {"retried": 2, "sent": 3}
            assert heard(receiver, names) == Counter([names[0], *names[:1], *names])
            assert sorted(gate.settled) == names  # after two failures another one has its turn


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_stays_sends_everything_elsewhere(fault: str, ledger: RedisLedger) -> None:
    names, gate = [f"{number:016x}" for number in range(40)], Notes()
    async with receiving() as receiver, receiving() as other:
        receiver.otherwise = FAULTS[fault]
        channels = {"chat": robot("chat", receiver), "hook": WebhookChannel(other.url, name="hook")}
        settings = {"chat": LaneSettings(fallback="hook")}
        async with Notifier(channels, ledger=ledger, backoff=FAST, settings=settings) as notifier:
            for name in names:
                notifier.submit(note(name, channel="chat"), gate)
            assert await notifier.drain(30)
        assert notifier.counts["chat", "fell_back"] == notifier.counts["hook", "sent"] == 40
        assert gate.settled == names
        assert [orjson.loads(request.body)["alert_id"] for request in other.received] == names
        if fault not in FINAL:
            # It is not tried with each of them: that would take them minutes.
            assert len(receiver.received) < 40


A_FEW = 60


@dataclass
class Beside:
    """A healthy receiver, and when it got what."""

    receiver: Receiver
    came: dict[str, float] = field(default_factory=dict)
    all_came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.came[orjson.loads(await request.read())["alert_id"]] = time.monotonic()
        if len(self.came) == A_FEW:
            self.all_came.set()
        return web.Response(status=204)


async def latencies(ledger: RedisLedger, turn: int, neighbours: dict[str, Answer]) -> list[float]:
    """Of a healthy channel beside `neighbours`, each with as many notifications as it has."""
    async with AsyncExitStack() as stack:
        healthy = Beside(await stack.enter_async_context(receiving()))
        healthy.receiver.otherwise = healthy.take
        channels: dict[str, Channel] = {"healthy": WebhookChannel(healthy.receiver.url, name="healthy")}
        for name, answer in neighbours.items():
            receiver = await stack.enter_async_context(receiving())
            receiver.otherwise = answer
            channels[name] = robot(name, receiver, timeout_s=5)
        # Slow to give up: they are in trouble all the time.
        patient = Backoff(tries=100, base_s=0.2, cap_s=0.5, retry_after_cap_s=0.5)
        notifier = await stack.enter_async_context(Notifier(channels, ledger=ledger, backoff=patient))
        gates = {name: Notes(partition=number) for number, name in enumerate(channels)}
        submitted: dict[str, float] = {}
        for number in range(A_FEW):
            alert = f"{turn:08x}{number:08x}"
            for name in channels:
                notifier.submit(note(alert, channel=name, key=f"{name} {alert}"), gates[name])
            submitted[alert] = time.monotonic()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(healthy.all_came.wait(), 30)
        if WELL not in neighbours.values():
            assert sum(notifier.waiting().values()) > A_FEW
        return [healthy.came[alert] - at for alert, at in submitted.items()]


async def test_a_healthy_channel_does_not_feel_its_neighbours(ledger: RedisLedger) -> None:
    faults = {name: answer for name, answer in FAULTS.items() if name not in FINAL}
    among_healthy = await latencies(ledger, 1, dict.fromkeys(faults, WELL))
    among_faulty = await latencies(ledger, 2, faults)
    assert statistics.median(among_faulty) < 5 * statistics.median(among_healthy) + 0.1
