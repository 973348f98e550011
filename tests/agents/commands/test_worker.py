"""`tidemark worker` as a process, on a real Kafka and a real Redis."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.commands.main import main
from agents.commands.worker import OneLine
from agents.telling import target_of
from deploy.process import free_port
from deploy.stack import KafkaCluster, RedisServer
from tests.agents.commands.conftest import Record
from tests.agents.commands.processes import TIDEMARK, Running, environment, until
from tests.agents.shop_lines import event_json, topic_of
from tests.oracle import Event, Key, count
from tests.tables.streams import T0, random_stream

Produce = Callable[[Sequence[Record]], None]


@pytest.fixture
def worker(shop: Path, redis_url: str, tmp_path: Path) -> list[str]:
    """The command line of a worker of this test's own group."""
    return [*TIDEMARK, "worker", "--config", str(shop), "--store", redis_url]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def records_of(events: Sequence[Event], prefix: str) -> list[Record]:
    """Records of two partitions, by user."""
    return [
        (prefix + topic_of(event), int(event.user[1:]) % 2, event.time, event_json(event)) for event in events
    ]  # fmt: skip


def last_rows(bootstrap: str, topic: str) -> dict[Key, tuple[int, int, bool]]:
    """The last row of each window: shown, clicked, final."""

    async def read() -> dict[Key, tuple[int, int, bool]]:
        rows: dict[Key, tuple[int, int, bool]] = {}
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
            if not partitions:
                partitions = [TopicPartition(topic, p) for p in range(2)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning()
            while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        row = json.loads(record.value)
                        key = (row["model_id"], row["model_version"]), row["window_start"]
                        numbers = row["impressions"], row["clicks"], row["final"]
                        assert not (key in rows and rows[key][2]) or rows[key] == numbers, "a final row changed"
                        rows[key] = numbers
        return rows

    return asyncio.run(read())


def consumed(running: Running) -> float:
    """Records that a worker has taken from the inputs, as it counts them."""
    found = re.findall(r"^tidemark_events_consumed_total\{.*\} (\S+)$", running.get("/metrics")[1], re.MULTILINE)
    return sum(map(float, found))


def partitions(running: Running) -> set[int]:
    """Those whose state a worker holds, as its metrics name them."""
    found = re.findall(r'^tidemark_live_rows\{partition="(\d+)"', running.get("/metrics")[1], re.MULTILINE)
    return set(map(int, found))


def test_it_creates_its_topics_drains_at_sigterm_and_goes_on_where_it_was(
    worker: list[str], kafka: KafkaCluster, topic_prefix: str, shop: Path, tmp_path: Path, produce: Produce,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    events = sorted(random_stream(random.Random(1), events=400, disorder_ms=0), key=lambda event: event.time)
    events = [event for event in events if event.time < T0 + 8 * 60_000]  # so that no window becomes final
    half = len(events) // 2
    with Running(worker, tmp_path) as first:
        assert first.is_ready()
        assert main(["topics", "check", "--config", str(shop)]) == 0
        produce(records_of(events[:half], topic_prefix))
        assert until(60, lambda: consumed(first) == half)
        assert first.end() == 0
        assert "drained and stopped" in first.said
    produce(records_of(events[half:], topic_prefix))
    with Running(worker, tmp_path) as second:
        assert second.is_ready()
        windows = topic_prefix + "tidemark.windows"
        wanted = {key: (*numbers, False) for key, numbers in count(events).items()}
        assert until(60, lambda: last_rows(kafka.bootstrap, windows) == wanted)
        # The last checkpoint was written at the signal: nothing is read twice.
        assert consumed(second) == len(events) - half
        assert second.end() == 0
    assert "Traceback" not in first.said + second.said
    assert all(re.match(r"\d{4}-\d\d-\d\d \S+ [A-Z]+ \S+: ", line) for line in second.said.splitlines())


def alerts_told(bootstrap: str, topic: str) -> list[tuple[str, str]]:
    """Status and id of each, in order."""

    async def read() -> list[tuple[str, str]]:
        told: list[tuple[str, str]] = []
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            only = TopicPartition(topic, 0)
            consumer.assign([only])
            consumer.seek(only, 0)
            end = (await consumer.end_offsets([only]))[only]
            while await consumer.position(only) < end:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    alerts = [json.loads(record.value) for record in records]
                    told += [(alert["status"], alert["alert_id"]) for alert in alerts]
        return told

    return asyncio.run(read())


def test_what_fires_when_redis_loses_everything_goes_on_and_ends(
    worker: list[str], kafka: KafkaCluster, redis_url: str, topic_prefix: str, shop: Path, tmp_path: Path,
    produce: Produce,
) -> None:  # fmt: skip
    rule = 'name: failing, expr: "error_rate > 5%", for: 0s, keep_firing_for: 0s, min_n: 1'
    shop.write_text(shop.read_text() + f"rules: [{{{rule}}}]\nchannels: []\n")
    alerts = topic_prefix + "tidemark.alerts"

    def minutes(numbers: range, status: str) -> None:
        event = {"model_id": "fraud", "status": status}
        produce(
            [
                (f"{topic_prefix}inferences", p, at, json.dumps(event | {"event_time": at}).encode())
                for at in (T0 + number * 60_000 for number in numbers)
                for p in (0, 1)
            ]
        )

    with Running(worker, tmp_path) as running:
        assert running.is_ready()
        minutes(range(3), "error")
        assert until(60, lambda: len(alerts_told(kafka.bootstrap, alerts)) == 1)
        [(_, alert_id)] = alerts_told(kafka.bootstrap, alerts)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        assert until(60, lambda: f"windows partition {target_of('fraud', 2)}: rebuilding from" in running.said)
        minutes(range(3, 6), "ok")
        assert until(60, lambda: len(alerts_told(kafka.bootstrap, alerts)) == 2)
        assert alerts_told(kafka.bootstrap, alerts) == [("firing", alert_id), ("resolved", alert_id)]


def restores(running: Running) -> list[str]:
    """How often it has loaded the state of a partition, by agent and source."""
    return re.findall(r"^tidemark_restores_total\{.*", running.get("/metrics")[1], re.MULTILINE)


SESSION_S = 60.0
"""Of workers with an instance id: long beside everything that they do here."""


@pytest.fixture
def named(worker: list[str], shop: Path) -> list[str]:
    """The command line of a worker that has its partitions for half a minute after it was heard of last."""
    shop.write_text(shop.read_text() + f"kafka: {{session_timeout: {SESSION_S:.0f}s}}\n")
    return worker


def as_instance(instance_id: str) -> dict[str, str]:
    return environment(TIDEMARK_KAFKA_INSTANCE_ID=instance_id)


def test_killed_and_started_at_once_under_its_instance_id_it_waits_for_no_session(
    named: list[str], kafka: KafkaCluster, topic_prefix: str, shop: Path, tmp_path: Path, produce: Produce
) -> None:
    assert main(["topics", "create", "--config", str(shop)]) == 0
    events = sorted(random_stream(random.Random(2), events=400, disorder_ms=0), key=lambda event: event.time)
    events = [event for event in events if event.time < T0 + 8 * 60_000]
    half = len(events) // 2
    wanted = {key: (*numbers, False) for key, numbers in count(events).items()}
    with Running(named, tmp_path, as_instance("a")) as killed, Running(named, tmp_path, as_instance("b")) as other:
        assert until(60, lambda: partitions(killed) | partitions(other) == {0, 1})
        assert until(60, lambda: len(partitions(killed)) == len(partitions(other)) == 1)
        produce(records_of(events[:half], topic_prefix))
        assert until(60, lambda: consumed(killed) + consumed(other) == half)
        had, restored = partitions(killed), restores(other)
        killed.end(signal.SIGKILL)
        began = time.monotonic()
        with Running(named, tmp_path, as_instance("a")) as again:
            produce(records_of(events[half:], topic_prefix))
            windows = topic_prefix + "tidemark.windows"
            assert until(SESSION_S, lambda: last_rows(kafka.bootstrap, windows) == wanted)
            assert time.monotonic() - began < SESSION_S / 2
            assert partitions(again) == had
            # The other one has noticed nothing.
            assert restored and restores(other) == restored
            assert (again.end(), other.end()) == (0, 0)


def test_of_two_workers_with_one_instance_id_the_older_ends(
    named: list[str], topic_prefix: str, tmp_path: Path, produce: Produce
) -> None:
    with Running(named, tmp_path, as_instance("same")) as older:
        assert older.is_ready()
        with Running(named, tmp_path, as_instance("same")) as newer:
            assert older.process.wait(SESSION_S / 2) == 1
            assert older.said.splitlines()[-1] == (
                "tidemark: error: another worker took over the instance id 'same': give each worker its own"
            )
            assert "Traceback" not in older.said
            assert newer.is_ready()
            produce([(topic_prefix + "clicks", 0, T0, b"{}"), (topic_prefix + "clicks", 1, T0, b"{}")])
            assert until(60, lambda: consumed(newer) == 2)
            assert newer.end() == 0


def test_two_workers_take_ports_of_their_own_where_none_was_asked_for(worker: list[str], tmp_path: Path) -> None:
    with Running(worker, tmp_path) as one, Running(worker, tmp_path) as other:
        assert one.is_ready() and other.is_ready()
        assert one.url != other.url
        assert (one.end(), other.end()) == (0, 0)


def test_faust_can_run_it_too(shop: Path, redis_url: str, tmp_path: Path) -> None:
    port = str(free_port())
    command = [sys.executable, "-m", "faust", "-A", "agents.app", "worker", "--loglevel", "info", "--web-port", port]
    env = environment(TIDEMARK_CONFIG=str(shop), TIDEMARK_STORE=redis_url)
    with Running(command, tmp_path, env) as running:
        assert until(60, lambda: f"listening on http://127.0.0.1:{port}" in running.said)
        assert running.is_ready()
        assert main(["topics", "check", "--config", str(shop)]) == 0
        assert running.end() == 0
    assert "Traceback" not in running.said
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == set()


# ---------------------------------------------------------------- what keeps it from starting


def assert_ends_with(running: Running, said: str, within_s: float = 60.0) -> None:
    """It fails in time, with one line for the error and no traceback."""
    assert running.process.wait(within_s) == 1
    *before, last = running.said.splitlines()
    assert last.startswith("tidemark: error: ") and said in last
    assert not any(" ERROR " in line or "Traceback" in line for line in before), running.said


def test_a_port_that_was_asked_for_and_is_taken(worker: list[str], taken_port: int, tmp_path: Path) -> None:
    with Running([*worker, "--web-port", str(taken_port)], tmp_path) as running:
        assert_ends_with(running, f"cannot listen on 127.0.0.1:{taken_port}: Address already in use; choose another")
    assert "group" not in running.said


def test_no_broker(redis_url: str, tmp_path: Path) -> None:
    broker = f"kafka://127.0.0.1:{free_port()}"
    with Running([*TIDEMARK, "worker", "--broker", broker, "--store", redis_url], tmp_path) as running:
        assert_ends_with(running, f"no broker answers at {broker}")


def test_inputs_that_cannot_be_joined_partition_by_partition(
    worker: list[str], kafka: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    kafka.create_topics({f"{topic_prefix}impressions": 4, f"{topic_prefix}clicks": 2})
    with Running(worker, tmp_path) as running:
        assert_ends_with(running, "have 4 and 2 partitions: the join needs the same number")


def test_no_store(tmp_path: Path) -> None:
    store = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with Running([*TIDEMARK, "worker", "--store", store], tmp_path) as running:
        assert_ends_with(running, "is unavailable")
    assert "secret" not in running.said


def test_a_store_that_does_not_answer(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path / "redis") as server:
        server.pause()
        with Running([*TIDEMARK, "worker", "--store", server.url], tmp_path) as running:
            assert_ends_with(running, f"store {server.url} is unavailable")
        server.resume()


def test_a_broker_that_does_not_answer_can_be_waited_for_or_not(redis_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = f"kafka://127.0.0.1:{silent.getsockname()[1]}"
        command = [*TIDEMARK, "worker", "--broker", broker, "--store", redis_url]
        with Running(command, tmp_path) as patient, Running(command, tmp_path) as interrupted:
            assert interrupted.get("/livez")[0] == 200
            status, why = interrupted.get("/readyz")
            assert status == 503 and "waiting for the consumer group" in why
            started = time.monotonic()
            assert interrupted.end() == 0
            assert time.monotonic() - started < 20
            assert_ends_with(patient, broker)


# ---------------------------------------------------------------- what ends it


FAILING = """\
import sys
from agents.join_state import JoinState

def fail(*_):
    raise ZeroDivisionError("as an example")

JoinState.apply = fail
from agents.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_an_agent_that_fails_ends_the_worker_and_its_batch_is_read_again(
    worker: list[str], topic_prefix: str, shop: Path, tmp_path: Path, produce: Produce
) -> None:
    assert main(["topics", "create", "--config", str(shop)]) == 0
    produce([(topic_prefix + "clicks", 0, T0, b"{}")])
    with Running([sys.executable, "-c", FAILING, *worker[len(TIDEMARK) :]], tmp_path) as running:
        assert running.process.wait(60) == 1
    last = running.said.splitlines()[-1]
    assert last == "tidemark: error: the worker crashed: ZeroDivisionError('as an example')"
    assert "Traceback" not in running.said
    with Running(worker, tmp_path) as next_owner:
        assert until(60, lambda: consumed(next_owner) == 1)
        assert next_owner.end() == 0


HANGING = """\
import sys, threading
from types import SimpleNamespace
from agents.commands.worker import LastResort

threading.Thread(target=threading.Event().wait).start()
failure = ZeroDivisionError() if sys.argv[1] == "failed" else None
resort = LastResort(SimpleNamespace(drained=sys.argv[1] != "not", failure=failure), 0.2, 0.4)
resort.start()
resort.cancel()
"""


@pytest.mark.parametrize(("state", "status"), [("drained", 0), ("not", 1), ("failed", 1)])
def test_a_client_that_does_not_stop_does_not_keep_the_process(state: str, status: int, tmp_path: Path) -> None:
    with Running([sys.executable, "-c", HANGING, state], tmp_path) as running:
        assert running.process.wait(60) == status
    assert len(running.said.splitlines()) == 1


def test_a_traceback_becomes_the_end_of_its_line() -> None:
    try:
        raise ZeroDivisionError("by\nzero")
    except ZeroDivisionError:
        record = logging.LogRecord("tidemark.x", logging.ERROR, "f", 1, "it failed", (), sys.exc_info())
    assert OneLine("%(levelname)s %(message)s").format(record) == "ERROR it failed: ZeroDivisionError('by\\nzero')"


def test_a_configuration_that_is_wrong_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("join: {attribution: first}\n")
    assert main(["worker", "--config", str(config)]) == 2
    assert f"{config}:1: join.attribution" in capsys.readouterr().err
    assert main(["worker", "--web-port", "0", "--broker", os.devnull]) == 2
