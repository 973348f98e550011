"""A worker whose steps can be counted: it dies, or hangs and wakes up too late, at exactly the step that is asked for.

A step is anything that others can see: a claim, a save, one record published. The state, the custodians and
their protocol are the real ones; broker, consumer and group are lists and dictionaries, and nothing waits.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP, Message

from agents.custodian import Custodian
from agents.feature_intake import FeatureIntake
from agents.health import Health
from agents.inference_state import InferenceSetting, InferenceState, InferenceTopics
from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.metrics import Metrics
from agents.partition_state import Outgoing
from agents.publisher import Publisher
from agents.transports.batch import Batch, Section
from agents.transports.consumer import BatchConsumer, Position
from agents.windows_state import WindowsSetting, WindowsState
from tables.checkpoint import Scope, Snapshot
from tables.join_policy import JoinPolicy
from tables.memory_store import MemoryStore
from tables.reference import ReferenceBook
from tests.crash.traffic import DRIFT, shop_reference
from tests.crash.verdict import Outcome

PARTITIONS = 2
TOPICS = JoinTopics("impressions", "clicks", "partials", "dead_letters")
INFERENCE_TOPICS = InferenceTopics("inferences", "partials", "dead_letters")
WINDOWS, ALERTS = "windows", "alerts"
NOW_MS = 1_800_000_000_000


class Died(Exception):
    """The process is no more: whatever it still tries is not carried out."""


@dataclass(slots=True)
class Broker:
    """All records by topic and partition, and the group's committed positions."""

    logs: defaultdict[TP, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[TP, Position] = field(default_factory=dict)
    clock_ms: int = 0

    def now_ms(self) -> int:
        """The wall clock."""
        self.clock_ms += 1
        return self.clock_ms

    def outcome(self) -> Outcome:
        """What has been told so far."""
        outcome = Outcome()
        for tp, records in self.logs.items():
            if tp.topic == WINDOWS:
                for record in records:
                    outcome.take_window(record)
            elif tp.topic == TOPICS.dead_letters:
                for record in records:
                    outcome.take_dead_letter(record)
        return outcome


class _NoPauses(random.Random):
    def uniform(self, a: float, b: float) -> float:
        """Every pause is drawn with this one."""
        return 0.0


class SteppedWorker:
    """One life of a worker that owns all partitions."""

    def __init__(
        self, broker: Broker, store: MemoryStore, rng: random.Random, *, die_at: int = -1, hang_at: int = -1
    ) -> None:
        self.broker = broker
        self.steps = 0
        self.hanging = asyncio.Event()
        self.wake = asyncio.Event()
        self._store = store
        self._rng = rng
        self._die_at = die_at
        self._hang_at = hang_at
        self._dead = False
        self._positions: dict[TP, int] = {}
        self._to_commit: dict[TP, Position] = {}
        self._crash: BaseException | None = None
        self.stalled = False
        metrics, health = Metrics(), Health()
        policy, references = JoinPolicy(), ReferenceBook((shop_reference(),))
        inputs: dict[str, Any] = {
            "policy": policy,
            "now_ms": lambda: NOW_MS,
            "metrics": metrics,
            "sources": lambda: PARTITIONS,
            "targets": lambda: PARTITIONS,
        }
        join = JoinSetting(
            topics=TOPICS, hash_key=bytes(16), intake=FeatureIntake(references, TOPICS.impressions), **inputs
        )
        inference = InferenceSetting(
            topics=INFERENCE_TOPICS, intake=FeatureIntake(references, INFERENCE_TOPICS.inferences), **inputs
        )
        windows = WindowsSetting(
            policy,
            lambda: (),
            TOPICS.partials,
            WINDOWS,
            ALERTS,
            TOPICS.dead_letters,
            metrics,
            references=references,
            drift_policy=lambda _: DRIFT,
        )
        shared: dict[str, Any] = {
            "consumer": lambda: cast(BatchConsumer, self),
            "store": self,
            "publisher": cast(Publisher, self),
            "metrics": metrics,
            "health": health,
            "now_ms": broker.now_ms,
            "rng": _NoPauses(),
            "on_crash": self._crashed,
        }
        self.join: Custodian[JoinState] = Custodian(
            "join", (TOPICS.impressions, TOPICS.clicks), lambda p: JoinState(p, join, 0), **shared
        )
        self.inferences: Custodian[InferenceState] = Custodian(
            "inferences", (INFERENCE_TOPICS.inferences,), lambda p: InferenceState(p, inference, 0), **shared
        )
        self.windows: Custodian[WindowsState] = Custodian(
            "windows", (TOPICS.partials,), lambda p: WindowsState(p, windows), **shared
        )

    @property
    def _custodians(self) -> tuple[Custodian[Any], ...]:
        return self.join, self.inferences, self.windows

    async def live(self, rounds: int) -> None:
        """Restore everything, then read and checkpoint so many times; raises Died."""
        for custodian in self._custodians:
            custodian.assigned({TP(topic, p) for topic in custodian.topics for p in range(PARTITIONS)})
        for _ in range(rounds):
            await self._restored()
            for custodian in (self.join, self.inferences):
                self._deliver(custodian, most=self._rng.randint(1, 12))
                await custodian.checkpoint_all()
            self._deliver(self.windows, most=1000)
            await self.windows.checkpoint_all()

    async def _restored(self) -> None:
        while sum(len(custodian.held) for custodian in self._custodians) < 3 * PARTITIONS:
            if self._crash is not None:
                raise self._crash
            await asyncio.sleep(0)

    def commit(self) -> None:
        """Write the positions that are due, as a timer does in between."""
        self.broker.committed.update(self._to_commit)

    def revoke(self) -> None:
        """The group has given everything to somebody else."""
        for custodian in self._custodians:
            custodian.revoked()

    def _deliver(self, custodian: Custodian[Any], most: int) -> None:
        for partition in sorted(custodian.held):
            sections = []
            for topic in custodian.topics:
                tp = TP(topic, partition)
                # Each topic at its own pace; now and then one of them says nothing at all.
                begin, size = self._positions[tp], self._rng.choice([0, 1, most, most])
                values = self.broker.logs[tp][begin : begin + size]
                if values:
                    end = begin + len(values)
                    sections.append(Section(topic, range(begin, end), values, end))
                    self._positions[tp] = end
            if sections:
                batch = Batch(partition, tuple(sections), incarnation=1)
                assert custodian.take(cast(Message, SimpleNamespace(value=batch))) is not None

    async def _step(self) -> None:
        await asyncio.sleep(0)
        if self.steps == self._hang_at:
            self.hanging.set()
            self.steps += 1
            await self.wake.wait()
        if self._dead or self.steps == self._die_at:
            self._dead = True
            raise Died
        self.steps += 1
        if self._rng.random() < 0.2:
            # In the middle of whatever else goes on.
            self.commit()

    async def _crashed(self, error: BaseException) -> None:
        self._crash = error

    # -- the publisher

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            await self._step()
            partition = message.partition
            if partition is None:
                partition = zlib.crc32(message.key or b"") % PARTITIONS
            self.broker.logs[TP(message.topic, partition)].append(message.value or b"")

    # -- the store

    async def claim(self, scope: Scope, now_ms: int) -> Snapshot:
        await self._step()
        return await self._store.claim(scope, now_ms)

    async def save(self, *args: Any, **options: Any) -> None:
        await self._step()
        await self._store.save(*args, **options)

    # -- the consumer

    def incarnation(self, tp: TP) -> int:
        return 1

    def hold(self, partitions: Iterable[TP]) -> None:
        pass

    def ack(self, message: Message) -> bool:
        return True

    def will_commit(self, positions: Mapping[TP, Position]) -> None:
        self._to_commit.update(positions)

    async def committed_positions(self, partitions: Collection[TP]) -> dict[TP, Position]:
        return {tp: self.broker.committed[tp] for tp in partitions if tp in self.broker.committed}

    async def begin_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def release(self, offsets: Mapping[TP, int]) -> None:
        self._positions.update(offsets)
