"""The checkpoint store in Redis: one server, Sentinel or Cluster; version 6.2 or later.

Keys, with the hash tag that keeps a scope in one slot of a Cluster:

tidemark:{<namespace>:<agent>:<partition>}:head           hash: epoch, number, head, length of every chunk
tidemark:{<namespace>:<agent>:<partition>}:chunk:<name>   list: the pieces appended, in order
tidemark:{<namespace>:hints:<name>}                       hash: field -> value

Chunks are lists because a list takes what its elements take, while a string that grows by APPEND is given up
to twice its size. Every key expires by itself when its scope is no longer written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tables.checkpoint import NO_CHUNKS, Lease, Scope, Snapshot
from tables.errors import ConfigError, FellBehind, Fenced
from tables.redis_connection import RedisConnection
from tables.redis_scripts import CLAIM, HINT, SAVE
from tables.redis_url import OPERATION_TIMEOUT_S, StoreUrl

DEFAULT_TTL_S = 24 * 3600.0

PIECE_BYTES = 64 * 1024 - 64
"""Largest element of a chunk's list; with its node's header it fills a size class of Redis's allocator."""
SLICE_PIECES = 64
SLICES_PER_TRIP = 8
"""A claim reads chunks in round trips of at most so many slices of so many pieces: 32 MiB."""

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(slots=True)
class _Held:
    """What the store object knows of a claim that it made, beside what the lease says."""

    epoch: int
    found_nothing: bool = False
    """Until the first save: there was no checkpoint at the claim."""
    chunks: set[str] = field(default_factory=set)
    refresh_at: float = float("inf")
    """When, by the clock, all chunks must be given their time to live again."""


