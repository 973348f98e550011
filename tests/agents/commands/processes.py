"""Commands of ours as processes of their own, whose log is read while they run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError

ROOT = Path(__file__).parents[3]
TIDEMARK = [sys.executable, "-m", "agents.commands.main"]
_URL = re.compile(r"http://[\w.]+:\d+")


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what configures tidemark, and with a hash key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
    return {**kept, "PYTHONPATH": str(ROOT), "TIDEMARK_HASH_KEY": "0123456789abcdef", **changes}


def until(seconds: float, done: Callable[[], bool]) -> bool:
    """Ask until the answer is yes, for at most so long; the last answer."""
    end = time.monotonic() + seconds
    while not (answer := done()) and time.monotonic() < end:
        time.sleep(0.05)
    return answer


class Running:
    """A process; killed at the end of the `with` if it still runs."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self._log = folder / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command], cwd=folder, env=environment() if env is None else env, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        """Everything on its standard output and error."""
        return self._log.read_text()

    @property
    def url(self) -> str:
        """Where it says that it listens."""
        assert until(60, lambda: _URL.search(self.said) is not None or self.process.poll() is not None)
        found = _URL.search(self.said)
        assert found is not None, self.said
        return found[0]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an answer; status 0 where there is none."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.request.HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, OSError):
            return 0, ""

    def is_ready(self, seconds: float = 60.0) -> bool:
        """Whether it says so within that time."""
        return until(seconds, lambda: self.get("/readyz")[0] == 200 or self.process.poll() is not None) and (
            self.process.poll() is None
        )

    def end(self, number: int = signal.SIGTERM, within_s: float = 45.0) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
