"""What the tests of the Kafka commands share: a configuration of their own, and records to look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.stack import KafkaCluster

Record = tuple[str, int, int, bytes]
"""Topic, partition, timestamp in ms, value."""


@pytest.fixture
def shop(kafka: KafkaCluster, topic_prefix: str, tmp_path: Path) -> Path:
    """A configuration on the real broker, whose topics and group nobody else uses."""
    file = tmp_path / "shop.yaml"
    file.write_text(
        f'group: {topic_prefix}group\nbroker: {kafka.url}\ntopics: {{prefix: "{topic_prefix}", partitions: 2}}\n'
    )
    return file


@pytest.fixture
def produce(kafka: KafkaCluster) -> Callable[[Sequence[Record]], None]:
    """Writes records to existing topics, in the order given."""

    async def send(records: Sequence[Record]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            for topic, partition, timestamp, value in records:
                await producer.send(topic, value, partition=partition, timestamp_ms=timestamp)

    return lambda records: asyncio.run(send(records))
