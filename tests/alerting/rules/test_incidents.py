from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.alert import Alert
from alerting.rules.incident_alerts import Causes
from alerting.rules.incidents import Decision, IncidentBook, Reading, Reason
from alerting.rules.reading import Judged
from alerting.rules.rule import Rule, parse_rule
from tables.errors import ConfigError, StoreError
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, minute

GOOD, BAD = 80, 40  # clicks of 1,000; the rule below wants 50


def a_rule(**keys: Any) -> Rule:
    return parse_rule({"name": "ctr-low", "expr": "ctr < 5%", "for": "2m", "keep_firing_for": "1m"} | keys)


def a_book(**keys: Any) -> IncidentBook:
    return IncidentBook([a_rule(**keys)])


def reasons(book: IncidentBook, *readings: Reading) -> list[str]:
    return [str(decision.reason) for reading in readings for decision in book.observe(reading)]


def alerts(decisions: list[Decision]) -> list[Alert]:
    return [decision.alert for decision in decisions if decision.alert]


def test_the_case_study_ctr_falls_and_recovers() -> None:
    book = a_book()
    assert reasons(
        book,
        minute(0, GOOD),
        minute(1, BAD),
        minute(2, BAD),  # bad since 10:01, seen until 10:03
        minute(3, BAD),
        minute(4, GOOD),
        minute(5, GOOD),
    ) == ["condition_false", "pending_started", "fired", "still_firing", "resolved", "condition_false"]


def test_what_the_alert_says_when_it_fires_and_when_it_is_over() -> None:
    book = a_book(labels={"team": "recsys"}, owner="ann")
    (fired,) = alerts(book.observe(minute(1, BAD)) + book.observe(minute(2, 41)))
    assert (fired.status, fired.severity, fired.rule) == ("firing", "major", "ctr-low")
    assert (fired.model_id, fired.model_version, fired.labels) == ("home", "3", {"team": "recsys"})
    assert (fired.value, fired.threshold) == (0.041, 0.05)
    assert fired.started_at == TEN_O_CLOCK + 1 * MINUTE
    assert fired.fired_at == TEN_O_CLOCK + 4 * MINUTE  # the window ended at 10:03 and settled for a minute
    assert fired.resolved_at is None
    assert fired.related == {
        "impressions": 1000,
        "clicks": 41,
        "window_start": TEN_O_CLOCK + 2 * MINUTE,
        "window_end": TEN_O_CLOCK + 3 * MINUTE,
        "expression": "ctr < 5%",
        "metric": "ctr",
        "comparison": "<",
        "for_ms": 2 * MINUTE,
        "owner": "ann",
    }
    assert fired.summary.startswith("CTR of home v3 is 4.1 %, below 5 % for 2 min")

    (resolved,) = alerts(book.observe(minute(3, GOOD)))
    assert resolved.status == "resolved"
    assert (resolved.alert_id, resolved.fingerprint) == (fired.alert_id, fired.fingerprint)
    assert (resolved.started_at, resolved.fired_at) == (fired.started_at, fired.fired_at)
    assert resolved.resolved_at == TEN_O_CLOCK + 5 * MINUTE
    assert resolved.value == 0.08
    assert resolved.related["for_ms"] == 2 * MINUTE
    assert "is 8.0 %, no longer below 5 % after 2 min" in resolved.summary


def test_the_next_incident_of_the_same_model_has_an_id_of_its_own() -> None:
    book = a_book()
    told = [
        alert
        for n, clicks in enumerate([BAD, BAD, GOOD, BAD, BAD])
        for alert in alerts(book.observe(minute(n, clicks)))
    ]
    first, over, second = told
    assert first.alert_id == over.alert_id != second.alert_id
    assert first.fingerprint == second.fingerprint


def test_one_good_window_drops_what_is_only_pending() -> None:
    assert reasons(a_book(), minute(0, BAD), minute(1, GOOD), minute(2, BAD)) == [
        "pending_started",
        "pending_dropped",
        "pending_started",
    ]


def test_for_of_nothing_fires_at_the_first_bad_window() -> None:
    assert reasons(a_book(**{"for": 0}), minute(0, BAD)) == ["fired"]


