"""The Kafka transport: Faust's aiokafka driver with batches instead of records.

This module owns what Faust and aiokafka keep private. What it relies on is listed in
`tests/agents/transports/test_contract.py`, which breaks when an upgrade moves any of it:

- Faust: `AIOKafkaConsumerThread._create_worker_consumer`, `call_thread`, `_ensure_consumer`, the rebalance listener;
- aiokafka: `AIOKafkaConsumer._fetcher._records`, `FetchResult._partition_records` and `_update_position`,
  `_coordinator.fetch_committed_offsets`, and what `static_member.py` does to the coordinator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import aiokafka
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from agents.transports.batch import Section, Sending
from agents.transports.consumer import BatchConsumer, Position
from agents.transports.raw_records import Values, read_batches
from agents.transports.static_member import StaticMember, TakenOver

FETCH_WAIT_MS = 200
MAX_FETCH_BYTES = 32 * 1024 * 1024
REASSIGNMENT_PAUSE_S = 0.02
MAX_IDLE_MS = 2**53
"""A worker that fetches nothing, for it is a standby or its store is away, must not be put out of the group."""


async def fetch_raw(fetcher: Fetcher, partitions: Collection[TopicPartition], timeout: float) -> dict[TP, Section]:
    """Like `Fetcher.fetched_records` without a limit, yet handing out values instead of records."""
    if fetcher._subscriptions.reassignment_in_progress:
        # Not waited for: it waits for whoever gives the partitions up, and that one may wait for this thread.
        await asyncio.sleep(REASSIGNMENT_PAUSE_S)
        return {}
    drained = _drain(fetcher, partitions)
    if drained or not timeout:
        return drained
    waiter = fetcher._create_fetch_waiter()
    done, _ = await asyncio.wait([waiter], timeout=timeout)
    if not done or fetcher._closed:
        waiter.cancel()
        return {}
    waiter.result()
    return _drain(fetcher, partitions)


def _drain(fetcher: Fetcher, partitions: Collection[TopicPartition]) -> dict[TP, Section]:
    drained: dict[TP, Section] = {}
    for tp in list(fetcher._records):
        if tp not in partitions:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if type(result) is not FetchResult:
            if drained:
                break  # the error is raised at the next call, when nothing else would be lost with it
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)
            result.check_raise()
            continue
        section, damage = _take(tp, result)
        if section is not None:
            drained[TP(tp.topic, tp.partition)] = section
        if damage is None:
            del fetcher._records[tp]
        else:
            fetcher._records[tp] = FetchError(error=damage, backoff=0)
        fetcher._notify(fetcher._wait_consume_future)
    return drained


def _take(tp: TopicPartition, result: FetchResult) -> tuple[Section | None, KafkaError | None]:
    """The records of one partition; with damage, those before it, and reading goes on there."""
    if not result.check_assignment(tp) or not result.has_more():
        return None, None
    fetched = result._partition_records
    offsets: Any = []
    values: Values = []
    damage = None
    try:
        for more_offsets, more_values in read_batches(fetched):
            offsets += more_offsets
            values += more_values
    except Exception as error:  # each codec raises errors of its own
        damage = error if isinstance(error, KafkaError) else CorruptRecordException(f"{tp}: {error!r}")
    result._update_position()
    if not values:
        return None, damage
    if offsets[-1] - offsets[0] == len(offsets) - 1:
        offsets = range(offsets[0], offsets[-1] + 1)
    return Section(tp.topic, offsets, values, fetched.next_fetch_offset), damage


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer in its own thread and loop."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        # Ranges of equally partitioned topics fall together, so the partitions of a group meet in one worker.
        self._assignor = RangePartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_bytes=MAX_FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_poll_interval_ms=MAX_IDLE_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            check_crcs=conf.broker_check_crcs,
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def on_start(self) -> None:
        await super().on_start()
        if self.app.conf.consumer_group_instance_id:
            StaticMember(self._ensure_consumer()._coordinator, self._taken_over)

    def _taken_over(self) -> None:
        app: Any = self.app
        # An app with state has a way of its own to fail: it writes nothing more.
        fail = getattr(app, "fail", app.crash)
        asyncio.run_coroutine_threadsafe(fail(TakenOver(app.conf.consumer_group_instance_id)), self.parent_loop)

    def topic_partitions(self, topic: str) -> int | None:
        """Number of partitions of a topic, None while it is not known."""
        # Faust asks the group's coordinator, which learns it only in the member that leads the group.
        return len((self._consumer and self._consumer.partitions_for_topic(topic)) or ()) or None

    def highwater(self, tp: TP) -> int | None:  # type: ignore[override]
        """Offset behind the newest record, None while it is not known or the partition not assigned."""
        consumer, asked = self._ensure_consumer(), TopicPartition(*tp)
        return consumer.highwater(asked) if asked in consumer.assignment() else None

    async def fetch(self, partitions: set[TP], timeout: float) -> dict[TP, Section]:
        """See `BatchConsumer.fetch`."""
        found: dict[TP, Section] = await self.call_thread(
            self._fetch, {TopicPartition(*tp) for tp in partitions}, timeout
        )
        return found

    async def _fetch(self, partitions: set[TopicPartition], timeout: float) -> dict[TP, Section]:
        # Queued before the flow was stopped and run after it, this would wait for an assignment that waits for it.
        if not self.consumer.flow_active:
            return {}
        consumer = self._ensure_consumer()
        if consumer._closed or consumer._fetcher._closed:
            raise ConsumerStoppedError
        with consumer._fetcher._subscriptions.fetch_context():
            return await fetch_raw(consumer._fetcher, partitions, timeout)

    async def commit_positions(self, positions: Mapping[TP, Position]) -> bool:
        """See `BatchConsumer.commit_positions`."""
        done: bool = await self.call_thread(self._commit_positions, dict(positions))
        return done

    async def _commit_positions(self, positions: Mapping[TP, Position]) -> bool:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        offsets = {
            TopicPartition(*tp): OffsetAndMetadata(position.offset, position.note)
            for tp, position in positions.items()
            if TopicPartition(*tp) in assigned
        }
        try:
            if offsets:
                await consumer.commit(offsets)
        except KafkaError as error:
            # Rebalancing, fenced or out of reach: the positions in the store are what counts.
            self.log.info("committing offsets failed: %r", error)
            return False
        return True

    async def committed_positions(self, partitions: Collection[TP]) -> dict[TP, Position]:
        """See `BatchConsumer.committed_positions`."""
        found: dict[TP, Position] = await self.call_thread(self._committed_positions, list(partitions))
        return found

    async def _committed_positions(self, partitions: Collection[TP]) -> dict[TP, Position]:
        coordinator = self._ensure_consumer()._coordinator
        found = await coordinator.fetch_committed_offsets([TopicPartition(*tp) for tp in partitions])
        return {
            TP(tp.topic, tp.partition): Position(stored.offset, stored.metadata or "")
            for tp, stored in found.items()
            if stored.offset >= 0
        }

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """See `BatchConsumer.seek_all`."""
        await self.call_thread(self._seek_all, dict(offsets))

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in offsets.items():
            if TopicPartition(*tp) in assigned:  # else it was just taken away
                consumer.seek(TopicPartition(*tp), offset)

    async def at_end(self, partitions: Collection[TP]) -> set[TP]:
        """See `BatchConsumer.at_end`."""
        found: set[TP] = await self.call_thread(self._at_end, list(partitions))
        return found

    async def _at_end(self, partitions: Collection[TP]) -> set[TP]:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        asked = [TopicPartition(*tp) for tp in partitions if TopicPartition(*tp) in assigned]
        if not asked:
            return set()
        ends = await consumer.end_offsets(asked)
        return {TP(tp.topic, tp.partition) for tp in asked if await consumer.position(tp) >= ends[tp]}

    async def end_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        """See `BatchConsumer.end_offsets`."""
        found = await self.call_thread(self._ensure_consumer().end_offsets, [TopicPartition(*tp) for tp in partitions])
        return {TP(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def begin_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        """The oldest offsets still there."""
        found = await self.call_thread(
            self._ensure_consumer().beginning_offsets, [TopicPartition(*tp) for tp in partitions]
        )
        return {TP(tp.topic, tp.partition): offset for tp, offset in found.items()}


class KafkaConsumer(BatchConsumer, driver.Consumer):
    """The consumer on the app's side of the thread."""

    _thread: ConsumerThread
    transient_errors: ClassVar[tuple[type[BaseException], ...]] = (KafkaError,)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def fetch(self, partitions: set[TP], timeout: float) -> dict[TP, Section]:
        return await self._thread.fetch(partitions, timeout)

    async def commit_positions(self, positions: Mapping[TP, Position]) -> bool:
        return await self._thread.commit_positions(positions)

    async def committed_positions(self, partitions: Collection[TP]) -> dict[TP, Position]:
        return await self._thread.committed_positions(partitions)

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        await self._thread.seek_all(offsets)

    async def at_end(self, partitions: Collection[TP]) -> set[TP]:
        return await self._thread.at_end(partitions)

    async def end_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        """See `BatchConsumer.end_offsets`."""
        return await self._thread.end_offsets(partitions)

    async def begin_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        """The oldest offsets still there."""
        return await self._thread.begin_offsets(partitions)


