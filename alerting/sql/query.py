"""Rules in SQL: one SELECT over the tables of `alerting/sql/tables.py`, checked in the process that will run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
_MOST_REMEMBERED: Final = 1_000
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
    if problem := _problem(text):
        raise ConfigError(f"{where}: {problem}")
    assert isinstance(text, str)  # else there is a problem
    if text in _passed:
        return SqlQuery(text)
    replies = _checked([text])
    if not replies:
        raise ConfigError(f"{where}: expected a query that is planned within {_CHECK_S:g} s and {_MEMORY_MB} MB")
    if "error" in replies[0]:
        raise ConfigError(f"{where}: {described(replies[0])}")
    _remember(text)
    return SqlQuery(text)


def check_together(texts: Iterable[object]) -> None:
    """Check many queries in one process, so that `parse_sql` need not start one for each of those that pass.

    Raises RunError where the process cannot be started.
    """
    new = [text for text in texts if isinstance(text, str) and text not in _passed and not _problem(text)]
    if len(new) > 1:
        for text, reply in zip(new, _checked(new), strict=False):
            if "error" not in reply:
                _remember(text)


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


#: What has passed, the latest last.
_passed: dict[str, None] = {}


def _remember(text: str) -> None:
    _passed[text] = None
    if len(_passed) > _MOST_REMEMBERED:
        del _passed[next(iter(_passed))]


def _problem(text: object) -> str:
    """What is wrong with it at first sight."""
    if not isinstance(text, str) or not text.strip():
        return f"expected a SELECT, got {printable(repr(text))}"
    if len(text) > _LONGEST_TEXT:
        return f"expected at most {_LONGEST_TEXT} characters of SQL, got {len(text)}"
    if not all(char.isprintable() or char in "\n\t\r" for char in text):
        return f"expected printable characters, got {printable(repr(text))}"
    return ""


def _checked(texts: Sequence[str]) -> list[dict[str, Any]]:
    """A reply to each, up to the one at which the process ended.

    In a process of its own: planning can hang or fill the memory just as running can.
    """
    frames = settings_frame(_MEMORY_MB) + b"".join(framed({"check": text, "within_s": _CHECK_S}) for text in texts)
    try:
        done = subprocess.run(
            child_command(),
            input=frames,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            timeout=_START_S + _CHECK_S * (len(texts) - 1),
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"the process that checks SQL cannot be started: {error}") from error
    replies = _replies(done.stdout)
    if not replies:
        raise RunError(f"the process that checks SQL ended with code {done.returncode}")
    return replies[1:]


def _replies(data: bytes) -> list[dict[str, Any]]:
    replies = []
    while data:
        end = LENGTH_BYTES + unframed_length(data[:LENGTH_BYTES])
        replies.append(msgspec.msgpack.decode(data[LENGTH_BYTES:end]))
        data = data[end:]
    return replies
