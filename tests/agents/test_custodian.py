"""The life of a partition's state: claimed, restored or rebuilt, checkpointed, lost, given up."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from faust.types import TP, Message

from agents.custodian import RECALLS, Custodian
from agents.health import Health
from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.metrics import Metrics
from agents.partition_state import Outgoing, decode_note
from agents.publisher import Publisher
from agents.transports.batch import Batch, Section
from agents.transports.consumer import BatchConsumer, Position
from tables.checkpoint import NO_CHUNKS, Lease, Scope, Snapshot
from tables.errors import BrokerUnavailable, StoreUnavailable
from tables.join_policy import JoinPolicy
from tables.memory_store import MemoryStore
from tables.partials import Partial, decode_partial
from tests.agents.shop_lines import event_json
from tests.oracle import Click, Event, Impression, count

T0 = 1_777_629_600_000
NOW = T0 + 3_600_000
MINUTE = 60_000
TOPICS = JoinTopics("impressions", "clicks", "partials", "dead_letters")
SHOWN, CLICKED = TP("impressions", 3), TP("clicks", 3)
HOME = ("home", "v1")
BAD = b"{"


class Store(MemoryStore):
    """Does not answer so many times; `deaf` requests do not even arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = 0
        self.deaf = True

    async def claim(self, scope: Scope, now_ms: int) -> Snapshot:
        self._answer()
        return await super().claim(scope, now_ms)

    async def save(
        self,
        lease: Lease,
        head: bytes,
        *,
        append: Mapping[str, bytes] = NO_CHUNKS,
        drop: Collection[str] = (),
        number: int | None = None,
    ) -> None:
        if self.silent and not self.deaf:
            await super().save(copy.copy(lease), head, append=append, drop=drop, number=number)
        self._answer()
        await super().save(lease, head, append=append, drop=drop, number=number)

    def _answer(self) -> None:
        if self.silent:
            self.silent -= 1
            raise StoreUnavailable("store redis://h:6379/0 is unavailable")


class Kafka:
    """What outlives a worker: the records of partition 3, what was told, and what was committed."""

    def __init__(self, *events: Event | bytes) -> None:
        self.logs: dict[TP, list[bytes]] = {SHOWN: [], CLICKED: []}
        self.begin: dict[TP, int] = {SHOWN: 0, CLICKED: 0}
        self.told: list[Outgoing] = []
        self.committed: dict[TP, Position] = {}
        self.silent: Callable[[Outgoing], bool] = lambda _: False
        self.add(*events)

    def add(self, *events: Event | bytes) -> None:
        for event in events:
            bare = isinstance(event, bytes)
            self.logs[SHOWN if bare or isinstance(event, Impression) else CLICKED].append(
                event if isinstance(event, bytes) else event_json(event)
            )

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if self.silent(message):
                raise BrokerUnavailable(f"sending to {message.topic} failed")
            self.told.append(message)

    def partials(self) -> list[Partial]:
        return [decode_partial(message.value or b"") for message in self.told if message.topic == "partials"]

    def counts(self) -> dict[Any, tuple[int, int]]:
        """The last words on each window."""
        rows = [row for partial in self.partials() for row in partial.rows]
        return {((r.model_id, r.model_version), r.window_start): (r.impressions, r.clicks) for r in rows}

    def dead_letters(self) -> Counter[tuple[str, int]]:
        letters = [orjson.loads(message.value or b"") for message in self.told if message.topic == "dead_letters"]
        return Counter((letter["topic"], letter["offset"]) for letter in letters)


