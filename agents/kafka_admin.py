"""What the commands ask of Kafka outside of consuming: topics, offsets, a group's progress.

Every call ends within a known time and reports trouble as BrokerUnavailable in one line.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from agents.config import Config, SecurityConfig, TopicsConfig
from tables.errors import BrokerUnavailable, ConfigError, RunError

CALL_S = 10.0
"""How long a command waits for Kafka in all before it says that it cannot be reached."""
REQUEST_MS = 4_000
RETRY_S = 0.1

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster describes it."""

    name: str
    partitions: int
    replication: int
    """The most replicas that one of its partitions has."""
    leaderless: tuple[int, ...]
    """Partitions that nothing can be read from or written to now."""


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """What a partition holds: offsets from `first` up to, not including, `end`."""

    first: int
    end: int


def client_options(config: Config) -> dict[str, Any]:
    """What every aiokafka client of ours is given: nodes, encryption, identity.

    :raises ConfigError: the CA file cannot be used.
    """
    return {"bootstrap_servers": list(config.bootstrap), **_security_options(config.kafka.security)}


def _security_options(security: SecurityConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"security_protocol": security.protocol}
    if security.uses_tls:
        try:
            options["ssl_context"] = create_ssl_context(cafile=security.cafile or None)
        except OSError as error:
            raise ConfigError(f"kafka.security.cafile: {security.cafile}: {error}") from error
    if security.uses_sasl:
        options |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": security.password,
        }
    return options