class RedisStore:
    """A CheckpointStore in Redis. Leases are good only for the store object that they were claimed from.

    namespace: separates deployments that share one Redis; letters, digits, `_`, `.` and `-`, or ConfigError.
    ttl_s: how long a scope is kept that nobody writes. operation_timeout_s: how long an answer may take
    before it counts as lost. clock: monotonic seconds.
    """

    def __init__(
        self,
        url: StoreUrl,
        namespace: str,
        *,
        ttl_s: float = DEFAULT_TTL_S,
        operation_timeout_s: float = OPERATION_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigError(f"store namespace {namespace!r}: expected letters, digits, '_', '.' and '-'")
        self._connection = RedisConnection(url, operation_timeout_s=operation_timeout_s)
        self._namespace = namespace
        self._ttl_ms = round(ttl_s * 1000)
        self._refresh_s = ttl_s / 4
        self._clock = clock
        self._held: dict[Scope, _Held] = {}

    async def open(self) -> None:
        """Connect. Raises StoreUnavailable, naming the URL without its password, if Redis does not answer."""
        await self._connection.open()

    async def close(self) -> None:
        """Disconnect; the store can be opened again."""
        await self._connection.close()

    @property
    def connection(self) -> RedisConnection:
        """Shared with whoever else keeps something there."""
        return self._connection

    async def ping(self) -> None:
        """Return if Redis answers; else raise StoreUnavailable."""
        await self._connection.ping()

    async def claim(self, scope: Scope, now_ms: int) -> Snapshot:
        """Become the owner of a scope, and load its last checkpoint; see CheckpointStore.claim."""
        with self._connection.answering():
            answer = await self._run(CLAIM, [self._head_key(scope)], [now_ms, self._ttl_ms])
            stored = dict(zip(answer[::2], answer[1::2], strict=True))
            lengths = {
                name.removeprefix(b"chunk:").decode(): int(length)
                for name, length in stored.items()
                if name.startswith(b"chunk:")
            }
            chunks = await self._load(scope, lengths)
        lease = Lease(scope, epoch=int(stored[b"epoch"]), number=int(stored.get(b"number", 0)))
        self._held[scope] = _Held(
            lease.epoch,
            found_nothing=b"number" not in stored,
            chunks=set(lengths),
            refresh_at=self._clock() + self._refresh_s,
        )
        complete = all(len(chunks[name]) == length for name, length in lengths.items())
        return Snapshot(lease, stored.get(b"head"), chunks, complete)

    async def save(
        self,
        lease: Lease,
        head: bytes,
        *,
        append: Mapping[str, bytes] = NO_CHUNKS,
        drop: Collection[str] = (),
        number: int | None = None,
    ) -> None:
        """Write the next checkpoint in one atomic step; see CheckpointStore.save."""
        new_number = lease.number + 1 if number is None else number
        if new_number <= lease.number:
            raise ValueError(f"checkpoint {new_number} cannot follow checkpoint {lease.number}")
        held = self._held.get(lease.scope)
        if held is None or held.epoch != lease.epoch:
            held = _Held(lease.epoch)
        dropped = set(drop)
        appended = {name: data for name, data in append.items() if data}
        now = self._clock()
        kept = held.chunks - dropped - appended.keys() if now >= held.refresh_at else set()

        # A lease that has not saved replaces nothing; its number may have been set for a rebuild.
        first = held.found_nothing or lease.number == 0
        expected = "" if first else lease.number
        args: list[Any] = [lease.epoch, expected, new_number, head, self._ttl_ms, len(dropped), len(appended)]
        for data in appended.values():
            pieces = _pieces(data)
            args += [len(pieces), *pieces]
        chunk_keys = [self._chunk_key(lease.scope, name) for name in (*dropped, *appended, *kept)]
        with self._connection.answering():
            answer = await self._run(SAVE, [self._head_key(lease.scope), *chunk_keys], args)

        _check(lease, new_number, [part.decode() for part in answer])
        lease.number = new_number
        held.found_nothing = False
        held.chunks = held.chunks - dropped | appended.keys()
        if now >= held.refresh_at:
            held.refresh_at = now + self._refresh_s

    async def peek(self, scope: Scope) -> bytes | None:
        """The head of the last checkpoint of a scope, whoever owns it; None: there is none."""
        with self._connection.answering():
            head: bytes | None = await self._redis.hget(self._head_key(scope), "head")
        return head

    async def hint(self, name: str, field: str, value: bytes) -> None:
        """Set one field of a small table shared by all workers; see CheckpointStore.hint."""
        with self._connection.answering():
            await self._run(HINT, [self._hints_key(name)], [field, value, self._ttl_ms])

    async def hints(self, name: str) -> dict[str, bytes]:
        """All fields of a shared table; empty if there is none."""
        with self._connection.answering():
            answer: dict[bytes, bytes] = await self._redis.hgetall(self._hints_key(name))
        return {field.decode(): value for field, value in answer.items()}

    async def _load(self, scope: Scope, lengths: Mapping[str, int]) -> dict[str, bytes]:
        keys = {name: self._chunk_key(scope, name) for name in lengths}
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys.values():
                pipe.pexpire(key, self._ttl_ms)
                pipe.llen(key)
            counts = (await pipe.execute())[1::2] if keys else []
        slices = [
            (name, start) for name, count in zip(keys, counts, strict=True) for start in range(0, count, SLICE_PIECES)
        ]
        pieces: dict[str, list[bytes]] = {name: [] for name in keys}
        for at in range(0, len(slices), SLICES_PER_TRIP):
            trip = slices[at : at + SLICES_PER_TRIP]
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, start in trip:
                    pipe.lrange(keys[name], start, start + SLICE_PIECES - 1)
                for (name, _), found in zip(trip, await pipe.execute(), strict=True):
                    pieces[name] += found
        # Each chunk's pieces are let go once they are joined, or the largest state would be held twice.
        return {name: b"".join(pieces.pop(name)) for name in keys}

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self._connection.run(script, keys, args)

    @property
    def _redis(self) -> Any:
        return self._connection.client

    def _head_key(self, scope: Scope) -> str:
        return f"tidemark:{{{self._namespace}:{scope.agent}:{scope.partition}}}:head"

    def _chunk_key(self, scope: Scope, name: str) -> str:
        return f"tidemark:{{{self._namespace}:{scope.agent}:{scope.partition}}}:chunk:{name}"

    def _hints_key(self, name: str) -> str:
        return f"tidemark:{{{self._namespace}:hints:{name}}}"


def _pieces(data: bytes) -> list[bytes]:
    return [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]


def _check(lease: Lease, number: int, answer: Sequence[str]) -> None:
    outcome, epoch, stored, chunk = answer
    what = f"checkpoint {number} of {lease.scope.agent}/{lease.scope.partition}"
    match outcome:
        case "saved" | "repeated":
            return
        case "fenced":
            raise Fenced(f"{what}: epoch {lease.epoch} was followed by epoch {epoch}")
        case "lost":
            raise FellBehind(f"{what}: the store has lost {chunk}")
        case "behind":
            found = f"checkpoint {stored or 0} of epoch {epoch}" if epoch else "nothing"
            raise FellBehind(f"{what}, epoch {lease.epoch}: the store holds {found}")
        case _:
            raise AssertionError(answer)
