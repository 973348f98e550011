"""Incidents of serving and drift rows, and that rows of different kinds and features keep apart."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rules.incidents import IncidentBook
from alerting.rules.reading import Reading
from alerting.rules.rule import parse_rule
from tests.alerting.rules.test_incidents import BAD, GOOD, alerts, reasons
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served


def test_latency_over_the_limit_for_five_minutes_and_back() -> None:
    book = IncidentBook([parse_rule({"name": "slow", "expr": "p95(latency) > 500ms", "for": "5m"})])
    slow = [alert for n in range(4) for alert in alerts(book.observe(served(n, p95=612)))]
    (fired,) = slow + alerts(book.observe(served(4, p95=640, requests=12_300, errors=3)))  # the fifth minute
    assert (fired.value, fired.threshold, fired.labels) == (640, 500, {})
    assert fired.started_at == TEN_O_CLOCK
    assert fired.fired_at == TEN_O_CLOCK + 5 * MINUTE + 5_000  # nothing to wait for but stragglers
    assert fired.summary.startswith("P95 latency of ranker v3 is 640 ms, above 500 ms for 5 min (12,300 requests,")
    assert fired.related == {
        "requests": 12_300,
        "errors": 3,
        "latency_ms": {"p50": 320, "p95": 640, "p99": 1280, "max": 2560, "count": 12_297},
        "window_start": TEN_O_CLOCK + 4 * MINUTE,
        "window_end": TEN_O_CLOCK + 5 * MINUTE,
        "expression": "p95(latency) > 500ms",
        "metric": "p95",
        "comparison": ">",
        "for_ms": 5 * MINUTE,
    }
    (resolved,) = alerts(book.observe(served(5, p95=200)))
    assert (resolved.alert_id, resolved.status) == (fired.alert_id, "resolved")
    assert "is 200 ms, no longer above 500 ms after 5 min" in resolved.summary


def test_a_burst_of_errors_is_told_once_even_where_nothing_answers_in_time() -> None:
    book = IncidentBook([parse_rule({"name": "errors", "expr": "error_rate > 5%"})])
    assert reasons(
        book,
        served(0, errors=2),
        served(1, errors=60),
        served(2, p95=None, errors=1000),  # no latency at all
        served(3, requests=49, errors=49),  # hardly anybody comes any more: nothing changes
        served(4, errors=0),
    ) == ["condition_false", "pending_started", "fired", "too_few_requests", "resolved"]


def test_each_feature_that_drifts_is_an_incident_of_its_own() -> None:
    rule = parse_rule({"name": "drift", "expr": "psi(*) >= 0.2", "labels": {"team": "recsys"}})
    book = IncidentBook([rule])
    told = [
        alert
        for number in range(3)
        for feature, psi in (("age", 0.01), ("gender", 0.21), ("is_new_user", 0.4 if number else 0.1))
        for alert in alerts(book.observe(drifted(number, psi, feature)))
    ]
    assert [alert.labels for alert in told] == [
        {"team": "recsys", "feature": "gender"},
        {"team": "recsys", "feature": "is_new_user"},  # a minute later
    ]
    assert len({alert.fingerprint for alert in told}) == 2
    assert [alert.started_at - TEN_O_CLOCK for alert in told] == [0, MINUTE]
    assert told[0].summary.startswith("PSI of gender of recommender-home v3 is 0.21, at or above 0.2 for 2 min")
    assert told[0].related["feature"] == "gender"
    assert told[0].related["horizon_s"] == 3600
    assert told[0].related["distances"] == {
        "psi": {"value": 0.21, "critical": 0.01, "level": "none", "n": 5753, "reference_n": 86_000}
    }
    assert alerts(book.observe(drifted(3, 0.1, "gender")))[0].fingerprint == told[0].fingerprint
    assert book.firing == 1


def test_a_level_is_a_number_for_machines_and_a_word_for_people() -> None:
    book = IncidentBook([parse_rule({"name": "drift", "expr": "drift(gender) >= minor", "for": 0})])
    (fired,) = alerts(book.observe(drifted(0, 0.21, level="severe")))
    assert (fired.value, fired.threshold) == (2, 1)
    assert "Drift of gender of recommender-home v3 is severe, at or above minor" in fired.summary


def test_rules_see_the_rows_of_their_kind_and_the_features_they_name() -> None:
    rules = [
        parse_rule({"name": "ctr-low", "expr": "ctr < 5%", "settle": "5s"}),
        parse_rule({"name": "errors", "expr": "errors > 5"}),
        parse_rule({"name": "gender", "expr": "psi(gender) > 0.2"}),
    ]
    book = IncidentBook(rules)
    # The same minute of the same model, and none is taken for a repeat of another.
    readings: list[Reading] = [
        minute(0, BAD, model_id="recommender-home"),
        replace(served(0, errors=9), model_id="recommender-home"),
        drifted(0, 0.3),
        drifted(0, 0.3, "age"),
    ]
    decisions = [decision for reading in readings for decision in book.observe(reading, settle_ms=5_000)]
    assert [(decision.rule, decision.reason) for decision in decisions] == [
        ("ctr-low", "pending_started"),
        ("errors", "pending_started"),
        ("gender", "pending_started"),
        ("gender", "not_selected"),
    ]
    assert book.observe(drifted(0, 0.3), settle_ms=60_000) == []


of_each_kind = st.one_of(
    st.builds(minute, st.integers(0, 5), st.sampled_from([GOOD, BAD])),
    st.builds(served, st.integers(0, 5), errors=st.sampled_from([0, 900])),
    st.builds(drifted, st.integers(0, 5), st.sampled_from([0.1, 0.3]), st.sampled_from(["gender", "age"])),
)


@given(readings=st.lists(of_each_kind, max_size=30))
def test_kinds_and_features_do_not_disturb_each_other(readings: list[Reading]) -> None:
    rules = [
        parse_rule({"name": "ctr-low", "expr": "ctr < 5%"}),
        parse_rule({"name": "errors", "expr": "errors > 5"}),
        parse_rule({"name": "any", "expr": "psi(*) > 0.2"}),
    ]
    together = IncidentBook(rules)
    alone = {series: IncidentBook(rules) for series in {(reading.kind, reading.feature) for reading in readings}}
    for reading in readings:
        assert together.observe(reading) == alone[reading.kind, reading.feature].observe(reading)
    assert len(together) == sum(map(len, alone.values()))


def test_features_are_restored_each_with_its_own_incident() -> None:
    rule = parse_rule({"name": "any", "expr": "psi(*) > 0.2"})
    book = IncidentBook([rule])
    reasons(book, drifted(0, 0.3, "gender"), drifted(0, 0.1, "age"), drifted(1, 0.3, "gender"))
    heir = IncidentBook([rule])
    heir.restore(orjson.loads(orjson.dumps(book.state())))
    assert reasons(heir, drifted(1, 0.3, "gender"), drifted(1, 0.3, "age"), drifted(2, 0.1, "gender")) == [
        "out_of_order",
        "pending_started",
        "resolved",
    ]


@pytest.mark.parametrize(
    ("expr", "kept"), [("psi(*) >= 0.4", 1), ("js(gen*) > 0.2", 1), ("psi(age) > 0.2", 0), ("errors > 5", 0)]
)
def test_a_rule_that_is_now_about_something_else_drops_its_incidents(expr: str, kept: int) -> None:
    book = IncidentBook([parse_rule({"name": "r", "expr": "psi(*) > 0.2"})])
    book.observe(drifted(0, 0.3, "gender"))
    heir = IncidentBook([parse_rule({"name": "r", "expr": expr})])
    heir.restore(book.state())
    assert len(heir) == kept


def test_an_incident_of_another_kind_is_not_one_of_any_feature() -> None:
    book = IncidentBook([parse_rule({"name": "r", "expr": "errors > 5"})])
    book.observe(served(0, errors=9))
    heir = IncidentBook([parse_rule({"name": "r", "expr": "psi(*) > 0.2"})])
    heir.restore(book.state())
    assert len(heir) == 0
