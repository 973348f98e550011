"""Who owns the state of an agent's partitions: loads it on assignment, checkpoints it, gives it up.

The life of a partition: assigned -> claimed in the store (which fences every earlier owner) -> restored, or rebuilt by
reading the broker again -> consumed and checkpointed, over and over -> revoked. Anything that goes wrong with a
checkpoint ends in the same way: the state in memory is thrown away and the partition is claimed and restored anew.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiokafka.errors import KafkaError
from faust.types import TP, Message

from agents.health import Health
from agents.metrics import Metrics
from agents.partition_state import (
    Changes,
    Head,
    Note,
    Outgoing,
    PartitionState,
    decode_head,
    encode_head,
    encode_note,
    newest_note,
)
from agents.publisher import Publisher
from agents.transports.consumer import BatchConsumer, Position, batch_of
from tables.checkpoint import CheckpointStore, Lease, Scope, Snapshot
from tables.errors import BrokerUnavailable, FellBehind, Fenced, StoreUnavailable

log = logging.getLogger("tidemark.custodian")

StateT = TypeVar("StateT", bound=PartitionState)

RESTORES_AT_ONCE = 4
RETRY_CAP_S = 5.0
RECALLS = 6
"""Tries to recall what was lost with the store; a partition that nobody reads is worse than one that has forgotten."""


class _GivenUp(Exception):
    """The partition was taken away while something was being tried again for it."""


@dataclass(slots=True)
class Held(Generic[StateT]):
    """A partition whose state is in memory."""

    partition: int
    state: StateT
    lease: Lease
    incarnation: int
    positions: dict[str, int]
    """Topic -> offset of the next record to be applied."""
    skip_before: dict[str, int]
    """Topic -> offset up to which a rebuild reads again what was counted once."""
    drop: frozenset[str]
    """Chunks in the store that are of no use any more."""
    unacked: list[Message] = field(default_factory=list)
    rebuilding: bool = False
    """The state lacks some of what its positions say: nothing of it may be stored or told yet."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    given_up: bool = False

    def look_whether_rebuilt(self) -> None:
        """End the rebuilding when all has been read again."""
        if self.rebuilding and all(self.positions[topic] >= end for topic, end in self.skip_before.items()):
            self.rebuilding = False
            self.state.rebuilt()


