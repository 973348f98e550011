"""Notifier and webhook together, against a real server that misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from alerting.alert import Alert
from alerting.backoff import Backoff
from alerting.channels.webhook import WebhookChannel
from alerting.notifier import Notifier
from tests.alerting.channels.receiver import Receiver, hang, receiving, reset, status
from tests.alerting.samples import an_alert

FAST = Backoff(base_s=0.001, retry_after_cap_s=0.05)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def deliver(receiver: Receiver) -> tuple[dict[str, int], list[str]]:
    """One alert to the receiver; the outcomes counted, and why it died if it did."""
    dead: list[str] = []

    def bury(alert: Alert, channel: str, reason: str) -> None:
        dead.append(reason)

    channel = WebhookChannel(receiver.url, timeout_s=0.2)
    async with Notifier([channel], backoff=FAST, on_dead=bury) as notifier:
        await notifier.submit(an_alert())
        assert await notifier.drain(10)
    return {outcome: count for (_, outcome), count in notifier.counts.items()}, dead


async def test_an_error_a_hang_and_a_reset_then_well_again(receiver: Receiver) -> None:
    receiver.answer(500, hang, reset)
    outcomes, dead = await deliver(receiver)
    assert (outcomes, dead) == ({"retried": 3, "sent": 1}, [])
    assert {request.body for request in receiver.received} == {an_alert().to_json()}
    assert {request.headers["Idempotency-Key"] for request in receiver.received} == {"00000000000000a1:firing"}
    assert len(receiver.received) == 4


async def test_too_many_requests_with_a_time_to_wait(receiver: Receiver) -> None:
    receiver.answer(status(429, Retry_After="3600"))
    assert await deliver(receiver) == ({"retried": 1, "sent": 1}, [])


async def test_a_refusal_is_final(receiver: Receiver) -> None:
    receiver.answer(status(400, "unknown alert format"))
    assert await deliver(receiver) == ({"refused": 1}, ["refused: HTTP 400: unknown alert format"])
    assert len(receiver.received) == 1


async def test_a_receiver_that_stays_down_is_given_up(receiver: Receiver) -> None:
    receiver.answer(*[503] * 6)
    assert await deliver(receiver) == ({"retried": 5, "gave_up": 1}, ["gave_up: HTTP 503 (after 6 tries)"])
