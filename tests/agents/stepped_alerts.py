"""A worker that tells of alerts, whose steps can be counted: it dies at exactly the step that is asked for.

A step is anything that others can see: a claim, a save, one record published, one message sent, one note of that. The
agent, its desk and its custodian are the real ones; broker, consumer, notifier and receivers are lists.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP, Message

from agents.alerts_agent import AlertsAgent
from agents.alerts_state import AlertsSetting, AlertsState
from agents.custodian import Custodian
from agents.health import Health
from agents.metrics import Metrics
from agents.partition_state import Outgoing
from agents.publisher import Publisher
from agents.transports.batch import Batch, Section
from agents.transports.consumer import BatchConsumer, Position
from alerting.desk.policy import AlertingPolicy
from alerting.notification import Notification
from alerting.sending.gate import Gate
from alerting.sending.notifier import Notifier
from tables.checkpoint import Scope, Snapshot
from tables.memory_ledger import MemoryLedger
from tables.memory_store import MemoryStore
from tests.agents.alerts_partition import ALERTS, COMMANDS, DEAD
from tests.alerting.samples import TEN_O_CLOCK

TPS = (TP(ALERTS, 0), TP(COMMANDS, 0))


class Died(Exception):
    """The process is no more: whatever it still tries is not carried out."""


@dataclass(slots=True)
class Surroundings:
    """What outlives a worker: the broker, the store, and those who are told."""

    policy: AlertingPolicy
    logs: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[TP, Position] = field(default_factory=dict)
    store: MemoryStore = field(default_factory=MemoryStore)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    now: int = TEN_O_CLOCK
    told: Counter[str] = field(default_factory=Counter)
    """How often each was received: channel, stage, alerts."""

    def lose_the_store(self) -> None:
        """It is back, and empty."""
        self.store, self.ledger = MemoryStore(), MemoryLedger()


class _NoPauses(random.Random):
    def uniform(self, a: float, b: float) -> float:
        """Every pause is drawn with this one."""
        return 0.0


class SteppedAlerts:
    """One life of a worker; it is also its own store, publisher, consumer and notifier."""

    def __init__(self, around: Surroundings, *, die_at: int = -1) -> None:
        self.around = around
        self.steps = 0
        self.stalled = False
        self.is_held_up = False
        """Whether nothing can be sent now, as when a budget is used up."""
        self._die_at = die_at
        self._dead = False
        self._crash: BaseException | None = None
        self._assigned = False
        self._positions: dict[TP, int] = {}
        self._queue: list[tuple[Notification, Gate]] = []
        metrics = Metrics()
        setting = AlertsSetting(lambda: around.policy, ALERTS, COMMANDS, DEAD, metrics, lambda: around.now)
        self.custodian: Custodian[AlertsState] = Custodian(
            "alerts",
            (ALERTS, COMMANDS),
            lambda partition: AlertsState(partition, setting),
            consumer=lambda: cast(BatchConsumer, self),
            store=cast(Any, self),
            publisher=cast(Publisher, self),
            metrics=metrics,
            health=Health(),
            now_ms=lambda: around.now,
            rng=_NoPauses(),
            on_crash=self._crashed,
        )
        self.agent = AlertsAgent(
            self.custodian, lambda: cast(BatchConsumer, self), cast(Notifier, self), metrics, min_severity_of={}
        )

    async def live(self, rounds: int) -> None:
        """Read, checkpoint and tell so many times, a second each; raises Died."""
        if not self._assigned:
            self._assigned = True
            self.custodian.assigned(set(TPS))
        for _ in range(rounds):
            while not self.custodian.held:
                if self._crash is not None:
                    raise self._crash
                await asyncio.sleep(0)
            self._deliver()
            await self.agent.round(at_once=True)
            await self._tell()
            self.around.now += 1_000

    def _deliver(self) -> None:
        sections = []
        for tp in TPS:
            begin, log = self._positions[tp], self.around.logs[tp.topic]
            if values := log[begin:]:
                self._positions[tp] = len(log)
                sections.append(Section(tp.topic, range(begin, len(log)), values, len(log)))
        if sections:
            batch = Batch(0, tuple(sections), incarnation=1)
            assert self.custodian.take(cast(Message, SimpleNamespace(value=batch))) is not None

    async def _step(self) -> None:
        await asyncio.sleep(0)
        if self._dead or self.steps == self._die_at:
            self._dead = True
            raise Died
        self.steps += 1

    async def _crashed(self, error: BaseException) -> None:
        self._crash = error

    # -- the notifier

    def submit(self, notification: Notification, gate: Gate) -> bool:
        self._queue.append((notification, gate))
        return True

    def withdraw(self, gate: Gate) -> None:
        self._queue = [(note, its) for note, its in self._queue if its is not gate]

    async def _tell(self) -> None:
        while self._queue and not self.is_held_up:
            submitted, gate = self._queue.pop(0)
            rest = gate.trim(submitted, submitted)
            if rest is None:
                continue
            if await self.around.ledger.unsent(gate.lease, [submitted.key]):
                await self._step()
                self.around.told[f"{rest.channel} {rest.stage} {' '.join(rest.alert_ids)}"] += 1
                await self._step()
                await self.around.ledger.mark(gate.lease, [submitted.key])
            gate.sent(submitted, submitted)

    # -- the publisher

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            await self._step()
            self.around.logs[message.topic].append(message.value or b"")

    # -- the store

    async def claim(self, scope: Scope, now_ms: int) -> Snapshot:
        await self._step()
        return await self.around.store.claim(scope, now_ms)

    async def save(self, *args: Any, **options: Any) -> None:
        await self._step()
        await self.around.store.save(*args, **options)

    # -- the consumer

    def incarnation(self, tp: TP) -> int:
        return 1

    def hold(self, partitions: Iterable[TP]) -> None:
        pass

    async def end_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        return {tp: len(self.around.logs[tp.topic]) for tp in partitions}

    def ack(self, message: Message) -> bool:
        return True

    def will_commit(self, positions: Mapping[TP, Position]) -> None:
        self.around.committed.update(positions)

    async def committed_positions(self, partitions: Collection[TP]) -> dict[TP, Position]:
        return {tp: self.around.committed[tp] for tp in partitions if tp in self.around.committed}

    async def begin_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def release(self, offsets: Mapping[TP, int]) -> None:
        self._positions.update(offsets)
