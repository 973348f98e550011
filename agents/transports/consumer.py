"""The half of a Faust consumer that both transports share: rounds of batches instead of single records.

Faust calls a consumer in many places; what is overridden here is the way of a record from the broker to an agent
and the way of an acknowledgement back:

- `_drain_messages` fetches a round, groups co-partitioned topics, and delivers one message a partition;
- partitions can be *held*: they are assigned, but nothing is fetched until their state is restored and `release`
  names the offsets to start from (Faust's own seek to the committed offsets is switched off for that reason);
- acknowledgements are ranges (`InFlight`), never gaps; what is committed carries a note (Kafka's commit metadata);
  agents read their streams with `noack()` and call `ack`, as a stream that acknowledges by itself goes past it;
- too many records in flight on a partition stop its fetching, so memory is bounded whatever the agents do.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from faust.transport.consumer import Consumer
from faust.types import TP, Message
from faust.types.tuples import ConsumerMessage
from mode.services import ServiceT

from agents.transports.batch import Batch, Section
from agents.transports.in_flight import InFlight

FETCH_TIMEOUT_S = 0.5
ERROR_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Position:
    """An offset to commit, with a note for whoever reads it back."""

    offset: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an app's topics are consumed."""

    groups: tuple[frozenset[str], ...] = ()
    """Co-partitioned topics whose partitions of one number are delivered together."""
    held: frozenset[str] = frozenset()
    """Topics whose partitions wait for `release` after each assignment."""
    max_in_flight: int = 200_000
    """Records of one topic-partition that may be delivered and not yet done."""
    drain_timeout_s: float = 20.0
    """How long agents may take to write their last checkpoint before partitions are given up regardless."""

    def group_of(self, topic: str) -> frozenset[str]:
        """The group that `topic` is delivered with; itself alone by default."""
        return next((group for group in self.groups if topic in group), frozenset((topic,)))


def batch_of(message: Message) -> Batch:
    """What a delivered message carries."""
    batch: Any = message.value
    assert isinstance(batch, Batch)
    return batch