class Worker:
    """A custodian of the join, with as much of a consumer as it looks at."""

    def __init__(self, kafka: Kafka, store: MemoryStore, *, hash_key: bytes = bytes(16)) -> None:
        self.kafka = kafka
        self.metrics, self.health = Metrics(), Health()
        self.crashes: list[BaseException] = []
        self.pauses: list[float] = []
        self.held_partitions: set[TP] = {SHOWN, CLICKED}
        self.released: list[dict[TP, int]] = []
        self.positions: dict[TP, int] = {}
        self.acked: list[Message] = []
        self.stalled = False
        self.was_stalled = False
        self.holdings = 1
        self.recalls = self.cannot_recall = 0
        setting = JoinSetting(
            JoinPolicy(), TOPICS, hash_key, lambda: NOW, self.metrics, sources=lambda: 1, targets=lambda: 1
        )
        self.custodian = Custodian(
            "join",
            ("impressions", "clicks"),
            lambda partition: JoinState(partition, setting, clock_ms=0),
            consumer=lambda: cast(BatchConsumer, self),
            store=store,
            publisher=cast(Publisher, kafka),
            metrics=self.metrics,
            health=self.health,
            now_ms=lambda: NOW,
            rng=cast(random.Random, SimpleNamespace(uniform=self.uniform)),
            on_crash=self.crash,
            recall=self.recall,
        )

    # What the custodian asks of its surroundings.

    def uniform(self, least: float, most: float) -> float:
        """No time to wait: the longest pause is noted, and is none."""
        self.was_stalled |= self.stalled
        self.pauses.append(most)
        return 0.0

    async def crash(self, error: BaseException) -> None:
        self.crashes.append(error)

    async def recall(self, _: JoinState) -> None:
        self.recalls += 1
        if self.recalls <= self.cannot_recall:
            raise BrokerUnavailable("no broker answers")

    def incarnation(self, _: TP) -> int:
        return self.holdings

    def hold(self, partitions: Iterable[TP]) -> None:
        self.holdings += 1
        self.held_partitions.update(partitions)

    async def release(self, offsets: Mapping[TP, int]) -> None:
        self.released.append(dict(offsets))
        self.positions = dict(offsets)
        self.held_partitions.difference_update(offsets)

    async def committed_positions(self, _: Collection[TP]) -> dict[TP, Position]:
        return dict(self.kafka.committed)

    async def begin_offsets(self, _: Collection[TP]) -> dict[TP, int]:
        return self.kafka.begin

    def ack(self, message: Message) -> bool:
        self.acked.append(message)
        return True

    def will_commit(self, positions: Mapping[TP, Position]) -> None:
        self.kafka.committed.update(positions)

    # What a test does with it.

    async def own(self) -> None:
        """Be assigned the partition, and wait until it is restored."""
        self.custodian.assigned({SHOWN, CLICKED})
        await self.restored()

    async def restored(self) -> None:
        async with asyncio.timeout(30):
            while 3 not in self.custodian.held or self.health.restoring["join"]:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def message(self, most: int = 1_000) -> Message | None:
        """What has come since, at most so many records of each topic."""
        sections = []
        for tp in (CLICKED, SHOWN):
            begin = self.positions[tp]
            values = self.kafka.logs[tp][begin : begin + most]
            self.positions[tp] = end = begin + len(values)
            if values:
                sections.append(Section(tp.topic, range(begin, end), values, end))
        return cast(Message, SimpleNamespace(value=Batch(3, tuple(sections), self.holdings))) if sections else None

    async def work(self, most: int = 1_000) -> None:
        """Read all there is, with a checkpoint after each batch."""
        while not self.held_partitions and (message := self.message(most)) is not None:
            assert self.custodian.take(message) is not None
            await self.custodian.checkpoint_all()

    def counted(self, metric: str, *labels: str) -> float:
        value: float = getattr(self.metrics, metric).labels("join", *labels)._value.get()
        return value


def shop(minutes: int = 3) -> list[Event]:
    """A few users a minute, and clicks that come after them."""
    rng = random.Random(7)
    events: list[Event] = []
    for minute in range(minutes):
        for _ in range(10):
            user, item, at = (
                f"u{rng.randrange(9)}",
                f"i{rng.randrange(3)}",
                T0 + minute * MINUTE + rng.randrange(MINUTE),
            )
            events.append(Impression(user, item, at, HOME))
            if rng.random() < 0.4:
                events.append(Click(user, item, at + rng.randrange(MINUTE)))
    return events


