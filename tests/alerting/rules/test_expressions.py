from __future__ import annotations

import re
import time
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rules.expressions import (
    LONGEST_EXPRESSION,
    Change,
    Comparison,
    Direction,
    Expression,
    parse_expression,
)
from alerting.rules.metrics import LATENCY, LEVEL, METRICS, written
from alerting.rules.reading import LEVELS
from tables.errors import ConfigError


@pytest.mark.parametrize(
    ("source", "metric", "feature", "comparison", "threshold"),
    [
        ("ctr < 5%", "ctr", "", "<", 0.05),
        ("impressions<1000", "impressions", "", "<", 1000),
        ("error_rate > 5%", "error_rate", "", ">", 0.05),
        ("availability < 99.9%", "availability", "", "<", 0.999),
        ("errors > 100", "errors", "", ">", 100),
        ("requests <= 1e3", "requests", "", "<=", 1000),
        ("qps > 0.5", "qps", "", ">", 0.5),
        ("p95(latency) > 500ms", "p95", "", ">", 500),
        ("max( latency )>=1.5 s", "max", "", ">=", 1500),
        ("psi(gender) >= 0.15", "psi", "gender", ">=", 0.15),
        ("psi(*) >= 0.2", "psi", "*", ">=", 0.2),
        ("ks(price in yen) > .1", "ks", "price in yen", ">", 0.1),
        ("kl(a<b) > 2", "kl", "a<b", ">", 2),
        ("drift(user_*) >= minor", "drift", "user_*", ">=", 1),
        ("drift(gender) > minor", "drift", "gender", ">", 1),
    ],
)
def test_conditions_as_people_write_them(
    source: str, metric: str, feature: str, comparison: Comparison, threshold: float
) -> None:
    assert parse_expression(source) == Expression(
        metric=metric, feature=feature, comparison=comparison, threshold=threshold
    )


DAY = 86_400_000


@pytest.mark.parametrize(
    ("source", "direction", "metric", "feature", "vs_ms", "over_ms", "threshold"),
    [
        ("drop(ctr, vs=1d) > 10%", "drop", "ctr", "", DAY, 600_000, 0.1),
        ("rise(p95(latency),vs=1d)>5%", "rise", "p95", "", DAY, 600_000, 0.05),
        (" rise ( psi( gender ) , over = 1h , vs = 7d ) > 250 % ", "rise", "psi", "gender", 7 * DAY, 3_600_000, 2.5),
        ("rise(kl(*), vs=1d, over=1m) > 1.5", "rise", "kl", "*", DAY, 60_000, 1.5),
        ("drop(psi(a,b), vs=10m) > 0", "drop", "psi", "a,b", 600_000, 600_000, 0),
    ],
)
def test_changes_as_people_write_them(
    source: str, direction: Direction, metric: str, feature: str, vs_ms: int, over_ms: int, threshold: float
) -> None:
    change = Change(direction=direction, vs_ms=vs_ms, over_ms=over_ms)
    expected = Expression(metric=metric, feature=feature, comparison=">", threshold=threshold, change=change)
    assert parse_expression(source) == expected


def test_a_change_is_a_share_of_what_was_before() -> None:
    assert Change(direction="drop", vs_ms=DAY).of(6.0, 8.0) == 0.25
    assert Change(direction="rise", vs_ms=DAY).of(6.0, 8.0) == -0.25
    assert Change(direction="drop", vs_ms=DAY).of(0.072, 0.08) == 0.1


def test_no_change_has_no_sign() -> None:
    assert str(Change(direction="drop", vs_ms=DAY).of(8.0, 8.0)) == "0.0"
    assert str(Change(direction="rise", vs_ms=DAY).of(8.0 - 1e-12, 8.0)) == "0.0"


@pytest.mark.parametrize("source", ["ctr{} <", "drop(ctr{}x", "drop(ctr, vs{}x) > 1%", "ctr < 5{}x", "ctr < {}!"])
def test_a_long_row_of_blanks_is_judged_at_once(source: str) -> None:
    with pytest.raises(ConfigError, match="expected at most 500 characters, got 4,0"):
        parse_expression(source.format(" " * 4_000))
    began = time.process_time()
    for blank in " \t":
        with pytest.raises(ConfigError):
            parse_expression(source.format(blank * (LONGEST_EXPRESSION - len(source))))
    # It took seconds when blanks could be shared out between the parts.
    assert time.process_time() - began < 0.5


