"""Rules in SQL: one SELECT over the tables of `alerting/sql/tables.py`, checked in the process that will run it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from alerting.alert import printable
from alerting.sql.tables import TABLES
from tables.errors import ConfigError, RunError

MOST_ROWS: Final = 1_000
"""Rows of an answer; a rule that gives more says nothing that anybody could read."""
LENGTH_BYTES: Final = 4
"""Before each frame, in network order."""
LONGEST_FRAME: Final = 16 << 20

_LONGEST_TEXT: Final = 20_000
_CHECK_S: Final = 2.0
_START_S: Final = 20.0
_MEMORY_MB: Final = 256
_MESSAGE_LIMIT: Final = 500
_WARM_UP: Final = "SELECT model_id, sum(clicks) AS value FROM ctr WHERE age = 0 GROUP BY model_id"


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """A query that has passed `parse_sql`."""

    text: str


def parse_sql(text: object, where: str) -> SqlQuery:
    """Check a query without running it; takes a third of a second, and may be called in a thread.

    Raises ConfigError, which begins with `where` and names the line within the query, and RunError where the checking
    process cannot be started.
    """
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{where}: expected a SELECT, got {printable(repr(text))}")
    if len(text) > _LONGEST_TEXT:
        raise ConfigError(f"{where}: expected at most {_LONGEST_TEXT} characters of SQL, got {len(text)}")
    if not all(char.isprintable() or char in "\n\t\r" for char in text):
        raise ConfigError(f"{where}: expected printable characters, got {printable(repr(text))}")
    try:
        _check(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return SqlQuery(text)


def child_command() -> list[str]:
    """What starts the process; by its path and isolated, so that neither folder nor environment matters to it."""
    return [sys.executable, "-I", str(Path(__file__).with_name("child.py"))]


def settings_frame(memory_mb: int) -> bytes:
    """What the process must be told first."""
    settings = {"tables": dict(TABLES), "memory_mb": memory_mb, "most_rows": MOST_ROWS, "warm_up": _WARM_UP}
    return framed(settings)


def framed(value: Any) -> bytes:
    """A frame of the protocol with the process."""
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(LENGTH_BYTES) + data


def unframed_length(head: bytes) -> int:
    """Bytes that follow the length of a frame. Raises ValueError where they are too many."""
    length = int.from_bytes(head)
    if length > LONGEST_FRAME:
        raise ValueError(f"frame of {length} bytes")
    return length


def described(reply: dict[str, Any]) -> str:
    """The error of a reply as one line, with the line of the query where it is known."""
    line = f"line {reply['line']}: " if reply["line"] else ""
    return printable(line + reply["error"], _MESSAGE_LIMIT)


@lru_cache(maxsize=1_000)
def _check(text: str) -> None:
    """In a process of its own: planning can hang or fill the memory just as running can. What passed is remembered."""
    frames = settings_frame(_MEMORY_MB) + framed({"check": text, "within_s": _CHECK_S})
    try:
        done = subprocess.run(
            child_command(),
            input=frames,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            timeout=_START_S,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"the process that checks SQL cannot be started: {error}") from error
    replies = _replies(done.stdout)
    if not replies:
        raise RunError(f"the process that checks SQL ended with code {done.returncode}")
    if len(replies) == 1:
        raise ConfigError(f"expected a query that is planned within {_CHECK_S:g} s and {_MEMORY_MB} MB")
    if "error" in replies[1]:
        raise ConfigError(described(replies[1]))


def _replies(data: bytes) -> list[dict[str, Any]]:
    replies = []
    while data:
        end = LENGTH_BYTES + unframed_length(data[:LENGTH_BYTES])
        replies.append(msgspec.msgpack.decode(data[LENGTH_BYTES:end]))
        data = data[end:]
    return replies
