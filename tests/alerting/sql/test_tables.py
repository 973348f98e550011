"""The rows that SQL rules see: which, in which order, how many, and whether a restart keeps them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.sql.tables import TABLES, Payload, RowTables
from tables.errors import ConfigError
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served


def rows(payload: Payload, table: str) -> list[list[Any]]:
    return [row for chunk in payload.chunks for row in msgspec.msgpack.decode(chunk).get(table, [])]


def at(number: int) -> int:
    return TEN_O_CLOCK + number * MINUTE


def test_each_kind_has_its_rows_with_the_columns_of_its_table() -> None:
    tables = RowTables()
    assert tables.put(minute(0, clicks=42, impressions=1000))
    assert tables.put(served(0, p95=300.0, requests=60, errors=3))
    assert tables.put(drifted(0, psi=0.21, ks=0.1, level="severe"))
    payload = tables.at(at(0))
    window = [at(0), at(1)]
    assert rows(payload, "ctr") == [["home", "3", *window, 1000, 42, 0.042]]
    served_row = ["ranker", "3", *window, 60, 3, 0.95, 1.0, 150.0, 300.0, 600.0, 1200.0, 57, None]
    assert rows(payload, "serving") == [served_row]
    drift_rows = rows(payload, "drift")
    assert drift_rows[0] == [
        "recommender-home",
        "3",
        *window,
        "gender",
        "ks",
        0.1,
        0.02,
        5700,
        85_000,
        "severe",
        3600.0,
    ]
    assert drift_rows[1][5:7] == ["psi", 0.21]
    for kind, columns in TABLES.items():
        stored = [name for name, sql in columns if "GENERATED" not in sql]
        assert all(len(row) == len(stored) for row in rows(payload, kind))


def test_the_rows_of_a_minute_are_those_of_the_lookback_up_to_it() -> None:
    tables = RowTables(lookback_ms=3 * MINUTE)
    for number in range(6):
        tables.put(minute(number, clicks=number))
    assert [row[5] for row in rows(tables.at(at(4)), "ctr")] == [2, 3, 4]
    assert tables.at(at(4)).minute_ms == at(4)


def test_order_does_not_depend_on_arrival() -> None:
    readings = [minute(n, clicks=n, model_id=model) for n in (2, 0, 1) for model in ("b", "a", "é")]
    one, other = RowTables(), RowTables()
    for reading in readings:
        one.put(reading)
    for reading in reversed(readings):
        other.put(reading)
    assert one.at(at(2)) == other.at(at(2))


def test_a_later_reading_of_a_window_replaces_the_earlier() -> None:
    tables = RowTables()
    tables.put(minute(0, clicks=10))
    tables.at(at(0))
    tables.put(minute(0, clicks=50))
    assert len(tables) == 1
    assert [row[5] for row in rows(tables.at(at(0)), "ctr")] == [50]


def test_the_oldest_minutes_make_room_and_one_minute_cannot_exceed_it() -> None:
    tables = RowTables(max_rows=4)
    for number in range(3):
        for model in ("a", "b"):
            assert tables.put(minute(number, clicks=1, model_id=model))
    assert len(tables) == 4
    assert {row[2] for row in rows(tables.at(at(2)), "ctr")} == {at(1), at(2)}
    assert tables.put(minute(2, clicks=1, model_id="c"))
    assert tables.put(minute(2, clicks=1, model_id="d"))
    assert not tables.put(minute(2, clicks=1, model_id="e"))
    assert not tables.put(minute(0, clicks=1))
    assert len(tables) == 4
    assert (tables.take_left_out(), tables.take_left_out()) == (6, 0)


def test_the_models_of_a_minute_are_those_whose_rows_it_sees() -> None:
    tables, again = RowTables(lookback_ms=2 * MINUTE, max_rows=3), RowTables(lookback_ms=2 * MINUTE)
    for number, model in enumerate("abcd"):
        tables.put(minute(number, clicks=1, model_id=model))
    tables.put(served(3, requests=1))
    again.restore(tables.take_changes()[0])
    for each in (tables, again):
        found = [each.models_at(at(number)) for number in range(5)]
        assert found == [set(), set(), {"c"}, {"c", "d", "ranker"}, {"d", "ranker"}]


def test_names_from_events_that_are_too_long_are_left_out() -> None:
    tables = RowTables()
    assert not tables.put(minute(0, clicks=1, model_id="x" * 257))
    assert not tables.put(replace(drifted(0, psi=0.1), feature="x" * 257))
    assert tables.take_left_out() == 2
    assert tables.put(minute(0, clicks=1, model_id="x" * 256))


def test_what_is_forgotten_is_gone_from_the_checkpoint_too() -> None:
    tables = RowTables()
    assert tables.at(at(0)).chunks == ()
    tables.put(minute(1, clicks=1))
    tables.put(minute(0, clicks=1))
    assert tables.oldest == at(0)
    append, drop = tables.take_changes()
    assert append.keys() == drop == {f"sql:{at(0)}", f"sql:{at(1)}"}
    tables.forget(at(1))
    assert tables.take_changes() == ({}, {f"sql:{at(0)}"})
    assert tables.take_changes() == ({}, set())
    assert len(tables) == 1
    assert tables.oldest == at(1)


def test_damage_is_refused() -> None:
    row = ["home", "3", 0, MINUTE]
    for data in (b"\xc1", msgspec.msgpack.encode({"ctr": [row]}), msgspec.msgpack.encode({"other": []})):
        with pytest.raises(ValueError, match="SQL rules"):
            RowTables().restore({f"sql:{at(0)}": data})


@pytest.mark.parametrize("values", [{"lookback_ms": 0}, {"lookback_ms": 90_000}, {"max_rows": 0}])
def test_values_that_cannot_work_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        RowTables(**values)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 6), st.sampled_from("abc"), st.integers(0, 9)),
        st.tuples(st.just("forget"), st.integers(0, 6)),
        st.tuples(st.just("save")),
    ),
    max_size=40,
)


@given(steps)
def test_a_restart_at_any_point_changes_nothing(steps: list[tuple[Any, ...]]) -> None:
    """The store as a dictionary; whoever takes over from it holds the same rows as a plain dictionary of them."""
    tables, store = RowTables(lookback_ms=10 * MINUTE), dict[str, bytes]()
    expected: dict[tuple[int, str], int] = {}
    for step in steps:
        match step:
            case ("put", number, model, clicks):
                assert tables.put(minute(number, clicks=clicks, model_id=model))
                expected[number, model] = clicks
            case ("forget", number):
                tables.forget(at(number))
                expected = {key: clicks for key, clicks in expected.items() if key[0] >= number}
            case _:
                append, drop = tables.take_changes()
                store = {name: data for name, data in store.items() if name not in drop} | append
                before, tables = tables.at(at(6)), RowTables(lookback_ms=10 * MINUTE)
                tables.restore({**store, "past:1": b"another's"})
                assert tables.at(at(6)) == before
    found = [(row[2], row[0], row[5]) for row in rows(tables.at(at(6)), "ctr")]
    assert found == [(at(number), model, clicks) for (number, model), clicks in sorted(expected.items())]
    assert len(tables) == len(expected)