# -- restoring


async def test_a_partition_that_nobody_had_is_read_from_its_beginning() -> None:
    kafka = Kafka(*shop())
    kafka.begin = {SHOWN: 4, CLICKED: 0}
    worker = Worker(kafka, Store())
    assert worker.health.restoring == {"join": set()}
    worker.custodian.assigned({SHOWN, CLICKED})
    assert worker.health.restoring == {"join": {3}}
    await worker.restored()
    assert worker.released == [{SHOWN: 4, CLICKED: 0}]
    assert worker.counted("restores", "fresh") == 1


async def test_what_is_checkpointed_is_acknowledged_told_and_committed() -> None:
    kafka = Kafka(*shop())
    worker = Worker(kafka, Store())
    await worker.own()
    message = worker.message()
    assert message is not None
    worker.custodian.take(message)
    assert (worker.acked, kafka.told, kafka.committed) == ([], [], {})

    await worker.custodian.checkpoint_all()

    assert worker.acked == [message]
    assert kafka.counts() == count(shop())
    assert {tp: position.offset for tp, position in kafka.committed.items()} == worker.positions
    note = decode_note(kafka.committed[SHOWN].note)
    assert note is not None
    assert (note.number, note.rebuild) == (1, {"impressions": 0, "clicks": 0})
    assert len(kafka.committed[SHOWN].note) < 400

    told = len(kafka.told)
    await worker.custodian.checkpoint_all()  # nothing has changed
    assert len(kafka.told) == told


async def test_the_next_owner_goes_on_from_the_checkpoint() -> None:
    kafka, store = Kafka(*shop(2)), Store()
    await (first := Worker(kafka, store)).own()
    await first.work()
    kafka.add(*shop(4)[len(shop(2)) :])

    await (second := Worker(kafka, store)).own()
    assert second.released == [first.positions]
    assert second.counted("restores", "checkpoint") == 1
    await second.work()
    assert kafka.counts() == count(shop(4))


async def test_what_a_dead_owner_could_not_tell_is_told_first() -> None:
    kafka, store = Kafka(*shop()), Store()
    await (first := Worker(kafka, store)).own()
    kafka.silent = lambda message: message.topic == "partials"
    message = first.message()
    assert message is not None
    first.custodian.take(message)
    working = asyncio.create_task(first.custodian.checkpoint_all())
    await asyncio.sleep(0.01)
    assert first.health.broker_error == "sending to partials failed"
    working.cancel()  # the worker dies with the checkpoint written and nothing told
    assert kafka.told == []
    assert kafka.committed == {}  # or nobody would tell it, had the store been lost as well

    kafka.silent = lambda _: False
    second = Worker(kafka, store)
    await second.own()
    assert kafka.counts() == count(shop())
    epochs = [partial.epoch for partial in kafka.partials()]
    await second.custodian.checkpoint_all()
    assert epochs == [partial.epoch for partial in kafka.partials()][: len(epochs)]  # the new owner speaks after it
    assert kafka.partials()[-1].epoch > epochs[-1]


async def test_dead_letters_are_out_before_the_checkpoint_that_goes_past_them() -> None:
    kafka, store = Kafka(BAD, *shop(), BAD), Store()
    await (first := Worker(kafka, store)).own()
    kafka.silent = lambda message: message.topic == "dead_letters"
    message = first.message()
    assert message is not None
    first.custodian.take(message)
    working = asyncio.create_task(first.custodian.checkpoint_all())
    await asyncio.sleep(0.01)
    working.cancel()
    kafka.silent = lambda _: False

    await (second := Worker(kafka, store)).own()
    assert second.released == [{SHOWN: 0, CLICKED: 0}]  # nothing had been written
    await second.work()
    assert kafka.dead_letters() == {("impressions", 0): 1, ("impressions", len(kafka.logs[SHOWN]) - 1): 1}


