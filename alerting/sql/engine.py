"""Runs the SQL of rules in a process beside the worker, which neither waits for it nor shares its memory.

A query that takes too long costs the process, which is killed and started again, and the other queries of that minute
nothing: those that hung before come last. A rule that hangs three times in a row is paused.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

import msgspec

from alerting.sql.query import LENGTH_BYTES, SqlQuery, child_command, described, framed, settings_frame, unframed_length
from alerting.sql.tables import MINUTE_MS, Payload
from tables.errors import ConfigError, RunError

PAUSE_MS: Final = 10 * MINUTE_MS

_START_S: Final = 20.0
_LOAD_S: Final = 10.0
#: The process ends itself so much after we should have killed it, in case that we no longer can.
_GRACE_S: Final = 1.0
_STRIKES: Final = 3
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0


class SqlFailure(StrEnum):
    """Why a query has no answer; also the label under which failures are counted."""

    TIMEOUT = "timeout"
    CRASHED = "crashed"
    """It took more memory than there is, and the process with it."""
    FAILED = "failed"
    TOO_MANY_ROWS = "too_many_rows"
    PAUSED = "paused"
    NO_TIME = "no_time"
    """Other queries of the minute took all there is."""
    UNAVAILABLE = "unavailable"
    """The process could not be started, or could not take the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlRow:
    """One row of an answer. None: the query gave NULL, an infinity or NaN."""

    model_id: str
    model_version: str
    feature: str
    value: float | None
    threshold: float | None
    numbers: Mapping[str, float | None]
    """The other columns by their names in lower case; not copied, treat it as read-only."""


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """Rows ordered by model, version and feature, one for each; or why there are none, and what the engine said."""

    rows: tuple[SqlRow, ...] = ()
    failure: SqlFailure | None = None
    detail: str = ""


