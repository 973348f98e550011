"""`per: model`: what the versions of a model come to together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alerting.rules.incidents import Decision, IncidentBook
from alerting.rules.reading import Reading, of_all_versions
from alerting.rules.rule import DEFAULT_RULES, parse_rule
from tests.alerting.rules.test_incidents import alerts
from tests.alerting.rules.test_incidents_of_silence import look
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served


def a_book(**keys: Any) -> IncidentBook:
    return IncidentBook([parse_rule({"name": "many", "expr": "errors > 100", "per": "model", "for": "1m"} | keys)])


def hear(book: IncidentBook, *readings: Reading) -> list[Decision]:
    """As the judge does: each version, then all of them together."""
    return [decision for reading in (*readings, *of_all_versions(readings)) for decision in book.observe(reading)]


def test_the_shipped_rule_fires_after_the_first_minute_over_a_hundred_whatever_the_versions() -> None:
    book = IncidentBook([rule for rule in DEFAULT_RULES if rule.name == "many-errors"])
    versions = [replace(served(0, requests=10_000, errors=errors), model_version=str(errors)) for errors in (60, 41)]
    (fired,) = alerts(hear(book, *versions))
    assert (fired.model_version, fired.value, fired.severity) == ("", 101, "major")
    assert fired.fired_at == TEN_O_CLOCK + MINUTE + 5_000
    assert fired.related["requests"] == 20_000 and "latency_ms" not in fired.related
    assert fired.summary == (
        "Error count of ranker is 101, above 100 for 1 min (20,000 requests, 101 errors, 10:00-10:01 UTC)"
    )
    (over,) = alerts(hear(book, served(1, errors=100)))
    assert (over.status, over.alert_id) == ("resolved", fired.alert_id)


def test_an_error_rate_over_five_percent_is_critical_after_the_first_minute() -> None:
    book = IncidentBook([rule for rule in DEFAULT_RULES if rule.name == "errors-high"])
    (fired,) = alerts(hear(book, served(0, requests=100, errors=6)))
    assert (fired.severity, fired.fired_at) == ("critical", TEN_O_CLOCK + MINUTE + 5_000)


def test_a_model_without_versions_is_judged_by_both_kinds_of_rule() -> None:
    each = parse_rule({"name": "each", "expr": "errors > 100", "for": "1m"})
    book = IncidentBook([each, *a_book().rules])
    assert [alert.rule for alert in alerts(hear(book, replace(served(0, errors=101), model_version="")))] == [
        "each",
        "many",
    ]


def test_clicks_add_up_and_drift_does_not() -> None:
    versions = [minute(0, clicks=40, impressions=1000), minute(0, clicks=20, impressions=500, model_version="4")]
    (together,) = of_all_versions([*versions, drifted(0, 0.1)])
    assert (together.value("ctr"), together.rows("ctr"), together.model_version) == (0.04, 1500, "")


def test_a_version_that_is_rolled_back_leaves_the_whole_as_it_is() -> None:
    book = a_book()
    hear(book, served(0, errors=101))
    for number in range(1, 40):
        hear(book, replace(served(number, errors=101), model_version="2"))
    assert book.firing == 1


def test_a_model_of_which_nothing_comes_is_missed_and_given_up_once() -> None:
    book = a_book(no_data="5m")
    hear(book, served(0, errors=101), replace(served(0), model_version="4"))
    (silent,) = alerts(look(book, 6, "serving", 5_000))
    assert (silent.model_version, silent.labels) == ("", {"no_data": "true"})
    over = alerts(look(book, 1 + 2880, "serving", 5_000))
    assert [alert.status for alert in over] == ["resolved", "resolved"]