# -- rebuilding


def split_of(events: list[Event]) -> tuple[list[Event | bytes], list[Event | bytes]]:
    """Two halves, each with bad records in it."""
    half = len(events) // 2
    return [BAD, *events[:half], BAD], [BAD, *events[half:]]


async def test_a_lost_store_is_rebuilt_from_the_note_in_kafka() -> None:
    before, after = split_of(shop(6))
    kafka = Kafka(*before)
    await (first := Worker(kafka, Store())).own()
    await first.work(most=7)
    letters = kafka.dead_letters()
    assert len(letters) == 2
    read_to = dict(first.positions)
    kafka.add(*after)

    worker = Worker(kafka, Store())
    await worker.own()
    assert worker.counted("restores", "rebuilt") == 1
    assert worker.released == [{SHOWN: 1, CLICKED: 0}]  # the first one was bad, and not needed
    held = worker.custodian.held[3]
    saved = held.lease.number
    told = len(kafka.told)
    while worker.positions[SHOWN] < read_to[SHOWN] - 5:
        await worker.custodian.checkpoint_all()
        assert (held.lease.number, len(kafka.told)) == (saved, told)  # of half a state nothing is stored or told
        assert worker.custodian.take(cast(Message, worker.message(most=2))) is held
    await worker.work(most=3)

    assert kafka.counts() == count(shop(6))
    assert set(kafka.dead_letters()) > set(letters)
    assert set(kafka.dead_letters().values()) == {1}
    assert held.lease.number > decode_note(kafka.committed[SHOWN].note).number - 2  # type: ignore[union-attr]


@pytest.mark.parametrize(("failures", "asked"), [(0, 1), (2, 3), (99, RECALLS)])
async def test_what_was_lost_is_recalled_where_that_is_possible_and_only_then(failures: int, asked: int) -> None:
    kafka, store = Kafka(*shop()), Store()
    await (first := Worker(kafka, store)).own()
    await first.work()
    await (second := Worker(kafka, store)).own()
    assert first.recalls == second.recalls == 0
    third = Worker(kafka, Store())
    third.cannot_recall = failures
    await third.own()
    assert third.recalls == asked
    kafka.add(Impression("new", "i", T0 + 3 * MINUTE, HOME))
    await third.work()
    assert kafka.counts() == count([*shop(), Impression("new", "i", T0 + 3 * MINUTE, HOME)])


async def test_what_was_late_is_late_again_when_it_is_read_again() -> None:
    later = T0 + 40 * MINUTE
    kafka = Kafka(*shop(), Impression("u", "i", later, HOME))
    kafka.add(*(Click("u", f"i{n}", later - 5 * MINUTE) for n in range(4)), Click("u", "i", later))
    await (first := Worker(kafka, Store())).own()
    await first.work()
    kafka.add(Impression("late", "i", later - 13 * MINUTE, HOME))
    await first.work()
    late = {("impressions", len(kafka.logs[SHOWN]) - 1): 1}
    assert kafka.dead_letters() == late
    counts = kafka.counts()

    # Now it is read before the click that had moved the watermark.
    await (worker := Worker(kafka, Store())).own()
    kafka.add(Click("u", "i", later + 1))
    await worker.work(most=2)
    assert worker.custodian.held[3].state.table.first_open == later - 11 * MINUTE
    assert kafka.counts() == counts
    assert kafka.dead_letters() == late


