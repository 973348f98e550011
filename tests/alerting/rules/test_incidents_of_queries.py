"""Rules that are a query: each row that it returns is a breach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alerting.rules.incidents import Decision, IncidentBook
from alerting.rules.reading import SqlReading
from alerting.rules.rule import Rule
from alerting.sql.query import SqlQuery
from alerting.texts.templates import compile_template
from tests.alerting.rules.test_incidents import BAD, alerts
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, minute

TEXT = "SELECT model_id, errors AS value, 100 AS threshold, requests\nFROM serving WHERE age = 0 AND errors > 100"


def a_rule(**changes: Any) -> Rule:
    """As it is read, but for the checking, which starts a process."""
    rule = Rule(name="many", expression=TEXT, query=SqlQuery(TEXT), metric="sql", settle_ms=60_000, minimum=0)
    return replace(rule, **changes)


def row(number: int, value: float = 120, **changes: Any) -> SqlReading:
    start = TEN_O_CLOCK + number * MINUTE
    reading = SqlReading(
        model_id="ranker",
        model_version="3",
        window_start=start,
        window_end=start + MINUTE,
        value=value,
        threshold=100,
        numbers={"requests": 4000, "share": 0.03},
    )
    return replace(reading, **changes)


def ask(book: IncidentBook, number: int, *rows: SqlReading, rule: str = "many") -> list[Decision]:
    start = TEN_O_CLOCK + number * MINUTE
    return book.observe_sql(rule, rows, start, start + MINUTE)


def reasons(decisions: list[Decision]) -> list[str]:
    return [str(decision.reason) for decision in decisions]


def test_rows_come_and_stay_away() -> None:
    book = IncidentBook([a_rule(labels=(("team", "search"),), owner="ann")])
    assert reasons(ask(book, 0)) == ["condition_false"]
    assert reasons(ask(book, 1, row(1))) == ["pending_started"]
    decisions = ask(book, 2, row(2, 130))
    assert [(decision.reason, decision.model_id, decision.value) for decision in decisions] == [
        ("fired", "ranker", 130)
    ]
    (fired,) = alerts(decisions)
    assert (fired.value, fired.threshold, fired.labels) == (130, 100, {"team": "search"})
    assert fired.fired_at == TEN_O_CLOCK + 4 * MINUTE
    assert fired.summary == (
        "many of ranker v3 is 130, against 100, for 2 min (requests 4,000, share 0.03, 10:02-10:03 UTC)"
    )
    assert fired.related == {
        "numbers": {"requests": 4000, "share": 0.03},
        "window_start": TEN_O_CLOCK + 2 * MINUTE,
        "window_end": TEN_O_CLOCK + 3 * MINUTE,
        "expression": TEXT.replace("\n", " "),
        "metric": "sql",
        "for_ms": 2 * MINUTE,
        "owner": "ann",
    }
    decisions = ask(book, 3)
    assert reasons(decisions) == ["resolved"]
    (resolved,) = alerts(decisions)
    assert (resolved.alert_id, resolved.value, resolved.threshold) == (fired.alert_id, None, 100)
    assert resolved.summary == "many of ranker v3 is over after 2 min (10:03-10:04 UTC)"


def test_the_end_has_no_value_which_a_template_leaves_empty() -> None:
    summary = "{{ rule }} {{ status }}: {{ value|number }}/{{ value|percent }} of {{ threshold|number }}"
    rule = a_rule(for_ms=0, summary=summary, template=compile_template(summary, "summary"))
    book = IncidentBook([rule])
    assert [alert.summary for alert in alerts(ask(book, 0, row(0)))] == ["many firing: 120/12,000.0 % of 100"]
    assert [alert.summary for alert in alerts(ask(book, 1))] == ["many resolved: / of 100"]


def test_a_row_of_a_model_that_the_query_has_not_seen_does_not_count() -> None:
    book, start = IncidentBook([a_rule(for_ms=0)]), TEN_O_CLOCK
    rows = [row(0, model_id="all"), row(0, model_id=""), row(0)]
    decisions = book.observe_sql("many", rows, start, start + MINUTE, {"ranker", "home"})
    assert reasons(decisions) == ["foreign_model", "foreign_model", "fired"]
    assert [alert.model_id for alert in alerts(decisions)] == ["ranker"]


def test_models_versions_and_features_are_incidents_of_their_own() -> None:
    book = IncidentBook([a_rule(for_ms=0, model=("ranker", "home"))])
    rows = [row(0), row(0, model_version="4"), row(0, feature="gender"), row(0, model_id="cart"), row(0, 999)]
    decisions = ask(book, 0, *rows)
    assert reasons(decisions) == ["not_selected", "duplicate_row", "fired", "fired", "fired"]
    told = alerts(decisions)
    assert len({alert.fingerprint for alert in told}) == 3
    assert [alert.labels for alert in told] == [{}, {}, {"feature": "gender"}]
    assert told[2].related["feature"] == "gender"
    assert told[2].summary.startswith("many of gender of ranker v3 is 120,")
    assert reasons(ask(book, 1, row(1))) == ["still_firing", "resolved", "resolved"]


def test_a_minute_that_could_not_be_asked_is_a_gap() -> None:
    book = IncidentBook([a_rule()])
    ask(book, 0, row(0))
    assert reasons(ask(book, 4, row(4))) == ["gap_reset", "pending_started"]


def test_a_minute_comes_once() -> None:
    book = IncidentBook([a_rule()])
    ask(book, 1, row(1))
    before = book.state()
    assert reasons(ask(book, 1, row(1))) == reasons(ask(book, 0)) == ["out_of_order"]
    assert book.state() == before
    heir = IncidentBook([a_rule()])
    heir.restore(before)
    assert reasons(ask(heir, 1)) == ["out_of_order"]
    assert reasons(ask(heir, 2, row(2))) == ["fired"]


def test_windows_are_not_its_business_nor_other_queries() -> None:
    book = IncidentBook([a_rule(for_ms=0), a_rule(name="other", for_ms=0)])
    assert book.observe(minute(0, BAD)) == []
    ask(book, 0, row(0))
    assert reasons(ask(book, 0, rule="other")) == ["condition_false"]
    assert book.firing == 1
    with pytest.raises(KeyError):
        ask(book, 1, rule="unknown")


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.031234, "0.0312"), (1234567.5, "1,234,567.50"), (float("nan"), "nan"), (float("inf"), "inf"), (-2, "-2")],
)
def test_whatever_number_a_query_gives(value: float, said: str) -> None:
    book = IncidentBook([a_rule(for_ms=0)])
    (fired,) = alerts(ask(book, 0, row(0, value, threshold=None, numbers={"none": None})))
    assert fired.summary == f"many of ranker v3 is {said}, for 1 min (10:00-10:01 UTC)"
    assert fired.threshold is None
    assert fired.to_json()


def test_a_query_of_many_columns_still_fits_on_a_line() -> None:
    book = IncidentBook([a_rule(for_ms=0)])
    columns = {f"column-{number}-{'x' * 100}": 1.0 for number in range(100)}
    (fired,) = alerts(ask(book, 0, row(0, numbers=columns)))
    assert len(fired.summary) < 600
    assert fired.related["numbers"] == columns
