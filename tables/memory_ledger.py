"""The ledger of what was sent inside the process: for replays and the demo, where a crash means to start over."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Final

from tables.checkpoint import Lease, Scope
from tables.errors import Fenced
from tables.send_ledger import Limit

DEFAULT_KEEP_MS: Final = 7 * 24 * 3_600_000


class MemoryLedger:
    """See SendLedger. The newest owner that it knows of a scope is the newest one that has asked it.

    clock: seconds. keep_ms: how long it is remembered what was sent.
    """

    def __init__(self, *, keep_ms: int = DEFAULT_KEEP_MS, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_us = keep_ms * 1000
        self._clock = clock
        self._epochs: dict[Scope, int] = {}
        self._sent: dict[tuple[Scope, str], int] = {}
        self._logs: defaultdict[str, deque[int]] = defaultdict(deque)

    async def unsent(self, lease: Lease, keys: Sequence[str]) -> list[str]:
        """See SendLedger.unsent."""
        self._check(lease)
        self._forget()
        return [key for key in keys if (lease.scope, key) not in self._sent]

    async def mark(self, lease: Lease, keys: Sequence[str]) -> None:
        """See SendLedger.mark."""
        self._forget()
        until = self._now() + self._keep_us
        for key in keys:
            self._sent.pop((lease.scope, key), None)  # the oldest stand first
            self._sent[lease.scope, key] = until

    async def take(self, name: str, limits: Sequence[Limit], *, urgent: bool) -> int:
        """See SendLedger.take."""
        if not limits:
            return 0
        log, now, wait = self._logs[name], self._now(), 0
        for parcels, per_ms, reserve in limits:
            allowed = parcels if urgent else parcels - reserve
            if allowed < 1:
                wait = max(wait, per_ms * 1000)
            elif len(log) >= allowed:
                wait = max(wait, log[-allowed] + per_ms * 1000 - now)
        if wait > 0:
            return -(-wait // 1000)
        log.append(now)
        while len(log) > max(parcels for parcels, _, _ in limits):
            log.popleft()
        return 0

    def _check(self, lease: Lease) -> None:
        newest = self._epochs.setdefault(lease.scope, lease.epoch)
        if newest > lease.epoch:
            what = f"{lease.scope.agent}/{lease.scope.partition}"
            raise Fenced(f"what {what} sends: epoch {lease.epoch} was followed by epoch {newest}")
        self._epochs[lease.scope] = lease.epoch

    def _forget(self) -> None:
        now = self._now()
        while self._sent and next(iter(self._sent.values())) <= now:
            del self._sent[next(iter(self._sent))]

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)