def test_flapping_holds_the_alert_open() -> None:
    book = a_book(keep_firing_for="2m")
    assert reasons(book, *(minute(n, c) for n, c in enumerate([BAD, BAD, GOOD, BAD, GOOD, GOOD]))) == [
        "pending_started",
        "fired",
        "holding",
        "still_firing",  # the good minute before it counts no more
        "holding",
        "resolved",
    ]


def test_too_few_impressions_change_nothing() -> None:
    book = a_book()
    quiet = minute(1, 0, impressions=499)
    assert reasons(book, minute(0, BAD), quiet, minute(2, BAD)) == [
        "pending_started",
        "too_few_impressions",
        "fired",
    ]
    quiet = minute(3, 400, impressions=499)
    assert reasons(book, quiet, minute(4, BAD)) == ["too_few_impressions", "still_firing"]


def test_a_gap_longer_than_for_starts_pending_anew() -> None:
    book = a_book()
    book.observe(minute(0, BAD))
    # Nothing between 10:01 and 10:04: nobody can say that it was bad all the time.
    decisions = book.observe(minute(4, BAD)) + book.observe(minute(5, BAD))
    assert [decision.reason for decision in decisions] == [
        Reason.GAP_RESET,
        Reason.PENDING_STARTED,
        Reason.FIRED,
    ]
    assert alerts(decisions)[0].started_at == TEN_O_CLOCK + 4 * MINUTE


def test_a_gap_no_longer_than_for_is_bridged() -> None:
    assert reasons(a_book(), minute(0, BAD), minute(3, BAD)) == ["pending_started", "fired"]


def test_a_gap_counts_from_the_last_window_not_from_the_first() -> None:
    book = a_book(**{"for": "3m"})
    assert reasons(book, *(minute(n, BAD) for n in (0, 1, 5))) == [
        "pending_started",
        "still_pending",
        "fired",
    ]


def test_minutes_with_too_few_impressions_are_a_gap_as_well() -> None:
    few = [minute(n, 0, impressions=10) for n in (1, 2, 3)]
    assert reasons(a_book(), minute(0, BAD), *few, minute(4, BAD))[-2:] == ["gap_reset", "pending_started"]


def test_a_gap_leaves_a_firing_alert_firing() -> None:
    book = a_book()
    assert reasons(book, minute(0, BAD), minute(1, BAD), minute(60, BAD)) == [
        "pending_started",
        "fired",
        "still_firing",
    ]
    assert book.firing == 1


def test_a_window_seen_before_changes_nothing() -> None:
    book = a_book()
    reasons(book, minute(0, BAD), minute(1, BAD), minute(2, GOOD))
    before = book.state()
    assert reasons(book, minute(2, GOOD), minute(0, BAD)) == ["out_of_order", "out_of_order"]
    assert book.state() == before


def test_models_versions_and_rules_do_not_meet() -> None:
    book = IncidentBook([a_rule(), a_rule(name="very-low", expr="ctr < 2%", model="search")])
    assert [(decision.rule, decision.reason) for decision in book.observe(minute(0, BAD))] == [
        ("ctr-low", "pending_started"),
        ("very-low", "not_selected"),
    ]
    assert reasons(book, minute(1, BAD, model_version="4")) == ["pending_started", "not_selected"]
    assert reasons(book, minute(0, BAD, model_id="search")) == ["pending_started", "condition_false"]
    assert reasons(book, minute(1, BAD)) == ["fired", "not_selected"]


def test_rules_with_their_own_patience_judge_the_same_window_at_their_own_time() -> None:
    book = IncidentBook([a_rule(**{"for": 0}), a_rule(name="slow", settle="10m", **{"for": 0})])
    (soon,) = alerts(book.observe(minute(0, BAD), settle_ms=60_000))
    assert (soon.rule, soon.fired_at) == ("ctr-low", TEN_O_CLOCK + 2 * MINUTE)
    book.observe(minute(1, BAD), settle_ms=60_000)
    (late,) = alerts(book.observe(minute(0, 45), settle_ms=600_000))  # five more clicks came in
    assert (late.rule, late.fired_at, late.value) == ("slow", TEN_O_CLOCK + 11 * MINUTE, 0.045)


