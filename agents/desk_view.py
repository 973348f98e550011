"""What the desks know, as any worker sees it: read from their checkpoints, at most a second old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agents.partition_state import decode_head
from alerting.desk.desk import Desk, IncidentView
from alerting.desk.policy import AlertingPolicy
from alerting.desk.silences import Silence
from tables.checkpoint import CheckpointStore, Scope
from tables.errors import StoreError

AGENT = "alerts"


class DeskView:
    """All partitions' desks together."""

    def __init__(
        self,
        store: CheckpointStore,
        partitions: Callable[[], int],
        policy: Callable[[], AlertingPolicy],
        now_ms: Callable[[], int],
    ) -> None:
        """`partitions`: how many the alerts topic has; it may raise BrokerUnavailable."""
        self._store = store
        self._partitions = partitions
        self._policy = policy
        self._now_ms = now_ms
        self._read: dict[int, tuple[bytes, Desk]] = {}

    async def incidents(self) -> list[IncidentView]:
        """Every incident that a desk holds, the latest first. Raises StoreError, BrokerUnavailable."""
        found = [incident for desk in await self._desks() for incident in desk.incidents()]
        return sorted(found, key=lambda each: (-each.alert.fired_at, each.alert.alert_id))

    async def by_id(self) -> dict[str, IncidentView]:
        """All of them by every id that they have had. Raises StoreError, BrokerUnavailable."""
        return {name: each for each in await self.incidents() for name in (*each.aliases, each.alert.alert_id)}

    async def silences(self) -> list[Silence]:
        """Every silence that is not over, the one that ends first first. Raises StoreError, BrokerUnavailable."""
        found = {silence.id: silence for desk in await self._desks() for silence in desk.silences()}
        now = self._now_ms()
        return sorted((each for each in found.values() if each.ends_at > now), key=lambda each: (each.ends_at, each.id))

    async def _desks(self) -> list[Desk]:
        desks = []
        for partition in range(self._partitions()):
            head = await self._store.peek(Scope(AGENT, partition))
            if head is None:
                continue
            known = self._read.get(partition)
            if known is None or known[0] != head:
                # With thousands of incidents this takes a while.
                known = self._read[partition] = head, await asyncio.to_thread(self._desk, head)
            desks.append(known[1])
        return desks

    def _desk(self, head: bytes) -> Desk:
        desk = Desk(self._policy())
        try:
            state: Any = decode_head(head).state
            desk.restore(state["desk"], self._now_ms())
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the checkpoint of the alerts is of another version: {error}") from error
        return desk
