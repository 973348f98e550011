"""Members with an instance id, on a real broker: one that comes back, one that is replaced, one that was forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaConnectionError, NoError, UnknownMemberIdError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from faust.types import TP

from agents.transports.static_member import FENCED_INSTANCE_ID, StaticMember, TakenOver
from deploy.stack import KafkaCluster
from tests.agents.transports.members import Member, RealKafka, until

SESSION_S = 60.0
"""Long beside everything that happens here: who waits for a session to end waits for this."""

Join = Callable[[str], Awaitable[Member]]


@pytest.fixture
async def broker(kafka: KafkaCluster, topic_prefix: str) -> AsyncIterator[RealKafka]:
    broker = await RealKafka.connect(kafka)
    await broker.create(4, topic_prefix + "clicks")
    yield broker
    await broker.close()


@pytest.fixture
async def join(broker: RealKafka, topic_prefix: str) -> AsyncIterator[Join]:
    """Starts a member of the test's group under an instance id and waits for its assignment."""
    members: list[Member] = []

    async def start(instance_id: str) -> Member:
        topics = [topic_prefix + "clicks"]
        member = Member(
            broker.url,
            topic_prefix + "g",
            topics,
            acks=True,
            consumer_group_instance_id=instance_id,
            consumer_metadata_max_age_ms=200,
            broker_session_timeout=SESSION_S,
        )
        members.append(member)
        await member.start()
        await until(lambda: member.assignments)
        return member

    yield start
    for member in members:
        await member.stop()


async def test_one_that_was_stopped_and_comes_back_moves_nothing(join: Join) -> None:
    left, right = await join("left"), await join("right")
    await until(lambda: len(left.assignments[-1]) == len(right.assignments[-1]) == 2)
    seen = len(right.assignments), right.revocations
    await left.stop()

    began = time.monotonic()
    again = await join("left")

    assert time.monotonic() - began < SESSION_S / 2
    assert again.assignments == [left.assignments[-1]]
    assert (len(right.assignments), right.revocations) == seen


async def test_the_newer_of_two_with_one_id_works_and_the_older_ends(
    join: Join, broker: RealKafka, topic_prefix: str
) -> None:
    older = await join("same")
    newer = await join("same")
    await until(lambda: older.crash_reason)

    assert isinstance(older.crash_reason, TakenOver)
    assert str(older.crash_reason) == "another worker took over the instance id 'same': give each worker its own"
    await older.stop()
    await broker.produce(TP(topic_prefix + "clicks", 0), [b"for the newer one"])
    await until(lambda: newer.batches)
    # The older one has not thrown it out in between.
    assert (len(newer.assignments), newer.revocations, newer.crash_reason) == (1, 0, None)


async def test_of_three_with_one_id_the_last_works(join: Join) -> None:
    first, second = await join("same"), await join("same")
    third = await join("same")
    await until(lambda: first.crash_reason and second.crash_reason)
    assert isinstance(first.crash_reason, TakenOver) and isinstance(second.crash_reason, TakenOver)
    assert (len(third.assignments), third.crash_reason) == (1, None)


async def test_new_partitions_are_shared_also_when_all_have_come_back(
    join: Join, kafka: KafkaCluster, topic_prefix: str
) -> None:
    # One of them leads the group and is not told so when it comes back.
    for member in (await join("left"), await join("right")):
        await member.stop()
    left, right = await join("left"), await join("right")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({topic_prefix + "clicks": NewPartitions(6)})
    finally:
        await admin.close()
    await until(lambda: len(left.assignments[-1] | right.assignments[-1]) == 6)


# ---------------------------------------------------------------- without a broker

OK, UNKNOWN = NoError.errno, UnknownMemberIdError.errno


class Coordinator:
    """As aiokafka's: what it sends, a list of answers answers in turn."""

    def __init__(self, answers: Sequence[tuple[int, str]]) -> None:
        self._answers = list(answers)
        self._closing = asyncio.get_running_loop().create_future()
        self._group_subscription = {"clicks"}
        self.asked: list[str] = []

    async def _send_req(self, request: Any) -> Any:
        self.asked.append(request._member_id)
        code, member_id = self._answers.pop(0)
        return SimpleNamespace(error_code=code, member_id=member_id)


def joining(member_id: str = "") -> JoinGroupRequest:
    return JoinGroupRequest("g", 1, 1, member_id, "left", "consumer", [])


def never() -> None:
    raise AssertionError("nobody has taken over")


async def member_ids(requests: Sequence[Any], answers: Sequence[tuple[int, str]]) -> list[str]:
    """Who it says it is in each request."""
    coordinator: Any = Coordinator(answers)
    StaticMember(coordinator, never)
    for request in requests:
        await coordinator._send_req(request)
    return list(coordinator.asked)


async def test_who_joins_again_says_who_it_was() -> None:
    answers = [(OK, "left-1"), (UNKNOWN, ""), (OK, "left-1")]
    requests = [joining(), HeartbeatRequest("g", 1, "left-1"), joining()]
    assert await member_ids(requests, answers) == ["", "left-1", "left-1"]


async def test_who_was_forgotten_joins_as_a_new_one() -> None:
    # Such as after a pause beyond the session: nobody has the id, so nobody is thrown out.
    answers = [(OK, "left-1"), (UNKNOWN, ""), (OK, "left-2"), (OK, "left-2")]
    requests = [joining(), joining(), joining(), joining()]
    assert await member_ids(requests, answers) == ["", "left-1", "", "left-2"]


@pytest.mark.parametrize("last", [joining("left-1"), joining(), SyncGroupRequest("g", 1, "left-1", "left", [])])
async def test_who_was_replaced_says_so_and_waits_for_its_end(last: Any) -> None:
    coordinator: Any = Coordinator([(OK, "left-1"), (FENCED_INSTANCE_ID, "")])
    said: list[None] = []
    StaticMember(coordinator, lambda: said.append(None))
    await coordinator._send_req(joining())
    asked = asyncio.create_task(coordinator._send_req(last))
    await asyncio.sleep(0.01)
    assert (len(said), asked.done()) == (1, False)
    coordinator._closing.set_result(None)
    with pytest.raises(KafkaConnectionError):
        await asked
    assert coordinator.asked == ["", "left-1"]
