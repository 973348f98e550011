"""The join agent's timer, where the group takes partitions away in the middle of it."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any, cast

from faust.types import TP

from agents.custodian import Custodian, Held
from agents.health import Health
from agents.input_agent import InputAgent
from agents.join_state import JoinState
from agents.metrics import Metrics
from agents.publisher import Publisher
from agents.transports.consumer import BatchConsumer
from tables.checkpoint import Lease, Scope
from tables.memory_store import MemoryStore
from tests.agents.test_rebuild import TOPICS, new_state


class RevokingConsumer:
    """Asked for the ends of the topics, it loses its partitions before it can answer."""

    stalled = False
    custodian: Custodian[JoinState]
    asked = False

    def in_flight(self, tp: TP) -> int:
        return 0

    async def at_end(self, partitions: Collection[TP]) -> set[TP]:
        self.asked = True
        self.custodian.revoked()
        return set()

    def highwater(self, tp: TP) -> int:
        raise AssertionError("Partition is not assigned")


async def test_partitions_that_are_revoked_during_a_tick_are_left_alone() -> None:
    consumer, store, metrics, health = RevokingConsumer(), MemoryStore(), Metrics(), Health()

    async def crash(error: BaseException) -> None:
        raise error

    topics = (TOPICS.impressions, TOPICS.clicks)
    custodian: Custodian[JoinState] = Custodian(
        "join",
        topics,
        lambda _: new_state(),
        consumer=lambda: cast(BatchConsumer, consumer),
        store=store,
        publisher=cast(Publisher, None),
        metrics=metrics,
        health=health,
        now_ms=lambda: 0,
        rng=random.Random(0),
        on_crash=crash,
    )
    consumer.custodian = custodian
    held: Held[Any] = Held(0, new_state(), Lease(Scope("join", 0), 1, 1), 1, dict.fromkeys(topics, 0), {}, frozenset())
    custodian.held[0] = held
    agent = InputAgent(
        custodian, lambda: cast(BatchConsumer, consumer), store, lambda: 1, metrics, health, monotonic=lambda: 100.0
    )

    await agent.tick()

    assert consumer.asked
    assert not custodian.held