class SqlEngine:
    """At most one process, one minute at a time; use `start` to have it ready, and `close`, or an `async with`.

    timeout_s: for one query; minute_s: for all of one minute, after which none begins. memory_mb: for what a query
    holds; the process may take 256 MB more than that and what it has after its start. Raises ConfigError for values
    that cannot work.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 2.0,
        minute_s: float = 20.0,
        memory_mb: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < timeout_s <= minute_s:
            raise ConfigError(f"sql: expected 0 < timeout <= time for a minute, got {timeout_s} s and {minute_s} s")
        if memory_mb < 16:
            raise ConfigError(f"sql: expected at least 16 MB of memory, got {memory_mb}")
        self._timeout_s = timeout_s
        self._minute_s = minute_s
        self._memory_mb = memory_mb
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._process: Process | None = None
        self._failed_starts = 0
        self._not_before = 0.0
        # By text, so that a rule that has been mended begins anew. Texts come from the rules: they are few.
        self._strikes: dict[str, int] = {}
        self._paused_until: dict[str, int] = {}

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process ahead of its first use. Raises RunError where that fails."""
        async with self._one_at_a_time:
            await self._have_process()

    async def close(self) -> None:
        """End the process; a later `run` starts another one."""
        async with self._one_at_a_time:
            await self._discard()

    async def run(self, queries: Mapping[str, SqlQuery], tables: Payload) -> dict[str, SqlAnswer]:
        """The answer of each query, by name in the order given, on the same rows."""
        answers: dict[str, SqlAnswer] = {}
        async with self._one_at_a_time:
            until = self._clock() + self._minute_s
            loaded: Process | None = None
            for name in sorted(queries, key=lambda name: (self._strikes.get(queries[name].text, 0), name)):
                text = queries[name].text
                if tables.minute_ms < self._paused_until.get(text, tables.minute_ms):
                    answers[name] = SqlAnswer(failure=SqlFailure.PAUSED)
                    continue
                if self._clock() >= until:
                    answers[name] = SqlAnswer(failure=SqlFailure.NO_TIME)
                    continue
                try:
                    if self._process is None or self._process is not loaded:
                        loaded = await self._load(tables)
                except RunError as error:
                    answers[name] = SqlAnswer(failure=SqlFailure.UNAVAILABLE, detail=str(error))
                    continue
                answers[name] = await self._answer(text)
                self._remember(text, answers[name].failure, tables.minute_ms)
        return {name: answers[name] for name in queries}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _answer(self, text: str) -> SqlAnswer:
        try:
            reply = await self._ask({"run": text}, self._timeout_s)
        except TimeoutError:
            return SqlAnswer(failure=SqlFailure.TIMEOUT, detail=f"longer than {self._timeout_s:g} s")
        except _Ended:
            return SqlAnswer(failure=SqlFailure.CRASHED, detail="the process ended")
        if "error" in reply:
            failure = SqlFailure.CRASHED if reply["last"] else SqlFailure.FAILED
            return SqlAnswer(failure=failure, detail=described(reply))
        if "too_many_rows" in reply:
            return SqlAnswer(failure=SqlFailure.TOO_MANY_ROWS, detail=f"more than {reply['too_many_rows']}")
        return SqlAnswer(tuple(_row(reply["numbers"], keys, values) for keys, values in reply["rows"]))

    def _remember(self, text: str, failure: SqlFailure | None, minute_ms: int) -> None:
        self._paused_until.pop(text, None)
        if failure not in (SqlFailure.TIMEOUT, SqlFailure.CRASHED):
            self._strikes.pop(text, None)
            return
        self._strikes[text] = self._strikes.get(text, 0) + 1
        if self._strikes[text] % _STRIKES == 0:
            self._paused_until[text] = minute_ms + PAUSE_MS

    async def _load(self, tables: Payload) -> Process:
        """A process that holds the rows."""
        is_new = self._process is None
        process = await self._have_process()
        try:
            reply = await self._ask({"load": [tables.minute_ms, tables.chunks]}, _LOAD_S)
        except (TimeoutError, _Ended) as error:
            # It may have been killed since the last minute, which says nothing about another one.
            if not is_new:
                return await self._load(tables)
            raise self._failed("it did not take the rows") from error
        if "error" in reply:
            await self._discard()
            raise self._failed(described(reply))
        self._failed_starts = 0
        return process

    async def _have_process(self) -> Process:
        if self._process is not None and self._process.returncode is not None:
            await self._discard()
        if self._process is not None:
            return self._process
        if self._clock() < self._not_before:
            raise RunError("the process for SQL rules is not to be started yet: it failed a moment ago")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *child_command(),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={},
                cwd="/",
                # A Ctrl-C at the terminal is for us; we end it when we have drained.
                start_new_session=True,
            )
            await self._exchange(settings_frame(self._memory_mb), _START_S)
        except (OSError, TimeoutError, _Ended) as error:
            raise self._failed(f"{type(error).__name__} {error}") from error
        assert self._process is not None
        return self._process

    def _failed(self, why: str) -> RunError:
        """Put off the next start: twice as long each time."""
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._failed_starts, 10))
        self._failed_starts += 1
        self._not_before = self._clock() + wait_s
        return RunError(f"the process for SQL rules cannot be used: {why}")

    async def _ask(self, request: dict[str, Any], within_s: float) -> dict[str, Any]:
        """The reply. Raises TimeoutError and _Ended; the process is gone then."""
        reply = await self._exchange(framed({**request, "within_s": within_s + _GRACE_S}), within_s)
        if reply.get("last"):
            await self._discard()
        return reply

    async def _exchange(self, frame: bytes, within_s: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                process.stdin.write(frame)
                await process.stdin.drain()
                length = unframed_length(await process.stdout.readexactly(LENGTH_BYTES))
                reply: dict[str, Any] = msgspec.msgpack.decode(await process.stdout.readexactly(length))
                return reply
        except (EOFError, ConnectionError, ValueError, msgspec.DecodeError) as error:
            await self._discard()
            raise _Ended from error
        except BaseException:
            # Too late, or given up by who called: an answer may still come, which must not be taken for another's.
            await self._discard()
            raise

    async def _discard(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class _Ended(Exception):
    """The process has ended, or is no longer understood."""


def _row(names: list[str], keys: list[str], values: list[float | None]) -> SqlRow:
    numbers = dict(zip(names, values, strict=True))
    value, threshold = numbers.pop("value"), numbers.pop("threshold", None)
    model_id, model_version, feature = keys
    return SqlRow(
        model_id=model_id,
        model_version=model_version,
        feature=feature,
        value=value,
        threshold=threshold,
        numbers=numbers,
    )
