"""`tidemark doctor`: what it finds where all is well, and where something is not."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.commands.findings import Finding, examine, examine_store, examine_web, lag_by_topic
from agents.commands.main import main
from agents.config import Config, WebConfig, load_config
from agents.kafka_admin import OffsetRange, prepare_topics
from deploy.stack import KafkaCluster, RedisServer

KEY = {"TIDEMARK_HASH_KEY": "0123456789abcdef"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def worker_that_says(status: int, body: bytes = b"{}") -> Iterator[int]:
    """Something that answers every request like this; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def by_part(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.part: finding for finding in findings}


def test_all_is_well(
    shop: Path,
    topic_prefix: str,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIDEMARK_HASH_KEY", KEY["TIDEMARK_HASH_KEY"])
    asyncio.run(prepare_topics(load_config(shop, {})))
    options = ["--config", str(shop), "--store", redis_url, "--web-port", str(free_port())]
    assert main(["doctor", *options]) == 0
    shown = capsys.readouterr().out
    for part in ("broker", "topics", "lag", "store", "web", "hash key"):
        assert f"\n  ok       {part} " in shown
    for name in ("tidemark", "python", "faust", "aiokafka", "redis-py"):
        assert f"{name} " in shown.splitlines()[0]
    # No worker runs, which is worth saying and nothing wrong.
    assert f"  warning  workers   none in group {topic_prefix}group" in shown
    assert len(shown.splitlines()) < 25


def test_nothing_is_reachable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEMARK_HASH_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        options = ["--broker", f"kafka://127.0.0.1:{port}", "--store", f"redis://127.0.0.1:{port}"]
        started = time.monotonic()
        assert main(["doctor", *options, "--web-port", str(port)]) == 1
        assert time.monotonic() - started < 60
    captured = capsys.readouterr()
    for part in ("broker", "store", "web"):
        assert f"\n  wrong    {part} " in captured.out
    assert "\n  warning  hash key " in captured.out
    assert "what to do" in captured.out
    assert captured.err == ""


def test_missing_topics_are_wrong(shop: Path, redis_url: str) -> None:
    config = load_config(shop, KEY, {"store": redis_url, "web_port": free_port()})
    findings = by_part(asyncio.run(examine(config)))
    assert findings["broker"].state == "ok"
    assert findings["topics"].state == "wrong"
    assert "impressions" in findings["topics"].text
    assert findings["topics"].remedy == "tidemark topics create"


def test_the_lag_is_what_the_group_has_not_committed(
    shop: Path, kafka: KafkaCluster, topic_prefix: str, redis_url: str, produce: Callable[..., None]
) -> None:
    config = load_config(shop, KEY, {"store": redis_url, "web_port": free_port()})
    asyncio.run(prepare_topics(config))
    clicks = config.topics.clicks
    produce([(clicks, index % 2, 1_000 + index, b"{}") for index in range(10)])

    async def work_and_look() -> dict[str, Finding]:
        worker = AIOKafkaConsumer(
            clicks, bootstrap_servers=kafka.bootstrap, group_id=config.group, enable_auto_commit=False
        )
        async with worker:
            # As a worker does it: with metadata.
            await worker.commit({TopicPartition(clicks, 0): (3, '{"checkpoint":1}')})
            return by_part(await examine(config))

    findings = asyncio.run(work_and_look())
    # Partition 0: 5 - 3; partition 1 has no commit: all of its 5.
    assert f"{clicks} 7" in findings["lag"].text
    assert findings["workers"].text == f"1 in group {config.group}"


def test_what_retention_removed_is_no_lag() -> None:
    held = {
        TopicPartition("clicks", 0): OffsetRange(100, 150),
        TopicPartition("clicks", 1): OffsetRange(0, 10),
        TopicPartition("changes", 0): OffsetRange(7, 7),
    }
    committed = {TopicPartition("clicks", 0): 20, TopicPartition("clicks", 1): 10}
    assert lag_by_topic(held, committed) == {"clicks": 50, "changes": 0}


async def test_the_store_is_measured_and_its_keys_counted(redis_url: str, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for partition in range(3):
            client.hset(f"tidemark:{{tidemark:join:{partition}}}:head", "epoch", 1)
        client.set("tidemark:{other:join:0}:head", 1)
    finding = await examine_store(load_config(None, KEY, {"store": redis_url}))
    assert finding.state == "ok"
    assert "3 keys of tidemark" in finding.text
    assert "Redis " in finding.text and " ms" in finding.text


async def test_a_store_that_evicts_is_worth_a_warning(redis_url: str, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            finding = await examine_store(load_config(None, KEY, {"store": redis_url}))
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "0")
    assert (finding.state, finding.remedy) == ("warning", "set maxmemory-policy noeviction")


def with_port(port: int, asked: bool = False) -> Config:
    return replace(load_config(None, {}), web=WebConfig(port=port, port_was_asked=asked))


async def test_a_worker_on_the_port_is_asked_whether_it_is_ready() -> None:
    with worker_that_says(200) as port:
        finding = await examine_web(with_port(port))
    assert finding.state == "ok" and "is ready" in finding.text
    with worker_that_says(503, b'{"store":"redis is away"}') as port:
        finding = await examine_web(with_port(port))
    assert finding.state == "wrong" and "redis is away" in finding.text


async def test_a_stranger_on_the_port_matters_only_where_the_port_was_asked_for() -> None:
    with worker_that_says(404) as port:
        assert (await examine_web(with_port(port))).state == "warning"
        assert (await examine_web(with_port(port, asked=True))).state == "wrong"


async def test_the_memory_broker_needs_no_looking_at(redis_url: str) -> None:
    config = load_config(None, KEY, {"broker": "memory://", "store": redis_url, "web_port": free_port()})
    assert all(finding.state == "ok" for finding in await examine(config))
