"""The Kafka that the tests rely on: one broker takes and gives records, three survive the loss of one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy import kafka_jars
from deploy.stack import KafkaCluster, why_no_kafka
from tables.errors import BrokerUnavailable


async def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for number, value in enumerate(values):
            await producer.send_and_wait(topic, value, key=str(number).encode())
    finally:
        await producer.stop()


async def consume(bootstrap: str, topic: str, group: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=2000,
        heartbeat_interval_ms=500,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            values = [(await consumer.getone()).value for _ in range(count)]
        await consumer.commit()
        return values
    finally:
        await consumer.stop()


async def test_a_group_reads_what_was_produced(kafka: KafkaCluster, topic_prefix: str) -> None:
    topic = f"{topic_prefix}impressions"
    await asyncio.to_thread(kafka.create_topics, {topic: 4})
    sent = [b"%d" % number for number in range(20)]
    await produce(kafka.bootstrap, topic, sent)
    assert sorted(await consume(kafka.bootstrap, topic, f"{topic_prefix}group", 20)) == sorted(sent)


def test_a_topic_that_exists_is_refused(kafka: KafkaCluster, topic_prefix: str) -> None:
    kafka.create_topics({f"{topic_prefix}clicks": 1})
    with pytest.raises(BrokerUnavailable, match="clicks: TopicAlreadyExists"):
        kafka.create_topics({f"{topic_prefix}clicks": 1})


@pytest.mark.slow
async def test_a_killed_broker_comes_back_with_its_records(tmp_path: Path) -> None:
    cluster = await asyncio.to_thread(KafkaCluster.start, tmp_path)
    try:
        await asyncio.to_thread(cluster.create_topics, {"clicks": 1})
        await produce(cluster.bootstrap, "clicks", [b"before"])
        bootstrap = cluster.bootstrap
        await asyncio.to_thread(cluster.kill, 0)
        await asyncio.to_thread(cluster.restart, 0)
        assert cluster.bootstrap == bootstrap
        assert await consume(bootstrap, "clicks", "group", 1) == [b"before"]
    finally:
        await asyncio.to_thread(cluster.stop)


@pytest.mark.slow
async def test_two_of_three_brokers_still_take_and_give_records(tmp_path: Path) -> None:
    cluster = await asyncio.to_thread(KafkaCluster.start, tmp_path, 3)
    try:
        await asyncio.to_thread(cluster.create_topics, {"clicks": 3})
        await produce(cluster.bootstrap, "clicks", [b"before"])
        await asyncio.to_thread(cluster.kill, 0)
        await produce(cluster.bootstrap, "clicks", [b"without one"])
        assert sorted(await consume(cluster.bootstrap, "clicks", "group", 2)) == [b"before", b"without one"]
        await asyncio.to_thread(cluster.restart, 0)
    finally:
        await asyncio.to_thread(cluster.stop)


def test_without_java_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (why_no_kafka() or "").startswith("no java on the PATH")


def test_an_old_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"needs Java {kafka_jars.MINIMUM_JAVA} or newer" in (why_no_kafka() or "")
    assert "is version 8" in (why_no_kafka() or "")


def test_without_jars_and_maven_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "there is no mvn" in (why_no_kafka() or "")
