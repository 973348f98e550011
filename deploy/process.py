"""One server process: started, watched until it answers, paused, killed; and free ports for it."""

from __future__ import annotations

import atexit
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tables.errors import RunError

HOST = "127.0.0.1"

# Below the range from which the kernel takes outgoing ports, or a client's socket could sit on a port between
# our choosing it and the server's binding it; Redis Cluster also needs the port 10,000 above its own.
FIRST_PORT, LAST_PORT, CLUSTER_BUS_OFFSET = 11_000, 21_999, 10_000

POLL_S = 0.05

# The kernel kills a child with the *thread* that started it, so one thread that lives as long as this process
# starts them all: a server started from a short-lived worker thread must survive that thread.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

# Asks to die with the parent, then becomes the server. In a process of its own, not as preexec_fn, since
# Python code between fork and exec can deadlock where other threads run.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def free_port(*, with_bus: bool = False) -> int:
    """A TCP port of this host that nothing listens on; with_bus: the one 10,000 above it is free as well."""
    for _ in range(200):
        port = random.SystemRandom().randint(FIRST_PORT, LAST_PORT)
        if _is_free(port) and not (with_bus and not _is_free(port + CLUSTER_BUS_OFFSET)):
            return port
    raise RunError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def wait_until(probe: Callable[[], bool], seconds: float, late: Callable[[], RunError]) -> None:
    """Ask until the probe says yes; after so many seconds raise what `late` returns."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            raise late()
        time.sleep(POLL_S)


class ServerProcess:
    """A server of which at most one process runs at a time, with the same arguments after every restart.

    Unless detached, it is killed with the process that started it, however that one ends (on Linux; elsewhere
    only when it ends in an orderly way). All methods block: from a coroutine call them in a thread.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log_path: Path,
        *,
        error: type[RunError],
        env: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = list(argv)
        self._error = error
        self._env = {**os.environ, **env} if env else None
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def pid(self) -> int:
        """The process id of the last start, or 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, without waiting until it answers. Raises the server's error if it cannot."""
        if self.running:
            return
        argv = self._argv
        if sys.platform == "linux" and not self._detached:
            argv = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *argv]
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            try:
                self._process = _SPAWNER.submit(
                    subprocess.Popen,
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    # A Ctrl-C at the terminal is for the owner, which then stops its servers in order.
                    start_new_session=True,
                ).result()
            except OSError as error:
                raise self._error(f"{self.name} cannot be started: {error}") from error
        if not self._detached:
            atexit.register(self.kill)

    def wait_ready(self, probe: Callable[[], bool], seconds: float) -> None:
        """Wait until the server answers. Raises its error, with the end of its log, if it dies or is late."""

        def alive_and_ready() -> bool:
            if not self.running:
                assert self._process is not None
                code = self._process.returncode
                raise self._error(f"{self.name} ended with code {code} while starting: {self.log_tail()}")
            return probe()

        wait_until(
            alive_and_ready,
            seconds,
            lambda: self._error(f"{self.name} does not answer after {seconds:.0f} s: {self.log_tail()}"),
        )

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM), without waiting; a paused one wakes up for it."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def stop(self, grace_s: float = 5.0) -> None:
        """End the process in order, or by force when it has not ended after the grace."""
        if self._process is None:
            return
        self.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """SIGKILL, as a power cut would; returns when the process is gone."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
        atexit.unregister(self.kill)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def log_tail(self, lines: int = 3) -> str:
        """The last lines of the server's log, as one line."""
        try:
            text = self.log_path.read_text(errors="replace")
        except OSError:
            return "(no log)"
        tail = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
        return " | ".join(tail) or "(empty log)"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)
