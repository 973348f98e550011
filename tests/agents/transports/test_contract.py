"""What the transports rely on in Faust and aiokafka without having been promised it.

When an upgrade breaks one of these, read what became of it before anything else: the transports are built on it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.group_coordinator import BaseCoordinator, CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import UnknownError, for_code
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust import streams
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.transport import base, conductor
from faust.transport.consumer import Consumer, Fetcher, ThreadDelegateConsumer
from faust.transport.consumer import ConsumerThread as FaustThread
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage

from agents.schema import BatchSchema
from agents.transports import kafka, memory
from agents.transports.consumer import BatchConsumer
from agents.transports.memory_broker import MemoryBroker
from agents.transports.raw_records import read_batches
from agents.transports.static_member import FENCED_INSTANCE_ID
from tests.agents.transports.members import Member


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_versions_are_those_that_were_read() -> None:
    assert (version("faust-streaming"), version("aiokafka")) == ("0.15.3", "0.14.0")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Consumer._drain_messages, ["self", "fetcher"]),
        (Consumer._get_active_partitions, ["self"]),
        (Consumer.ack, ["self", "message"]),
        (Consumer.commit, ["self", "topics", "start_new_transaction"]),
        (Consumer.wait_empty, ["self"]),
        (Consumer.perform_seek, ["self"]),
        (Consumer.on_partitions_revoked, ["self", "revoked"]),
        (Consumer.on_partitions_assigned, ["self", "assigned", "generation_id"]),
        (Consumer.verify_event_path, ["self", "now", "tp"]),
        (Consumer.on_buffer_full, ["self", "tp"]),
        (Consumer.on_buffer_drop, ["self", "tp"]),
        (ThreadDelegateConsumer._new_consumer_thread, ["self"]),
        (FaustThread.topic_partitions, ["self", "topic"]),
        (driver.AIOKafkaConsumerThread._create_worker_consumer, ["self", "transport"]),
        (driver.AIOKafkaConsumerThread._ensure_consumer, ["self"]),
        (driver.AIOKafkaConsumerThread.call_thread, ["self", "fun", "args", "kwargs"]),
        (driver.server_list, ["urls", "default_port"]),
        (driver.credentials_to_aiokafka_auth, ["credentials", "ssl_context"]),
        (faust.Schema.compile, ["self", "app", "on_key_decode_error", "on_value_decode_error", "default_propagate"]),
        (faust.App.create_event, ["self", "key", "value", "headers", "message"]),
        (TableManager._update_channels, ["self"]),
        (aiokafka_fetcher.Fetcher._create_fetch_waiter, ["self"]),
        (aiokafka_fetcher.Fetcher._notify, ["self", "future"]),
        (aiokafka_fetcher.FetchResult.check_assignment, ["self", "tp"]),
        (aiokafka_fetcher.FetchResult.has_more, ["self"]),
        (aiokafka_fetcher.FetchResult._update_position, ["self"]),
        (aiokafka_fetcher.FetchError.__init__, ["self", "error", "backoff"]),
        (aiokafka_fetcher.FetchError.check_raise, ["self"]),
        (SubscriptionState.is_assigned, ["self", "tp"]),
        (SubscriptionState.fetch_context, ["self"]),
        (GroupCoordinator.fetch_committed_offsets, ["self", "partitions"]),
        (GroupCoordinator._send_req, ["self", "request"]),
        (DefaultPartitioner.__call__, ["key", "all_partitions", "available"]),
        (aiokafka.AIOKafkaConsumer.partitions_for_topic, ["self", "topic"]),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_signatures(function: Callable[..., Any], expected: list[str]) -> None:
    assert parameters(function) == expected


def test_a_message_is_made_by_position() -> None:
    expected = "topic partition offset timestamp timestamp_type headers key value checksum "
    expected += "serialized_key_size serialized_value_size tp"
    found = parameters(ConsumerMessage)
    assert found[:12] == expected.split()
    assert "generation_id" in found


def test_everything_a_consumer_must_have_is_written_for_the_embedded_broker() -> None:
    asked = {
        *("_commit", "_getmany", "_new_topicpartition", "_seek", "_to_message", "assignment", "create_topic"),
        *("earliest_offsets", "highwater", "highwaters", "key_partition", "position", "seek_to_committed"),
        *("seek_wait", "subscribe", "topic_partitions"),
    }
    assert Consumer.__abstractmethods__ == asked
    assert not memory.MemoryConsumer.__abstractmethods__
    assert not kafka.KafkaConsumer.__abstractmethods__


def test_the_embedded_producer_is_called_like_kafkas() -> None:
    for name in ("send", "send_and_wait"):
        assert parameters(getattr(memory.MemoryProducer, name)) == parameters(getattr(driver.Producer, name))
    assert parameters(memory.MemoryProducer.send_all) == parameters(kafka.KafkaProducer.send_all)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        # The round of `_drain_messages` is all that Faust's fetcher does.
        (Fetcher, "await consumer._drain_messages(self)"),
        # Held partitions are placed by `release`: Faust's own seek must come through the method that does nothing.
        (Recovery._resume_streams, "consumer.perform_seek()"),
        # Partitions are given up after `wait_empty`, and only then does the signal tell the custodians.
        (faust.App._on_partitions_revoked, "_consumer_wait_empty)(consumer, on_timeout)"),
        (Consumer.on_stop, "await self.wait_empty()"),
        (TableManager.on_start, "await self._update_channels()\n            await self.recovery.start()"),
        # Set before the assignment is told, so that messages of the old generation are known as such.
        (driver.ConsumerRebalanceListener.on_partitions_assigned, "app.consumer_generation_id = generation"),
        (driver.ConsumerRebalanceListener.on_partitions_revoked, "thread.app.on_rebalance_start()"),
        (driver.AIOKafkaConsumerThread._create_consumer, "self._create_worker_consumer(transport)"),
        # `raw_records.read_batches` does the same with less.
        (aiokafka_fetcher.PartitionRecords._unpack_records, "if self._check_crcs and not next_batch.validate_crc():"),
        (aiokafka_fetcher.PartitionRecords._unpack_records, "self._isolation_level == READ_COMMITTED"),
        (aiokafka_fetcher.PartitionRecords._unpack_records, "if next_batch.is_control_batch:"),
        (aiokafka_fetcher.PartitionRecords._unpack_records, "if record.offset < self.next_fetch_offset:"),
        (
            aiokafka_fetcher.PartitionRecords._unpack_records,
            ").\n            self.next_fetch_offset = next_batch.next_offset",
        ),
        (aiokafka_fetcher.FetchResult.getall, "self.check_assignment(tp) or not self.has_more()"),
        # A worker that fetches nothing leaves its group after this time, and never comes back.
        (GroupCoordinator._heartbeat_routine, "idle_time < self._max_poll_interval"),
        # `StaticMember` sees every question to the coordinator here. Only a join names the instance, and one that was
        # forgotten comes as a new member; heartbeats and commits of one that was replaced end there as well.
        (CoordinatorGroupRebalance.perform_group_join, "await self._coordinator._send_req(request)"),
        (CoordinatorGroupRebalance.perform_group_join, "self._coordinator._group_instance_id,"),
        (CoordinatorGroupRebalance.perform_group_join, "self._coordinator.member_id = response.member_id"),
        (CoordinatorGroupRebalance._send_sync_group_request, "await self._coordinator._send_req(request)"),
        (GroupCoordinator._do_heartbeat, "error_type is Errors.UnknownMemberIdError"),
        (GroupCoordinator.reset_generation, "self.member_id = JoinGroupRequest.UNKNOWN_MEMBER_ID"),
        # An orderly stop leaves the partitions to the next worker of the same id.
        (GroupCoordinator._maybe_leave_group, "self._group_instance_id is None"),
        (GroupCoordinator.close, "self._closing.set_result(None)"),
        # Only the leader watches the topics' partitions.
        (GroupCoordinator._on_join_prepare, "self._group_subscription = None"),
        (GroupCoordinator._perform_assignment, "self._metadata_snapshot = self._get_metadata_snapshot()"),
        (GroupCoordinator._perform_assignment, "await self._client._maybe_wait_metadata()"),
        (BaseCoordinator._handle_metadata_update, "self._metadata_snapshot != metadata_snapshot"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_what_is_called_from_where(where: Any, text: str) -> None:
    assert text in inspect.getsource(where)


def test_the_compiled_loops_are_in_use() -> None:
    # They go past `Consumer.ack`, which is why agents read with noack(); Faust's loops in Python would not.
    assert streams._CStreamIterator is not None
    assert conductor.ConductorHandler is not None


@pytest.fixture
def member() -> Iterator[Member]:
    yield Member("memory://contract", "contract", ["clicks"])
    MemoryBroker.forget("contract")


async def test_attributes_of_a_consumer(member: Member) -> None:
    consumer = member.kept
    assert (consumer.flow_active, consumer._acked, set(consumer._unacked_messages)) == (True, {}, set())
    assert isinstance(consumer.can_resume_flow, asyncio.Event)
    assert isinstance(consumer.suspend_flow, asyncio.Event)
    assert callable(consumer.callback)
    assert consumer.app is member
    assert member.consumer_generation_id == 0
    assert (member.rebalancing, member.should_stop) == (False, False)


async def test_a_schema_hands_the_message_on(member: Member) -> None:
    decode = BatchSchema().compile(member, on_key_decode_error=None, on_value_decode_error=None)
    message: Any = SimpleNamespace(value=object(), headers=None)
    event = await decode(message)
    assert (event.key, event.value, event.message) == (None, message.value, message)


def test_the_urls_scheme_picks_the_transport() -> None:
    by_url: Any = faust.transport.by_url
    assert by_url("kafka://127.0.0.1:1") is kafka.Transport
    assert by_url("memory://any") is memory.Transport
    assert issubclass(kafka.Transport, base.Transport)
    assert issubclass(kafka.KafkaConsumer, BatchConsumer)


async def test_attributes_of_aiokafkas_consumer() -> None:
    member = Member("kafka://127.0.0.1:1", "contract", ["clicks"])
    member.consumer_generation_id = 0
    thread: Any = kafka.ConsumerThread.__new__(kafka.ConsumerThread)
    thread.app = member
    transport: Any = SimpleNamespace(url=member.conf.broker_consumer, default_port=9092)

    consumer = kafka.ConsumerThread._create_worker_consumer(thread, transport)

    assert not consumer._closed
    assert (consumer._fetcher, consumer._coordinator) == (None, None)  # made by start()
    assert consumer._max_poll_interval_ms == kafka.MAX_IDLE_MS
    assert thread._assignor is RangePartitionAssignor
    await consumer.stop()


def test_aiokafka_knows_nothing_of_a_fenced_instance() -> None:
    # When it does, most of `static_member` may have become superfluous.
    assert for_code(FENCED_INSTANCE_ID) is UnknownError
    request = JoinGroupRequest("group", 1, 1, "", "instance", "consumer", [])
    request._member_id = "member"
    assert request.prepare({JoinGroupRequest.API_KEY: (2, 9)}).to_object()["member_id"] == "member"


async def test_attributes_of_aiokafkas_fetcher() -> None:
    client = SimpleNamespace(_loop=asyncio.get_running_loop(), _metadata_max_age_ms=1000)
    fetcher = aiokafka_fetcher.Fetcher(client, SubscriptionState())
    await asyncio.sleep(0)
    try:
        assert (dict(fetcher._records), fetcher._closed, fetcher._wait_consume_future) == ({}, False, None)
        assert fetcher._subscriptions.reassignment_in_progress in (True, False)
        with fetcher._subscriptions.fetch_context():
            pass
    finally:
        await fetcher.close()


def test_attributes_of_what_was_fetched() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1000)
    builder.append(0, 0, None, b"value", [])
    records = MemoryRecords(bytes(builder.build()))
    parsed = aiokafka_fetcher.PartitionRecords(TopicPartition("clicks", 0), records, [], 0, None, None, True, 0)
    result = aiokafka_fetcher.FetchResult(None, assignment=None, partition_records=parsed, backoff=0)
    assert result._partition_records is parsed

    assert list(read_batches(parsed)) == [([0], [b"value"])]
    assert parsed.next_fetch_offset == 1