def test_blanks_around_an_expression_do_not_count() -> None:
    assert parse_expression(" " * 4_000 + "ctr < 5%" + "\n" * 4_000) == parse_expression("ctr<5%")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("", "expected a metric, one of < <= > >=, and a number, such as 'ctr < 5%', got ''"),
        ("p95 latency > 500ms", "expected a metric, one of"),
        ("psi(gender > 0.15", "expected a metric, one of"),
        ("psi(a) > 0.1\nps(b) > 0.1", "expected a metric, one of"),
        ("eror_rate > 5%", "unknown metric 'eror_rate'; expected ctr, impressions, clicks, error_rate, "),
        ("eror_rate > 5%", "p95(latency), p99(latency), max(latency), psi(FEATURE)"),
        ("eror_rate > 5%", "drift(FEATURE) (did you mean 'error_rate'?)"),
        ("PSI(gender) > 0.1", "unknown metric 'PSI'; expected"),
        ("PSI(gender) > 0.1", "(did you mean 'psi'?)"),
        ("p95 > 500ms", "expected p95(latency), got p95"),
        ("p95(duration) > 500ms", "expected p95(latency), got p95(duration)"),
        ("p95() > 500ms", "expected p95(latency), got p95()"),
        ("ctr(home) < 5%", "expected ctr, got ctr(home)"),
        ("ctr() < 5%", "expected ctr, got ctr()"),
        ("psi > 0.2", "expected a feature, such as psi(gender), or psi(*) for each, got psi"),
        ("psi( ) > 0.2", "expected a feature, such as psi(gender), or psi(*) for each, got psi( )"),
        ("p95(latency) > 500", "expected a time with its unit, such as 500ms or 0.5s, got 500"),
        ("p95(latency) > 5%", "expected a time with its unit, such as 500ms or 0.5s, got 5%"),
        ("p95(latency) > 2m", "expected a time with its unit, such as 500ms or 0.5s, got 2m"),
        ("errors > 100ms", "expected a whole number from 0, got 100ms"),
        ("errors > 1.5", "expected a whole number from 0, got 1.5"),
        ("errors > 1,000", "expected a whole number from 0, got '1,000' for the number"),
        ("errors > 1e400", "expected a whole number from 0, got 1e400"),
        ("qps > 1e999999999999999999", "expected a number from 0, got"),
        ("qps > 5 for 2m", "expected a number from 0, got '5 for 2m' for the number"),
        ("availability < 99.9", "expected a threshold from 0 to 1 or from 0% to 100%, got 99.9"),
        ("psi(gender) > 15%", "expected a number from 0, such as 0.2, got 15%"),
        ("js(gender) > 1.5", "expected a number from 0 to 1, such as 0.2, got 1.5"),
        ("drift(gender) >= 0.2", "expected none, minor or severe, got '0.2'"),
        ("drift(gender) >= Severe", "expected none, minor or severe, got 'Severe' (did you mean 'severe'?)"),
        ("drift(gender) > severe", "expected a condition that can change, got 'drift(gender) > severe', which never"),
        ("errors >= 0", "which always holds"),
        ("ks(price) > 1", "which never holds"),
        ("p95(latency) < 0ms", "which never holds"),
        ("drop(ctr) > 10%", "expected how long before, such as drop(ctr, vs=1d), got no vs"),
        ("drop(ctr, vs=1d > 10%", "expected a change such as 'drop(ctr, vs=1d) > 10%', got"),
        ("drop ctr > 10%", "expected a metric, one of"),
        ("drp(ctr, vs=1d) > 10%", "unknown metric 'drp'; expected ctr"),
        ("drp(ctr, vs=1d) > 10%", "(did you mean 'drop'?)"),
        ("drop(cvr, vs=1d) > 10%", "unknown metric 'cvr'; expected ctr"),
        ("drop(ctr, 1d) > 10%", "expected an option such as vs=1d or over=10m, got '1d'"),
        ("drop(ctr, v=1d) > 10%", "unknown option 'v'; expected vs and perhaps over (did you mean 'vs'?)"),
        ("drop(ctr, vs=1d, vs=2d) > 10%", "expected vs once, got it twice"),
        ("drop(ctr, vs=soon) > 10%", "vs: expected a duration such as"),
        ("drop(ctr, vs=5m) > 10%", "vs: expected whole minutes from 10m to 7d, got 5 min"),
        ("drop(ctr, vs=8d) > 10%", "vs: expected whole minutes from 10m to 7d, got 8 d"),
        ("drop(ctr, vs=90m30s) > 10%", "vs: expected whole minutes"),
        ("drop(ctr, vs=1d, over=90s) > 10%", "over: expected whole minutes from 1m to 1d, and no longer than vs"),
        ("drop(ctr, vs=30m, over=31m) > 10%", "over: expected whole minutes from 1m to 1d, and no longer than vs"),
        ("drop(p95, vs=1d) > 10%", "expected p95(latency), got p95"),
        ("drop(ctr, vs=1d) > 110%", "expected a share of what was before, such as 10%, got 110%"),
        ("rise(p95(latency), vs=1d) > 5ms", "expected a share of what was before, such as 10%, got 5ms"),
        ("drop(ctr, vs=1d) > 100%", "which never holds"),
        ("rise(drift(x), vs=1d) > 5%", "expected a metric with a number for rise, got drift: use psi or ks"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_was_expected(source: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)) as caught:
        parse_expression(source, "rules[2].expr")
    assert str(caught.value).startswith("rules[2].expr: ")
    assert "\n" not in str(caught.value)


