from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rules.reading import Reading
from alerting.rules.rule import DEFAULT_RULES, Rule, parse_rule
from tables.errors import ConfigError
from tests.alerting.samples import drifted, minute, served

SQL = "SELECT model_id, 1.0 AS value FROM ctr WHERE age = 0"


def a_rule(**keys: Any) -> Rule:
    return parse_rule({"name": "r", "expr": "ctr < 5%"} | keys)


def test_without_configuration_a_ctr_under_five_percent_for_two_minutes_is_major() -> None:
    assert DEFAULT_RULES[0] == Rule(
        name="ctr-low",
        expression="ctr < 5%",
        metric="ctr",
        comparison="<",
        threshold=0.05,
        minimum=500,
        for_ms=120_000,
        keep_firing_for_ms=60_000,
        settle_ms=60_000,
        severity="major",
        model=("*",),
        version=("*",),
    )


@pytest.mark.parametrize(
    ("name", "severity", "quiet", "loud"),
    [
        ("errors-high", "critical", served(0, requests=1000, errors=50), served(0, requests=1000, errors=51)),
        ("errors-high", "critical", served(0, requests=99, errors=99), served(0, requests=100, errors=6)),
        ("latency-high", "major", served(0, p95=500), served(0, p95=501)),
        ("drift-severe", "minor", drifted(0, 0.199), drifted(0, 0.2)),
        ("drift-severe", "minor", drifted(0, 0.9, n=999), drifted(0, 0.9, feature="age", n=1000)),
        ("gender-drift", "minor", drifted(0, 0.149), drifted(0, 0.15)),
        ("many-errors", "major", served(0, requests=10**6, errors=100), served(0, requests=101, errors=101)),
    ],
)
def test_without_configuration_serving_and_drift_are_watched_too(
    name: str, severity: str, quiet: Reading, loud: Reading
) -> None:
    (rule,) = (rule for rule in DEFAULT_RULES if rule.name == name)
    assert rule.severity == severity
    assert (rule.kind, rule.selects(loud.model_id, loud.model_version, loud.feature)) == (loud.kind, True)
    values = [rule.value_of(reading) for reading in (quiet, loud)]
    assert [value is not None and rule.holds(value) for value in values] == [False, True]


