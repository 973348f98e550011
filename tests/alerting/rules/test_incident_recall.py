"""What a book makes of its alerts when everything else that it knew is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.alert import Alert
from alerting.rules.incident_recall import OpenAlerts, incident_of
from alerting.rules.incidents import Decision, IncidentBook
from alerting.rules.reading import SqlReading
from alerting.rules.rule import Rule
from alerting.sql.query import SqlQuery
from tests.alerting.rules.test_incidents import BAD, GOOD, a_rule, alerts, reasons
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, an_alert, drifted, minute

LABELS = {"team": "recsys", "shop": "of books"}


def still_open(told: list[Alert], **limit: int) -> list[Alert]:
    found = OpenAlerts(**limit)
    for alert in told:
        found.take(alert)
    return found.all()


def by_query() -> Rule:
    text = "SELECT model_id, model_version, ctr AS value FROM ctr"
    return Rule(name="many", expression=text, query=SqlQuery(text), metric="sql", minimum=0, for_ms=0)


def hit(number: int) -> tuple[list[SqlReading], int, int]:
    start = TEN_O_CLOCK + number * MINUTE
    row = SqlReading(
        model_id="home", model_version="v1", feature="", window_start=start, window_end=start + MINUTE,
        value=3.0, threshold=2.0, numbers={},
    )  # fmt: skip
    return [row], start, start + MINUTE


def recalled(rules: list[Rule], told: list[Alert]) -> tuple[IncidentBook, list[Decision]]:
    """A book that knows nothing but what stands on the topic."""
    book = IncidentBook(rules)
    return book, book.recall(still_open([Alert.from_json(alert.to_json()) for alert in told]))


@given(st.lists(st.sampled_from([GOOD, BAD]), min_size=6, max_size=30), st.data())
def test_what_fires_when_all_is_lost_goes_on_and_ends_as_if_nothing_had_been(clicks: list[int], data: Any) -> None:
    rules = [a_rule(), a_rule(name="labelled", labels=LABELS, owner="ann", runbook="https://wiki.example/ctr")]
    lost_after = data.draw(st.integers(1, len(clicks) - 1))
    book = IncidentBook(rules)
    before = [alert for number in range(lost_after) for alert in alerts(book.observe(minute(number, clicks[number])))]
    firing = {alert.alert_id for alert in still_open(before)}
    other, decisions = recalled(rules, before)
    assert (decisions, other.firing) == ([], book.firing)

    def ends(of: IncidentBook) -> list[Alert]:
        told = [
            alert
            for number in range(lost_after, len(clicks))
            for alert in alerts(of.observe(minute(number, clicks[number])))
        ]
        assert not [alert for alert in told if alert.status == "firing" and alert.alert_id in firing]
        # How long it lasted is told by the last bad minute; of those before the loss only what the alert said is known.
        return [
            replace(alert, summary="", related={**alert.related, "for_ms": 0})
            for alert in told
            if alert.alert_id in firing
        ]

    undisturbed = ends(book)
    if not any(each == GOOD for each in clicks[lost_after - 1 : lost_after]):
        assert ends(other) == undisturbed
    else:
        # A minute that was good already counts anew.
        assert {alert.alert_id for alert in ends(other)} <= {alert.alert_id for alert in undisturbed}


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (a_rule(labels=LABELS), minute(0, BAD), minute(1, GOOD)),
        (a_rule(expr="psi(gender) > 0.2", labels=LABELS), drifted(0, 0.3), drifted(1, 0.01)),
    ],
    ids=["ctr", "drift"],
)
def test_it_is_the_incident_that_the_book_had(rule: Rule, bad: Any, good: Any) -> None:
    rule = replace(rule, for_ms=0, keep_firing_for_ms=0)
    (fired,) = alerts(IncidentBook([rule]).observe(bad))
    book, _ = recalled([rule], [fired])
    (resolved,) = alerts(book.observe(good))
    assert (resolved.status, resolved.alert_id, resolved.labels) == ("resolved", fired.alert_id, fired.labels)
    assert resolved.threshold == fired.threshold
    assert recalled([rule], [fired, resolved])[0].firing == 0


def test_what_a_query_has_found_is_over_when_it_finds_it_no_more() -> None:
    rule = replace(by_query(), keep_firing_for_ms=0)
    (fired,) = alerts(IncidentBook([rule]).observe_sql("many", *hit(0)))
    book, _ = recalled([rule], [fired])
    start = TEN_O_CLOCK + 5 * MINUTE
    (resolved,) = alerts(book.observe_sql("many", [], start, start + MINUTE))
    assert (resolved.status, resolved.alert_id) == ("resolved", fired.alert_id)


def test_a_silence_goes_on_and_ends_with_the_next_rows() -> None:
    rule = a_rule(no_data="5m")
    first = IncidentBook([rule])
    first.observe(minute(0, GOOD))
    (silent,) = alerts(first.observe_time("ctr", TEN_O_CLOCK + 6 * MINUTE, rule.settle_ms))
    book, _ = recalled([rule], [silent])
    assert book.observe_time("ctr", TEN_O_CLOCK + 20 * MINUTE, rule.settle_ms) == []
    (back,) = alerts(book.observe(minute(21, GOOD)))
    assert (back.status, back.alert_id, back.labels) == ("resolved", silent.alert_id, {"no_data": "true"})
    # Or when nobody waits any longer.
    book, _ = recalled([rule], [silent])
    (given_up,) = alerts(book.observe_time("ctr", TEN_O_CLOCK + 3000 * MINUTE, rule.settle_ms))
    assert (given_up.status, given_up.alert_id) == ("resolved", silent.alert_id)


def test_what_no_rule_is_about_any_more_is_resolved() -> None:
    (fired,) = alerts(IncidentBook([a_rule(**{"for": "0s"})]).observe(minute(0, BAD)))
    for rules in ([], [a_rule(model="search")], [a_rule(expr="error_rate > 5%")]):
        book, decisions = recalled(rules, [fired])
        (resolved,) = alerts(decisions)
        assert (resolved.status, resolved.alert_id, len(book)) == ("resolved", fired.alert_id, 0)
        assert [str(decision.reason) for decision in decisions] == ["rule_removed"]


def test_the_last_word_on_a_condition_counts_and_what_is_over_stays_so() -> None:
    fires = an_alert(started_at=TEN_O_CLOCK)
    acked, over = replace(fires, status="acknowledged"), replace(fires, status="resolved", resolved_at=TEN_O_CLOCK)
    again = replace(fires, alert_id="0123456789abcdef", started_at=TEN_O_CLOCK + MINUTE)
    assert still_open([fires, acked]) == [acked]
    assert still_open([fires, over]) == still_open([fires, over, fires]) == []
    assert still_open([fires, again]) == still_open([again, fires]) == still_open([fires, again, over]) == [again]
    other = replace(fires, fingerprint="fedcba9876543210")
    assert still_open([fires, other, acked], limit=1) == [acked]
    assert still_open([fires, other, acked], limit=2) == [other, acked]


@pytest.mark.parametrize(
    "odd",
    [
        {"related": {}},
        {"related": {"metric": ["ctr"], "for_ms": 0}},
        {"related": {"metric": "ctr", "for_ms": "long"}},
        {"related": {"metric": "ctr", "for_ms": 0, "feature": 3}},
        {"fingerprint": "0" * 16},
    ],
)
def test_an_alert_that_is_not_ours_is_left_out(odd: dict[str, Any]) -> None:
    (ours,) = alerts(IncidentBook([a_rule(**{"for": "0s"})]).observe(minute(0, BAD)))
    assert incident_of(ours) is not None
    assert incident_of(replace(ours, **odd)) is None


def test_nothing_is_judged_twice_that_is_pending_only() -> None:
    book, decisions = recalled([a_rule()], [])
    assert decisions == []
    assert reasons(book, minute(0, BAD), minute(1, BAD)) == ["pending_started", "fired"]
