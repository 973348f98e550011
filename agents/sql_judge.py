"""Asks the SQL engine on behalf of the partitions of the windows agent; they do not wait for its answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from agents.custodian import Held
from agents.windows_state import WindowsState
from alerting.sql.engine import SqlEngine
from tables.errors import RunError

log = logging.getLogger("tidemark.sql")


class SqlJudge:
    """One for a worker; `start`, then `wake` whenever there may be something to ask, and `close`."""

    def __init__(self, engine: SqlEngine, held: Callable[[], Iterable[Held[WindowsState]]]) -> None:
        self._engine = engine
        self._held = held
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.unanswered: dict[str, Counter[str]] = {}
        """Rule -> why it had no answer -> minutes."""
        self.last_words: dict[str, str] = {}
        """Rule -> what was said of the last one of these."""

    def wake(self) -> None:
        """Ask soon, in the background."""
        if self._task is not None and any(held.state.judge.is_asking for held in self._held()):
            self._awake.set()

    async def start(self, *, prepare: bool) -> None:
        """Ask in the background from now on. `prepare`: have the engine ready before the first question."""
        if prepare:
            with contextlib.suppress(RunError):  # it is tried again, and counted, when there is something to ask
                await self._engine.start()
        self._task = asyncio.create_task(self._run(), name="sql rules")

    async def close(self) -> None:
        """Stop asking; what was not answered is asked by the next owner of the partition."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._engine.close()

    async def ask_all(self) -> None:
        """Return when nothing is left to be asked."""
        for held in list(self._held()):
            while not held.given_up and (question := held.state.judge.question()) is not None:
                minute, queries, rows = question
                answers = await self._engine.run(queries, rows)
                for name, answer in answers.items():
                    if answer.failure is not None:
                        log.warning("rule %s: %s %s", name, answer.failure.value, answer.detail)
                        self.unanswered.setdefault(name, Counter())[answer.failure.value] += 1
                        self.last_words[name] = answer.detail
                if not held.given_up:
                    held.state.answer(minute, answers)

    async def _run(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            try:
                await self.ask_all()
            except Exception:
                log.exception("SQL rules were not asked")
