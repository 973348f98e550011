"""What is still open by the topic of the alerts, on a real broker."""

from __future__ import annotations

import time
from dataclasses import replace

from aiokafka import AIOKafkaProducer

from agents.config import load_config
from agents.kafka_admin import prepare_topics
from agents.open_alerts import read_open_alerts
from deploy.stack import KafkaCluster
from tests.agents.alerting_world import an_alert, over

HOUR = 3_600_000


async def test_what_was_told_lately_and_has_not_ended(kafka: KafkaCluster, topic_prefix: str) -> None:
    config = load_config(None, {}, {"broker": kafka.url})
    config = replace(config, topics=replace(config.topics, prefix=topic_prefix))
    await prepare_topics(config)
    assert await read_open_alerts(config, 1, 0) == []

    now = time.time_ns() // 1_000_000
    home, search, cart, old = map(an_alert, ("home", "search", "cart", "old"))
    acked = replace(search, status="acknowledged")
    told = [(3, old), (1, home), (1, search), (1, cart), (0, over(home)), (0, acked)]
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for hours, alert in told:
            for value in (alert.to_json(), b"{", None):
                await producer.send_and_wait(config.topics.alerts, value, key=b"model", timestamp_ms=now - hours * HOUR)
    assert await read_open_alerts(config, 1, now - 2 * HOUR) == [cart, acked]
    assert await read_open_alerts(config, 1, 0) == [old, cart, acked]
