"""The rows that SQL rules see: settled windows of the last minutes, bounded, and saved minute by minute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from alerting.rules.reading import CtrReading, DriftReading, Reading, ServingReading
from tables.errors import ConfigError

Table = Literal["ctr", "serving", "drift"]

MINUTE_MS: Final = 60_000
DEFAULT_LOOKBACK_MS: Final = 15 * MINUTE_MS
DEFAULT_MAX_ROWS: Final = 200_000

#: Of every table; {minute} is the one that is judged. What has an expression is computed, and not in a stored row.
_SHARED: Final = (
    ("model_id", "VARCHAR"),
    ("model_version", "VARCHAR"),
    ("minute", "TIMESTAMP GENERATED ALWAYS AS (make_timestamp(window_start * 1000))"),
    ("age", "INTEGER GENERATED ALWAYS AS (CAST(({minute} - window_start) // 60000 AS INTEGER))"),
    ("window_start", "BIGINT"),
    ("window_end", "BIGINT"),
)
#: Columns of each table, and their types in SQL.
TABLES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "ctr": (*_SHARED, ("impressions", "BIGINT"), ("clicks", "BIGINT"), ("ctr", "DOUBLE")),
    "serving": (
        *_SHARED,
        *(("requests", "BIGINT"), ("errors", "BIGINT"), ("availability", "DOUBLE"), ("qps", "DOUBLE")),
        *((latency, "DOUBLE") for latency in ("p50", "p95", "p99", "max")),
        *(("latency_count", "BIGINT"), ("latency_sum", "DOUBLE")),
    ),
    "drift": (
        *_SHARED,
        *(("feature", "VARCHAR"), ("method", "VARCHAR"), ("value", "DOUBLE"), ("critical", "DOUBLE")),
        *(("n", "BIGINT"), ("reference_n", "BIGINT"), ("level", "VARCHAR"), ("horizon_s", "DOUBLE")),
    ),
}

#: Characters of a model, version or feature: they come from events, and may be of any length.
_LONGEST_NAME: Final = 256
_CHUNK: Final = "sql:"
_Key = tuple[str, ...]  # model_id, model_version; of drift feature and method as well
_Row = tuple[Any, ...]
_Minute = dict[Table, dict[_Key, _Row]]


@dataclass(frozen=True, slots=True)
class Payload:
    """The rows that the queries of one minute see, packed: one chunk a minute, in the order of time."""

    minute_ms: int
    chunks: tuple[bytes, ...]


class RowTables:
    """Rows of the last `lookback_ms`, at most `max_rows`; the oldest minutes make room for later ones.

    Raises ConfigError for values that cannot work.
    """

    def __init__(self, lookback_ms: int = DEFAULT_LOOKBACK_MS, max_rows: int = DEFAULT_MAX_ROWS) -> None:
        if lookback_ms < MINUTE_MS or lookback_ms % MINUTE_MS:
            raise ConfigError(f"lookback: expected whole minutes, at least one, got {lookback_ms} ms")
        if max_rows < 1:
            raise ConfigError(f"max_rows: expected at least 1, got {max_rows}")
        self.lookback_ms = lookback_ms
        self._max_rows = max_rows
        self._minutes: dict[int, _Minute] = {}
        self._packed: dict[int, bytes] = {}
        """Of minutes that have not changed since."""
        self._models: dict[int, set[str]] = {}
        self._rows = 0
        self._left_out = 0
        self._unsaved: set[int] = set()
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return self._rows

    @property
    def oldest(self) -> int | None:
        """Start of the oldest window held; None: there is none."""
        return min(self._minutes, default=None)

    @property
    def newest(self) -> int | None:
        """Start of the newest window held; None: there is none."""
        return max(self._minutes, default=None)

    def put(self, reading: Reading) -> bool:
        """Take in a settled window, in place of an earlier reading of it.

        False where there is no room for it, or where the name of its model, version or feature is too long.
        """
        start = reading.window_start
        table, found = _rows(reading)
        if max(map(len, (reading.model_id, reading.model_version, reading.feature))) > _LONGEST_NAME:
            self._left_out += len(found)
            return False
        tables = self._minutes.get(start, {})
        rows = tables.get(table, {})
        added = len(found.keys() - rows.keys())
        while self._rows + added > self._max_rows:
            oldest = min(self._minutes, default=start)
            if oldest >= start:
                self._left_out += len(found)
                return False
            self._left_out += self._drop(oldest)
        self._minutes.setdefault(start, tables).setdefault(table, rows).update(found)
        self._models.setdefault(start, set()).add(reading.model_id)
        self._rows += added
        self._packed.pop(start, None)
        self._unsaved.add(start)
        return True

    def at(self, minute_ms: int) -> Payload:
        """Rows of the windows that start in the lookback up to, and with, `minute_ms`."""
        return Payload(minute_ms, tuple(self._pack(start) for start in self._seen_from(minute_ms)))

    def models_at(self, minute_ms: int) -> set[str]:
        """The models that these rows are of."""
        return set().union(*(self._models[start] for start in self._seen_from(minute_ms)))

    def take_left_out(self) -> int:
        """How many rows have found no room, or made it for later ones, since this was asked last."""
        rows, self._left_out = self._left_out, 0
        return rows

    def forget(self, before_ms: int) -> None:
        """Drop the windows that start before."""
        for start in [start for start in self._minutes if start < before_ms]:
            self._drop(start)

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """Chunks to append and to drop in a checkpoint; what changed is in both, to be replaced as a whole."""
        append = {f"{_CHUNK}{start}": self._pack(start) for start in sorted(self._unsaved)}
        drop = {f"{_CHUNK}{start}" for start in self._unsaved | self._gone}
        self._unsaved, self._gone = set(), set()
        return append, drop

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Continue from a checkpoint; other chunks may be among them. Raises ValueError for damage."""
        minutes = {int(name.removeprefix(_CHUNK)): data for name, data in chunks.items() if name.startswith(_CHUNK)}
        self._minutes = {start: _unpacked(minutes[start]) for start in sorted(minutes)}
        self._packed = {}
        self._models = {
            start: {key[0] for rows in tables.values() for key in rows} for start, tables in self._minutes.items()
        }
        self._rows = sum(len(rows) for tables in self._minutes.values() for rows in tables.values())
        self._unsaved, self._gone = set(), set()
        while self._rows > self._max_rows:
            self._drop(min(self._minutes))

    def _seen_from(self, minute_ms: int) -> list[int]:
        first = minute_ms - self.lookback_ms + MINUTE_MS
        return [start for start in range(first, minute_ms + 1, MINUTE_MS) if start in self._minutes]

    def _drop(self, start: int) -> int:
        rows = sum(map(len, self._minutes.pop(start).values()))
        self._rows -= rows
        self._packed.pop(start, None)
        del self._models[start]
        self._unsaved.discard(start)
        self._gone.add(start)
        return rows

    def _pack(self, start: int) -> bytes:
        if start not in self._packed:
            tables = self._minutes[start]
            rows = {table: [tables[table][key] for key in sorted(tables[table])] for table in sorted(tables)}
            self._packed[start] = msgspec.msgpack.encode(rows)
        return self._packed[start]