spaces = st.sampled_from(["", " ", "  "])
features = st.text(st.characters(exclude_characters="()", exclude_categories=["C", "Z"]), min_size=1)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Expression]:
    """A condition with spaces wherever they may be, and what it says; every threshold can be crossed."""
    name = draw(st.sampled_from(sorted(METRICS)))
    unit, feature = METRICS[name].unit, ""
    number = draw(st.integers(1, 999))
    if unit is LEVEL:
        number = 1
        text, threshold = "minor", Fraction(1)
    elif "%" in unit.suffixes:
        text, threshold = draw(
            st.sampled_from([(f"{number / 10}%", Fraction(number, 1000)), (f"{number / 1000}", Fraction(number, 1000))])
        )
    elif unit is LATENCY:
        text, threshold = draw(
            st.sampled_from([(f"{number}ms", Fraction(number)), (f"{number / 1000} s", Fraction(number))])
        )
    elif unit.is_whole:
        text, threshold = str(number), Fraction(number)
    else:
        text, threshold = f"{number / 1000}", Fraction(number, 1000)
    gap = draw(spaces)
    argument: str = METRICS[name].argument
    if argument == "FEATURE":
        argument = feature = draw(features)
    call = f"{name}{gap}({draw(spaces)}{argument}{draw(spaces)})" if argument else name
    comparison: Comparison = draw(st.sampled_from(get_args(Comparison)))
    source = f"{draw(spaces)}{call}{draw(spaces)}{comparison}{draw(spaces)}{text}{draw(spaces)}"
    return source, Expression(metric=name, feature=feature, comparison=comparison, threshold=float(threshold))


@given(conditions())
def test_what_is_written_is_what_is_read_to_the_last_bit(condition: tuple[str, Expression]) -> None:
    source, expression = condition
    assert parse_expression(source) == expression


@given(st.text("cprs95i(latency)* <>=.05%ms0", max_size=20))
def test_whatever_is_written_it_is_read_or_refused_in_one_line(source: str) -> None:
    try:
        assert parse_expression(source).threshold >= 0
    except ConfigError as error:
        assert str(error).startswith("expr: ")


def test_levels_are_written_as_rows_have_them() -> None:
    assert [parse_expression(f"drift(x) <= {level}").threshold for level in LEVELS[:-1]] == [0, 1]
    assert written("drift") == "drift(FEATURE)"
