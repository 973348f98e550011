"""The process in which the SQL of rules runs: without files, network or environment, in bounded memory and time.

It is started by its path (`alerting/sql/query.py`) and imports nothing of ours. A frame is four bytes of length and a
msgpack value: first the settings, then one request after the other, each of which is answered by one frame, until the
end of its input. It kills itself where one takes too long, so that it never outlives a parent that was killed.
"""

from __future__ import annotations

import math
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import duckdb
import msgspec

_LENGTH_BYTES: Final = 4
#: For the rows of one request and their decoding, beside what the queries may use and what there is after the start.
_OWN_MEMORY_MB: Final = 256
#: What there is after the start where the system does not tell: the engine reserves more than it uses.
_AT_START_MB: Final = 1024
_TEXT_LIMIT: Final = 1_000
_MOST_COLUMNS: Final = 50

#: In this order: nothing can be changed after the last one.
_SETTINGS: Final[dict[str, Any]] = {
    "temp_directory": "",
    "secret_directory": "",
    "allow_persistent_secrets": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "async_threads": 0,
    "max_expression_depth": 200,
    "ieee_floating_point_ops": False,
    "error_on_division_by_zero": False,
    "TimeZone": "UTC",
    "enable_external_access": False,
    "lock_configuration": True,
}
_TABLE_FUNCTIONS: Final = {"generate_series", "range", "unnest"}
#: What tells the time, or draws lots, beside the functions that the engine itself says are not constant.
_OTHERS: Final = {
    *("age", "ago", "current_localtime", "current_localtimestamp", "pg_conf_load_time", "pg_postmaster_start_time"),
    *("pg_sleep", "reservoir_quantile"),
}
#: Those that stand without parentheses, like a column.
_WORDS: Final = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
_KEYS: Final = ("model_id", "model_version", "feature")
_WHOLE: Final = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_NUMBER: Final = re.compile(rf"{_WHOLE.pattern}|FLOAT|DOUBLE|DECIMAL\(.*\)")
_BROKEN: Final = (duckdb.OutOfMemoryException, duckdb.InternalException, duckdb.FatalException)


class _Refused(Exception):
    """The query is not one that a rule may have; the message says what was expected."""


