"""Rules are replaced while incidents are open: nobody is left waiting for an end, and nobody is told twice."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.alert import Alert
from alerting.rules.incidents import Decision, IncidentBook
from alerting.rules.rule import Rule
from tables.errors import ConfigError
from tests.alerting.rules.test_incidents import BAD, GOOD, a_rule, alerts, reasons
from tests.alerting.rules.test_incidents_of_queries import a_rule as a_query
from tests.alerting.rules.test_incidents_of_queries import ask, row
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, minute

NOON = TEN_O_CLOCK + 120 * MINUTE


WATCHED = a_rule(labels={"team": "recsys"}, owner="ann", runbook="https://wiki/ctr")


def a_firing_book(rule: Rule = WATCHED) -> tuple[IncidentBook, Alert]:
    book = IncidentBook([rule])
    (fired,) = alerts(book.observe(minute(0, BAD)) + book.observe(minute(1, BAD)))
    return book, fired


def told(decisions: list[Decision]) -> list[tuple[str, str | None]]:
    return [(str(decision.reason), None if decision.alert is None else decision.alert.status) for decision in decisions]


OTHERS: list[list[Rule]] = [
    [],
    [a_rule(name="another")],
    [a_rule(model="search")],
    [a_rule(version="4")],
    [a_rule(expr="errors > 5")],
    [a_query(name="ctr-low")],
]


@pytest.mark.parametrize("others", OTHERS, ids=lambda rules: rules[0].expression if rules else "none")
@pytest.mark.parametrize("through", ["reload", "restart"])
def test_what_fires_under_a_rule_that_is_gone_is_resolved(others: list[Rule], through: str) -> None:
    book, before = a_firing_book()
    if through == "reload":
        decisions, at = book.replace_rules(others, NOON), NOON
    else:
        heir = IncidentBook(others)
        # Not before it fired: that was a minute after the last window.
        decisions, at = heir.restore(orjson.loads(orjson.dumps(book.state()))), before.fired_at
        book = heir
    assert told(decisions) == [("rule_removed", "resolved")]
    (over,) = alerts(decisions)
    assert (over.alert_id, over.fingerprint, over.labels) == (before.alert_id, before.fingerprint, {"team": "recsys"})
    assert (over.severity, over.value, over.threshold, over.resolved_at) == ("major", None, 0.05, at)
    assert over.related["resolved_because"] == "rule_removed"
    assert (over.related["owner"], over.related["runbook"]) == ("ann", "https://wiki/ctr")
    assert over.summary == "ctr-low of home v3 is no longer watched: the rule has gone or changed (it held for 2 min)"
    assert len(book) == 0
    assert book.replace_rules(others, NOON) == []


def test_where_nobody_knows_the_last_window_the_last_bad_one_dates_the_end() -> None:
    book, _ = a_firing_book()
    reasons(book, *(minute(number, BAD) for number in range(2, 9)))
    (over,) = alerts(IncidentBook([]).restore(book.state() | {"heard": []}))
    assert over.resolved_at == TEN_O_CLOCK + 9 * MINUTE


def test_what_is_only_pending_is_dropped_without_a_word() -> None:
    book = IncidentBook([a_rule()])
    book.observe(minute(0, BAD))
    assert told(book.replace_rules([], NOON)) == [("rule_removed", None)]
    assert len(book) == 0


def test_an_incident_goes_on_under_its_rule_and_is_the_same_alert_to_the_end() -> None:
    book, before = a_firing_book()
    stricter = a_rule(expr="ctr < 9%", severity="critical", labels={"team": "other"}, keep_firing_for=0)
    assert book.replace_rules([a_rule(name="new"), stricter], NOON) == []
    assert [rule.name for rule in book.rules] == ["new", "ctr-low"]
    assert reasons(book, minute(2, GOOD)) == ["condition_false", "still_firing"]  # 8 % is below 9 %
    (over,) = alerts(book.observe(minute(3, 95)))
    assert (over.alert_id, over.labels, over.severity) == (before.alert_id, before.labels, before.severity)
    assert over.threshold == 0.09
    # The next one is what the rule says now.
    again = alerts(book.observe(minute(4, BAD)) + book.observe(minute(5, BAD)))
    assert [(alert.rule, alert.severity, alert.labels) for alert in again] == [
        ("new", "major", {}),
        ("ctr-low", "critical", {"team": "other"}),
    ]


def test_silence_is_no_longer_asked_for() -> None:
    book, _ = a_firing_book(a_rule(no_data="5m"))
    assert len(alerts(book.observe_time("ctr", TEN_O_CLOCK + 30 * MINUTE, 60_000))) == 1
    decisions = book.replace_rules([a_rule()], NOON)
    assert [alert.labels for alert in alerts(decisions)] == [{"no_data": "true"}]
    assert book.firing == 1


def test_a_query_that_is_gone() -> None:
    book = IncidentBook([a_query(for_ms=0)])
    ask(book, 0, row(0))
    ask(book, 9, row(9))
    heir = IncidentBook([])
    (over,) = alerts(heir.restore(book.state()))
    assert over.resolved_at == TEN_O_CLOCK + 10 * MINUTE
    assert over.threshold == 100


def test_rules_that_do_not_fit_together_change_nothing() -> None:
    book, _ = a_firing_book()
    before = book.state()
    with pytest.raises(ConfigError, match="'x' twice"):
        book.replace_rules([a_rule(name="x"), a_rule(name="x")], NOON)
    assert book.state() == before
    assert [rule.name for rule in book.rules] == ["ctr-low"]


def test_history_is_kept_for_those_who_still_ask() -> None:
    change: dict[str, Any] = {"expr": "drop(ctr, vs=10m) > 10%"}
    book = IncidentBook([a_rule(name="a", **change), a_rule(name="b", expr="rise(clicks, vs=10m) > 10%")])
    reasons(book, *(minute(number, GOOD) for number in range(25)))
    assert book.history.series == 2
    book.replace_rules([a_rule(name="c", **change)], NOON)
    assert book.history.series == 1
    assert reasons(book, minute(25, GOOD)) == ["condition_false"]


POOL: list[Rule] = [
    a_rule(),
    a_rule(model=["a", "b"], keep_firing_for="3m"),
    a_rule(severity="minor", labels={"x": "y"}, **{"for": 0}),
    a_rule(name="high", expr="ctr > 7%"),
    a_rule(name="high", expr="ctr > 3%", model="c", no_data="3m"),
]
moves = st.one_of(
    st.tuples(st.just("window"), st.integers(1, 3), st.sampled_from([GOOD, BAD]), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["reload", "restart"]), st.sets(st.sampled_from([0, 1, 2])), st.sets(st.just(3))),
    st.tuples(st.sampled_from(["reload", "restart"]), st.sets(st.sampled_from([0, 1, 2])), st.sets(st.just(4))),
)


@given(st.lists(moves, max_size=40))
def test_whatever_happens_to_the_rules_what_fired_and_is_not_open_was_resolved_once(script: list[Any]) -> None:
    rules: list[Rule] = [POOL[0], POOL[3]]
    book = IncidentBook(rules)
    statuses: dict[str, list[str]] = {}
    at = 0
    for move, *rest in script:
        if move == "window":
            gap, clicks, model = rest
            at += gap
            decisions = book.observe(minute(at, clicks, 1000, model))
            decisions += book.observe_time("ctr", TEN_O_CLOCK + (at + 1) * MINUTE, 60_000)
        else:
            low, high = rest
            rules = [POOL[place] for place in (*sorted(low)[:1], *high)]
            if move == "reload":
                decisions = book.replace_rules(rules, TEN_O_CLOCK + at * MINUTE)
            else:
                heir = IncidentBook(rules)
                decisions = heir.restore(orjson.loads(orjson.dumps(book.state())))
                assert heir.firing == book.firing - len(alerts(decisions))
                book = heir
        for alert in alerts(decisions):
            statuses.setdefault(alert.alert_id, []).append(alert.status)
            assert (alert.resolved_at or alert.fired_at) >= alert.fired_at >= alert.started_at
    # A condition that holds again after its rule was gone has begun at another time, and is another alert.
    assert all(seen in (["firing"], ["firing", "resolved"]) for seen in statuses.values())
    assert sum(seen == ["firing"] for seen in statuses.values()) == book.firing
