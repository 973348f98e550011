"""What a rule in SQL cannot do, whoever wrote it.

Three walls, each tested without the ones before it: only a SELECT over the three tables is accepted; the engine is
locked; the process has no environment, cannot open anything, and is bounded in memory and time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import duckdb
import psutil
import pytest

from alerting.sql import child as sql_child
from alerting.sql.engine import SqlEngine, SqlFailure
from alerting.sql.query import MOST_ROWS, SqlQuery, parse_sql
from alerting.sql.tables import TABLES, Payload, RowTables
from tables.errors import ConfigError
from tests.alerting.samples import TEN_O_CLOCK, minute, served

MEMORY_MB = 256
TIMEOUT_S = 1.0
CLICKS = SqlQuery("SELECT model_id, clicks AS value FROM ctr")

SECRET_ROWS = {"model_id": ["m"], "value": [1]}

READING = [
    "read_text('/etc/passwd')",
    "read_blob('/proc/self/environ')",
    "read_csv('/etc/passwd')",
    "read_json_auto('/etc/passwd')",
    "read_parquet('/tmp/x.parquet')",
    "glob('/etc/*')",
    "sniff_csv('/etc/passwd')",
    "parquet_metadata('/tmp/x.parquet')",
    "read_csv('http://127.0.0.1:{port}/x.csv')",
    "read_parquet('s3://bucket/x.parquet')",
    "'/etc/passwd'",
    "'/etc/hosts.csv'",
    "'http://127.0.0.1:{port}/x.csv'",
    "query('SELECT * FROM read_text(''/etc/passwd'')')",
    "query_table('/etc/hosts.csv')",
    "json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''/etc/passwd'')'))",
    "SECRET_ROWS",
    "pandas_scan(140000000000000)",
    "arrow_scan(1, 2, 3)",
]
TELLING = [
    "duckdb_secrets()",
    "duckdb_settings()",
    "duckdb_logs()",
    "pragma_database_size()",
    "information_schema.tables",
    "main.sqlite_master",
    "pg_catalog.pg_tables",
    "enable_logging()",
    "checkpoint()",
]
STATEMENTS = [
    "COPY ctr TO '{folder}/x.csv'",
    "COPY (SELECT 1) TO '{folder}/x.parquet'",
    "COPY ctr FROM '/etc/passwd'",
    "EXPORT DATABASE '{folder}/all'",
    "ATTACH '{folder}/x.duckdb' AS x",
    "ATTACH 'postgres://127.0.0.1:{port}/x' AS x (TYPE postgres)",
    "INSTALL httpfs",
    "INSTALL httpfs FROM 'http://127.0.0.1:{port}'",
    "LOAD httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "RESET lock_configuration",
    "SET threads = 64",
    "SET temp_directory = '{folder}'",
    "PRAGMA enable_profiling",
    "PRAGMA memory_limit = '100GB'",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'k', SECRET 's')",
    "IMPORT DATABASE '{folder}'",
]
HARMLESS_STATEMENTS = [
    "CREATE TABLE t AS SELECT 1",
    "CREATE MACRO now() AS 1",
    "INSERT INTO ctr SELECT * FROM ctr",
    "DELETE FROM ctr",
    "DROP TABLE ctr",
    "CHECKPOINT",
    "BEGIN",
    "CALL pragma_version()",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "SHOW TABLES",
    "DESCRIBE ctr",
    "SUMMARIZE ctr",
    "PIVOT ctr ON model_id USING sum(clicks)",
    "USE memory",
    "VACUUM",
]
GREEDY = {
    "rows": "SELECT 'm' AS model_id, count(*) AS value FROM range(1000000000) a, range(1000000000) b",
    "recursion": "WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM t) "
    "SELECT 'm' AS model_id, max(i) AS value FROM t",
    "text": "SELECT model_id, length(repeat(model_id, 1000000000)) AS value FROM ctr",
    "texts": "SELECT 'm' AS model_id, length(string_agg(repeat('x', 1000), '')) AS value FROM range(100000000)",
    "list": "SELECT 'm' AS model_id, len(list(range)) AS value FROM range(1000000000)",
    "lambda": "SELECT 'm' AS model_id, len(list_transform(range(100000000), lambda x: repeat('a', 1000))) AS value",
    "distinct": "SELECT 'm' AS model_id, count(DISTINCT range) AS value FROM range(1000000000)",
    "folded": "SELECT 'm' AS model_id, levenshtein(repeat('a', 200000), repeat('b', 200000)) AS value",
    "padded": "SELECT 'm' AS model_id, length(lpad('a', 2000000000, 'b')) AS value",
    "format": "SELECT 'm' AS model_id, length(printf('%1000000000d', 1)) AS value",
    "id": "SELECT repeat('m', 300000000) AS model_id, 1 AS value",
    "deep": "SELECT model_id, " + "(" * 100_000 + "1" + ")" * 100_000 + " AS value FROM ctr",
    "nested": "SELECT * FROM (" * 5_000 + CLICKS.text + ")" * 5_000,
    "joined": "SELECT 'm' AS model_id, count(*) AS value FROM " + ", ".join(f"ctr AS c{n}" for n in range(1_000)),
    "sum": "SELECT model_id, " + "clicks + " * 100_000 + "1 AS value FROM ctr",
    "wide": "SELECT model_id, 1 AS value, " + ", ".join(f"1 AS c{n}" for n in range(50_000)) + " FROM ctr",
    "long": "SELECT model_id, 1 AS value FROM ctr WHERE model_id != '" + "x" * 1_000_000 + "'",
    "error": "SELECT model_id, repeat('x', 10000000)::INTEGER AS value FROM ctr",
}


def some_rows() -> Payload:
    tables = RowTables()
    tables.put(minute(0, clicks=42))
    tables.put(served(0))
    return tables.at(TEN_O_CLOCK)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where nobody is to call."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture
async def engine() -> AsyncIterator[SqlEngine]:
    async with SqlEngine(timeout_s=TIMEOUT_S, memory_mb=MEMORY_MB) as engine:
        yield engine


def filled_in(sql: str, listener: socket.socket, folder: Path) -> str:
    return sql.replace("{port}", str(listener.getsockname()[1])).replace("{folder}", str(folder))


async def test_only_a_select_over_the_three_tables_is_a_rule(
    engine: SqlEngine, listener: socket.socket, tmp_path: Path
) -> None:
    """Also where `parse_sql` has not seen it: the process looks at every query before it runs it."""
    sources = [filled_in(source, listener, tmp_path) for source in (*READING, *TELLING)]
    statements = [filled_in(text, listener, tmp_path) for text in (*STATEMENTS, *HARMLESS_STATEMENTS)]
    queries = {source: f"SELECT 'm' AS model_id, count(*) AS value FROM {source}" for source in sources}
    queries |= {text: text for text in statements} | {"; " + text: f"{CLICKS.text}; {text}" for text in statements}
    found = await engine.run({name: SqlQuery(text) for name, text in queries.items()}, some_rows())
    assert {answer.failure for answer in found.values()} == {SqlFailure.FAILED}
    for source in sources:
        assert "expected ctr, drift, serving as tables, got" in found[source].detail
    for text in statements:
        # Some are no SQL to a connection that may load nothing.
        for name, said in ((text, "expected a SELECT, got"), ("; " + text, "expected exactly one SELECT, got")):
            assert said in found[name].detail or found[name].detail.startswith("Parser Error"), name
    assert [row.value for row in (await engine.run({"clicks": CLICKS}, some_rows()))["clicks"].rows] == [42]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("sql", ["COPY ctr TO '/tmp/x.csv'", "SELECT * FROM read_text('/etc/passwd')", "SHOW TABLES"])
def test_the_check_says_so_at_once(sql: str) -> None:
    with pytest.raises(ConfigError, match=r"^sql: expected (a SELECT|ctr, drift, serving as tables), got"):
        parse_sql(sql, "sql")


@pytest.mark.parametrize(
    "call", ["getenv('HOME')", "pg_read_file('/etc/passwd')", "current_setting('secret_directory')"]
)
def test_functions_that_tell_of_the_machine_are_refused(call: str) -> None:
    with pytest.raises(ConfigError, match=r"does not exist|expected functions of the rows alone"):
        parse_sql(f"SELECT {call} AS model_id, 1 AS value", "sql")


@pytest.mark.parametrize("source", READING)
def test_second_wall_nothing_can_be_read(
    source: str, listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own locks, without the look through the query; here, in a process that may open files."""
    tables = sql_child.Tables(TABLES, MEMORY_MB, MOST_ROWS)
    monkeypatch.setattr(tables, "_look_through", lambda tree: None)
    with pytest.raises(duckdb.Error) as refused:
        tables.run(f"SELECT 'm' AS model_id, count(*) AS value FROM {filled_in(source, listener, tmp_path)}")
    assert not isinstance(refused.value, duckdb.IOException)  # It would say that somebody has tried.