async def test_a_checkpoint_of_another_hash_key_is_rebuilt_and_replaced() -> None:
    kafka, store = Kafka(*shop(2)), Store()
    await (first := Worker(kafka, store)).own()
    await first.work()
    worker = Worker(kafka, store, hash_key=b"another key 1234")
    await worker.own()
    assert worker.counted("restores", "rebuilt") == 1
    kafka.add(*shop(4)[len(shop(2)) :])
    await worker.work()
    assert kafka.counts() == count(shop(4))

    await (third := Worker(kafka, store, hash_key=b"another key 1234")).own()
    assert third.counted("restores", "checkpoint") == 1
    assert third.custodian.held[3].state.table.live_impressions == len(
        {(e.user, e.item, e.time) for e in shop(4) if isinstance(e, Impression)}
    )


@pytest.mark.parametrize("damage", ["head", "chunk"])
async def test_a_damaged_checkpoint_is_rebuilt(damage: str) -> None:
    kafka, store = Kafka(*shop()), Store()
    await (first := Worker(kafka, store)).own()
    await first.work()
    stored = store._scopes[Scope("join", 3)]
    if damage == "head":
        stored.head = b"\xff\xff"
    else:
        del next(iter(stored.chunks.values()))[-5:]

    await (worker := Worker(kafka, store)).own()
    assert worker.counted("restores", "rebuilt") == 1
    kafka.add(Impression("new", "i", T0 + 3 * MINUTE, HOME))
    await worker.work()
    assert kafka.counts() == count([*shop(), Impression("new", "i", T0 + 3 * MINUTE, HOME)])


async def test_what_the_broker_has_deleted_cannot_be_read_again() -> None:
    kafka = Kafka(*shop())
    await (first := Worker(kafka, Store())).own()
    await first.work()
    kafka.begin = {SHOWN: 12, CLICKED: 2}
    await (worker := Worker(kafka, Store())).own()
    assert worker.released == [{SHOWN: 12, CLICKED: 2}]


# -- losing a partition


async def test_a_fenced_owner_waits_before_it_claims_again() -> None:
    kafka, store = Kafka(*shop(2)), Store()
    await (zombie := Worker(kafka, store)).own()
    await zombie.work()
    await (owner := Worker(kafka, store)).own()
    kafka.add(*shop(4)[len(shop(2)) :])
    await owner.work()
    told = len(kafka.told)

    message = zombie.message()
    assert message is not None
    zombie.custodian.take(message)
    zombie.pauses.clear()
    await zombie.custodian.checkpoint_all()

    assert zombie.counted("checkpoint_failures", "fenced") == 1
    assert zombie.pauses == [3.0]
    assert (zombie.holdings, zombie.acked[-1] is message) == (2, False)
    await zombie.restored()  # nobody took the partition away from it: it was an owner after all
    assert {partial.epoch for partial in kafka.partials()[told:]} == {owner.custodian.held[3].lease.epoch}
    assert zombie.released[-1] == owner.positions
    assert zombie.custodian.held[3].lease.epoch > owner.custodian.held[3].lease.epoch


async def test_a_store_that_went_back_in_time_is_gone_on_from() -> None:
    kafka, store = Kafka(*shop(2)), Store()
    await (worker := Worker(kafka, store)).own()
    await worker.work()
    older = copy.deepcopy(store._scopes)
    read_to = dict(worker.positions)
    kafka.add(*shop(3)[len(shop(2)) :])
    await worker.work()
    store._scopes = older
    kafka.add(*shop(4)[len(shop(3)) :])

    message = worker.message()
    assert message is not None
    worker.custodian.take(message)
    await worker.custodian.checkpoint_all()
    assert worker.counted("checkpoint_failures", "fell_behind") == 1
    await worker.restored()
    assert worker.released[-1] == read_to
    assert worker.custodian.take(message) is None  # of the state that was thrown away
    await worker.work()
    assert kafka.counts() == count(shop(4))


