"""What rules see of a row of each kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rules.metrics import METRICS
from alerting.rules.reading import Reading
from alerting.rules.rule import parse_rule
from tests.alerting.samples import drifted, minute, served

OF_EACH_KIND: list[Reading] = [minute(0, 50), served(0), drifted(0, 0.21, ks=0.1)]


@pytest.mark.parametrize(
    ("metric", "value", "rows"),
    [
        ("ctr", 0.05, 1000),
        ("impressions", 1000, 1000),
        ("clicks", 50, 1000),
    ],
)
def test_a_ctr_row(metric: str, value: float, rows: int) -> None:
    reading = minute(0, 50)
    assert (reading.value(metric), reading.rows(metric)) == (value, rows)


@pytest.mark.parametrize(
    ("metric", "value", "rows"),
    [
        ("requests", 1200, 1200),
        ("errors", 300, 1200),
        ("error_rate", 0.25, 1200),
        ("availability", 0.75, 1200),
        ("qps", 20, 1200),
        ("p50", 100, 900),  # what failed has no latency here
        ("p95", 200, 900),
        ("p99", 400, 900),
        ("max", 800, 900),
    ],
)
def test_a_serving_row(metric: str, value: float, rows: int) -> None:
    reading = served(0, p95=200, requests=1200, errors=300)
    assert (reading.value(metric), reading.rows(metric)) == (value, rows)


@pytest.mark.parametrize(
    ("metric", "value", "rows"),
    [
        ("psi", 0.15, 1000),
        ("ks", 0.3, 947),  # of those records that had a number
        ("js", None, 0),
        ("drift", 2, 947),  # the worse of the two
    ],
)
def test_the_drift_rows_of_a_feature(metric: str, value: float | None, rows: int) -> None:
    reading = drifted(0, 0.15, n=1000, ks=0.3, level="severe")
    assert (reading.value(metric), reading.rows(metric)) == (value, rows)


def test_where_nothing_came_there_is_no_value() -> None:
    nothing = served(0, p95=None, requests=0)
    assert [nothing.value(metric) for metric in ("error_rate", "availability", "p95")] == [None, None, None]
    assert nothing.rows("p95") == 0
    assert minute(0, 0, impressions=0).value("ctr") is None
    assert replace(drifted(0, 0.1), distances=()).value("drift") is None


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_one_of_its_kind_and_of_no_other(name: str) -> None:
    for reading in OF_EACH_KIND:
        if reading.kind == METRICS[name].kind:
            reading.value(name)
        elif reading.kind != "drift":  # there a method may be missing
            with pytest.raises(KeyError):
                reading.value(name)


@given(tenths=st.integers(1, 999), times=st.integers(1, 1000))
def test_an_availability_that_is_exactly_the_objective_does_not_break_it(tenths: int, times: int) -> None:
    """1 - 1/1,000 is not 0.999 in binary: it has to be one division."""
    reading = served(0, requests=1000 * times, errors=(1000 - tenths) * times)
    for expr, holds in ((f"availability < {tenths / 10}%", False), (f"availability <= {tenths / 10}%", True)):
        rule = parse_rule({"name": "r", "expr": expr})
        value = rule.value_of(reading)
        assert value is not None
        assert rule.holds(value) is holds
