"""Any sequence of claims, saves, lost replies, zombies and lost data: no owner is deceived.

A save that is accepted must leave the store with exactly what its owner believes to be there. A save may be
refused only if there is a newer claim or the store is not where its owner left it, and then changes nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from redis import Redis

from deploy.redis_server import RedisServer
from tables.checkpoint import Lease, Scope, Snapshot
from tables.errors import FellBehind, Fenced, StoreUnavailable
from tables.redis_store import RedisStore
from tables.redis_url import parse_store_url

T = TypeVar("T")

NAMES = st.sampled_from(["10:00", "10:01", "10:02"])
ROWS = st.dictionaries(NAMES, st.binary(max_size=3), max_size=3)
DROPS = st.sets(NAMES, max_size=2)
Copy = dict[bytes, bytes]


class LossyStore(RedisStore):
    """A store whose requests arrive, and whose answers get lost when told so."""

    loses_replies = False

    async def _run(self, *args: Any) -> Any:
        answer = await super()._run(*args)
        if self.loses_replies:
            raise ConnectionError("reset by peer")
        return answer


@dataclass
class Owner:
    """A worker that holds a lease, and what it believes to be stored under it."""

    lease: Lease
    believes: dict[str, bytes]
    saved: bool
    """Whether there is a checkpoint, as far as it knows."""
    unanswered: tuple[bytes, dict[str, bytes], set[str]] | None = None
    """Arguments of a save whose reply got lost: it must be repeated before anything else."""

    @property
    def has_written_nothing(self) -> bool:
        return not self.saved and self.unanswered is None


@dataclass
class Truth:
    """What was really stored, at one time: for comparison, and for going back to."""

    keys: Copy = field(default_factory=dict)
    epoch: int = 0
    by: tuple[int, int] | None = None
    """Epoch and number of the last checkpoint; None: there is none."""


def after(believes: dict[str, bytes], append: dict[str, bytes], drop: set[str]) -> dict[str, bytes]:
    kept = {name: rows for name, rows in believes.items() if name not in drop}
    return kept | {name: kept.get(name, b"") + rows for name, rows in append.items() if rows}


class Shop(RuleBasedStateMachine):
    """One scope, the workers that have owned it, and a Redis that loses data now and then."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis: Redis = self.server.client()
        self.namespace = uuid.uuid4().hex[:8]
        self.scope = Scope("join", 0)
        # Two workers: a scope may move, or come back to the one that had it.
        self.stores = [LossyStore(parse_store_url(self.server.url), self.namespace) for _ in range(2)]
        for store in self.stores:
            self.wait(store.open())
        self.owners: list[tuple[LossyStore, Owner]] = []
        self.last_claims: dict[LossyStore, int] = {}
        self.clock = 1_000
        self.heads = 0
        self.truth = Truth()
        self.history = [self.truth]

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        for store in self.stores:
            self.wait(store.close())
        self.runner.close()
        self.put_back({})
        self.redis.close()

    @rule(worker=st.integers(0, 1), passed_ms=st.integers(1, 5))
    def claim(self, worker: int, passed_ms: int) -> None:
        self.clock += passed_ms
        store = self.stores[worker]
        found: Snapshot = self.wait(store.claim(self.scope, self.clock))

        assert found.complete
        assert (found.head is None) == (self.truth.by is None)
        assert found.lease.epoch == max(self.truth.epoch + 1, self.clock)
        assert found.lease.number == (self.truth.by[1] if self.truth.by else 0)
        self.last_claims[store] = found.lease.epoch
        self.owners.append((store, Owner(found.lease, dict(found.chunks), saved=found.head is not None)))
        self.remember(found.lease.epoch, self.truth.by)

    @precondition(lambda self: self.owners)
    @rule(append=ROWS, drop=DROPS)
    def save(self, append: dict[str, bytes], drop: set[str]) -> None:
        self.attempt(self.owners[-1], append, drop, reply_lost=False)

    @precondition(lambda self: self.owners)
    @rule(append=ROWS, drop=DROPS)
    def save_and_lose_the_reply(self, append: dict[str, bytes], drop: set[str]) -> None:
        self.attempt(self.owners[-1], append, drop, reply_lost=True)

    @precondition(lambda self: len(self.owners) > 1)
    @rule(which=st.integers(0, 9), append=ROWS, drop=DROPS)
    def zombie_saves(self, which: int, append: dict[str, bytes], drop: set[str]) -> None:
        self.attempt(self.owners[which % (len(self.owners) - 1)], append, drop, reply_lost=False)

    def attempt(
        self, who: tuple[LossyStore, Owner], append: dict[str, bytes], drop: set[str], *, reply_lost: bool
    ) -> None:
        store, owner = who
        if owner.unanswered is None:
            self.heads += 1
            arguments = (b"%d" % self.heads, append, drop)
        else:
            arguments = owner.unanswered
        head, append, drop = arguments
        number = owner.lease.number + 1
        is_repeat = owner.unanswered is not None and self.truth.by == (owner.lease.epoch, number)
        may_write = self.truth.epoch == owner.lease.epoch and (is_repeat or self.holds_what(owner))

        store.loses_replies = reply_lost
        try:
            self.wait(store.save(owner.lease, head, append=append, drop=drop))
        except StoreUnavailable:
            assert reply_lost
            owner.unanswered = arguments
            if self.dump() != self.truth.keys:
                assert may_write
                self.remember(owner.lease.epoch, (owner.lease.epoch, number))
            return
        except (Fenced, FellBehind) as refusal:
            # A store object remembers only its last claim of a scope; an earlier one may be refused needlessly.
            assert not (may_write and owner.lease.epoch == self.last_claims[store])
            assert isinstance(refusal, Fenced) == (self.truth.epoch > owner.lease.epoch)
            assert self.dump() == self.truth.keys
            self.owners.remove(who)
            return
        finally:
            store.loses_replies = False

        assert may_write
        assert owner.lease.number == number
        self.remember(owner.lease.epoch, (owner.lease.epoch, number))
        owner.believes, owner.saved = after(owner.believes, append, drop), True
        owner.unanswered = None
        assert self.stored_chunks() == owner.believes

    @rule(ago=st.integers(1, 6) | st.just(1_000))
    def go_back_in_time(self, ago: int) -> None:
        """A replica that lagged is promoted, a backup restored, or (1,000 steps ago) all is lost."""
        truth = self.history[max(0, len(self.history) - 1 - ago)]
        self.put_back(truth.keys)
        self.truth = truth
        self.history.append(truth)

    @precondition(lambda self: self.owners and self.owners[-1][1].has_written_nothing)
    @rule(number=st.integers(1, 50))
    def rebuild_with_old_numbering(self, number: int) -> None:
        self.owners[-1][1].lease.number = number

    def holds_what(self, owner: Owner) -> bool:
        """Whether the store is where this owner left it."""
        if not owner.saved:
            return self.truth.by is None
        return (
            self.truth.by is not None
            and self.truth.by[1] == owner.lease.number
            and self.stored_chunks() == owner.believes
        )

    def remember(self, epoch: int, by: tuple[int, int] | None) -> None:
        self.truth = Truth(self.dump(), epoch, by)
        self.history.append(self.truth)

    def keys(self) -> list[bytes]:
        return sorted(self.redis.scan_iter(match=f"tidemark:{{{self.namespace}:*", count=1000))

    def dump(self) -> Copy:
        return {key: self.redis.dump(key) for key in self.keys()}  # type: ignore[misc]

    def put_back(self, keys: Copy) -> None:
        for key in self.keys():
            self.redis.delete(key)
        for key, dump in keys.items():
            self.redis.restore(key, 60_000, dump)

    def stored_chunks(self) -> dict[str, bytes]:
        return {
            key.decode().partition(":chunk:")[2]: b"".join(self.redis.lrange(key, 0, -1))  # type: ignore[arg-type]
            for key in self.keys()
            if b":chunk:" in key
        }


def test_no_owner_is_deceived(redis_server: RedisServer) -> None:
    machine = type("ShopOnThisServer", (Shop,), {"server": redis_server})
    run_state_machine_as_test(machine, settings=settings(max_examples=200, stateful_step_count=25))
