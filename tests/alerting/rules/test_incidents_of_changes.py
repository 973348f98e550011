"""Rules that compare with before: `drop` and `rise`."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rules.incidents import IncidentBook, Reason
from alerting.rules.reading import Reading
from alerting.rules.rule import DEFAULT_RULES, Rule, parse_rule
from tests.alerting.rules.test_incidents import alerts, reasons
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served

DAY = 1440
DROP = {"name": "ctr-drop", "expr": "drop(ctr, vs=1d) > 10%", "for": "2m", "min_n": 1000}


def a_book(*rules: dict[str, object]) -> IncidentBook:
    return IncidentBook([parse_rule(rule) for rule in rules or (DROP,)])


def quietly(book: IncidentBook, readings: Iterable[Reading]) -> None:
    for reading in readings:
        assert not alerts(book.observe(reading))


def test_ctr_falls_below_that_of_the_day_before() -> None:
    book = a_book()
    quietly(book, (minute(number, 80) for number in range(-DAY - 20, -DAY + 20)))
    quietly(book, (minute(number, 80) for number in range(-20, 0)))
    said = [book.observe(minute(number, 40)) for number in range(5)]
    # 8 % for eight minutes and 4 % for two is 10 % less: not more than that.
    assert [decision.reason for (decision,) in said] == [
        "condition_false",
        "condition_false",
        "pending_started",
        "fired",
        "still_firing",
    ]
    (fired,) = alerts(said[3])
    assert fired.value == pytest.approx(0.2)
    assert fired.threshold == 0.1
    assert fired.started_at == TEN_O_CLOCK + 2 * MINUTE
    assert fired.related["change"] == {
        "current": pytest.approx(0.064),
        "n": 10_000,
        "reference": pytest.approx(0.08),
        "reference_n": 10_000,
        "vs_ms": DAY * MINUTE,
        "over_ms": 10 * MINUTE,
    }
    assert (fired.related["metric"], fired.related["comparison"]) == ("ctr", ">")
    assert (fired.related["impressions"], fired.related["clicks"]) == (1000, 40)
    assert fired.summary == (
        "Drop of CTR of home v3 against 1 d before is 20.0 %, above 10 % for 2 min"
        " (8.00 % before, 6.40 % now, n 10,000 and 10,000, 10 min to 10:04 UTC)"
    )
    (resolved,) = [alert for n in range(5, 20) for alert in alerts(book.observe(minute(n, 90)))]
    assert resolved.alert_id == fired.alert_id
    assert "no longer above 10 % after" in resolved.summary


def test_without_a_day_before_there_is_nothing_to_say() -> None:
    book = a_book()
    assert set(reasons(book, *(minute(number, 80) for number in range(30)))) == {"no_history"}
    assert len(book) == 0


def test_latency_rises_while_each_minute_alone_looks_fine() -> None:
    rule = {"name": "up", "expr": "rise(p95(latency), vs=1h, over=5m) > 5%", "for": 0}
    book = a_book(rule)
    quietly(book, (served(number, p95=200) for number in range(60)))
    told = [alert for number in range(60, 80) for alert in alerts(book.observe(served(number, p95=212)))]
    (fired,) = told
    assert fired.value == pytest.approx(0.06)
    assert fired.started_at == TEN_O_CLOCK + 64 * MINUTE  # four of five minutes are up by 4.8 %
    assert fired.summary.startswith("Rise of P95 latency of ranker v3 against 1 h before is 6.0 %, above 5 % for 1 min")
    assert "(200 ms before, 212 ms now, n 5,000 and 5,000, 5 min to 11:05 UTC)" in fired.summary


def test_a_feature_drifts_more_than_yesterday() -> None:
    book = a_book({"name": "up", "expr": "rise(psi(gender), vs=10m, over=2m) > 100%", "for": 0})
    stream = [
        drifted(n, 0.3 if n >= 20 and feature == "gender" else 0.1, feature) for n in range(30) for feature in "ab"
    ]
    quietly(book, stream)
    told = [alert for n in range(25) for alert in alerts(book.observe(drifted(n, 0.1 if n < 20 else 0.3)))]
    (fired,) = told
    assert (fired.labels, fired.value) == ({"feature": "gender"}, 2)
    assert book.history.series == 1  # nobody asks for the others


def test_rules_of_other_spans_and_of_other_delays_share_what_they_can() -> None:
    book = a_book(
        {"name": "short", "expr": "drop(ctr, vs=10m) > 10%"},
        {"name": "long", "expr": "drop(ctr, vs=2h) > 10%"},
        {"name": "patient", "expr": "drop(ctr, vs=10m) > 10%", "settle": "5m"},
        {"name": "elsewhere", "expr": "drop(ctr, vs=10m) > 10%", "model": "search"},
    )
    quietly(book, (minute(number, 80) for number in range(150)))
    assert book.history.series == 2
    fallen = [decision for number in (150, 151) for decision in book.observe(minute(number, 10))]
    assert [decision.rule for decision in fallen if decision.reason is Reason.PENDING_STARTED] == [
        "short",
        "long",
        "patient",
    ]


def test_a_window_seen_before_is_not_put_into_the_history_either() -> None:
    book = a_book()
    reasons(book, minute(0, 80), minute(0, 10))
    append, _ = book.history.take_changes()
    assert reasons(book, minute(0, 20)) == ["out_of_order"]
    assert book.history.take_changes() == ({}, set())
    assert len(append) == 1


RULES: list[Rule] = [
    parse_rule({"name": "drop", "expr": "drop(ctr, vs=10m, over=3m) > 10%", "for": "1m", "min_n": 0}),
    parse_rule({"name": "rise", "expr": "rise(clicks, vs=15m) > 50%", "for": 0, "settle": "2m"}),
]
steps = st.tuples(st.sampled_from([1, 1, 1, 1, 2, 30]), st.sampled_from([20, 40, 80]), st.sampled_from(["a", "b"]))


@given(stream=st.lists(steps, max_size=80), cuts=st.sets(st.integers(0, 80), max_size=4))
def test_a_restored_book_and_its_history_go_on_as_if_nothing_had_happened(
    stream: list[tuple[int, int, str]], cuts: set[int]
) -> None:
    book, heir = IncidentBook(RULES), IncidentBook(RULES)
    store: dict[str, bytes] = {}
    at = 0
    for number, (gap, clicks, model) in enumerate(stream):
        if number in cuts:
            append, drop = heir.history.take_changes()
            store = {name: data for name, data in store.items() if name not in drop} | append
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(heir.state()))
            heir = IncidentBook(RULES)
            assert heir.restore(state) == []
            heir.history.restore(store)
        at += gap
        assert heir.observe(minute(at, clicks, 1000, model)) == book.observe(minute(at, clicks, 1000, model))
    assert heir.state() == book.state()


def test_chance_alone_fires_none_of_the_built_in_ones() -> None:
    """Two days of a model that has just as many impressions and latencies as they want."""
    rng = random.Random(7)
    rules = [rule for rule in DEFAULT_RULES if rule.change is not None]
    assert [(rule.name, rule.severity) for rule in rules] == [("ctr-drop", "major"), ("latency-up", "minor")]
    book = IncidentBook(rules)
    for number in range(2 * DAY):
        n = 6_100
        clicks = round(rng.gauss(0.05 * n, (0.05 * 0.95 * n) ** 0.5))
        p95 = 200 * (1 + rng.gauss(0, 1.06 / n**0.5))
        decisions = book.observe(minute(number, clicks, n)) + book.observe(served(number, p95=p95, requests=n))
        assert all(decision.reason in (Reason.NO_HISTORY, Reason.CONDITION_FALSE) for decision in decisions)
        if number > DAY + 10:
            assert [decision.reason for decision in decisions] == [Reason.CONDITION_FALSE] * 2
