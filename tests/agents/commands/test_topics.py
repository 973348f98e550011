"""`tidemark topics`, on a real broker."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from agents.commands.main import main
from agents.commands.topics import wrong_topics
from agents.config import TopicsConfig, load_config
from agents.kafka_admin import TopicState, prepare_topics
from deploy.stack import KafkaCluster

DAY_MS = 86_400_000


def test_create_makes_all_ten_once(shop: Path, topic_prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "create", "--config", str(shop)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "10 created, 0 there before"
    assert f"created {topic_prefix}impressions" in lines

    assert main(["topics", "create", "--config", str(shop)]) == 0
    assert capsys.readouterr().out == "0 created, 10 there before\n"
    assert main(["topics", "check", "--config", str(shop)]) == 0
    assert capsys.readouterr().out == "ok: 10 topics\n"


def test_what_exists_keeps_its_partitions(
    shop: Path, kafka: KafkaCluster, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topics({f"{topic_prefix}inferences": 7})
    created = asyncio.run(prepare_topics(load_config(shop, {})))
    assert len(created) == 9
    assert f"{topic_prefix}inferences" not in created

    main(["topics", "list", "--config", str(shop)])
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows[f"{topic_prefix}inferences"] == ["7", "1", "0"]
    assert rows[f"{topic_prefix}clicks"] == ["2", "1", "0"]


def test_workers_that_start_together_may_create_together(shop: Path) -> None:
    config = load_config(shop, {})

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(prepare_topics(config), prepare_topics(config)))

    one, other = asyncio.run(both())
    assert len({*one, *other}) == len(one) + len(other) == 10


def test_what_tidemark_writes_is_kept_for_a_known_time(shop: Path, kafka: KafkaCluster, topic_prefix: str) -> None:
    asyncio.run(prepare_topics(load_config(shop, {})))

    async def retention() -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        try:
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, f"{topic_prefix}tidemark.{name}", {"retention.ms": None})
                for name in ("partials", "windows", "dead_letters", "alerts")
            ]
            (answer,) = await admin.describe_configs(resources)
            found = answer.to_object()["resources"]
            return {topic["resource_name"]: int(topic["config_entries"][0]["config_value"]) for topic in found}
        finally:
            await admin.close()

    assert asyncio.run(retention()) == {
        f"{topic_prefix}tidemark.partials": DAY_MS // 4,
        f"{topic_prefix}tidemark.windows": 7 * DAY_MS,
        f"{topic_prefix}tidemark.dead_letters": 7 * DAY_MS,
        f"{topic_prefix}tidemark.alerts": 30 * DAY_MS,
    }


def test_list_counts_messages_and_shows_what_is_missing(
    shop: Path,
    kafka: KafkaCluster,
    topic_prefix: str,
    produce: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    kafka.create_topics({f"{topic_prefix}clicks": 3})
    produce([(f"{topic_prefix}clicks", index % 3, 1_000 + index, b"{}") for index in range(10)])
    assert main(["topics", "list", "--config", str(shop)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["topic", "partitions", "replicas", "messages"]
    assert [f"{topic_prefix}clicks", "3", "1", "10"] in rows
    assert [f"{topic_prefix}impressions", "missing"] in rows


def test_check_wants_impressions_and_clicks_to_have_the_same_partitions(
    shop: Path, kafka: KafkaCluster, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topics({f"{topic_prefix}impressions": 3, f"{topic_prefix}clicks": 5})
    assert main(["topics", "check", "--config", str(shop)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert f"tidemark: error: topic {topic_prefix}outcomes is missing" in lines
    assert len(lines) == 8 + 1
    assert lines[-1].startswith(
        f"tidemark: error: topics {topic_prefix}impressions and {topic_prefix}clicks have 3 and 5 partitions"
    )


def test_more_replicas_than_brokers_is_a_refusal_in_one_line(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write_text(shop.read_text().replace("partitions: 2", "partitions: 2, replication: 3"))
    assert main(["topics", "create", "--config", str(shop)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("tidemark: error: cannot create topic ")
    assert "replication factor" in said.lower()
    assert said.count("\n") == 1


def test_a_partition_without_a_leader_is_said() -> None:
    topics = TopicsConfig()
    existing = {
        name: TopicState(name, partitions=2, replication=1, leaderless=()) for name in (*topics.inputs, *topics.outputs)
    }
    assert wrong_topics(topics, existing) == []
    existing["clicks"] = TopicState("clicks", partitions=2, replication=1, leaderless=(1,))
    assert wrong_topics(topics, existing) == ["topic clicks has no leader for partition 1: brokers are down"]


def test_a_broker_that_accepts_and_says_nothing_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        assert main(["topics", "list", "--broker", f"kafka://127.0.0.1:{port}"]) == 1
        assert time.monotonic() - started < 60
    assert capsys.readouterr().err.startswith("tidemark: error: ")


def test_the_memory_broker_has_no_topics_to_manage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "list", "--broker", "memory://"]) == 2
    assert "got memory://" in capsys.readouterr().err
    assert asyncio.run(prepare_topics(load_config(None, {}, {"broker": "memory://"}))) == []
