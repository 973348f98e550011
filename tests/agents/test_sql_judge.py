"""Asking the SQL engine in the background: what it is asked, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents.custodian import Held
from agents.sql_judge import SqlJudge
from agents.windows_state import WindowsState
from alerting.sql.engine import SqlAnswer, SqlEngine, SqlFailure
from alerting.sql.query import SqlQuery
from alerting.sql.tables import Payload
from tables.errors import RunError
from tests.agents.test_rule_judge import Partition, alerts, row, sql
from tests.oracle import MINUTE
from tests.tables.streams import T0


class Engine:
    """Answers as a test says; it may hang until it is released."""

    def __init__(self, answer: Callable[[int], SqlAnswer] = lambda _: SqlAnswer()) -> None:
        self.answer = answer
        self.asked: list[int] = []
        self.started = self.closed = 0
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()

    async def start(self) -> None:
        self.started += 1
        raise RunError("no process for you")

    async def close(self) -> None:
        self.closed += 1

    async def run(self, queries: Mapping[str, SqlQuery], tables: Payload) -> dict[str, SqlAnswer]:
        self.asked.append((tables.minute_ms - T0) // MINUTE)
        self.reached.set()
        await self.released.wait()
        return {name: self.answer(tables.minute_ms) for name in queries}


def judge_of(engine: object, *partitions: Partition) -> tuple[SqlJudge, list[Held[WindowsState]]]:
    held = [cast(Any, SimpleNamespace(state=partition.state, given_up=False)) for partition in partitions]

    def all_held() -> Iterable[Held[WindowsState]]:
        return held

    return SqlJudge(cast(SqlEngine, engine), all_held), held


async def soon(done: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110 - both in one event loop
            await asyncio.sleep(0)


async def test_everything_is_asked_partition_by_partition() -> None:
    one, other, engine = Partition((sql(),)), Partition((sql(),)), Engine(lambda _: SqlAnswer((row(),)))
    one.minutes(0, 4)
    other.minutes(0, 3)
    judge, _ = judge_of(engine, one, other)
    await judge.ask_all()
    assert engine.asked == [0, 1, 2, 0, 1]
    assert alerts(one.checkpoint()) == alerts(other.checkpoint()) == [("many", "firing", "home")]
    await judge.ask_all()
    assert len(engine.asked) == 5


async def test_a_query_that_hangs_does_not_hold_up_the_windows() -> None:
    here, engine = Partition((sql(),)), Engine(lambda _: SqlAnswer((row(),)))
    engine.released.clear()
    here.minutes(0, 2)
    judge, _ = judge_of(engine, here)
    await judge.start(prepare=False)
    judge.wake()
    await engine.reached.wait()
    # While it hangs, windows are taken in, checkpointed, and told.
    here.minutes(2, 20)
    changes = here.checkpoint()
    assert len([message for message in changes.before if message.topic == "windows"]) == 10
    assert alerts(changes) == []
    engine.released.set()
    await soon(lambda: len(engine.asked) == 19)
    await soon(lambda: not here.state.judge.is_asking)
    assert engine.asked == [*range(19)]
    assert alerts(here.checkpoint()) == [("many", "firing", "home")]
    await judge.close()
    assert engine.closed == 1


async def test_it_wakes_only_where_there_is_something_to_ask() -> None:
    here, engine = Partition((sql(),)), Engine()
    judge, _ = judge_of(engine, here)
    judge.wake()  # not started yet: nobody is there to be woken
    await judge.start(prepare=True)
    assert engine.started == 1  # it could not be made ready, which is no reason to give up
    judge.wake()
    here.minutes(0, 2)
    await asyncio.sleep(0.02)
    assert engine.asked == []
    judge.wake()
    await soon(lambda: engine.asked == [0])
    await judge.close()


async def test_an_answer_for_a_partition_that_was_given_up_meanwhile_is_thrown_away() -> None:
    here, engine = Partition((sql(),)), Engine(lambda _: SqlAnswer((row(),)))
    engine.released.clear()
    here.minutes(0, 4)
    judge, held = judge_of(engine, here)
    asking = asyncio.create_task(judge.ask_all())
    await engine.reached.wait()
    held[0].given_up = True
    engine.released.set()
    await asking
    assert engine.asked == [0]
    assert here.state.judge.is_asking
    assert alerts(here.checkpoint()) == []


async def test_a_query_that_fails_is_logged_and_the_next_minute_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    here = Partition((sql(),))
    engine = Engine(
        lambda minute: SqlAnswer((), SqlFailure.TIMEOUT, "longer than 2 s") if minute == T0 else SqlAnswer()
    )
    here.minutes(0, 4)
    judge, _ = judge_of(engine, here)
    await judge.ask_all()
    assert engine.asked == [0, 1, 2]
    assert [record.message for record in caplog.records] == ["rule many: timeout longer than 2 s"]


async def test_a_mistake_of_ours_does_not_end_the_asking(caplog: pytest.LogCaptureFixture) -> None:
    def answer(minute: int) -> SqlAnswer:
        if len(engine.asked) == 1:
            raise RuntimeError("a mistake")
        return SqlAnswer((row(),))

    here, engine = Partition((sql(),)), Engine(answer)
    here.minutes(0, 2)
    judge, _ = judge_of(engine, here)
    await judge.start(prepare=False)
    judge.wake()
    await soon(lambda: "SQL rules were not asked" in caplog.text)
    judge.wake()
    await soon(lambda: not here.state.judge.is_asking)
    assert engine.asked == [0, 0]
    await judge.close()


async def test_rules_that_are_replaced_while_a_query_runs_are_not_answered_for() -> None:
    here, engine = Partition((sql(),)), Engine(lambda _: SqlAnswer((row(),)))
    engine.released.clear()
    here.minutes(0, 4)
    judge, _ = judge_of(engine, here)
    asking = asyncio.create_task(judge.ask_all())
    await engine.reached.wait()
    here.rules = (sql("another"),)
    here.state.replace_rules()
    engine.released.set()
    await asking
    assert engine.asked == [0, 1, 2]
    assert alerts(here.checkpoint()) == [("another", "firing", "home")]


async def test_the_real_engine_answers_on_the_rows_of_the_partition() -> None:
    here = Partition((sql(),))
    here.minutes(0, 2, clicks=1)
    here.minutes(2, 6)
    async with SqlEngine() as engine:
        judge, _ = judge_of(engine, here)
        await judge.ask_all()
    # One bad minute fires, the third good one after it is the end.
    assert alerts(here.checkpoint()) == [("many", "firing", "home"), ("many", "resolved", "home")]