def _rows(reading: Reading) -> tuple[Table, dict[_Key, _Row]]:
    """Rows by key, in the order of the columns in TABLES that are not computed."""
    model = (reading.model_id, reading.model_version)
    window = (*model, reading.window_start, reading.window_end)
    match reading:
        case CtrReading():
            return "ctr", {model: (*window, reading.impressions, reading.clicks, reading.ctr)}
        case ServingReading():
            latency = reading.latency_ms
            counts = (reading.requests, reading.errors, reading.value("availability"), reading.value("qps"))
            latencies = (latency.get(name) for name in ("p50", "p95", "p99", "max"))
            totals = (int(latency.get("count") or 0), latency.get("sum"))
            return "serving", {model: (*window, *counts, *latencies, *totals)}
        case DriftReading():
            horizon_s = reading.horizon_ms / 1000
            rows: dict[_Key, _Row] = {}
            for found in reading.distances:
                numbers = (found.value, found.critical, found.n, found.reference_n)
                row = (*window, reading.feature, found.method, *numbers, found.level, horizon_s)
                rows[*model, reading.feature, found.method] = row
            return "drift", rows


def _unpacked(data: bytes) -> _Minute:
    try:
        tables = msgspec.msgpack.decode(data, type=dict[Table, list[_Row]])
    except msgspec.DecodeError as error:
        raise ValueError(f"rows of SQL rules: {error}") from error
    minute: _Minute = {}
    for table, rows in tables.items():
        width = sum("GENERATED" not in sql for _, sql in TABLES[table])
        if any(len(row) != width for row in rows):
            raise ValueError(f"rows of SQL rules: expected {width} columns in {table}")
        minute[table] = {(*row[:2], *row[4:6]) if table == "drift" else row[:2]: row for row in rows}
    return minute