class KafkaAdmin:
    """An open administrative connection; made by `connect`."""

    def __init__(self, config: Config, client: AIOKafkaAdminClient) -> None:
        self._config = config
        self._client = client

    async def broker_count(self) -> int:
        """Brokers that are in the cluster now."""
        cluster: Mapping[str, Any] = await self._client.describe_cluster()
        return len(cluster["brokers"])

    async def topics(self) -> dict[str, TopicState]:
        """All topics of the cluster by name, Kafka's internal ones left out."""
        described = await self._client.describe_topics()
        return {
            topic["topic"]: _topic_state(topic)
            for topic in described
            if not topic["is_internal"] and topic["error_code"] == 0
        }

    async def create_missing(self) -> list[str]:
        """Create those of the configured topics that do not exist, wait until they can be used; their names.

        What exists stays as it is. Another worker may create the same topics at the same time.
        """
        topics = self._config.topics
        existing = await self.topics()
        missing = [name for name in (*topics.inputs, *topics.outputs) if name not in existing]
        if not missing:
            return []
        counts = {name: topics.partitions_of(name) for name in missing}
        if topics.commands in counts and topics.alerts in existing:
            # They are read together, partition by partition.
            counts[topics.commands] = existing[topics.alerts].partitions
        new = [
            NewTopic(name, count, topics.replication, topic_configs=_settings(topics, name))
            for name, count in counts.items()
        ]
        answer = (await self._client.create_topics(new)).to_object()
        created = []
        for topic in answer["topic_errors"]:
            failure = for_code(topic["error_code"])
            if topic["error_code"] == 0:
                created.append(topic["topic"])
            elif failure is not TopicAlreadyExistsError:
                reason = topic["error_message"] or failure.description
                raise BrokerUnavailable(f"cannot create topic {topic['topic']}: {reason}")
        await self._wait_until_led(missing)
        return created

    async def offsets(self, topics: Iterable[TopicState]) -> dict[TopicPartition, OffsetRange]:
        """What each partition of these topics holds; those without a leader are left out."""
        partitions = [
            TopicPartition(topic.name, partition)
            for topic in topics
            for partition in range(topic.partitions)
            if partition not in topic.leaderless
        ]
        if not partitions:
            return {}
        async with consumer(self._config) as reader:
            first = await reader.beginning_offsets(partitions)
            end = await reader.end_offsets(partitions)
        return {partition: OffsetRange(first[partition], end[partition]) for partition in partitions}

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """Offsets that the group has committed; empty where it never has."""
        found = await self._of_coordinator(lambda: self._client.list_consumer_group_offsets(group))
        return {partition: entry.offset for partition, entry in found.items() if entry.offset >= 0}

    async def member_count(self, group: str) -> int:
        """Workers that are in the group now."""
        described = await self._of_coordinator(lambda: self._client.describe_consumer_groups([group]))
        return sum(len(entry["members"]) for answer in described for entry in answer.to_object()["groups"])

    async def _of_coordinator(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await ask()
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
                # A cluster without groups creates its offsets topic at the first such question.
                await asyncio.sleep(RETRY_S)

    async def _wait_until_led(self, names: Iterable[str]) -> None:
        while True:
            existing = await self.topics()
            if all(name in existing and not existing[name].leaderless for name in names):
                return
            await asyncio.sleep(RETRY_S)


@contextlib.asynccontextmanager
async def connect(config: Config, within_s: float = CALL_S) -> AsyncIterator[KafkaAdmin]:
    """A connection for administration; all that is done inside of the block must fit into `within_s` seconds.

    :raises BrokerUnavailable: Kafka cannot be reached, does not answer in time, or refuses.
    :raises ConfigError: the broker is `memory://`.
    """
    if config.in_memory:
        raise ConfigError("broker: expected kafka://host:port,... for this command, got memory://")
    async with one_line_errors(config, within_s):
        client = AIOKafkaAdminClient(**client_options(config), request_timeout_ms=REQUEST_MS)
        try:
            await client.start()
            yield KafkaAdmin(config, client)
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def consumer(config: Config, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside of any group: assign what it shall read. `options` are aiokafka's.

    Raises aiokafka's own errors.
    """
    settings = {"enable_auto_commit": False, "request_timeout_ms": REQUEST_MS, **options}
    reader = AIOKafkaConsumer(**client_options(config), **settings)
    try:
        await reader.start()
        yield reader
    finally:
        await reader.stop()


async def prepare_topics(config: Config) -> list[str]:
    """Create the configured topics that do not exist and give their names; for `memory://` there are none.

    :raises BrokerUnavailable: Kafka cannot be reached or refuses.
    :raises RunError: impressions and clicks, or alerts and commands, cannot be read together partition by partition.
    """
    if config.in_memory:
        return []
    async with connect(config) as admin:
        created = await admin.create_missing()
        if wrong := uneven_inputs(config.topics, await admin.topics()):
            raise RunError(wrong)
        return created


def uneven_inputs(topics: TopicsConfig, existing: Mapping[str, TopicState]) -> str | None:
    """Why topics cannot be read together partition by partition; None where they can."""
    for one, other, why in (
        (topics.impressions, topics.clicks, "the join needs the same number, with the user_id as the key of both"),
        (topics.alerts, topics.commands, "they are read together and need the same number"),
    ):
        first, second = existing.get(one), existing.get(other)
        if first is not None and second is not None and first.partitions != second.partitions:
            counts = f"{first.partitions} and {second.partitions} partitions"
            return f"topics {first.name} and {second.name} have {counts}: {why}"
    return None


@contextlib.asynccontextmanager
async def one_line_errors(config: Config, within_s: float | None) -> AsyncIterator[None]:
    """Turn what aiokafka raises inside of the block, or its taking too long, into BrokerUnavailable."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except KafkaConnectionError as error:
        raise BrokerUnavailable(f"no broker answers at {config.broker}") from error
    except TimeoutError as error:
        said = "in time" if within_s is None else f"within {within_s:g} s"
        raise BrokerUnavailable(f"{config.broker} did not answer {said}") from error
    except BrokenPipeError:
        # Not Kafka's: aiokafka has errors of its own for a lost connection. It is our output that is gone.
        raise
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"{config.broker}: {describe(error)}") from error


def describe(error: Exception) -> str:
    """An error of aiokafka in one line, without its address in the source."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _topic_state(topic: Mapping[str, Any]) -> TopicState:
    partitions = topic["partitions"]
    return TopicState(
        name=topic["topic"],
        partitions=len(partitions),
        replication=max((len(partition["replicas"]) for partition in partitions), default=0),
        leaderless=tuple(sorted(part["partition"] for part in partitions if part["leader"] < 0)),
    )


def _settings(topics: TopicsConfig, name: str) -> dict[str, str]:
    """Properties of a topic that is created: how long it is kept. Inputs keep the cluster's default."""
    retention_ms = {
        # Cumulative and sent again after a restore: old ones are of no use.
        topics.partials: 6 * HOUR_MS,
        topics.windows: 7 * DAY_MS,
        topics.dead_letters: 7 * DAY_MS,
        topics.alerts: 30 * DAY_MS,
    }.get(name)
    return {} if retention_ms is None else {"retention.ms": str(retention_ms)}