def test_what_is_over_leaves_no_incident_behind() -> None:
    book = a_book()
    reasons(book, minute(0, BAD), minute(1, BAD), minute(2, GOOD))
    assert len(book) == 0
    assert book.state()["open"] == []


def test_a_flood_of_model_ids_stays_within_the_limit_and_spares_what_is_firing() -> None:
    book = IncidentBook([a_rule()], limit=3)
    reasons(book, minute(0, BAD), minute(1, BAD))
    flood = [minute(2, BAD, model_id=f"junk-{n}") for n in range(10)]
    assert reasons(book, *flood)[:3] == ["pending_started", "pending_started", "pending_started"]
    assert len(book) == 3
    assert len(book.state()["heard"]) == 3
    assert book.firing == 1
    assert reasons(book, minute(3, BAD, model_id="junk-9")) == ["fired"]  # the newest were kept


def test_among_firing_ones_the_longest_unheard_makes_room_for_news() -> None:
    book = IncidentBook([a_rule()], limit=1)
    reasons(book, minute(0, BAD), minute(1, BAD))
    assert reasons(book, minute(2, BAD, model_id="search")) == ["pending_started", "evicted"]
    assert reasons(book, minute(3, BAD, model_id="search")) == ["fired"]


def test_the_series_unheard_for_longest_is_the_one_forgotten() -> None:
    book = IncidentBook([a_rule()], limit=2)
    for number, model in enumerate("abac"):
        book.observe(minute(number, GOOD, model_id=model))
    assert reasons(book, minute(0, GOOD, model_id="a")) == ["out_of_order"]
    assert reasons(book, minute(0, GOOD, model_id="b")) == ["condition_false"]


def test_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'ctr-low' twice"):
        IncidentBook([a_rule(), a_rule()])


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="limit: expected at least 1"):
        IncidentBook([a_rule()], limit=0)


def test_a_rule_says_it_in_its_own_words() -> None:
    summary = "{{ model_id }}: {{ status }}\n  {{ metric }} {{ value|percent }}, {{ numbers.clicks }} clicks"
    book = a_book(summary=summary)
    fired, resolved = [
        alert for n, clicks in enumerate([BAD, BAD, GOOD]) for alert in alerts(book.observe(minute(n, clicks)))
    ]
    assert fired.summary == "home: firing CTR 4.0 %, 40 clicks"
    assert resolved.summary == "home: resolved CTR 8.0 %, 80 clicks"
    assert fired.related["summary_is_custom"] is resolved.related["summary_is_custom"] is True


def test_a_template_that_comes_to_nothing_leaves_the_built_in_sentence() -> None:
    (fired,) = alerts(a_book(summary="{{ labels.team }} ", **{"for": 0}).observe(minute(0, BAD)))
    assert fired.summary.startswith("CTR of home v3 is 4.0 %, below 5 %")
    assert "summary_is_custom" not in fired.related


def test_a_model_that_is_named_like_an_attack_stays_on_the_line_of_a_template_too() -> None:
    book = a_book(summary="{{ model_id }} is down", **{"for": 0})
    (fired,) = alerts(book.observe(minute(0, BAD, model_id="home\n\x1b]0;pwned\x07" + "x" * 5000)))
    assert fired.summary.isprintable()
    assert len(fired.summary) <= 1000


def test_likely_causes_are_asked_for_when_an_alert_fires_and_only_then() -> None:
    asked: list[Judged] = []

    def causes(reading: Judged) -> Causes:
        asked.append(reading)
        return ({"kind": "drift", "text": "new users 20 % -> 50 %"},)

    book = IncidentBook([a_rule()], causes)
    told = [
        alert for n, clicks in enumerate([BAD, BAD, BAD, GOOD]) for alert in alerts(book.observe(minute(n, clicks)))
    ]
    assert asked == [minute(1, BAD)]
    assert [alert.causes for alert in told] == [({"kind": "drift", "text": "new users 20 % -> 50 %"},), ()]


def test_a_decision_says_what_it_is_about() -> None:
    (decision,) = a_book().observe(minute(3, BAD, model_id="cart"))
    window = TEN_O_CLOCK + 3 * MINUTE, TEN_O_CLOCK + 4 * MINUTE
    assert decision == Decision(Reason.PENDING_STARTED, None, "ctr-low", "cart", "3", "", *window, 0.04)


# Restoring


