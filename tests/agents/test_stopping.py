"""The end of a worker: what it has taken in is in its last checkpoint, or it is read again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace

from agents.app import create_app
from agents.config import Config, load_config
from agents.tidemark_app import TidemarkApp
from agents.transports.batch import Batch
from agents.transports.memory_broker import MemoryBroker
from tables.checkpoint import NO_CHUNKS, Lease
from tables.memory_store import MemoryStore
from tests.agents.shop_lines import event_json, topic_of
from tests.oracle import Event, Impression
from tests.tables.streams import T0

EVENTS: list[Event] = [Impression("u", f"i{number}", T0, ("home", "v1")) for number in range(100)]


class SlowStore(MemoryStore):
    """Writes checkpoints of the join only once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may_write = asyncio.Event()

    async def save(
        self,
        lease: Lease,
        head: bytes,
        *,
        append: Mapping[str, bytes] = NO_CHUNKS,
        drop: Collection[str] = (),
        number: int | None = None,
    ) -> None:
        if append:
            self.asked.set()
            await self.may_write.wait()
        await super().save(lease, head, append=append, drop=drop, number=number)


def memory_config() -> Config:
    """A broker of its own, with one partition."""
    config = replace(load_config(None, {}), broker=f"memory://stopping-{uuid.uuid4().hex}", channels=())
    broker = MemoryBroker.of(config.broker.removeprefix("memory://"))
    for topic in (*config.topics.inputs, *config.topics.outputs):
        broker.create_topic(topic, 1)
    for event in EVENTS:
        put(config, event)
    return config


def put(config: Config, event: Event) -> None:
    broker = MemoryBroker.of(config.broker.removeprefix("memory://"))
    broker.append(topic_of(event), event.user.encode(), event_json(event))


async def shown(app: TidemarkApp) -> int:
    """Impressions that the join holds, once it holds its partition."""
    for _ in range(500):
        if app.join_agent.custodian.held:
            break
        await asyncio.sleep(0.01)
    return app.join_agent.custodian.held[0].state.table.live_impressions


def test_a_checkpoint_that_is_being_written_at_the_stop_is_written_to_its_end() -> None:
    async def story() -> int:
        config, store = memory_config(), SlowStore()
        first = create_app(config, store=store)
        await first.start()
        await asyncio.wait_for(store.asked.wait(), 10)
        stopping = asyncio.create_task(first.stop())
        await asyncio.sleep(0.05)
        store.may_write.set()
        await asyncio.wait_for(stopping, 10)
        assert first.drained
        second = create_app(config, store=store)
        await second.start()
        try:
            return await shown(second)
        finally:
            await second.stop()

    assert asyncio.run(story()) == len(EVENTS)


def test_after_a_failure_nothing_is_written_any_more() -> None:
    async def story() -> tuple[TidemarkApp, SlowStore]:
        config, store = memory_config(), SlowStore()
        store.may_write.set()
        app = create_app(config, store=store)
        await app.start()
        await asyncio.wait_for(store.asked.wait(), 10)
        store.asked.clear()
        state = app.join_agent.custodian.held[0].state
        apply = state.apply

        def fail_half_way(batch: Batch, skip_before: Mapping[str, int]) -> None:
            apply(batch, skip_before)
            raise ZeroDivisionError("as an example")

        state.apply = fail_half_way  # type: ignore[method-assign]
        put(config, Impression("u", "another", T0, ("home", "v1")))
        await asyncio.wait_for(app.wait_until_stopped(), 10)
        await app.stop()
        return app, store

    app, store = asyncio.run(story())
    assert isinstance(app.crash_reason, ZeroDivisionError)
    assert not store.asked.is_set()