class Custodian(Generic[StateT]):
    """Owns the partitions of one agent."""

    def __init__(
        self,
        agent: str,
        topics: Sequence[str],
        make_state: Callable[[int], StateT],
        *,
        consumer: Callable[[], BatchConsumer],
        store: CheckpointStore,
        publisher: Publisher,
        metrics: Metrics,
        health: Health,
        now_ms: Callable[[], int],
        rng: random.Random,
        on_crash: Callable[[BaseException], Coroutine[Any, Any, None]],
        recall: Callable[[StateT], Awaitable[None]] | None = None,
    ) -> None:
        """`recall` gives a state that is to be rebuilt what reading its topics again does not give back; it may raise
        BrokerUnavailable."""
        self.agent = agent
        self.topics = tuple(topics)
        self.held: dict[int, Held[StateT]] = {}
        self.applied = 0
        """Records applied so far."""
        self._make_state = make_state
        self._consumer = consumer
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._health = health
        self._now_ms = now_ms
        self._rng = rng
        self._on_crash = on_crash
        self._recall = recall
        self._restoring: dict[int, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(RESTORES_AT_ONCE)
        health.restoring[agent] = set()

    # -- assignment

    def assigned(self, partitions: set[TP]) -> None:
        """Begin to restore the partitions of an assignment; returns at once."""
        for partition in sorted({tp.partition for tp in partitions if tp.topic in self.topics}):
            missing = [topic for topic in self.topics if TP(topic, partition) not in partitions]
            if missing:
                # Whoever led the group did not know the topic, as while a broker starts; it assigns again when it does.
                log.warning("%s partition %s waits: not assigned of %s", self.agent, partition, ", ".join(missing))
            else:
                self._begin_restore(partition, pause_s=0.0)

    def revoked(self) -> None:
        """Forget everything: what is not checkpointed will be read again by the next owner."""
        for task in self._restoring.values():
            task.cancel()
        self._restoring.clear()
        self._health.restoring[self.agent].clear()
        for held in self.held.values():
            held.given_up = True
            self._metrics.forget_partition(self.topics, held.partition)
        self.held.clear()

    # -- the agent's work

    def take(self, message: Message) -> Held[StateT] | None:
        """Apply a delivered batch; None where it belongs to a holding that has ended."""
        batch = batch_of(message)
        held = self.held.get(batch.partition)
        if held is None or batch.incarnation != held.incarnation:
            return None
        started = time.perf_counter()
        held.state.apply(batch, held.skip_before)
        self._metrics.batch_seconds.labels(self.agent).observe(time.perf_counter() - started)
        self._metrics.batch_records.labels(self.agent).observe(batch.records)
        for section in batch.sections:
            held.positions[section.topic] = section.next_offset
        held.look_whether_rebuilt()
        held.unacked.append(message)
        self.applied += batch.records
        return held

    async def checkpoint_all(self) -> None:
        """Checkpoint every partition that has changed."""
        if self.held:
            await asyncio.gather(*(self.checkpoint(held) for held in list(self.held.values())))

    async def checkpoint(self, held: Held[StateT]) -> None:
        """Checkpoint one partition: outputs before, state and offsets in one step, outputs after."""
        async with held.lock:
            if held.given_up:
                return
            positions = dict(held.positions)
            changes = None if held.rebuilding else held.state.changes(held.lease.epoch, held.lease.number + 1)
            messages, held.unacked = held.unacked, []
            if changes is None:
                self._acknowledge(held, messages)
                return
            started = time.perf_counter()
            try:
                await self._publish(changes.before, held)
                await self._save(held, positions, changes)
                self._acknowledge(held, messages)
                await self._publish(changes.after, held)
                self._note(held, positions, changes)
            except _GivenUp:
                return
            except (Fenced, FellBehind) as error:
                self._lost(held, error)
                return
            self._metrics.checkpoint_seconds.labels(self.agent).observe(time.perf_counter() - started)

    # -- inside

    def _acknowledge(self, held: Held[StateT], messages: Sequence[Message]) -> None:
        if not held.given_up:
            for message in messages:
                self._consumer().ack(message)

    def _note(self, held: Held[StateT], positions: Mapping[str, int], changes: Changes) -> None:
        """Say in Kafka how far this checkpoint is: only now, as without the store nobody would publish for it again."""
        if not held.given_up:
            note = encode_note(held.lease.epoch, held.lease.number, changes)
            self._consumer().will_commit(
                {TP(topic, held.partition): Position(offset, note) for topic, offset in positions.items()}
            )

    async def _save(self, held: Held[StateT], positions: Mapping[str, int], changes: Changes) -> None:
        head = encode_head(positions, changes)
        drop = changes.drop | held.drop
        backoff = self._backoff()
        while True:
            try:
                await self._store.save(held.lease, head, append=changes.append, drop=drop)
            except StoreUnavailable as error:
                self._metrics.checkpoint_failures.labels(self.agent, "unavailable").inc()
                await self._store_away(error, next(backoff))
                self._check(held)
            else:
                held.drop = frozenset()
                self._store_back()
                return

    async def _publish(self, messages: Sequence[Outgoing], held: Held[StateT]) -> None:
        backoff = self._backoff()
        while True:
            try:
                await self._publisher.publish(messages)
            except BrokerUnavailable as error:
                log.warning("%s partition %s: %s; trying again", self.agent, held.partition, error)
                self._health.broker_error = str(error)
                await asyncio.sleep(next(backoff))
                self._check(held)
            else:
                self._health.broker_error = None
                return

    def _check(self, held: Held[StateT]) -> None:
        if held.given_up:
            raise _GivenUp

    def _lost(self, held: Held[StateT], error: Fenced | FellBehind) -> None:
        reason = "fenced" if isinstance(error, Fenced) else "fell_behind"
        self._metrics.checkpoint_failures.labels(self.agent, reason).inc()
        log.warning("%s partition %s: %s; loading it again", self.agent, held.partition, error)
        held.given_up = True
        if self.held.get(held.partition) is not held:
            return
        del self.held[held.partition]
        self._consumer().hold(TP(topic, held.partition) for topic in self.topics)
        # A fenced owner is most often a zombie that is about to learn so from the group: it must not claim at once.
        if isinstance(error, Fenced):
            self._begin_restore(held.partition, pause_s=self._rng.uniform(1.0, 3.0))
        else:
            self._begin_restore(held.partition, pause_s=0.0, former=None if held.rebuilding else held.state)

    def _begin_restore(self, partition: int, pause_s: float, former: StateT | None = None) -> None:
        """`former`: what this process knew of it, if the store may have lost that."""
        self._health.restoring[self.agent].add(partition)
        task = asyncio.get_running_loop().create_task(self._restore(partition, pause_s, former))
        self._restoring[partition] = task
        task.add_done_callback(lambda done: self._restored(partition, done))

    def _restored(self, partition: int, task: asyncio.Task[None]) -> None:
        if self._restoring.get(partition) is task:
            del self._restoring[partition]
            self._health.restoring[self.agent].discard(partition)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s partition %s could not be restored", self.agent, partition, exc_info=error)
            self._crashing = asyncio.get_running_loop().create_task(self._on_crash(error))

    async def _restore(self, partition: int, pause_s: float, former: StateT | None) -> None:
        await asyncio.sleep(pause_s)
        async with self._slots:
            tps = [TP(topic, partition) for topic in self.topics]
            consumer = self._consumer()
            incarnation = consumer.incarnation(tps[0])
            snapshot, committed, begin = await self._look_up(partition, tps)
            held, offsets, outbox = self._load(partition, incarnation, snapshot, committed)
            for tp in tps:
                start = offsets.get(tp.topic, committed[tp].offset if tp in committed else begin[tp])
                # What the broker has deleted meanwhile cannot be read again.
                held.positions[tp.topic] = offsets[tp.topic] = max(start, begin[tp])
            is_heir = former is not None and snapshot.head is None and held.state.inherit(former)
            if held.rebuilding and not is_heir:
                await self._recall_into(held)
            held.look_whether_rebuilt()
            # Before this owner says anything of its own, or it would be taken for a zombie's words.
            await self._publish(outbox, held)
            self.held[partition] = held
            await consumer.release({tp: offsets[tp.topic] for tp in tps})

    async def _recall_into(self, held: Held[StateT]) -> None:
        if self._recall is None:
            return
        for pause_s in itertools.islice(self._backoff(), RECALLS):
            try:
                return await self._recall(held.state)
            except BrokerUnavailable as error:
                log.warning("%s partition %s: what was lost cannot be recalled: %s", self.agent, held.partition, error)
                await asyncio.sleep(pause_s)
        log.error("%s partition %s goes on without what was lost", self.agent, held.partition)

    async def _look_up(self, partition: int, tps: list[TP]) -> tuple[Snapshot, dict[TP, Position], dict[TP, int]]:
        backoff = self._backoff()
        while True:
            try:
                consumer = self._consumer()
                committed, begin = await consumer.committed_positions(tps), await consumer.begin_offsets(tps)
                note = newest_note(position.note for position in committed.values())
                # Epochs grow over a store that has forgotten them, though this clock be behind the last owner's.
                at_least = max(self._now_ms(), note.epoch + 1 if note is not None else 0)
                snapshot = await self._store.claim(Scope(self.agent, partition), at_least)
                self._store_back()
                return snapshot, committed, begin
            except StoreUnavailable as error:
                await self._store_away(error, next(backoff))
            except KafkaError as error:
                log.warning("%s partition %s: reading offsets failed: %r; trying again", self.agent, partition, error)
                await asyncio.sleep(next(backoff))

    def _load(
        self, partition: int, incarnation: int, snapshot: Snapshot, committed: Mapping[TP, Position]
    ) -> tuple[Held[StateT], dict[str, int], list[Outgoing]]:
        state, lease = self._make_state(partition), snapshot.lease
        head = self._head_of(snapshot)
        note = newest_note(position.note for position in committed.values())
        if head is not None and snapshot.complete:
            try:
                state.restore(head.state, snapshot.chunks)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("%s partition %s: checkpoint not usable (%s)", self.agent, partition, error)
                state = self._make_state(partition)
            else:
                if note is not None and note.number > lease.number:
                    log.warning(
                        "%s partition %s: the store holds checkpoint %s, %s was written; going on from the former",
                        self.agent, partition, lease.number, note.number,
                    )  # fmt: skip
                self._metrics.restores.labels(self.agent, "checkpoint").inc()
                held = Held(partition, state, lease, incarnation, dict(head.positions), {}, frozenset())
                return held, dict(head.positions), head.after
        drop = frozenset(snapshot.chunks)
        if head is not None:
            note = Note(lease.number, head.rebuild, head.rebuild_state)
            skip, outbox = dict(head.positions), head.after
        else:
            skip, outbox = {tp.topic: position.offset for tp, position in committed.items()}, []
        if note is None:
            self._metrics.restores.labels(self.agent, "fresh").inc()
            return Held(partition, state, lease, incarnation, {}, {}, drop), {}, outbox
        log.warning("%s partition %s: rebuilding from the broker, offsets %s", self.agent, partition, note.rebuild)
        self._metrics.restores.labels(self.agent, "rebuilt").inc()
        state.restore_time(note.state)
        lease.number = max(lease.number, note.number)
        held = Held(partition, state, lease, incarnation, dict(note.rebuild), skip, drop, rebuilding=True)
        return held, dict(note.rebuild), outbox

    def _head_of(self, snapshot: Snapshot) -> Head | None:
        if snapshot.head is None:
            return None
        try:
            return decode_head(snapshot.head)
        except ValueError as error:
            log.warning("%s: checkpoint not readable (%s)", snapshot.lease.scope, error)
            return None

    async def _store_away(self, error: StoreUnavailable, pause_s: float) -> None:
        if self._health.store_error is None:
            log.warning("store away, consuming stops until it is back: %s", error)
        self._health.store_error = str(error)
        self._consumer().stalled = True
        await asyncio.sleep(pause_s)

    def _store_back(self) -> None:
        if self._health.store_error is not None:
            log.warning("store back, consuming goes on")
            self._health.store_error = None
        self._consumer().stalled = False

    def _backoff(self) -> Iterator[float]:
        """Pauses in seconds: exponential with full jitter, without an end, for there is nothing else to do."""
        for attempt in itertools.count():
            yield self._rng.uniform(0.05, min(RETRY_CAP_S, 0.1 * 2.0 ** min(attempt, 10)))