@pytest.mark.parametrize("statement", STATEMENTS)
def test_second_wall_nothing_can_be_written_or_set(statement: str, listener: socket.socket, tmp_path: Path) -> None:
    tables = sql_child.Tables(TABLES, MEMORY_MB, MOST_ROWS)
    with pytest.raises(duckdb.Error) as refused:
        tables._connection.execute(filled_in(statement, listener, tmp_path))
    assert not isinstance(refused.value, duckdb.IOException)
    assert not list(tmp_path.iterdir())


def test_a_name_that_an_inner_query_gives_opens_no_file() -> None:
    """The look through the query does not follow scopes; the second wall is what holds here."""
    inner = 'WITH "/etc/hosts.csv" AS (SELECT 1), x AS (SELECT 2 AS i) SELECT i FROM x'
    with pytest.raises(ConfigError, match="Permission Error: Cannot access file"):
        parse_sql(f"SELECT 'm' AS model_id, count(*) AS value FROM ({inner}), \"/etc/hosts.csv\"", "sql")


def test_third_wall_nothing_can_be_opened() -> None:
    program = f"""
import runpy, socket
rights = runpy.run_path({sql_child.__file__!r})
rights["_give_up_rights"]({MEMORY_MB})
for attempt in (lambda: open("/etc/passwd"), lambda: open("/dev/shm/x", "w"), socket.socket, lambda: bytes(2**30)):
    try:
        attempt()
    except (OSError, MemoryError) as error:
        print(type(error).__name__, getattr(error, "errno", ""))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["OSError 24"] * 3 + ["MemoryError ", ""]


async def test_the_process_has_no_environment_and_holds_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_MARKER", "not-for-rules")
    with socket.create_server(("127.0.0.1", 0)):
        async with SqlEngine() as engine:
            await engine.run({"rule": CLICKS}, some_rows())
            process = psutil.Process(engine.pid)
            assert process.environ() == {}
            assert process.cwd() == "/"
            assert process.open_files() == []
            assert process.net_connections() == []
            assert process.num_fds() <= 4
            assert process.children() == []


async def test_greed_is_bounded_and_costs_nobody_else_anything(engine: SqlEngine) -> None:
    """Beside it the worker's loop goes on, the process stays within its memory, and the neighbour has its answer."""
    longest, most = 0.0, 0

    async def beat() -> None:
        nonlocal longest, most
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
            if engine.pid is not None:
                try:
                    most = max(most, psutil.Process(engine.pid).memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    tables = some_rows()
    beating = asyncio.create_task(beat())
    for name, sql in GREEDY.items():
        began = time.monotonic()
        found = await engine.run({"greedy": SqlQuery(sql), "neighbour": CLICKS}, tables)
        assert time.monotonic() - began < 15, name
        answer = found["greedy"]
        expected = {"deep": {None, *SqlFailure}, "nested": {None, *SqlFailure}, "long": {None}}
        assert answer.failure in expected.get(name, {SqlFailure.TIMEOUT, SqlFailure.CRASHED, SqlFailure.FAILED}), name
        assert len(answer.detail) <= 500
        assert [row.value for row in found["neighbour"].rows] == [42], name
    beating.cancel()
    assert longest < 1.0
    assert 0 < most < (2 * MEMORY_MB + 256) << 20


async def test_no_process_is_left() -> None:
    before = set(psutil.Process().children())
    async with SqlEngine(timeout_s=0.3) as engine:
        for text in ("rows", "recursion", "text"):
            await engine.run({text: SqlQuery(GREEDY[text])}, some_rows())
        assert len(set(psutil.Process().children()) - before) <= 1
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize("name", [name for name, sql in GREEDY.items() if len(sql) < 20_000])
def test_checking_is_bounded_too(name: str) -> None:
    began = time.monotonic()
    try:
        parse_sql(GREEDY[name], "sql")
    except ConfigError as error:
        assert len(str(error)) < 600
    assert time.monotonic() - began < 15
