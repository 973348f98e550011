"""Which queries a rule may have, and what is said about the others."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from alerting.sql import child
from alerting.sql import query as sql_query
from alerting.sql.query import SqlQuery, parse_sql
from alerting.sql.tables import TABLES
from tables.errors import ConfigError, RunError

GOOD = "SELECT model_id, sum(errors) AS value FROM serving WHERE age = 0 GROUP BY model_id HAVING value > 100"


def problem(sql: object) -> str:
    with pytest.raises(ConfigError) as found:
        parse_sql(sql, "rules[2].sql")
    text = str(found.value)
    assert text.startswith("rules[2].sql: ") and "\n" not in text and len(text) < 600
    return text.removeprefix("rules[2].sql: ")


@pytest.mark.parametrize(
    "sql",
    [
        GOOD,
        GOOD + " ;  \n",
        "SELECT 'é;' AS model_id, 1 AS \"value\" /* ; */;; -- the end",
        "-- errors\n" + GOOD + " -- the end",
        "FROM ctr SELECT model_id, model_version, ctr AS value, 0.05 AS threshold WHERE age = 0",
        "SELECT Model_Id, 1 AS VALUE, '' AS feature, clicks, impressions FROM CTR",
        "WITH w AS (FROM drift WHERE method = 'psi') SELECT model_id, feature, value, critical, n FROM w",
        "SELECT model_id, max(p99) AS value FROM main_table GROUP BY ALL".replace("main_table", "(FROM serving)"),
        "SELECT model_id, i AS value FROM ctr, range(3) AS r(i)",
        "SELECT model_id, epoch(minute)::DECIMAL(18, 1) AS value FROM ctr ORDER BY window_start LIMIT 5",
    ],
)
def test_good_queries(sql: str) -> None:
    assert parse_sql(sql, "sql") == SqlQuery(sql)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (17, "expected a SELECT, got 17"),
        ("  ", "expected a SELECT"),
        ("-- nothing", "expected exactly one SELECT, got 0 statements"),
        ("SELECT 1; SELECT 2", "expected exactly one SELECT, got 2 statements"),
        ("SELECT 1 /* \x1b[2J */", "expected printable characters"),
        (
            "SELECT model_id,\n  sum(clix) AS value\nFROM ctr",
            'line 2: Binder Error: Referenced column "clix" not found',
        ),
        ("SELECT model_id,\n  sum(clix) AS value\nFROM ctr", 'Candidate bindings: "clicks"'),
        ("SELECT model_id\nFROM ctr\nWHERE", 'syntax error at or near "WHERE"'),
        ("SELECT model_id, summ(clicks) AS value FROM ctr", 'Did you mean "sum"'),
        (
            "SELECT model_id, ctr AS value FROM crt",
            "expected ctr, drift, serving as tables, got 'crt' (did you mean ctr?)",
        ),
        ("SELECT model_id FROM ctr", "expected the columns model_id (text) and value (number)"),
        ("SELECT ctr AS value FROM ctr", "got value"),
        ("SELECT model_id, model_version AS value FROM ctr", "value is VARCHAR, which is not a number"),
        ("SELECT clicks AS model_id, ctr AS value FROM ctr", "model_id is BIGINT, which is not text"),
        ("SELECT model_id, ctr AS value, minute FROM ctr", "minute is TIMESTAMP, which is not a number"),
        ("SELECT model_id, ctr AS value, ctr > 1 AS bad FROM ctr", "bad is BOOLEAN, which is not a number"),
        ("SELECT model_id, ctr AS value, clicks AS value FROM ctr", "names of their own"),
        ('SELECT model_id, ctr AS value, clicks AS "a""b" FROM ctr', "names of their own"),
        ("SELECT model_id, $1 AS value FROM ctr", "expected a query without parameters"),
        ("SELECT model_id, ? AS value FROM ctr", "expected a query without parameters"),
        ("; " + GOOD, "expected exactly one SELECT, got 0 statements"),
        ("x" * 20_001, "expected at most 20000 characters of SQL, got 20001"),
    ],
)
def test_what_is_said_about_others(sql: object, said: str) -> None:
    assert said in problem(sql)


@pytest.mark.parametrize(
    "expression",
    [
        *("now()", "random()", "current_timestamp", "CURRENT_DATE", "today()", "get_current_timestamp()"),
        *(
            "epoch(age(minute))",
            "epoch(ago(INTERVAL 1 DAY))",
            "localtimestamp",
            "hash(uuid())",
            "nextval('s')",
            "reservoir_quantile(ctr, 0.5)",
            "hash(current_localtimestamp())",
            "hash(current_localtime())",
        ),
    ],
)
def test_the_same_rows_must_give_the_same_answer(expression: str) -> None:
    assert "the same rows must give the same" in problem(f"SELECT model_id, {expression} AS value FROM ctr")


def test_no_function_that_may_be_called_tells_the_time_or_draws_lots() -> None:
    """Whatever the engine says of it: that it depends on its arguments alone, though it has none, is not always so."""
    tables = child.Tables(TABLES, 64, 10)
    listed = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE len(parameters) = 0 ORDER BY ALL"
    answers: dict[str, list[Any]] = {}
    for (name,) in duckdb.connect().execute(listed).fetchall() * 2:
        with suppress(duckdb.Error, child._Refused):
            answer = tables.run(f"SELECT 'm' AS model_id, hash({name}()) AS value")
            answers.setdefault(name, []).append(answer["rows"])
    assert {"pi", "version"} <= answers.keys()
    assert [name for name, (one, other) in answers.items() if one != other] == []


def test_nor_may_a_sample_decide() -> None:
    assert "without a sample" in problem("SELECT model_id, ctr AS value FROM ctr USING SAMPLE 1")


def test_the_examples_of_the_page_are_good() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sql-rules.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queries += [
        rule["sql"]
        for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        for rule in yaml.safe_load(block)["rules"]
    ]
    assert len(queries) == 4
    for query in queries:
        assert parse_sql(query, "sql") == SqlQuery(query)


def test_planning_is_bounded() -> None:
    """It folds constants, which can take for ever."""
    began = time.monotonic()
    sql = "SELECT 'm' AS model_id, levenshtein(repeat('a', 200000), repeat('b', 200000)) AS value"
    assert problem(sql) == "expected a query that is planned within 2 s and 256 MB"
    assert time.monotonic() - began < 20


def test_what_passed_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_sql(GOOD, "sql")
    monkeypatch.setattr(sql_query, "child_command", lambda: ["/nowhere"])
    assert parse_sql(GOOD, "sql") == SqlQuery(GOOD)
    with pytest.raises(RunError, match="cannot be started"):
        parse_sql(GOOD + " -- another", "sql")


def test_a_process_that_does_not_come_up_is_not_the_querys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_query, "child_command", lambda: ["false"])
    with pytest.raises(RunError, match="ended with code 1"):
        parse_sql(GOOD + " -- and another", "sql")
