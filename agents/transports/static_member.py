"""Static membership (KIP-345): a worker that is started again under its instance id has its partitions back at once.

aiokafka joins with the id and, as Kafka wants it, does not leave with it. But once the broker no longer knows the
member, aiokafka joins as a new one, which throws out whoever has the id now: two workers with one id would do that to
each other for ever. So a member names itself at each join, and the broker can tell a member that it has forgotten
(which may join anew) from one that was replaced (which must stop).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError, NoError, UnknownMemberIdError
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from tables.errors import RunError

FENCED_INSTANCE_ID = 82
"""Kafka's error code, for which aiokafka has no class."""


class TakenOver(RunError):
    """Another worker has joined the group under this worker's instance id."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"another worker took over the instance id '{instance_id}': give each worker its own")


class StaticMember:
    """Stands between a coordinator and its broker from now on; made before the group is joined."""

    def __init__(self, coordinator: GroupCoordinator, on_taken_over: Callable[[], None]) -> None:
        self._coordinator = coordinator
        self._send = coordinator._send_req
        self._on_taken_over = on_taken_over
        self._member_id = ""
        coordinator._send_req = self._ask

    async def _ask(self, request: Any) -> Any:
        joins = isinstance(request, JoinGroupRequest)
        if joins and not request._member_id:
            request._member_id = self._member_id
        response = await self._send(request)
        if joins and response.error_code == NoError.errno:
            self._member_id = response.member_id
        elif joins and response.error_code == UnknownMemberIdError.errno:
            self._member_id = ""
        elif isinstance(request, JoinGroupRequest | SyncGroupRequest) and response.error_code == FENCED_INSTANCE_ID:
            self._on_taken_over()
            # aiokafka does not know this error and would come back; of a connection that fails it makes nothing.
            await asyncio.wait([self._coordinator._closing])
            raise KafkaConnectionError("the instance id belongs to another member now")
        elif isinstance(request, SyncGroupRequest) and self._coordinator._group_subscription is None:
            await self._watch_partitions()
        return response

    async def _watch_partitions(self) -> None:
        """Join again when a topic has more partitions."""
        # aiokafka leaves that to the leader, and a leader that has come back is not told that it is one.
        await self._coordinator._client._maybe_wait_metadata()
        self._coordinator._group_subscription = set(self._coordinator._subscription.topics)
        self._coordinator._metadata_snapshot = self._coordinator._get_metadata_snapshot()
