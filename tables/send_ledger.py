"""What has been sent, and how much may be: the memory that a worker leaves to the one that takes over from it.

Kept apart from the checkpoints because it changes with every single message: a crash then repeats at most the one that
was on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tables.checkpoint import Lease


class Limit(NamedTuple):
    """At most `parcels` in any `per_ms` milliseconds, of which the last `reserve` are only for what is urgent."""

    parcels: int
    per_ms: int
    reserve: int = 0


class SendLedger(Protocol):
    """Shared by all workers. Every method may raise StoreUnavailable; trying again may help."""

    async def unsent(self, lease: Lease, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that nobody has marked as sent. Raises Fenced where the lease has a newer owner."""

    async def mark(self, lease: Lease, keys: Sequence[str]) -> None:
        """Note that all of `keys` were sent, in one step. Whoever has sent them does so, also where the lease has a
        newer owner by now: that one is not to say it again."""

    async def take(self, name: str, limits: Sequence[Limit], *, urgent: bool) -> int:
        """Take one from the budget of the channel `name`, if all of `limits` allow it.

        Returns 0 when it was taken, else the milliseconds after which it is worth asking again. By the store's own
        clock; shared by all workers, and remembered over restarts.
        """
