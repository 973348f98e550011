"""Tables of features: CSV, Parquet and JSON objects whose fields are the features of one row each.

Fields that are called as in an event (`model_id`, `model_version`, `event_time`, `@timestamp`) select the row; those
that name people, items and requests are left out unless they are asked for.
"""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from agents.event_time import parse_event_time
from agents.event_types import EARLIEST_MS, LATEST_AHEAD_MS
from agents.line_files import name_of
from agents.reference_rows import ReferenceRows, Row
from tables.errors import InputError, RunError
from tables.feature_bins import Value

IDENTIFIERS = ("event_id", "request_id", "user_id", "item_id")
NAMES, TIMES = ("model_id", "model_version"), ("event_time", "@timestamp")
BATCH_ROWS = 10_000

Fields = dict[str, Value]
"""One row: a table's columns, or the fields of an object."""

_DELIMITERS = ",;\t"
_TRUTH = {"true": True, "false": False}


def add_fields(
    rows: ReferenceRows, path: str, found: Iterable[tuple[int, Fields]], now_ms: int, unit: str = "line"
) -> None:
    """Take in rows, each with its line or row number. `now_ms`: event times may be at most a day ahead of it."""
    dropped = [name for name in IDENTIFIERS if name not in rows.wanted.features]

    def usable() -> Iterator[Row]:
        for number, fields in found:
            try:
                row = _row_of(fields, rows.wanted.needs_times, now_ms + LATEST_AHEAD_MS)
            except ValueError as error:
                rows.skip(f"{name_of(path)}: {unit} {number}", str(error))
                continue
            for name in dropped:
                if fields.pop(name, None) is not None:
                    rows.left_out.add(name)
            yield row

    rows.add(usable())


def read_csv(path: str, blocks: Iterable[list[bytes]], rows: ReferenceRows, now_ms: int) -> Iterator[None]:
    """Take in a CSV file with a header, pausing after each batch; `blocks` are its lines.

    An empty cell is a missing value, one that reads as a number is one, `true` and `false` are booleans; commas,
    semicolons or tabs come between. Raises InputError for what is no such file.
    """
    lines = _decoded(path, blocks)
    header = next(lines, "")
    reader = csv.reader(itertools.chain([header], lines), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        twice = [name for name, count in Counter(names).items() if name and count > 1]
        if twice:
            raise InputError(f"{name_of(path)}: line 1: expected every column once, got {twice[0]!r} twice")
        while batch := list(itertools.islice(_read_cells(path, reader, names, rows), BATCH_ROWS)):
            add_fields(rows, path, batch, now_ms)
            yield
    except csv.Error as error:
        raise InputError(f"{name_of(path)}: line {reader.line_num}: no CSV: {error}") from error


def read_parquet(path: str, rows: ReferenceRows, now_ms: int) -> Iterator[int]:
    """Take in a Parquet file, pausing after each batch with the number of all its rows.

    Columns that hold neither numbers, text nor booleans are left out. Raises InputError, and RunError without pyarrow.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        raise RunError(f"{path}: Parquet needs pyarrow; install it with: pip install 'tidemark[parquet]'") from error

    try:
        with pq.ParquetFile(path) as file:
            casts: dict[str, list[Any]] = {}
            for field in file.schema_arrow:
                if not _is_read(field.name, rows):
                    continue
                if steps := _casts(pa, field):
                    casts[field.name] = steps
                else:
                    rows.left_out.add(f"{field.name} ({field.type})")
            number = itertools.count(1)
            for batch in file.iter_batches(BATCH_ROWS, columns=list(casts)):
                columns = [_cast(batch.column(name), steps).to_pylist() for name, steps in casts.items()]
                cells = zip(*columns, strict=True) if columns else itertools.repeat((), batch.num_rows)
                found = [dict(zip(casts, each, strict=True)) for each in cells]
                add_fields(rows, path, zip(number, found, strict=False), now_ms, unit="row")
                yield file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from error


def _row_of(fields: Fields, needs_time: bool, latest_ms: int) -> Row:
    """The row, with what selects it taken out of `fields`, which become its features."""
    model_id, version = (_text(fields.pop(name)) if name in fields else None for name in NAMES)
    given = [at for name in TIMES if (at := fields.pop(name, None)) is not None]
    if not given:
        if needs_time:
            raise ValueError("event_time: missing, but --since, --until and --first-hours go by it")
        return Row(fields, model_id, version)
    try:
        time_ms = parse_event_time(given[0])
    except ValueError as error:
        raise ValueError(f"event_time: {error}") from None
    if not EARLIEST_MS <= time_ms <= latest_ms:
        raise ValueError(f"event_time: out of range: {time_ms}")
    return Row(fields, model_id, version, time_ms)


def _text(value: Value) -> str:
    """A model or version that was taken for a number is text again."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _decoded(path: str, blocks: Iterable[list[bytes]]) -> Iterator[str]:
    number = 0
    for block in blocks:
        for line in block:
            number += 1
            try:
                # The line feed matters inside of quotes.
                yield line.decode() + "\n"
            except UnicodeDecodeError:
                raise InputError(f"{name_of(path)}: line {number}: expected UTF-8") from None


def _read_cells(
    path: str, reader: Iterator[list[str]], names: list[str], rows: ReferenceRows
) -> Iterator[tuple[int, Fields]]:
    read = [(name, place) for place, name in enumerate(names) if name and _is_read(name, rows)]
    for cells in reader:
        number: int = reader.line_num  # type: ignore[attr-defined]
        if len(cells) == len(names):
            yield number, {name: _value(name, cells[place]) for name, place in read}
        elif cells:
            rows.skip(f"{name_of(path)}: line {number}", f"expected {len(names)} cells, got {len(cells)}")


def _is_read(name: str, rows: ReferenceRows) -> bool:
    """Whether a column is needed; its name is remembered."""
    rows.names.add(name)
    return not rows.wanted.features or name in (*rows.wanted.features, *NAMES, *TIMES)


def _value(name: str, cell: str) -> Value:
    if name in NAMES:
        return cell
    try:
        # Python reads 1_000 as a number, nobody else does.
        if "_" not in cell:
            return float(cell)
    except ValueError:
        pass
    return _TRUTH.get(cell.lower(), cell) if cell.strip() else None


def _casts(pa: Any, field: Any) -> list[Any]:
    """The types through which a column becomes one that is understood; none where it cannot."""
    kinds, kind = pa.types, field.type
    steps = []
    if kinds.is_dictionary(kind):
        kind = kind.value_type
        steps.append(kind)
    is_text = kinds.is_string(kind) or kinds.is_large_string(kind)
    is_number = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind) or kinds.is_null(kind)
    if field.name in NAMES and (is_text or kinds.is_integer(kind)):
        return [*steps, pa.string()]
    if field.name in TIMES and kinds.is_timestamp(kind):
        return [*steps, pa.timestamp("ms", kind.tz), pa.int64()]
    if is_text or kinds.is_boolean(kind):
        return steps or [kind]
    return [*steps, pa.float64()] if is_number else []


def _cast(column: Any, steps: Iterable[Any]) -> Any:
    for kind in steps:
        column = column.cast(kind, safe=False)
    return column
