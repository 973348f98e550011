"""A checkpoint store inside the process: for replays, where a crash means to start over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tables.checkpoint import NO_CHUNKS, Lease, Scope, Snapshot
from tables.errors import FellBehind, Fenced


@dataclass(slots=True)
class _Stored:
    epoch: int = 0
    number: int = 0
    head: bytes | None = None
    chunks: dict[str, bytearray] = field(default_factory=dict)


class MemoryStore:
    """See CheckpointStore."""

    def __init__(self) -> None:
        self._scopes: defaultdict[Scope, _Stored] = defaultdict(_Stored)
        self._hints: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to disconnect from."""

    async def ping(self) -> None:
        """Always there."""

    async def claim(self, scope: Scope, now_ms: int) -> Snapshot:
        stored = self._scopes[scope]
        stored.epoch = max(stored.epoch + 1, now_ms)
        chunks = {name: bytes(data) for name, data in stored.chunks.items()}
        return Snapshot(Lease(scope, stored.epoch, stored.number), stored.head, chunks, complete=True)

    async def save(
        self,
        lease: Lease,
        head: bytes,
        *,
        append: Mapping[str, bytes] = NO_CHUNKS,
        drop: Collection[str] = (),
        number: int | None = None,
    ) -> None:
        new_number = lease.number + 1 if number is None else number
        if new_number <= lease.number:
            raise ValueError(f"checkpoint {new_number} cannot follow checkpoint {lease.number}")
        stored = self._scopes[lease.scope]
        if stored.epoch > lease.epoch:
            raise Fenced(f"{lease.scope.agent}/{lease.scope.partition} was claimed again")
        if (stored.epoch, stored.number, stored.head) == (lease.epoch, new_number, head):
            lease.number = new_number
            return
        if stored.epoch < lease.epoch or (stored.head is not None and stored.number != lease.number):
            raise FellBehind(f"{lease.scope.agent}/{lease.scope.partition} does not hold checkpoint {lease.number}")
        for name in drop:
            stored.chunks.pop(name, None)
        for name, data in append.items():
            if data:
                stored.chunks.setdefault(name, bytearray()).extend(data)
        stored.head = head
        stored.number = lease.number = new_number

    async def peek(self, scope: Scope) -> bytes | None:
        return self._scopes[scope].head if scope in self._scopes else None

    async def hint(self, name: str, field: str, value: bytes) -> None:
        self._hints[name][field] = value

    async def hints(self, name: str) -> dict[str, bytes]:
        return dict(self._hints[name])
