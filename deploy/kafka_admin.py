"""What is asked of a running Kafka while it starts: does it serve, and make these topics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from tables.errors import BrokerUnavailable

REQUEST_MS = 5_000
TOPICS_S = 30.0
POLL_S = 0.05


async def serves(address: str, *, brokers: int) -> bool:
    """Whether the broker at host:port sees at least so many brokers and finds the coordinator of a group.

    The first such question makes Kafka create its offsets topic: whoever comes after need not wait for that.
    """
    try:
        async with _admin(address) as admin:
            cluster = await admin.describe_cluster()
            if len(cluster["brokers"]) < brokers:
                return False
            await admin.find_coordinator("tidemark-readiness")
            return True
    except (KafkaError, OSError):
        return False


async def create_topics(
    bootstrap: str, topics: Mapping[str, int], *, replicas: int = 1, settings: Mapping[str, str] | None = None
) -> None:
    """Create topics (name -> partitions) and wait until every partition has a leader.

    settings: topic properties. Raises BrokerUnavailable, also where a topic exists already.
    """
    new = [NewTopic(name, count, replicas, topic_configs=dict(settings or {})) for name, count in topics.items()]
    try:
        async with asyncio.timeout(TOPICS_S), _admin(bootstrap) as admin:
            answer = (await admin.create_topics(new)).to_object()
            for topic in answer["topic_errors"]:
                if topic["error_code"]:
                    raise BrokerUnavailable(f"topic {topic['topic']}: {for_code(topic['error_code']).__name__}")
            while not await _led(admin, topics):  # noqa: ASYNC110 - Kafka tells nobody when it is done
                await asyncio.sleep(POLL_S)
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"no topics at {bootstrap}: {error!r}") from error


async def _led(admin: AIOKafkaAdminClient, topics: Mapping[str, int]) -> bool:
    described = await admin.describe_topics(list(topics))
    led = {
        topic["topic"]: sum(partition["leader"] >= 0 for partition in topic["partitions"])
        for topic in described
        if topic["error_code"] == 0
    }
    return led == dict(topics)


@contextlib.asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_MS)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
