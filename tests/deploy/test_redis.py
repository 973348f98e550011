"""The Redis servers that the tests rely on do what a real one does when it stalls, dies or fails over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import redis
import redis.sentinel

from deploy.stack import RedisCluster, RedisSentinelSet, RedisServer
from tables.errors import StoreUnavailable


def test_a_restarted_server_keeps_its_port_and_forgets_its_data(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path) as server:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.set("shown", 1)
            server.restart()
            assert server.url == url
            assert client.get("shown") is None


def test_a_durable_server_loses_nothing_when_it_is_killed(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path, durable=True) as server, server.client() as client:
        client.set("shown", 1)
        server.kill()
        assert not server.running
        server.restart()
        assert client.get("shown") == b"1"


def test_a_paused_server_keeps_its_connections_and_answers_when_resumed(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path) as server:
        impatient = redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None)
        with impatient as client:
            client.set("shown", 1)
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.get("shown")
            server.resume()
            assert client.get("shown") == b"1"


def test_a_paused_server_can_be_stopped(tmp_path: Path) -> None:
    server = RedisServer.start(tmp_path)
    server.pause()
    server.stop()
    assert not server.running


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no-such-option") as raised:
        RedisServer.start(tmp_path, extra_args=("--no-such-option", "1"))
    assert "\n" not in str(raised.value)


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path / "first") as first, pytest.raises(StoreUnavailable, match="in use"):
        RedisServer.start(tmp_path / "second", port=first.port)


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[RedisServer] = []
    thread = threading.Thread(target=lambda: started.append(RedisServer.start(tmp_path)))
    thread.start()
    thread.join()
    time.sleep(0.1)
    with started[0] as server, server.client() as client:
        assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_a_server_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from deploy.stack import RedisServer\n"
        "print(RedisServer.start(pathlib.Path(sys.argv[1])).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    psutil.wait_procs([server], timeout=10)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_a_sentinel_promotes_the_replica_when_the_master_is_gone(tmp_path: Path) -> None:
    with RedisSentinelSet.start(tmp_path) as redis_set:
        sentinel = redis.sentinel.Sentinel(redis_set.sentinels)  # type: ignore[no-untyped-call]
        client = sentinel.master_for(redis_set.service)  # type: ignore[no-untyped-call]
        client.set("shown", 1)
        client.wait(1, 5000)  # until the replica has it
        redis_set.master.kill()
        redis_set.wait_for_failover()
        assert client.get("shown") == b"1"
        client.set("shown", 2)
        client.close()
        for known in sentinel.sentinels:
            known.close()


def test_a_cluster_spreads_keys_over_its_masters_and_keeps_a_hash_tag_together(tmp_path: Path) -> None:
    with RedisCluster.start(tmp_path) as cluster, redis.RedisCluster.from_url(cluster.nodes[0].url) as client:
        slots = {client.keyslot(f"key-{number}") for number in range(100)}
        owners = {client.nodes_manager.get_node_from_slot(slot).port for slot in slots}
        assert owners == {node.port for node in cluster.nodes}
        with client.pipeline(transaction=True) as together:
            together.set("{topics:0}:rows", 1).set("{topics:0}:offsets", 2)
            assert together.execute() == [b"OK", b"OK"]