class Tables:
    """The tables, and the queries over them."""

    def __init__(self, tables: Mapping[str, Sequence[tuple[str, str]]], memory_mb: int, most_rows: int) -> None:
        self._tables = tables
        self._most_rows = most_rows
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        self._connection.execute(f"SET memory_limit = '{memory_mb}MB'")
        names = "SELECT lower(function_name) FROM duckdb_functions() WHERE stability != 'CONSISTENT'"
        self._changing = _OTHERS | _WORDS | {name for (name,) in self._connection.execute(names).fetchall()}
        for name, value in _SETTINGS.items():
            self._connection.execute(f"SET {name} = {value!r}")
        self.load(0, [])

    def load(self, minute: int, chunks: list[bytes]) -> dict[str, Any]:
        """Replace all rows by those of `chunks`, and judge `minute` from now on."""
        for name, columns in self._tables.items():
            # A column that is computed has its expression behind its type.
            written = ", ".join(f'"{column}" {kind.format(minute=minute)}' for column, kind in columns)
            self._connection.execute(f"CREATE OR REPLACE TABLE {name} ({written})")
        for chunk in chunks:
            for name, rows in msgspec.msgpack.decode(chunk).items():
                with self._connection.appender(name) as appender:
                    appender.append_rows(rows)
        return {"done": True}

    def check(self, text: str) -> dict[str, Any]:
        """Plan a query, without running it."""
        _, relation = self._answer(text)
        self._connection.execute("EXPLAIN " + relation.sql_query()).fetchall()
        return {"done": True}

    def run(self, text: str) -> dict[str, Any]:
        """Names of the columns beyond the keys, and rows in the order of their keys."""
        numbers, relation = self._answer(text)
        rows = relation.fetchall()
        if len(rows) > self._most_rows:
            return {"too_many_rows": self._most_rows}
        # Of several for one series the first counts: it must be the same one every time.
        answer = [(_keys(row[:3]), [_plain(value) for value in row[3:]]) for row in rows]
        answer.sort(key=lambda row: (row[0], [(value is None, value or 0) for value in row[1]]))
        return {"numbers": numbers, "rows": answer}

    def _answer(self, text: str) -> tuple[list[str], duckdb.DuckDBPyRelation]:
        """Names of the columns beyond the keys, and what gives the keys and those columns, not run yet."""
        for part in (text, text := _without_end(text)):
            statements = self._connection.extract_statements(part)
            if len(statements) != 1:
                raise _Refused(f"expected exactly one SELECT, got {len(statements)} statements")
        if statements[0].type != duckdb.StatementType.SELECT:
            raise _Refused(f"expected a SELECT, got {statements[0].type.name}")
        if statements[0].named_parameters:
            raise _Refused("expected a query without parameters such as ? and $1")
        (tree,) = self._connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
        self._look_through(msgspec.json.decode(tree))
        # Its errors name the line, which those of a relation do not.
        described = self._connection.execute("DESCRIBE " + text).fetchall()
        columns = [(name.lower(), kind) for name, kind, *_ in described]
        _look_at_columns(columns)
        kinds = dict(columns)
        numbers = [name for name in kinds if name not in _KEYS]
        keys = [f'"{name}"[:{_TEXT_LIMIT + 1}]' if name in kinds else "''" for name in _KEYS]
        values = [f'"{name}"' if _WHOLE.fullmatch(kinds[name]) else f'"{name}"::DOUBLE' for name in numbers]
        relation = self._connection.sql(statements[0])
        return numbers, relation.project(", ".join(keys + values)).limit(self._most_rows + 1)

    def _look_through(self, tree: dict[str, Any]) -> None:
        """Refuse what reads anything but the tables, or would answer otherwise the next time."""
        if tree["error"]:
            raise _Refused(tree["error_message"])
        nodes = [node for node in _nodes(tree) if isinstance(node, dict)]
        known = set(self._tables) | {node["cte_name"].lower() for node in nodes if "cte_name" in node}
        for node in nodes:
            known |= {cte["key"].lower() for cte in node.get("cte_map", {}).get("map", ())}
        for node in nodes:
            kind, function = node.get("type"), str(node.get("function_name", "")).lower()
            if kind == "BASE_TABLE" and (node["table_name"].lower() not in known or node["schema_name"]):
                raise _Refused(_unknown_table(node["table_name"], sorted(self._tables)))
            if kind == "SHOW_REF":
                raise _Refused("expected a SELECT, got SHOW, DESCRIBE or SUMMARIZE")
            if kind == "TABLE_FUNCTION" and node["function"].get("function_name", "").lower() not in _TABLE_FUNCTIONS:
                name = node["function"].get("function_name", "")
                raise _Refused(f"expected {', '.join(sorted(self._tables))} as tables, got {name}(...)")
            if node.get("sample"):
                raise _Refused("expected a query without a sample: the same rows must give the same answer")
            word = node["column_names"][0].lower() if kind == "COLUMN_REF" else ""
            if function in self._changing or word in _WORDS:
                raise _Refused(
                    f"expected functions of the rows alone, got {function or word}: the same rows must give the same "
                    f"answer; age is 0 in the minute that is judged"
                )


def _look_at_columns(columns: list[tuple[str, str]]) -> None:
    expected = "expected the columns model_id (text) and value (number), if need be model_version, feature, threshold"
    names = [name for name, _ in columns]
    if len(set(names)) != len(names) or len(names) > _MOST_COLUMNS or any('"' in name for name in names):
        raise _Refused(
            f"{expected}, and at most {_MOST_COLUMNS} in all with names of their own, got {', '.join(names)}"
        )
    for name in ("model_id", "value"):
        if name not in names:
            raise _Refused(f"{expected}, got {', '.join(names)}")
    for name, kind in columns:
        if name in _KEYS and kind != "VARCHAR":
            raise _Refused(f"{expected}; {name} is {kind}, which is not text")
        if name not in _KEYS and not _NUMBER.fullmatch(kind):
            raise _Refused(f"{expected}, and numbers otherwise; {name} is {kind}, which is not a number")