class KafkaProducer(driver.Producer):
    """Faust's producer, and a way to send many records at once."""

    async def send_all(self, records: Sequence[Sending]) -> list[Awaitable[Any]]:
        """Schedule records, in order within a partition, without a future and a task switch for each.

        Returns what to wait for. Raises KafkaError where one of them cannot be sent at all.
        """
        producer = self._ensure_producer()
        for topic in {topic for topic, *_ in records}:
            await producer.partitions_for(topic)  # or its keys could not be assigned to any
        places: dict[tuple[str, bytes | None], TP] = {}
        batches: dict[TP, Any] = {}
        pending: list[Awaitable[Any]] = []
        for topic, key, value, partition in records:
            if partition is not None:
                tp = TP(topic, partition)
            elif (topic, key) in places:
                tp = places[topic, key]
            else:
                tp = places[topic, key] = self.key_partition(topic, key)  # type: ignore[arg-type]
            batch = batches.get(tp)
            if batch is None or batch.append(key=key, value=value, timestamp=None) is None:
                if batch is not None:
                    pending.append(await producer.send_batch(batch, tp.topic, partition=tp.partition))
                batch = batches[tp] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        for tp, batch in batches.items():
            pending.append(await producer.send_batch(batch, tp.topic, partition=tp.partition))
        return pending


class Transport(driver.Transport):
    """Registered for the scheme `kafka`."""

    Consumer = KafkaConsumer
    Producer = KafkaProducer
