"""The command: what runs, what is stopped, what it refuses to remove; and that the versions agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis
import yaml

from deploy import kafka_jars, stack
from deploy.stack import RedisServer, RunningServer, Stack

DEPLOY = Path(stack.__file__).parent


def running_redis(folder: Path) -> RedisServer:
    """A stack whose one server is a Redis: the parts around it are the same, and a broker takes seconds."""
    server = RedisServer.start(folder / "redis", durable=True)
    listed = Stack("kafka://127.0.0.1:1", server.url, (RunningServer.of(server.process),))
    listed.save(folder)
    return server


def test_where_nothing_was_started_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "down", "clean"):
        assert stack.main([command, "--folder", str(tmp_path / "none")]) == 0
        assert capsys.readouterr().out == "nothing runs\n"


def test_up_finds_what_runs_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_redis(tmp_path) as server:
        assert stack.main(["up", "--folder", str(tmp_path)]) == 0
        assert f"export TIDEMARK_STORE={server.url}\n" in capsys.readouterr().out


def test_down_stops_the_servers_and_keeps_their_data(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        with server.client() as client:
            client.set("shown", 1)
        assert stack.main(["down", "--folder", str(tmp_path)]) == 0
        assert not server.running
        server.restart()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("shown") == b"1"


def test_clean_removes_the_folder(tmp_path: Path) -> None:
    with running_redis(tmp_path / "stack") as server:
        assert stack.main(["clean", "--folder", str(tmp_path / "stack")]) == 0
        assert not server.running
    assert not (tmp_path / "stack").exists()


def test_clean_refuses_a_folder_with_files_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    assert stack.main(["clean", "--folder", str(tmp_path)]) == 1
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


def test_a_later_process_with_the_same_id_is_left_alone(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        state = json.loads((tmp_path / stack.STATE).read_text())
        state["servers"][0]["created"] -= 3600
        (tmp_path / stack.STATE).write_text(json.dumps(state))
        assert stack.main(["down", "--folder", str(tmp_path)]) == 0
        assert server.running


def test_a_broken_state_file_is_one_line_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / stack.STATE).write_text("{}")
    assert stack.main(["status", "--folder", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert stack.STATE in error and error.count("\n") == 1


def test_tests_and_compose_run_the_same_kafka() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert compose["services"]["kafka"]["image"].endswith(f":{kafka_jars.KAFKA_VERSION}")
    pom = kafka_jars.POM.read_text()
    assert re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>(.+)</version>", pom)[1] == (  # type: ignore[index]
        kafka_jars.KAFKA_VERSION
    )