async def test_what_is_revoked_is_forgotten() -> None:
    kafka = Kafka(*shop())
    await (worker := Worker(kafka, Store())).own()
    message = worker.message()
    assert message is not None
    worker.custodian.take(message)
    held = worker.custodian.held[3]
    worker.metrics.watermark_lag.labels("3").set(1)

    worker.custodian.revoked()

    assert worker.custodian.take(message) is None
    await worker.custodian.checkpoint(held)
    assert (kafka.told, worker.acked, kafka.committed) == ([], [], {})
    assert b'partition="3"' not in worker.metrics.exposition()


async def test_a_partition_is_not_restored_half() -> None:
    worker = Worker(Kafka(*shop()), Store())
    worker.custodian.assigned({SHOWN})
    await asyncio.sleep(0.01)
    assert (worker.custodian.held, worker.released) == ({}, [])


# -- who does not answer


@pytest.mark.parametrize("deaf", [True, False])
async def test_while_the_store_is_away_consuming_stops(deaf: bool) -> None:
    kafka, store = Kafka(*shop()), Store()
    await (worker := Worker(kafka, store)).own()
    message = worker.message()
    assert message is not None
    worker.custodian.take(message)
    store.silent, store.deaf = 5, deaf
    checkpoint = asyncio.create_task(worker.custodian.checkpoint_all())
    while not worker.stalled:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert worker.health.store_error == "store redis://h:6379/0 is unavailable"
    assert worker.acked == []

    await checkpoint
    health = worker.health
    assert [worker.stalled, health.store_error] == [False, None]
    assert worker.counted("checkpoint_failures", "unavailable") == 5
    assert len(worker.pauses) == 5
    assert all(earlier <= later for earlier, later in zip(worker.pauses, worker.pauses[1:], strict=False))
    assert worker.acked == [message]
    await (following := Worker(kafka, store)).own()
    kafka.add(Click("nobody", "i", T0 + 5 * MINUTE))
    await following.work()
    assert kafka.counts() == count(shop())  # done once, whether or not the first requests had arrived


async def test_a_store_that_is_away_at_the_assignment_is_waited_for() -> None:
    kafka, store = Kafka(*shop()), Store()
    store.silent = 3
    await (worker := Worker(kafka, store)).own()
    assert worker.was_stalled
    assert not worker.stalled
    assert worker.crashes == []
    await worker.work()
    assert kafka.counts() == count(shop())


@pytest.mark.parametrize("during", ["restore", "checkpoint"])
async def test_a_partition_that_is_revoked_while_the_store_is_away_is_given_up(during: str) -> None:
    kafka, store = Kafka(*shop()), Store()
    worker = Worker(kafka, store)
    if during == "checkpoint":
        await worker.own()
        message = worker.message()
        assert message is not None
        worker.custodian.take(message)
        store.silent = 10**9
        checkpoint = asyncio.create_task(worker.custodian.checkpoint_all())
    else:
        store.silent = 10**9
        worker.custodian.assigned({SHOWN, CLICKED})
    while not worker.stalled:  # noqa: ASYNC110
        await asyncio.sleep(0)
    released = list(worker.released)
    worker.custodian.revoked()
    if during == "checkpoint":
        await asyncio.wait_for(checkpoint, 5)
    store.silent = 0  # it is back, too late
    for _ in range(50):
        await asyncio.sleep(0)
    assert (worker.custodian.held, worker.released, worker.crashes) == ({}, released, [])
    assert worker.health.restoring["join"] == set()
    assert worker.acked == []


async def test_what_cannot_be_restored_ends_the_worker() -> None:
    class Broken(Store):
        async def claim(self, scope: Scope, now_ms: int) -> Snapshot:
            raise ZeroDivisionError("as an example")

    worker = Worker(Kafka(), Broken())
    worker.custodian.assigned({SHOWN, CLICKED})
    while not worker.crashes:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert isinstance(worker.crashes[0], ZeroDivisionError)


def test_a_note_of_somebody_else_is_no_note() -> None:
    for text in ("", "{", "[]", '{"number": 1}', json.dumps({"other": 1})):
        assert decode_note(text) is None
