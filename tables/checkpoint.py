"""What a checkpoint is, and what every store of checkpoints promises.

An owner (one agent's hold on one partition) claims its scope, gets back what was stored there, and from then
on saves: a small head that each save replaces, and named chunks that saves append to or drop. A save happens
wholly or not at all, and only while its owner is the latest to have claimed and the store still holds exactly
what this owner wrote last. The numbers that prove it:

- the *epoch* of a scope grows with every claim, so a paused worker that wakes up after its partition has
  moved is refused (`Fenced`);
- the *number* of a checkpoint grows with every save, so a store that went back in time (emptied, restored
  from a backup, failed over to a replica that lagged) is noticed before rows are appended on top of a hole
  (`FellBehind`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

NO_CHUNKS: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Scope:
    """What one owner owns: one partition of one agent."""

    agent: str
    partition: int


@dataclass(slots=True)
class Lease:
    """An owner's claim on a scope; used by one task at a time."""

    scope: Scope
    epoch: int
    """Fencing token, greater than that of every earlier claim."""
    number: int
    """Of the last checkpoint written or loaded; 0: none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a claim found in the store."""

    lease: Lease
    head: bytes | None
    """The head of the last checkpoint; None: the store holds nothing."""
    chunks: Mapping[str, bytes]
    """All bytes appended to each chunk, in order. Where `complete` is False: what is left of them, b"" for a
    chunk of which nothing is; every name is still there, so `drop=snapshot.chunks` clears the scope."""
    complete: bool
    """False: a chunk is missing or has another length than was written (expired, evicted, half lost). The
    state must be rebuilt; the head may still be used."""


class CheckpointStore(Protocol):
    """Keeps the checkpoints of all scopes. Every method may raise StoreUnavailable; trying again may help."""

    async def open(self) -> None:
        """Connect. Raises StoreUnavailable, naming the store without its password, if it does not answer."""

    async def close(self) -> None:
        """Disconnect; the store can be opened again."""

    async def ping(self) -> None:
        """Return if the store answers."""

    async def claim(self, scope: Scope, now_ms: int) -> Snapshot:
        """Become the owner of a scope, and load its last checkpoint.

        now_ms: the wall clock, milliseconds since 1970. The new epoch is the larger of it and of the stored
        epoch plus one, so that epochs grow even over a store that has forgotten the earlier ones.

        After StoreUnavailable claim again. The claim that went unanswered may still be carried out, at worst
        after its repeat, which is then Fenced at its first save: an owner that still owns its scope by other
        knowledge (the group's assignment) claims once more.
        """

    async def save(
        self,
        lease: Lease,
        head: bytes,
        *,
        append: Mapping[str, bytes] = NO_CHUNKS,
        drop: Collection[str] = (),
        number: int | None = None,
    ) -> None:
        """Write the next checkpoint in one atomic step, and raise lease.number to its number.

        Chunks in `drop` go before those in `append` are written: a name in both is replaced. Appending b"" is
        nothing. number: of this checkpoint, larger than lease.number; lease.number + 1 unless said.

        One attempt is made. After StoreUnavailable it may or may not have been carried out: call again with
        identical arguments until it returns; what was carried out is recognised and not done twice. The head
        must tell one checkpoint from the next (offsets do), as it is by the head that a repeat with other
        arguments is noticed, and refused with FellBehind.

        The first save after a claim that found nothing (head None) continues from any lease.number, so an
        owner that rebuilds its state may set lease.number first and keep its numbering.

        Raises Fenced: the scope has a newer owner; stop writing. Raises FellBehind: the store does not hold
        what this lease wrote last, or a chunk of it is lost; nothing was written, claim again and go on from
        what the store has. Raises StoreUnavailable.
        """

    async def peek(self, scope: Scope) -> bytes | None:
        """The head of the last checkpoint of a scope, whoever owns it; None: there is none."""

    async def hint(self, name: str, field: str, value: bytes) -> None:
        """Set one field of a small table shared by all workers; not fenced, the last writer wins.

        The table expires as a whole when nobody has written to it for the store's time to live.
        """

    async def hints(self, name: str) -> dict[str, bytes]:
        """All fields of a shared table; empty if there is none."""