EMPTY = a_book().state()


def test_an_empty_state_is_one() -> None:
    assert a_book().restore(EMPTY) == []


@pytest.mark.parametrize(
    "state",
    [
        {},
        EMPTY | {"version": 2},
        EMPTY | {"open": 5},
        EMPTY | {"open": [["ctr-low", "m", "1", "ctr", "", 0]]},
        EMPTY | {"open": [["ctr-low", "m", "1", "ctr", "", False, 0, 9, 9, 0, 0]]},  # of what was never told
        EMPTY | {"open": [["ctr-low", "m", "1", "ctr", "", False, 0, 9, 9, 0, -1]]},
        EMPTY | {"told": [5]},
        EMPTY | {"heard": [["m"]]},
        EMPTY | {"expected": [["ctr-low"]]},
    ],
)
def test_a_damaged_state_is_a_store_error_and_changes_nothing(state: dict[str, Any]) -> None:
    book = a_book()
    book.observe(minute(0, BAD))
    before = book.state()
    with pytest.raises(StoreError):
        book.restore(state)
    assert book.state() == before


RULES = [
    a_rule(),
    a_rule(name="hold", keep_firing_for="3m", **{"for": "1m"}),
    a_rule(name="high", expr="ctr > 7%", settle="2m", model="a"),
]
steps = st.tuples(
    st.integers(1, 4),  # minutes since the one before
    st.sampled_from([GOOD, BAD]),
    st.sampled_from([1000, 1000, 1000, 100]),
    st.sampled_from(["a", "b", "c"]),
)
streams = st.lists(steps, max_size=40)


def readings_of(stream: list[tuple[int, int, int, str]]) -> list[Reading]:
    readings: list[Reading] = []
    at = 0
    for minutes, clicks, impressions, model in stream:
        at += minutes
        readings.append(minute(at, clicks, impressions, model))
    return readings


@given(
    stream=streams,
    cut=st.integers(0, 40),
    limit=st.sampled_from([2, 100]),
    through=st.sampled_from(["json", "msgpack"]),
)
def test_a_restored_book_goes_on_as_if_nothing_had_happened(
    stream: list[tuple[int, int, int, str]], cut: int, limit: int, through: str
) -> None:
    readings = readings_of(stream)
    book = IncidentBook(RULES, limit=limit)
    for reading in readings[:cut]:
        book.observe(reading)
    state = book.state()
    heir = IncidentBook(RULES, limit=limit)
    if through == "json":
        heir.restore(orjson.loads(orjson.dumps(state)))
    else:
        heir.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(state)))
    for reading in readings[cut:]:
        assert heir.observe(reading) == book.observe(reading)
    assert heir.state() == book.state()


@given(stream=streams)
def test_whatever_comes_each_incident_fires_once_and_resolves_at_most_once(
    stream: list[tuple[int, int, int, str]],
) -> None:
    book = IncidentBook(RULES)
    told: dict[str, list[str]] = {}
    for reading in readings_of(stream):
        for alert in alerts(book.observe(reading)):
            told.setdefault(alert.alert_id, []).append(alert.status)
            assert alert.started_at < alert.fired_at <= (alert.resolved_at or alert.fired_at)
    assert all(statuses in (["firing"], ["firing", "resolved"]) for statuses in told.values())
    assert sum(statuses == ["firing"] for statuses in told.values()) == book.firing


@given(
    clicks=st.lists(st.sampled_from([GOOD, BAD]), max_size=30),
    bad_for=st.integers(1, 4),
    good_for=st.integers(1, 4),
)
def test_on_a_series_without_gaps_it_is_two_run_lengths(clicks: list[int], bad_for: int, good_for: int) -> None:
    """The whole machine in three lines: n bad minutes in a row open it, m good ones in a row close it."""
    book = a_book(**{"for": bad_for * 60, "keep_firing_for": good_for * 60})
    firing, run = False, 0
    for number, count in enumerate(clicks):
        run = run + 1 if (count == BAD) is not firing else 0
        turns = run >= (good_for if firing else bad_for)
        if turns:
            firing, run = not firing, 0
        told = alerts(book.observe(minute(number, count)))
        assert [alert.status for alert in told] == (["firing" if firing else "resolved"] if turns else [])