def test_every_key_has_its_place() -> None:
    rule = parse_rule(
        {
            "name": "search ctr",
            "expr": "ctr <= 0.02",
            "for": "5m",
            "keep_firing_for": "2m",
            "settle": 0,
            "min_impressions": 2000,
            "severity": "critical",
            "model": "search-*",
            "version": "2*",
            "labels": {"team": "search", "area": "web"},
            "owner": "ann@example.com",
            "runbook": "https://wiki.example.com/ctr",
        }
    )
    assert rule == Rule(
        name="search ctr",
        expression="ctr <= 0.02",
        comparison="<=",
        threshold=0.02,
        for_ms=300_000,
        keep_firing_for_ms=120_000,
        settle_ms=0,
        minimum=2000,
        severity="critical",
        model=("search-*",),
        version=("2*",),
        labels=(("area", "web"), ("team", "search")),
        owner="ann@example.com",
        runbook="https://wiki.example.com/ctr",
    )


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"treshold": 5}, "rules[0]: unknown key 'treshold'; expected some of name, expr"),
        ({"severty": "major"}, "rules[0]: unknown key 'severty' (did you mean 'severity'?)"),
        ({5: "x"}, "rules[0]: unknown key 5;"),
        ({"name": ""}, "rules[0].name: expected 1 to 100 printable characters"),
        ({"name": "a\nb"}, "rules[0].name: expected 1 to 100 printable characters"),
        ({"name": 7}, "rules[0].name: expected text"),
        ({"expr": "cvr < 5%"}, "rules[0].expr: unknown metric 'cvr'; expected ctr"),
        ({"expr": "ctr"}, "rules[0].expr: expected a metric, one of < <= > >=, and a number"),
        ({"expr": "ctr = 5%"}, "rules[0].expr: expected a metric, one of"),
        ({"expr": "ctr < five"}, "got 'five' for the number"),
        ({"expr": "ctr < 5"}, "rules[0].expr: expected a threshold from 0 to 1 or from 0% to 100%, got 5"),
        ({"expr": "ctr < nan"}, "expected a threshold from 0 to 1"),
        ({"expr": "ctr < -1%"}, "expected a threshold from 0 to 1"),
        ({"expr": "ctr < 1e9999999%"}, "rules[0].expr: expected"),
        ({"expr": "ctr < 0"}, "which never holds"),
        ({"expr": "ctr <= 100%"}, "which always holds"),
        ({"expr": 0.05}, "rules[0].expr: expected text"),
        ({"for": "soon"}, "rules[0].for: expected a duration"),
        ({"settle": -1}, "rules[0].settle: expected a duration"),
        ({"min_impressions": 1.5}, "rules[0].min_impressions: expected a whole number from 0"),
        ({"min_impressions": True}, "rules[0].min_impressions: expected a whole number from 0"),
        ({"per": "models"}, "rules[0].per: expected version or model, got 'models'"),
        ({"per": "model", "version": "v3"}, "rules[0].version: expected none beside `per: model`"),
        ({"per": "model", "expr": "p95(latency) > 1s"}, "rules[0].per: expected `version` but for counts and rates"),
        ({"per": "model", "expr": "psi(*) > 0.2"}, "rules[0].per: expected `version` but for counts"),
        ({"per": "model", "expr": "drop(ctr, vs=1d) > 5%"}, "rules[0].per: expected `version` but for counts"),
        ({"min_n": 10**13}, "rules[0].min_n: expected a whole number from 0 to 1,000,000,000,000, got 10000000000000"),
        ({"labels": {"no_data": "true"}}, "rules[0].labels.no_data: expected another name: alerts have this label by"),
        ({"labels": {"feature": "x"}}, "rules[0].labels.feature: expected another name"),
        ({"labels": {f"l{n}": "" for n in range(31)}}, "rules[0].labels: expected at most 30 labels, got 31"),
        (
            {"labels": {"team": "x" * 1001}},
            "rules[0].labels: expected labels of at most 1,000 characters",
        ),
        ({"labels": {"x" * 1001: ""}}, "rules[0].labels: expected labels of at most 1,000 characters"),
        ({"min_n": "many"}, "rules[0].min_n: expected a whole number from 0"),
        ({"min_n": 5, "min_impressions": 5}, "rules[0].min_impressions: expected min_n instead"),
        ({"expr": "errors > 5", "min_impressions": 5}, "rules[0].min_impressions: expected min_n instead"),
        ({"expr": "p95 > 5ms"}, "rules[0].expr: expected p95(latency), got p95"),
        ({"severity": "urgent"}, "rules[0].severity: expected critical, major or minor, got 'urgent'"),
        ({"severity": []}, "rules[0].severity: expected critical, major or minor"),
        ({"model": ""}, "rules[0].model: expected a glob"),
        ({"model": []}, "rules[0].model: expected 1 to 100 globs, got 0"),
        ({"model": ["home", 5]}, "rules[0].model[1]: expected text (put it in quotes), got 5"),
        ({"no_data": "30s"}, "rules[0].no_data: expected 1m to 1d, got '30s'"),
        ({"no_data": "2d"}, "rules[0].no_data: expected 1m to 1d, got '2d'"),
        ({"summary": "{{ nobody }}"}, "rules[0].summary: line 1 of the template: unknown name 'nobody'"),
        ({"lookback": "5m"}, "rules[0].lookback: expected in rules with sql only"),
        ({"sql": SQL}, "rules[0]: expected either expr or sql, got both"),
        ({"version": 3}, "rules[0].version: expected text (put it in quotes), got 3"),
        ({"labels": ["a"]}, "rules[0].labels: expected a mapping"),
        ({"labels": {"tier": 1}}, "rules[0].labels.tier: expected text"),
        ({"labels": {1: "tier"}}, "rules[0].labels: expected a text as name"),
        ({"owner": None}, "rules[0].owner: expected text"),
    ],
)
def test_a_mistake_is_named_with_its_field_and_what_was_expected(keys: dict[Any, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        parse_rule({"name": "r", "expr": "ctr < 5%"} | keys)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"min_n": 5}, "rules[0].min_n: expected in the query, such as WHERE impressions >= 500"),
        ({"min_impressions": 5}, "rules[0].min_impressions: expected in the query"),
        ({"no_data": "5m"}, "rules[0].no_data: expected in a rule with expr"),
        ({"lookback": "90s"}, "rules[0].lookback: expected whole minutes from 1m to 6h, got '90s'"),
        ({"lookback": "1d"}, "rules[0].lookback: expected whole minutes from 1m to 6h, got '1d'"),
        ({"sql": 5}, "rules[0].sql: expected text"),
    ],
)
def test_mistakes_of_a_query(keys: dict[Any, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        parse_rule({"name": "r", "sql": SQL} | keys)


def test_a_query_is_a_rule_of_a_kind_of_its_own() -> None:
    rule = parse_rule({"name": "r", "sql": SQL, "lookback": "30m", "model": ["home", "search-*"], "severity": "minor"})
    assert rule.query is not None
    assert (rule.kind, rule.metric, rule.query.text, rule.expression) == ("sql", "sql", SQL, SQL)
    assert (rule.lookback_ms, rule.settle_ms, rule.threshold) == (1_800_000, 60_000, 0)
    assert [rule.selects(model, "3", "any feature") for model in ("home", "search-web", "cart")] == [True, True, False]


def test_a_summary_is_a_template_and_rules_are_compared_by_its_source() -> None:
    rule = a_rule(summary="{{ model_id }} is down")
    assert rule.template is not None
    assert rule.template.render({"model_id": "home"}) == "home is down"
    assert rule == a_rule(summary="{{ model_id }} is down") != a_rule(summary="{{ model_id }} is up")


@pytest.mark.parametrize(("missing"), ["name", "expr"])
def test_name_and_expression_are_required(missing: str) -> None:
    keys = {"name": "r", "expr": "ctr < 5%"}
    del keys[missing]
    with pytest.raises(ConfigError, match=rf"^rules\[4\]\.{missing}: expected, but missing"):
        parse_rule(keys, "rules[4]")


@pytest.mark.parametrize("entry", [None, "ctr < 5%", ["ctr < 5%"]])
def test_a_rule_is_a_mapping(entry: object) -> None:
    with pytest.raises(ConfigError, match=r"^rules\[0\]: expected a mapping"):
        parse_rule(entry)


@pytest.mark.parametrize(
    ("model", "version", "selected"),
    [
        ("search-web", "2.1", True),
        ("search-web", "3", False),
        ("Search-web", "2", False),
        ("home", "2", False),
    ],
)
def test_globs_select_models_and_versions(model: str, version: str, selected: bool) -> None:
    assert a_rule(model="search-*", version="2*").selects(model, version) is selected
    assert a_rule(model=["cart", "search-*"], version=["9", "2*"]).selects(model, version) is selected


@pytest.mark.parametrize(
    ("expr", "holds_at"),
    [("ctr < 5%", [40]), ("ctr <= 5%", [40, 50]), ("ctr > 5%", [60]), ("ctr >= 5%", [50, 60])],
)
def test_the_four_comparisons_around_the_threshold(expr: str, holds_at: list[int]) -> None:
    rule = a_rule(expr=expr)
    values = {clicks: rule.value_of(minute(0, clicks)) for clicks in (40, 50, 60)}
    assert [clicks for clicks, value in values.items() if value is not None and rule.holds(value)] == holds_at


@given(thousandths=st.integers(1, 999), times=st.integers(1, 1000))
def test_a_ctr_that_is_exactly_the_threshold_is_not_below_it(thousandths: int, times: int) -> None:
    """4.1 % as people write it and 41 clicks in 1,000 are the same number, with no rounding between them."""
    percent = Fraction(thousandths, 10)
    rule = a_rule(expr=f"ctr < {float(percent)}%", min_impressions=1)
    value = rule.value_of(minute(0, thousandths * times, 1000 * times))
    assert value is not None
    assert not rule.holds(value)
    assert a_rule(expr=f"ctr <= {thousandths / 1000}", min_impressions=1).holds(value)


@pytest.mark.parametrize(("impressions", "minimum"), [(499, 500), (0, 0)])
def test_too_few_impressions_have_no_value(impressions: int, minimum: int) -> None:
    assert a_rule(min_impressions=minimum).value_of(minute(0, 0, impressions)) is None


def test_just_enough_impressions_have_one() -> None:
    assert a_rule(min_impressions=500).value_of(minute(0, 5, 500)) == 0.01


@pytest.mark.parametrize(
    ("expr", "kind", "minimum", "settle_ms"),
    [
        ("ctr < 5%", "ctr", 500, 60_000),
        ("clicks < 5", "ctr", 0, 60_000),  # a count is judged however small it is
        ("error_rate > 5%", "serving", 50, 5_000),
        ("requests < 10", "serving", 0, 5_000),
        ("p99(latency) > 2s", "serving", 50, 5_000),
        ("psi(gender) > 0.1", "drift", 1000, 5_000),
    ],
)
def test_each_kind_has_its_own_defaults(expr: str, kind: str, minimum: int, settle_ms: int) -> None:
    rule = a_rule(expr=expr)
    assert (rule.kind, rule.minimum, rule.settle_ms) == (kind, minimum, settle_ms)
    rule = a_rule(expr=expr, min_n=7, settle="2s")
    assert (rule.minimum, rule.settle_ms) == (7, 2_000)


@pytest.mark.parametrize(
    ("rule", "few", "enough"),
    [
        (a_rule(min_n=10), minute(0, 1, 9), minute(0, 1, 10)),
        (a_rule(expr="error_rate > 5%", min_n=10), served(0, requests=9), served(0, requests=10)),
        # Ten requests, of which nine say how long they took.
        (a_rule(expr="p95(latency) > 1s", min_n=10), served(0, requests=10, errors=1), served(0, requests=10)),
        (a_rule(expr="psi(*) > 0.1", min_n=10), drifted(0, 0.2, n=9), drifted(0, 0.2, n=10)),
        (a_rule(expr="ks(*) > 0.1", min_n=0), drifted(0, 0.2), drifted(0, 0.2, ks=0.3)),
    ],
)
def test_what_is_made_of_too_few_rows_has_no_value(rule: Rule, few: Reading, enough: Reading) -> None:
    assert rule.value_of(few) is None
    assert rule.value_of(enough) is not None


@pytest.mark.parametrize(
    ("expr", "selected"),
    [
        ("psi(gender) > 0.1", ["gender"]),
        ("psi(*) > 0.1", ["gender", "user_age", "Gender", "tags0", "tags[0]"]),
        ("psi(user_*) > 0.1", ["user_age"]),
        ("psi(tags[0]) > 0.1", ["tags0", "tags[0]"]),
        ("ctr < 5%", [""]),
    ],
)
def test_globs_select_features(expr: str, selected: list[str]) -> None:
    rule = a_rule(expr=expr)
    features = [""] if rule.kind == "ctr" else ["gender", "user_age", "Gender", "tags0", "tags[0]"]
    assert [feature for feature in features if rule.selects("home", "3", feature)] == selected
