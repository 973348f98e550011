"""The alerts of which no end was told, read again from their topic: what is left of them where the store was lost."""

from __future__ import annotations

from aiokafka import TopicPartition

from agents.config import Config
from agents.kafka_admin import consumer, one_line_errors
from agents.kafka_copy import merged_records, offsets_between
from alerting.alert import Alert
from alerting.rules.incident_recall import OpenAlerts
from tables.errors import InputError


async def read_open_alerts(config: Config, partitions: int, since_ms: int) -> list[Alert]:
    """Of those told since `since_ms` by Kafka's timestamps, on the topic's `partitions`. Raises BrokerUnavailable.

    What is no alert is left out.
    """
    topic = config.topics.alerts
    found = OpenAlerts()
    async with one_line_errors(config, within_s=None), consumer(config, auto_offset_reset="earliest") as source:
        every = [TopicPartition(topic, partition) for partition in range(partitions)]
        ranges = await offsets_between(source, every, since_ms, None)
        async for records in merged_records(source, ranges):
            for record in records:
                try:
                    found.take(Alert.from_json(record.value or b""))
                except InputError:
                    continue
    return found.all()
