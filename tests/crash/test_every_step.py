"""A worker dies or hangs at any single step that it takes; the next one must come to the same final rows.

Every fiftieth step in an ordinary run, all of them with `-m slow`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import Callable

import pytest
from faust.types import TP

from tables.memory_store import MemoryStore
from tests.crash.one_step import PARTITIONS, Broker, Died, SteppedWorker
from tests.crash.traffic import Traffic, as_line, shop_reference, traffic_of
from tests.oracle import MINUTE, Click, Event, Impression, Inference

# Enough to read all of the traffic, and more than once.
ROUNDS = 30

every = pytest.mark.parametrize("every", [50, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
seeds = pytest.mark.parametrize("seed", range(3))
T0 = 1_777_629_600_000

After = Callable[[MemoryStore, MemoryStore], MemoryStore]
"""(the store as the dead worker left it, as it was some time before) -> what its successor finds."""


def traffic_of_seed(seed: int) -> Traffic:
    """Forty minutes with an event every half minute: windows become final all along."""
    rng = random.Random(seed)
    events: list[Event] = []
    inferences: list[Inference] = []
    for n in range(80):
        user, at = f"u{rng.randrange(4)}", T0 + n * MINUTE // 2 + rng.randrange(MINUTE // 2)
        model = rng.choice([("recommender-home", "v1"), ("recommender-home", "v2"), ("search", "")])
        features = rng.choice(["null", '{"age": 30, "gender": "F"}', '{"age": 70, "new_user": true}'])
        if rng.random() < 0.6:
            events.append(Impression(user, "i", at, model, features))
        else:
            events.append(Click(user, "i", at + rng.randrange(MINUTE)))
        if n % 2:
            status, prediction = rng.choice([None, "error"]), rng.choice([None, 0.05, 0.5])
            inferences.append(Inference(at, model, rng.choice([None, 20.0]), status, prediction, features))
    lines = [as_line(event, int(event.user[1:]) % PARTITIONS, event.time) for event in events]
    lines += [as_line(inference, n % PARTITIONS, inference.time) for n, inference in enumerate(inferences)]
    return traffic_of(lines, events, inferences, references=(shop_reference(),))


def broker_with(traffic: Traffic) -> Broker:
    broker = Broker()
    closing = [line for line in traffic.closing() if line.partition < PARTITIONS]
    for line in [*traffic.lines, *closing]:
        broker.logs[TP(line.topic, line.partition)].append(line.value or b"")
    return broker


async def steps_of(seed: int, traffic: Traffic) -> int:
    """How many steps an undisturbed life takes; it must be right itself."""
    broker = broker_with(traffic)
    worker = SteppedWorker(broker, MemoryStore(), random.Random(seed))
    await worker.live(ROUNDS)
    assert broker.outcome().faults(traffic) == []
    assert broker.outcome().repeated == 0
    return worker.steps


def kept(store: MemoryStore, _older: MemoryStore) -> MemoryStore:
    return store


def emptied(_store: MemoryStore, _older: MemoryStore) -> MemoryStore:
    return MemoryStore()


def set_back(_store: MemoryStore, older: MemoryStore) -> MemoryStore:
    return older


async def die_at(step: int, seed: int, broker: Broker, store: MemoryStore) -> None:
    with pytest.raises(Died):
        await SteppedWorker(broker, store, random.Random(seed), die_at=step).live(ROUNDS)


@pytest.mark.parametrize("after", [kept, emptied, set_back])
@seeds
@every
async def test_death(every: int, seed: int, after: After) -> None:
    traffic = traffic_of_seed(seed)
    for step in range(seed, await steps_of(seed, traffic), every):
        broker, store = broker_with(traffic), MemoryStore()
        older = MemoryStore()
        if after is set_back:
            # A first life up to some step before: what it has left is the backup.
            await die_at(step * 2 // 3, seed, broker, older)
            store = copy.deepcopy(older)
            life = SteppedWorker(broker, store, random.Random(seed + 1), die_at=step // 3 + 1)
            with contextlib.suppress(Died):
                await life.live(ROUNDS)
        else:
            await die_at(step, seed, broker, store)
        await SteppedWorker(broker, after(store, older), random.Random(step)).live(ROUNDS)
        # Without the store the horizon begins anew.
        assert broker.outcome().faults(traffic, horizon_lost=after is emptied) == [], f"after death at step {step}"


@pytest.mark.parametrize("after", [kept, emptied])
@seeds
@every
async def test_death_once_more_while_the_first_is_made_up_for(every: int, seed: int, after: After) -> None:
    traffic = traffic_of_seed(seed)
    steps = await steps_of(seed, traffic)
    rng = random.Random(seed)
    for _ in range(250 // every):
        first, second = rng.randrange(steps), rng.randrange(steps // 2)
        broker, store = broker_with(traffic), MemoryStore()
        await die_at(first, seed, broker, store)
        store = after(store, store)
        try:
            await SteppedWorker(broker, store, random.Random(first), die_at=second).live(ROUNDS)
        except Died:
            await SteppedWorker(broker, store, random.Random(second)).live(ROUNDS)
        faults = broker.outcome().faults(traffic, horizon_lost=after is emptied)
        assert faults == [], f"after deaths at steps {first} and {second}"


@seeds
@every
async def test_a_worker_that_hangs_and_wakes_up_when_its_partitions_have_moved(every: int, seed: int) -> None:
    traffic = traffic_of_seed(seed)
    for step in range(seed, await steps_of(seed, traffic), every):
        broker, store = broker_with(traffic), MemoryStore()
        zombie = SteppedWorker(broker, store, random.Random(seed), hang_at=step)
        hung = asyncio.create_task(zombie.live(ROUNDS))
        await zombie.hanging.wait()

        successor = SteppedWorker(broker, store, random.Random(step))
        taking_over = asyncio.create_task(successor.live(ROUNDS))
        moment = random.Random(step).randrange(40)
        while successor.steps < moment and not taking_over.done():  # noqa: ASYNC110 - both in one event loop
            await asyncio.sleep(0)
        zombie.wake.set()
        for _ in range(20):
            await asyncio.sleep(0)
        zombie.revoke()
        await taking_over
        hung.cancel()
        await asyncio.gather(hung, return_exceptions=True)
        assert broker.outcome().faults(traffic) == [], f"woken up in step {step}"


async def test_a_successor_whose_clock_is_behind_and_whose_store_is_empty() -> None:
    traffic = traffic_of_seed(0)
    broker = broker_with(traffic)
    broker.clock_ms = 1_000
    first = SteppedWorker(broker, MemoryStore(), random.Random(0))
    await first.live(5)
    first.commit()
    assert broker.outcome().missing(traffic)

    broker.clock_ms = 0
    await SteppedWorker(broker, MemoryStore(), random.Random(1)).live(ROUNDS)
    assert broker.outcome().faults(traffic, horizon_lost=True) == []