class BatchConsumer(Consumer):
    """A Faust consumer that delivers `Batch` values; see the module's text."""

    layout: ClassVar[str] = "tidemark_layout"
    """Name of the attribute of the app that holds its `Layout`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._layout: Layout = getattr(self.app, self.layout, Layout())
        self._held: set[TP] = set()
        self._incarnation: dict[TP, int] = {}
        self._holdings = 0
        self.stalled = False
        """Set while agents cannot store what they take in: nothing is fetched then."""
        # Whoever seeks waits for the fetch under way: its records would else be taken for those after the seek.
        self._fetching = asyncio.Lock()
        self._in_flight: defaultdict[TP, InFlight] = defaultdict(InFlight)
        # Fetched while a rebalance went on and given to nobody: to be read again from the committed offset.
        self._again: set[TP] = set()
        self._to_commit: dict[TP, Position] = {}
        self._committed: dict[TP, Position] = {}
        self.before_drain: Callable[[], Any] | None = None
        """Awaited when the flow has stopped and the partitions are about to be given up."""

    # -- what a transport provides

    @abstractmethod
    async def fetch(self, partitions: set[TP], timeout: float) -> dict[TP, Section]:
        """Everything at hand for these partitions, waiting at most `timeout` seconds for anything at all."""

    @abstractmethod
    async def commit_positions(self, positions: Mapping[TP, Position]) -> bool:
        """Store positions at the broker; False where it did not work out and may be tried again."""

    @abstractmethod
    async def committed_positions(self, partitions: Collection[TP]) -> dict[TP, Position]:
        """The committed positions with their notes; partitions without one are left out."""

    @abstractmethod
    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Go on reading at these offsets."""

    @abstractmethod
    async def at_end(self, partitions: Collection[TP]) -> set[TP]:
        """Those partitions of which everything has been fetched, as known from an answer to a question asked now."""

    @abstractmethod
    async def end_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        """The offsets that the next records will have, as known from an answer to a question asked now."""

    @abstractmethod
    async def begin_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        """The oldest offsets still there."""

    # -- what agents use

    def hold(self, partitions: Iterable[TP]) -> None:
        """Stop fetching these partitions and forget what is in flight of them."""
        self._holdings += 1
        for tp in partitions:
            self._held.add(tp)
            self._incarnation[tp] = self._holdings
            self._in_flight.pop(tp, None)
            self._again.discard(tp)

    async def release(self, offsets: Mapping[TP, int]) -> None:
        """Start fetching these partitions, at these offsets."""
        async with self._fetching:
            await self.seek_all(offsets)
            self._held.difference_update(offsets)

    def incarnation(self, tp: TP) -> int:
        """The last holding of the partition; batches fetched before it are stale."""
        return self._incarnation.get(tp, 0)

    def is_held(self, tp: TP) -> bool:
        """Whether the partition waits for `release`."""
        return tp in self._held

    def in_flight(self, tp: TP) -> int:
        """Records delivered and not yet done."""
        return self._in_flight[tp].records if tp in self._in_flight else 0

    def will_commit(self, positions: Mapping[TP, Position]) -> None:
        """Name the positions that the next commit writes."""
        self._to_commit.update(positions)

    # -- Faust's seams

    def _fetchable(self) -> set[TP]:
        if self.stalled:
            return set()
        limit = self._layout.max_in_flight
        full = {tp for tp, delivered in self._in_flight.items() if delivered.records >= limit}
        return set(self._get_active_partitions()) - self._held - full

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await self.can_resume_flow.wait()
                continue
            generation = self.app.consumer_generation_id
            partitions = self._fetchable()
            if not partitions:
                await self.sleep(0.02)
                continue
            before = self._holdings
            try:
                async with self._fetching:
                    await self._go_back()
                    fetched = await self.fetch(partitions, FETCH_TIMEOUT_S)
            except self.consumer_stopped_errors:
                if self.app.should_stop:
                    return
                raise
            except asyncio.CancelledError:
                if self.app.should_stop:
                    return
                raise
            except self.transient_errors as error:
                self.log.warning("fetching failed, trying again: %s", error)
                await self.sleep(ERROR_PAUSE_S)
                continue
            if generation != self.app.consumer_generation_id:
                # These may be the first records of a new assignment, so nobody else would read them again.
                self._again.update(tp for tp in fetched if tp not in self._held)
                continue
            # Not those that were held again meanwhile.
            fresh = {tp: section for tp, section in fetched.items() if self.incarnation(tp) <= before}
            for message in self._messages(fresh, generation):
                # A batch whose partition was taken away or held again meanwhile will be read again by its next owner.
                if generation != self.app.consumer_generation_id or not self.flow_active:
                    break
                await self.wait_first(self.callback(message), self.suspend_flow.wait())
            await asyncio.sleep(0)

    transient_errors: ClassVar[tuple[type[BaseException], ...]] = ()

    async def _go_back(self) -> None:
        again = self._again & self.assignment()
        if again:
            committed, begin = await self.committed_positions(again), await self.begin_offsets(again)
            await self.seek_all({tp: committed[tp].offset if tp in committed else begin[tp] for tp in again})
        self._again.clear()

    def _messages(self, fetched: Mapping[TP, Section], generation: int) -> list[Message]:
        together: dict[tuple[int, frozenset[str]], list[tuple[TP, Section]]] = defaultdict(list)
        for tp, section in fetched.items():
            together[tp.partition, self._layout.group_of(tp.topic)].append((tp, section))
        messages = []
        for (partition, _), parts in sorted(together.items(), key=lambda item: item[0][0]):
            parts.sort(key=lambda part: part[0].topic)
            batch = Batch(partition, tuple(section for _, section in parts), self.incarnation(parts[0][0]))
            for tp, section in parts:
                self._in_flight[tp].delivered(section.next_offset, len(section))
            tp, first = parts[0]
            value: Any = batch
            message: Message = ConsumerMessage(
                tp.topic, partition, first.next_offset - 1, time.time(), 0, None, None, value, None, 0, 0, tp,
                generation_id=generation,
            )  # fmt: skip
            messages.append(message)
        return messages

    def ack(self, message: Message) -> bool:
        """Mark a delivered batch as done."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if message.generation_id != self.app.consumer_generation_id:
            return False
        batch = batch_of(message)
        if batch.incarnation != self.incarnation(TP(batch.sections[0].topic, batch.partition)):
            return False
        for section in batch.sections:
            tp = TP(section.topic, batch.partition)
            if tp in self._in_flight:
                entry = self._in_flight[tp]
                entry.done(section.next_offset)
                if section.topic not in self._layout.held and entry.committable is not None:
                    self._to_commit[tp] = Position(entry.committable)
        return True

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Write the positions that are done and not yet written."""
        if self._acked:
            raise RuntimeError(f"{sorted(self._acked)}: streams of batches must be read with noack()")
        if not self._to_commit:  # such as where it was stopped before it had started
            return False
        assigned = self.assignment()
        changed = {
            tp: position
            for tp, position in self._to_commit.items()
            if tp in assigned and self._committed.get(tp) != position
        }
        if not changed or not await self.commit_positions(changed):
            return False
        self._committed.update(changed)
        self.app.monitor.on_tp_commit({tp: position.offset for tp, position in changed.items()})
        return True

    async def wait_empty(self) -> None:
        """Give agents a bounded time to write their last checkpoint, then commit."""
        if self.before_drain is not None:
            try:
                await asyncio.wait_for(self.before_drain(), self._layout.drain_timeout_s)
            except TimeoutError:
                self.log.warning(
                    "agents did not drain within %s s; their last second will be read again",
                    self._layout.drain_timeout_s,
                )
                if self.app.should_stop:
                    self.before_drain = None  # on its way down Faust asks twice
        await self.commit()

    async def perform_seek(self) -> None:
        """Nothing to do: held partitions are placed by `release`, the others start at their committed offsets."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Give partitions up."""
        await super().on_partitions_revoked(revoked)
        self._again -= revoked
        for tp in revoked:
            self._in_flight.pop(tp, None)
            self._to_commit.pop(tp, None)
            self._committed.pop(tp, None)
            self._held.discard(tp)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take partitions over; those of held topics wait for `release`."""
        self.hold(tp for tp in assigned if tp.topic in self._layout.held)
        await super().on_partitions_assigned(assigned, generation_id)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock detector reads aiokafka's private state and compares unlike clocks; see `agents.health`."""