def _without_end(text: str) -> str:
    """Without the semicolon of a statement, and the comments behind it, which the engine does not expect in a part."""
    data = text.encode()
    end = next((at for at, _ in duckdb.tokenize(text) if data[at : at + 1] == b";"), len(data))
    return data[:end].decode()


def _nodes(tree: Any) -> Iterator[Any]:
    open_nodes = [tree]
    while open_nodes:
        node = open_nodes.pop()
        yield node
        if isinstance(node, dict):
            open_nodes += node.values()
        elif isinstance(node, list):
            open_nodes += node


def _unknown_table(name: str, tables: list[str]) -> str:
    close = get_close_matches(name.lower(), tables, n=1)
    return f"expected {', '.join(tables)} as tables, got {name!r}" + (f" (did you mean {close[0]}?)" if close else "")


def _keys(found: tuple[Any, ...]) -> list[str]:
    model_id, *rest = found
    if model_id is None:
        raise _Refused("expected a model_id in each row, got NULL")
    keys = [model_id, *(text or "" for text in rest)]
    if any(len(text) > _TEXT_LIMIT for text in keys):
        raise _Refused(f"expected texts of at most {_TEXT_LIMIT} characters, got a longer one")
    return keys


def _plain(value: float | None) -> float | None:
    """Without infinities and NaN, which stand for no number, and whole numbers in 64 bits."""
    if value is None or not math.isfinite(value):
        return None
    return float(value) if isinstance(value, int) and value.bit_length() > 63 else value


def _error(error: Exception) -> dict[str, Any]:
    """Message and, of a query, the line in it; `last` where the engine may not be fit for another query."""
    text = str(error)
    found = re.search(r"\n+LINE (\d+): ", text)
    message = text[: found.start()] if found else text
    lines = [line.strip() for line in message.split("\n")[:5]]
    return {
        "error": "; ".join(line for line in lines if line)[:_TEXT_LIMIT] or type(error).__name__,
        "line": int(found[1]) if found else None,
        "last": isinstance(error, _BROKEN) or not isinstance(error, duckdb.Error | _Refused),
    }


def _read() -> Any:
    head = sys.stdin.buffer.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    return msgspec.msgpack.decode(sys.stdin.buffer.read(int.from_bytes(head)))


def _give_up_rights(memory_mb: int) -> None:
    """No file or socket can be opened from here on, nothing written, no more memory taken than is due."""
    address_space = _address_space() + ((memory_mb + _OWN_MEMORY_MB) << 20)
    for limit, most in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def _address_space() -> int:
    """Bytes of it that this process has now."""
    try:
        with open("/proc/self/statm") as pages:
            return int(pages.read().split()[0]) * resource.getpagesize()
    except OSError:
        return _AT_START_MB << 20


def _die_within(seconds: float) -> None:
    """End this process unless called again before; 0: no more."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Serve until the input ends."""
    # What the engine might print must not get between the frames.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    settings = _read()
    tables = Tables(settings["tables"], settings["memory_mb"], settings["most_rows"])
    # What is loaded on first use cannot be later.
    tables.check(settings["warm_up"])
    tables.run(settings["warm_up"])
    _give_up_rights(settings["memory_mb"])
    reply: dict[str, Any] = {"done": True}
    while True:
        frame = msgspec.msgpack.encode(reply)
        replies.write(len(frame).to_bytes(_LENGTH_BYTES) + frame)
        replies.flush()
        if (request := _read()) is None or reply.get("last"):
            return
        _die_within(request.pop("within_s"))
        try:
            match request:
                case {"load": [minute, chunks]}:
                    reply = tables.load(minute, chunks)
                case {"check": text}:
                    reply = tables.check(text)
                case {"run": text}:
                    reply = tables.run(text)
        except Exception as error:
            reply = _error(error)
        _die_within(0)


if __name__ == "__main__":
    main()
