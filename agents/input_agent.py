"""The agents that read the inputs: events in, partials out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
from aiokafka.errors import KafkaError
from faust.types import TP

from agents.custodian import Custodian, Held
from agents.health import Health
from agents.input_state import InputState
from agents.metrics import Metrics
from agents.transports.consumer import BatchConsumer
from tables.checkpoint import CheckpointStore
from tables.errors import StoreError
from tables.watermark import UNKNOWN, reached

MAX_CLOCK_STEP_MS = 1_000
QUIET_S = 2.0
ANSWER_S = 3.0
HINTS_EVERY_S = 1.0

FIRST = 0
"""In a replay this partition speaks even without data, so that those who wait for its group hear of it."""

StateT = TypeVar("StateT", bound=InputState[Any])


class InputAgent(Generic[StateT]):
    """Feeds the partitions of its topics that this worker owns, and lets their time pass."""

    def __init__(
        self,
        custodian: Custodian[StateT],
        consumer: Callable[[], BatchConsumer],
        store: CheckpointStore,
        sources: Callable[[], int],
        metrics: Metrics,
        health: Health,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.custodian = custodian
        self._consumer = consumer
        self._store = store
        self._sources = sources
        self._metrics = metrics
        self._health = health
        self._monotonic = monotonic
        self._hints = f"{custodian.agent}-watermarks"
        self._ticked_at = monotonic()
        self._hinted_at = self._ticked_at
        self._heard_at: dict[TP, float] = {}
        self._elsewhere: dict[int, tuple[int, bool]] = {}
        self.clock_ms = 0
        self._replayed: tuple[int, int] | None = None
        """How far a replay is: its clock, and the watermark of the partitions that have been heard."""

    async def run(self, stream: Any) -> None:
        """The agent's body: acknowledgements come with the checkpoints."""
        async for event in stream.noack().events():
            batch = event.value
            held = self.custodian.held.get(batch.partition)
            if held is not None and not held.state.has_data:
                self._bring_up(held.state)
            if self.custodian.take(event.message) is not None:
                now = self._monotonic()
                for section in batch.sections:
                    self._heard_at[TP(section.topic, batch.partition)] = now

    async def round(self) -> None:
        """Let time pass, and checkpoint what has changed."""
        await self.tick()
        await self.custodian.checkpoint_all()

    async def tick(self) -> None:
        """Let time pass on a live broker.

        The clock is supervised: it advances by at most a second at a time, however long this process was paused, and
        a quiet input counts as idle only while the broker, asked now, confirms that nothing is left to be read of it.
        """
        now = self._monotonic()
        self.clock_ms += min(int((now - self._ticked_at) * 1000), MAX_CLOCK_STEP_MS)
        self._ticked_at = now
        consumer = self._consumer()
        owned = [(TP(topic, p), held) for p, held in self.custodian.held.items() for topic in self.custodian.topics]
        quiet = {tp for tp, _ in owned if now - self._heard_at.get(tp, 0.0) > QUIET_S and not consumer.in_flight(tp)}
        try:
            read_to_end = await asyncio.wait_for(consumer.at_end(quiet), ANSWER_S) if quiet else set()
        except (KafkaError, TimeoutError) as error:
            read_to_end = set()
            self._health.broker_error = f"no answer about the ends of the topics: {error!r}"
        else:
            self._health.broker_error = None
        for tp, held in owned:
            if held.given_up:
                continue  # while the broker was asked
            if tp not in read_to_end or consumer.in_flight(tp) or consumer.stalled:
                held.state.clock_ms = max(held.state.clock_ms, self.clock_ms)
                held.state.touch(tp.topic)
            end = consumer.highwater(tp)
            if end is not None:
                lag = max(0, end - held.positions[tp.topic])
                self._metrics.consumer_lag.labels(tp.topic, str(tp.partition)).set(lag)
        await self._exchange_hints(now)
        if not self.custodian.held:
            return
        known = {**self._elsewhere, **self._here()}
        others = reached(known.values()) if len(known) >= self._sources() else UNKNOWN
        for held in self.custodian.held.values():
            held.state.tick(self.clock_ms, others)

    def begin_replay(self, clock_ms: int) -> None:
        """The clock of a replay starts."""
        for held in self.custodian.held.values():
            held.state.begin(clock_ms)

    @property
    def speaking(self) -> int:
        """How many partitions speak, in a replay."""
        return len(self._speaking())

    def tick_replay(self, clock_ms: int) -> None:
        """Let time pass in a replay: the clock is what the latest records of any input say."""
        states = [held.state for held in self._speaking()]
        heard = [state for state in states if state.has_data]
        for state in heard:
            state.tick(clock_ms, UNKNOWN)
        others = reached((state.watermark, state.idle) for state in heard)
        self._replayed = clock_ms, others
        for state in states:
            self._bring_up(state)

    async def checkpoint_replay(self) -> None:
        """Checkpoint those that speak, in the order of the partitions."""
        for held in self._speaking():
            await self.custodian.checkpoint(held)

    def finish(self) -> None:
        """The input has ended."""
        for held in self.custodian.held.values():
            held.state.finish()

    def _bring_up(self, state: StateT) -> None:
        """Let a replay's time pass for a partition as it has for the others."""
        if self._replayed is None:
            return
        clock_ms, others = self._replayed
        if not state.has_data:
            # What the others have made final is final: its first events may be late already.
            state.adopt(others)
        state.tick(clock_ms, others)

    def _speaking(self) -> list[Held[StateT]]:
        return [held for p, held in sorted(self.custodian.held.items()) if held.state.has_data or p == FIRST]

    def _here(self) -> dict[int, tuple[int, bool]]:
        return {p: (held.state.watermark, held.state.idle) for p, held in self.custodian.held.items()}

    async def _exchange_hints(self, now: float) -> None:
        """Tell the other workers how far these partitions are, and learn it of theirs; losing this loses nothing."""
        if now - self._hinted_at < HINTS_EVERY_S or self._consumer().stalled:
            return
        self._hinted_at = now
        try:
            for partition, known in self._here().items():
                await self._store.hint(self._hints, str(partition), msgspec.msgpack.encode(known))
            told = await self._store.hints(self._hints)
        except StoreError:
            return
        self._elsewhere = {int(p): tuple(msgspec.msgpack.decode(value)) for p, value in told.items()}
