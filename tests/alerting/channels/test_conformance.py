"""What the notifier relies on, for every channel there is. A new channel joins by one fixture branch."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from alerting.channels.base import Channel, DeliveryFailed
from alerting.channels.terminal import TerminalChannel
from alerting.channels.webhook import WebhookChannel
from tests.alerting.channels.receiver import receiving
from tests.alerting.samples import an_alert


@dataclass
class Subject:
    channel: Channel
    delivered: Callable[[], str]
    fail: Callable[[], None]


@pytest.fixture(params=["terminal", "webhook"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "terminal":
        stream = io.StringIO()
        terminal = TerminalChannel(stream)
        yield Subject(terminal, stream.getvalue, stream.close)
        await terminal.close()
        return
    async with receiving() as receiver:
        channel = WebhookChannel(receiver.url)
        yield Subject(
            channel,
            lambda: "\n".join(received.body.decode() for received in receiver.received),
            lambda: receiver.answer(503),
        )
        await channel.close()


async def test_it_has_a_name(subject: Subject) -> None:
    assert subject.channel.name


async def test_when_send_returns_the_alert_is_there(subject: Subject) -> None:
    await subject.channel.send(an_alert())
    for part in ("CTR of recommender-home v3 is 4.1 %", "ctr-low", "00000000000000a1", "major"):
        assert part in subject.delivered()


async def test_firing_and_resolved_can_be_told_apart(subject: Subject) -> None:
    await subject.channel.send(an_alert())
    firing = subject.delivered()
    await subject.channel.send(an_alert(status="resolved", resolved_at=1_777_630_000_000))
    assert "firing" in firing.lower()
    assert "resolved" in subject.delivered().removeprefix(firing).lower()


async def test_a_failure_is_a_delivery_failure_with_a_reason(subject: Subject) -> None:
    subject.fail()
    with pytest.raises(DeliveryFailed) as failure:
        await subject.channel.send(an_alert())
    assert failure.value.reason
    assert failure.value.reason == str(failure.value)


async def test_text_in_any_language_and_of_any_nastiness_is_delivered(subject: Subject) -> None:
    await subject.channel.send(an_alert(summary="首页推荐 CTR 4.1 % [red]:smile: \x1b[2J", model_id="[/bold]"))
    assert "首页推荐 CTR 4.1 % [red]:smile: " in subject.delivered()
    assert "\x1b[2J" not in subject.delivered()


async def test_sending_does_not_block_the_event_loop(subject: Subject) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await subject.channel.send(an_alert())
    ticking.cancel()
    assert ticks > 0


async def test_closing_twice_does_no_harm(subject: Subject) -> None:
    await subject.channel.send(an_alert())
    await subject.channel.close()
    await subject.channel.close()
