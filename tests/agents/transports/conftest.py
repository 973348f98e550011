"""Both brokers, and members that are stopped when their test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.agents.transports.members import Broker, InMemory, Member, RealKafka, until

Join = Callable[..., Awaitable[Member]]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def broker(request: pytest.FixtureRequest, topic_prefix: str) -> AsyncIterator[Broker]:
    """The same test on both transports."""
    broker: Broker = (
        InMemory(topic_prefix.rstrip("."))
        if request.param == "memory"
        else await RealKafka.connect(request.getfixturevalue("kafka"))
    )
    yield broker
    await broker.close()


@pytest.fixture
async def join(broker: Broker) -> AsyncIterator[Join]:
    """Starts a member and waits for its first assignment; arguments as for Member, without the URL."""
    members: list[Member] = []

    async def start(*args: Any, **kwargs: Any) -> Member:
        member = Member(broker.url, *args, **kwargs)
        members.append(member)
        await member.start()
        await until(lambda: member.assignments)
        return member

    yield start
    for member in members:
        await member.stop()
