"""What SQL rules answer, and what a rule that hangs costs the others: real processes throughout."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from alerting.sql import engine as sql_engine
from alerting.sql.engine import SqlAnswer, SqlEngine, SqlFailure, SqlRow
from alerting.sql.query import MOST_ROWS, SqlQuery, parse_sql
from alerting.sql.tables import Payload, RowTables
from tables.errors import ConfigError, RunError
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served

CLICKS = SqlQuery("SELECT model_id, model_version, clicks AS value FROM ctr WHERE age = 0")
HANGS = SqlQuery(
    "WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM t) SELECT 'm' AS model_id, max(i) AS value FROM t"
)
CRASHES = SqlQuery("SELECT model_id, length(repeat(model_id, 1000000000)) AS value FROM ctr")


@pytest.fixture
async def engine() -> AsyncIterator[SqlEngine]:
    async with SqlEngine(timeout_s=1.0) as engine:
        yield engine


def at(number: int) -> int:
    return TEN_O_CLOCK + number * MINUTE


def one_minute() -> Payload:
    tables = RowTables()
    tables.put(minute(0, clicks=42))
    return tables.at(at(0))


async def answer(engine: SqlEngine, sql: str, tables: Payload) -> tuple[SqlRow, ...]:
    query = await asyncio.to_thread(parse_sql, sql, "rule")
    found = (await engine.run({"rule": query}, tables))["rule"]
    assert found.failure is None, found
    return found.rows


async def test_errors_per_model_over_a_hundred_in_a_minute(engine: SqlEngine) -> None:
    """Against a sum by hand, over versions of which each alone is below."""
    rng, tables, expected = random.Random(7), RowTables(), dict[str, int]()
    for number in range(3):
        for model, version in ((m, v) for m in "abcdefgh" for v in "12"):
            errors = rng.randrange(120)
            tables.put(replace(served(number, errors=errors), model_id=model, model_version=version))
            if number == 2:
                expected[model] = expected.get(model, 0) + errors
    sql = """
        SELECT model_id, sum(errors) AS value, 100 AS threshold, sum(requests) AS requests
        FROM serving WHERE age = 0 GROUP BY model_id HAVING value > threshold
    """
    rows = await answer(engine, sql, tables.at(at(2)))
    over = {model: errors for model, errors in expected.items() if errors > 100}
    assert 0 < len(over) < len(expected)
    assert {row.model_id: row.value for row in rows} == over
    assert [row.model_id for row in rows] == sorted(over)
    assert all(row.threshold == 100 and row.numbers == {"requests": 2000} for row in rows)


async def test_ctr_of_a_version_against_the_other_of_the_same_minute(engine: SqlEngine) -> None:
    tables = RowTables()
    for number in range(2):
        tables.put(minute(number, clicks=80, model_version="3"))
        tables.put(minute(number, clicks=80 - 40 * number, model_version="4"))
    sql = """
        SELECT new.model_id, new.model_version, 1 - new.ctr / old.ctr AS value, old.ctr AS old_ctr
        FROM ctr AS new JOIN ctr AS old USING (model_id, minute)
        WHERE new.age = 0 AND new.model_version > old.model_version AND value > 0.1
    """
    assert await answer(engine, sql, tables.at(at(0))) == ()
    (row,) = await answer(engine, sql, tables.at(at(1)))
    assert (row.model_id, row.model_version, row.feature, row.threshold) == ("home", "4", "", None)
    assert row.value == pytest.approx(0.5)
    assert row.numbers == {"old_ctr": 0.08}


async def test_low_ctr_joined_with_the_drift_behind_it(engine: SqlEngine) -> None:
    tables = RowTables()
    for number in range(5):
        tables.put(minute(number, clicks=40, model_id="recommender-home"))
        tables.put(drifted(number, psi=0.05 * number, ks=0.5))
        tables.put(drifted(number, psi=0.01, feature="city"))
    sql = """
        SELECT model_id, model_version, feature, avg(ctr) AS value, max(drift.value) AS psi
        FROM ctr JOIN drift USING (model_id, model_version, window_start)
        WHERE ctr.age < 5 AND method = 'psi' GROUP BY ALL HAVING psi >= 0.2
    """
    (row,) = await answer(engine, sql, tables.at(at(4)))
    assert (row.feature, row.numbers) == ("gender", {"psi": 0.2})
    assert row.value == pytest.approx(0.04)
    assert await answer(engine, sql, tables.at(at(3))) == ()


async def test_age_and_minute(engine: SqlEngine) -> None:
    tables = RowTables()
    for number in range(3):
        tables.put(minute(number, clicks=number))
    sql = """
        SELECT age::VARCHAR AS model_id, clicks AS value, hour(minute) * 100 + minute(minute) AS clock,
               (window_end - window_start) AS width FROM ctr
    """
    rows = await answer(engine, sql, tables.at(at(2)))
    told = [(row.model_id, row.value, row.numbers["clock"], row.numbers["width"]) for row in rows]
    assert told == [("0", 2, 1002, MINUTE), ("1", 1, 1001, MINUTE), ("2", 0, 1000, MINUTE)]


async def test_division_by_zero_overflow_and_nothing_are_no_number(engine: SqlEngine) -> None:
    sql = """
        SELECT model_id, clicks / (impressions - 1000) AS value, clicks // 0 AS a, 'inf'::DOUBLE AS b,
               'nan'::FLOAT AS c, NULL::INTEGER AS d, 1.50 AS e, 2::HUGEINT ** 70 AS f, 9007199254740993 AS g,
               170141183460469231731687303715884105727 AS h
        FROM ctr
    """
    (row,) = await answer(engine, sql, one_minute())
    assert row.value is None
    exact = {"a": None, "b": None, "c": None, "d": None, "e": 1.5, "f": 2.0**70, "g": 9007199254740993, "h": 2.0**127}
    assert row.numbers == exact


async def test_ids_of_events_may_hold_anything(engine: SqlEngine) -> None:
    tables, names = RowTables(), ["a'; DROP TABLE ctr; --", 'q"q', "\0", "推荐\n", "\N{RIGHT-TO-LEFT OVERRIDE}x", ""]
    for name in names:
        tables.put(minute(0, clicks=1, model_id=name))
    rows = (await engine.run({"rule": CLICKS}, tables.at(at(0))))["rule"].rows
    assert [row.model_id for row in rows] == sorted(names)


async def test_the_same_rows_give_the_same_answers(engine: SqlEngine) -> None:
    """In a process of its own, after others, and whatever the order in which the rows came."""
    readings = [minute(n, clicks=n * 7 % 13, model_id=f"m{m}") for n in range(5) for m in range(50)]
    queries = {
        "top": SqlQuery("SELECT model_id, sum(ctr) AS value FROM ctr GROUP BY ALL ORDER BY value DESC LIMIT 7"),
        "any": SqlQuery("SELECT model_id, first(ctr) AS value, stddev(ctr) AS s FROM ctr GROUP BY ALL LIMIT 20"),
    }
    one, other = RowTables(), RowTables()
    for reading in readings:
        one.put(reading)
    random.Random(3).shuffle(readings)
    for reading in readings:
        other.put(reading)
    first = await engine.run(queries, one.at(at(4)))
    await engine.run({"rule": CLICKS}, other.at(at(2)))
    assert await engine.run(queries, other.at(at(4))) == first
    await engine.close()
    assert await engine.run(dict(reversed(queries.items())), one.at(at(4))) == first
    assert len(first["top"].rows) == 7 and len(first["any"].rows) == 20


async def test_failures_have_names(engine: SqlEngine) -> None:
    queries = {
        "text": SqlQuery("SELECT model_id, model_version::INTEGER + 'x'::INTEGER AS value FROM ctr"),
        "rows": SqlQuery("SELECT range::VARCHAR AS model_id, 1 AS value FROM range(1001)"),
        "all": SqlQuery("SELECT range::VARCHAR AS model_id, 1 AS value FROM range(1000)"),
        "twice": SqlQuery("SELECT model_id, 1 - i AS value FROM ctr, range(2) AS r(i)"),
        "null": SqlQuery("SELECT NULL::VARCHAR AS model_id, 1 AS value FROM ctr"),
        "long": SqlQuery("SELECT repeat(model_id, 1000) AS model_id, 1 AS value FROM ctr"),
    }
    pid = engine.pid
    found = await engine.run(queries, one_minute())
    assert list(found) == list(queries)
    assert engine.pid == pid
    assert found["text"].failure is SqlFailure.FAILED and "Could not convert string 'x'" in found["text"].detail
    assert found["rows"] == SqlAnswer(failure=SqlFailure.TOO_MANY_ROWS, detail="more than 1000")
    assert len(found["all"].rows) == MOST_ROWS
    assert [row.value for row in found["twice"].rows] == [0, 1]  # in an order of their own
    assert "expected a model_id in each row" in found["null"].detail
    assert "expected texts of at most 1000 characters" in found["long"].detail


async def test_a_rule_that_hangs_costs_the_others_nothing_but_time(engine: SqlEngine) -> None:
    """The others are answered in the same minute, and from the second time on before it; after three it is paused."""
    queries = {"a": HANGS, "b": CLICKS, "c": CRASHES, "d": CLICKS}
    tables = RowTables()
    told = []
    for number in range(4):
        tables.put(minute(number, clicks=number))
        found = await engine.run(queries, tables.at(at(number)))
        told.append((found["a"].failure, found["c"].failure))
        for name in "bd":
            assert [row.value for row in found[name].rows] == [number]
    assert told == [(SqlFailure.TIMEOUT, SqlFailure.CRASHED)] * 3 + [(SqlFailure.PAUSED, SqlFailure.PAUSED)]
    assert (await engine.run({"a": HANGS}, tables.at(at(11))))["a"].failure is SqlFailure.PAUSED
    assert (await engine.run({"a": HANGS}, tables.at(at(12))))["a"].failure is SqlFailure.TIMEOUT


async def test_only_failures_in_a_row_count(engine: SqlEngine) -> None:
    """A query that hangs only while there is a row for it."""
    hangs = SqlQuery(HANGS.text.replace("FROM t)", "FROM t WHERE (SELECT count(*) FROM ctr WHERE age = 0) > 0)"))
    tables = RowTables()
    tables.put(minute(0, clicks=1))
    answers = [(await engine.run({"rule": hangs}, tables.at(at(number))))["rule"] for number in (0, 0, 1, 0, 0)]
    failures = [answer.failure for answer in answers]
    assert failures == [SqlFailure.TIMEOUT, SqlFailure.TIMEOUT, None, SqlFailure.TIMEOUT, SqlFailure.TIMEOUT]


async def test_a_minute_has_its_limit_and_what_hung_before_comes_last() -> None:
    async with SqlEngine(timeout_s=1.0, minute_s=1.0) as engine:
        queries = {"a": HANGS, "b": CLICKS}
        first = await engine.run(queries, one_minute())
        assert [answer.failure for answer in first.values()] == [SqlFailure.TIMEOUT, SqlFailure.NO_TIME]
        second = await engine.run(queries, one_minute())
        assert [row.value for row in second["b"].rows] == [42]
        assert second["a"].failure is SqlFailure.TIMEOUT


async def test_a_process_that_was_killed_is_replaced(engine: SqlEngine) -> None:
    assert engine.pid is not None
    killed = psutil.Process(engine.pid)
    killed.kill()
    found = await engine.run({"rule": CLICKS}, one_minute())
    assert [row.value for row in found["rule"].rows] == [42]
    assert not killed.is_running()


async def test_a_process_that_cannot_start_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, starts = 0.0, []

    def command() -> list[str]:
        starts.append(now)
        return [sys.executable, "-c", ""]

    monkeypatch.setattr(sql_engine, "child_command", command)
    engine = SqlEngine(clock=lambda: now)
    with pytest.raises(RunError, match="the process for SQL rules"):
        await engine.start()
    for _ in range(20):
        found = await engine.run({"a": CLICKS, "b": CLICKS}, one_minute())
        assert {answer.failure for answer in found.values()} == {SqlFailure.UNAVAILABLE}
        now += 1.0
    assert starts == [0, 1, 3, 7, 15]
    monkeypatch.undo()
    now += 60
    assert (await engine.run({"a": CLICKS}, one_minute()))["a"].rows
    await engine.close()


async def test_giving_up_a_run_leaves_nothing_behind(engine: SqlEngine) -> None:
    assert engine.pid is not None
    process = psutil.Process(engine.pid)
    run = asyncio.create_task(engine.run({"rule": HANGS}, one_minute()))
    await asyncio.sleep(0.3)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not process.is_running()
    assert [row.value for row in (await engine.run({"rule": CLICKS}, one_minute()))["rule"].rows] == [42]


async def test_runs_at_once_take_turns(engine: SqlEngine) -> None:
    tables = RowTables()
    for number in range(5):
        tables.put(minute(number, clicks=number))
    runs = [engine.run({"rule": CLICKS}, tables.at(at(number))) for number in range(5)]
    found = await asyncio.gather(*runs)
    assert [answers["rule"].rows[0].value for answers in found] == [0, 1, 2, 3, 4]


async def test_the_process_ends_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    """Even in the middle of a query that never ends."""
    program = f"""
import asyncio
from alerting.sql.engine import SqlEngine
from alerting.sql.query import SqlQuery
from alerting.sql.tables import Payload

async def main():
    async with SqlEngine(timeout_s=2.0) as engine:
        print(engine.pid, flush=True)
        await engine.run({{"rule": SqlQuery({HANGS.text!r})}}, Payload(0, ()))

asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert worker.stdout is not None
    child = psutil.Process(int(await worker.stdout.readline()))
    await asyncio.sleep(0.5)
    worker.kill()
    await worker.wait()
    for _ in range(100):
        if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.1)
    pytest.fail("the process has outlived its worker by 10 s")


@pytest.mark.parametrize("values", [{"timeout_s": 0.0}, {"timeout_s": 30.0}, {"memory_mb": 1}])
async def test_values_that_cannot_work_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        SqlEngine(**values)  # type: ignore[arg-type]  # one of each kind
