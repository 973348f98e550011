"""Ratios are taken within a round, where both systems met the same machine."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.measurement import Measurement, Spread


def measured(system: str, rate: float) -> Measurement:
    return Measurement(system, records=1000, seconds=1000 / rate, cpu_seconds=0.5, peak_rss=2**20, startup_s=1.0)


# The machine was busy in the second round.
ROUNDS = [
    {"tidemark": measured("tidemark", 300.0), "stock faust": measured("stock faust", 10.0)},
    {"tidemark": measured("tidemark", 100.0), "stock faust": measured("stock faust", 4.0)},
    {"tidemark": measured("tidemark", 200.0), "stock faust": measured("stock faust", 10.0)},
]


def test_a_ratio_compares_runs_of_one_round() -> None:
    found = report.ratio(ROUNDS, "tidemark", "stock faust")

    assert found is not None
    assert (found.median, found.low, found.high) == pytest.approx((25.0, 20.0, 30.0))


def test_there_is_no_ratio_to_a_system_that_did_not_run() -> None:
    assert report.ratio(ROUNDS, "tidemark", "decode") is None


def test_rates_and_costs_are_by_the_record() -> None:
    run = measured("tidemark", 250.0)

    assert run.rate == pytest.approx(250.0)
    assert run.cpu_per_million == pytest.approx(500.0)
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=3.0)


def test_the_table_names_every_system_and_the_ratio() -> None:
    said = io.StringIO()

    report.show(Console(file=said, width=120), ROUNDS)

    assert "stock faust" in said.getvalue()
    assert "200 (100 to 300)" in said.getvalue()
    assert "25.00 (20.00 to 30.00) times" in said.getvalue()


def test_a_system_that_does_the_same_job_is_told_with_its_right_windows_and_its_differences() -> None:
    said = io.StringIO()
    peer = replace(measured("bytewax", 20.0), windows=120, right_windows=118)

    report.show(Console(file=said, width=200), [{**ROUNDS[0], "bytewax": peer}], {"bytewax": "No recovery store."})

    assert "118 of 120" in said.getvalue()
    assert "the whole job against the same job in bytewax: 15.00 times" in said.getvalue()
    assert "bytewax: No recovery store." in said.getvalue()
