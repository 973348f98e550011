"""What a backtest makes of the decisions of an incident book."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.backtest import MOST_POINTS, Backtest, Firing, Series, Span, Track
from agents.backtest_text import MOST_BARS, MOST_QUIET, report, timeline
from alerting.alert import Alert
from alerting.rules.decisions import Reason
from alerting.rules.incidents import IncidentBook
from alerting.rules.reading import CtrReading, SqlReading
from alerting.rules.rule import Rule, parse_rule
from tests.alerting.samples import drifted

MINUTE = 60_000
T0 = 1_777_629_600_000
SETTLE = 60_000
RULE = parse_rule({"name": "ctr-low", "expr": "ctr < 5%", "for": "2m", "keep_firing_for": "2m", "min_n": 100})

Rates = list[float | None]
"""Of a minute each, of 1,000 shown; None: too few."""


@dataclass
class Told:
    found: Backtest
    alerts: list[Alert]

    @property
    def track(self) -> Track:
        ((_, _, track),) = self.found.tracks()
        return track


def told(rates: Rates, rule: Rule = RULE, *, limit: int = 100, models: int = 1, keep_points: bool = True) -> Told:
    book, found, alerts = IncidentBook([rule], limit=limit), Backtest((rule,), keep_points=keep_points), []
    for minute, rate in enumerate(rates):
        for model in range(models):
            shown = 50 if rate is None else 1_000
            start = T0 + minute * MINUTE
            reading = CtrReading(
                model_id=f"home-{model}",
                model_version="v3",
                window_start=start,
                window_end=start + MINUTE,
                impressions=shown,
                clicks=round(shown * (rate or 0)),
            )
            for decision in book.observe(reading):
                found.take(decision, reading)
                if decision.alert is not None:
                    alerts.append(decision.alert)
    return Told(found, alerts)


def at(minute: int) -> int:
    return T0 + minute * MINUTE


def test_an_incident_from_its_first_bad_minute_to_its_end() -> None:
    story = told([0.08, 0.04, 0.03, 0.045, 0.08, 0.08, 0.08])
    track = story.track
    (firing,) = track.firings
    # Told a minute, the rule's delay, after the windows that decided.
    assert (firing.started_at, firing.fired_at, firing.resolved_at) == (at(1), at(4), at(7))
    assert firing.worst == 0.03
    assert firing.summary.startswith("CTR of home-0 v3 is 3.0 %, below 5 % for 2 min")
    assert track.pending == [Span(at(1), at(4))]
    assert track.firing_spans(story.found.end_ms) == [Span(at(4), at(7))]
    assert track.judged == [Span(at(0), at(7))]
    assert (track.windows, track.left_out, track.worst) == (7, Counter(), 0.03)
    assert story.found.fired == {"ctr-low": 1}
    assert (story.found.begin_ms, story.found.end_ms) == (at(0), at(7))


def test_what_still_fires_does_so_until_the_end() -> None:
    story = told([0.04] * 5)
    (firing,) = story.track.firings
    assert firing.resolved_at is None
    assert story.track.firing_spans(story.found.end_ms) == [Span(at(3), at(5))]


def test_pending_that_came_to_nothing() -> None:
    track = told([0.08, 0.04, 0.08, 0.08, 0.01, 0.08]).track
    assert track.pending == [Span(at(1), at(2)), Span(at(4), at(5))]
    assert track.firings == []
    assert not track.is_quiet


def test_minutes_with_too_few_rows_are_left_out_and_counted() -> None:
    track = told([0.08, None, None, 0.08]).track
    assert track.judged == [Span(at(0), at(1)), Span(at(3), at(4))]
    assert track.left_out == {Reason.TOO_FEW_IMPRESSIONS: 2}
    assert track.is_quiet


def test_the_worst_of_one_incident_is_not_that_of_the_one_before() -> None:
    worst = [firing.worst for firing in told([0.01, 0.01, 0.08, 0.08, 0.04, 0.03, 0.08, 0.08]).track.firings]
    assert worst == [0.01, 0.03]
    assert told([0.01, 0.08, 0.04, 0.03]).track.firings[0].worst == 0.03


def test_many_models_are_cut_where_nobody_would_read_on() -> None:
    quiet = [line.plain for line in report(told([0.08] * 3, models=70).found)]
    assert sum("never fired," in line for line in quiet) == MOST_QUIET
    assert quiet[-1] == f"  and {70 - MOST_QUIET} more models for which it never fired"
    loud = told([0.04] * 3, models=70).found
    assert sum("fired once" in line.plain for line in report(loud)) == 70
    lines = [line.plain for line in timeline(loud, 80, plain=True)]
    assert sum("#" in line for line in lines) == MOST_BARS + 1, "the legend has one too"
    assert lines[-1] == f"and {70 - MOST_BARS} more"


def test_of_too_many_series_only_the_firings_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.backtest.MOST_SERIES", 2)
    story = told([0.04] * 3, models=5)
    assert len(story.found.tracks()) == 2
    assert story.found.fired == {"ctr-low": 5}
    assert [line.plain for line in report(story.found)][-1].startswith("too many series: 9 windows")


def test_series_come_in_the_order_of_the_rules() -> None:
    rules = tuple(parse_rule({"name": name, "expr": "ctr < 5%", "for": 0}) for name in ("z", "a"))
    book, found = IncidentBook(rules), Backtest(rules)
    for model in ("m2", "m1"):
        reading = CtrReading(
            model_id=model, model_version="", window_start=at(0), window_end=at(1), impressions=1000, clicks=1
        )
        for decision in book.observe(reading):
            found.take(decision, reading)
    expected = [("z", "m1"), ("z", "m2"), ("a", "m1"), ("a", "m2")]
    assert [(series.rule, series.model_id) for _, series, _ in found.tracks()] == expected


def test_silence_is_a_series_of_its_own() -> None:
    rule = parse_rule({"name": "ctr-low", "expr": "ctr < 5%", "no_data": "3m"})
    book, found = IncidentBook([rule]), Backtest((rule,))
    for minute in (0, 1, 9):
        reading = CtrReading(
            model_id="home", model_version="", window_start=at(minute), window_end=at(minute + 1), impressions=1000,
            clicks=90,
        )  # fmt: skip
        for decision in book.observe(reading):
            found.take(decision, reading)
    (_, series, judged), (_, silent, quiet) = found.tracks()
    assert (series.silent, silent.silent) == (False, True)
    assert judged.is_quiet
    assert quiet.windows == 0
    assert quiet.pending == []
    (firing,) = quiet.firings
    assert (firing.started_at, firing.fired_at, firing.resolved_at) == (at(2), at(6), at(11))
    assert found.fired == {"ctr-low": 1}


def test_an_incident_for_which_the_book_has_no_room_ends_where_it_was_last_seen() -> None:
    story = told([0.04] * 6, limit=1, models=2)
    # Each pushes the other out before it has lasted long enough.
    assert story.alerts == []
    assert [track.firings for _, _, track in story.found.tracks()] == [[], []]
    firing = told([0.04, 0.04, 0.04], limit=1)
    evicted = IncidentBook([RULE], limit=1)
    evicted.restore({**_state_of_firing(3)})
    other = CtrReading(
        model_id="other", model_version="", window_start=at(3), window_end=at(4), impressions=1000, clicks=1
    )
    for decision in evicted.observe(other):
        firing.found.take(decision, other)
    ((_, _, track), _) = firing.found.tracks()
    assert [(each.fired_at, each.resolved_at) for each in track.firings] == [(at(3), at(3))]


def _state_of_firing(minutes: int) -> dict[str, object]:
    book = IncidentBook([RULE], limit=1)
    for minute in range(minutes):
        book.observe(
            CtrReading(
                model_id="home-0", model_version="v3", window_start=at(minute), window_end=at(minute + 1),
                impressions=1000, clicks=40,
            )
        )  # fmt: skip
    assert book.firing == 1
    return book.state()


def test_the_end_of_a_version_that_was_rolled_back_is_that_of_its_condition() -> None:
    book, found = IncidentBook([RULE]), Backtest((RULE,))
    for minute in range(20):
        version, clicks = ("v3", 40) if minute < 3 else ("v2", 80)
        reading = CtrReading(
            model_id="home", model_version=version, window_start=at(minute), window_end=at(minute + 1),
            impressions=1000, clicks=clicks,
        )  # fmt: skip
        for decision in book.observe(reading):
            found.take(decision, reading)
    firings = [firing for _, series, track in found.tracks() for firing in track.firings if not series.silent]
    assert [firing.resolved_at for firing in firings] == [at(18) + SETTLE]


def test_a_query_is_judged_where_it_returns_something() -> None:
    rule = parse_rule({"name": "busy", "sql": "SELECT model_id, impressions AS value FROM ctr", "for": "2m"})
    book, found = IncidentBook([rule]), Backtest((rule,))
    for minute, values in enumerate([[], [5.0], [7.0], [6.0], [], []]):
        rows = [
            SqlReading(
                model_id="home", model_version="", window_start=at(minute), window_end=at(minute + 1), value=value
            )
            for value in values
        ]
        for decision in book.observe_sql("busy", rows, at(minute), at(minute + 1)):
            found.take(decision, None)
    ((_, series, track),) = found.tracks()
    assert series == Series("busy", "home", "", "")
    assert [(each.worst, each.resolved_at) for each in track.firings] == [(7.0, at(6))]
    assert found.asked == {"busy": 2}


def test_what_a_query_says_of_models_that_it_does_not_see_is_shown_as_left_out() -> None:
    rule = parse_rule({"name": "total", "sql": "SELECT 'all' AS model_id, sum(clicks) AS value FROM ctr"})
    book, found = IncidentBook([rule]), Backtest((rule,))
    for model in ("", "all"):
        row = SqlReading(model_id=model, model_version="", window_start=at(0), window_end=at(1), value=1.0)
        for decision in book.observe_sql("total", [row], at(len(model)), at(len(model) + 1), {"home"}):
            found.take(decision, None)
    assert [line.plain for line in report(found)][1:] == [
        '  "": never fired, nothing judged, 1 left out (foreign model)',
        "  all: never fired, nothing judged, 1 left out (foreign model)",
    ]


def test_a_feature_that_no_row_has_is_named() -> None:
    rule = parse_rule({"name": "gender", "expr": "psi(gendr) >= 0.15", "model": "recommender-*"})
    book, found = IncidentBook([rule]), Backtest((rule,))
    readings = [drifted(0, psi=0.3, feature="gender"), replace(drifted(0, psi=0.3, feature="gendr"), model_id="other")]
    for reading in readings:
        for decision in book.observe(reading):
            found.take(decision, reading)
    assert [line.plain for line in report(found)][1:] == [
        "  judged nothing: no window has the feature gendr (did you mean 'gender'?)"
    ]


def test_a_long_line_is_thinned_and_keeps_its_worst() -> None:
    rates: Rates = [0.08] * (9 * MOST_POINTS)
    rates[4321] = 0.001
    track = told(rates).track
    assert MOST_POINTS <= len(track.points) < 2 * MOST_POINTS
    assert min(value for _, value in track.points) == 0.001
    assert sorted(track.points) == track.points
    assert told(rates[:100], keep_points=False).track.points == []


@given(st.lists(st.sampled_from([None, 0.01, 0.03, 0.049, 0.05, 0.08]), max_size=40), st.integers(0, 3))
def test_it_agrees_with_the_alerts_and_the_minutes(rates: Rates, for_minutes: int) -> None:
    rule = parse_rule(
        {"name": "r", "expr": "ctr < 5%", "for": f"{for_minutes}m", "keep_firing_for": "2m", "min_n": 100}
    )
    story = told(rates, rule)
    if not rates:
        assert story.found.tracks() == []
        return
    track = story.track
    judged = [minute for minute, rate in enumerate(rates) if rate is not None]
    assert track.windows == len(judged)
    assert track.left_out.total() == len(rates) - len(judged)
    assert track.worst == min((rate for rate in rates if rate is not None), default=None)
    assert sum(span.end_ms - span.begin_ms for span in track.judged) == len(judged) * MINUTE
    fired = [alert for alert in story.alerts if alert.status == "firing"]
    resolved = {alert.alert_id: alert.resolved_at for alert in story.alerts if alert.status == "resolved"}
    expected = [(alert.started_at, alert.fired_at, resolved.get(alert.alert_id)) for alert in fired]
    assert [_times(firing) for firing in track.firings] == expected
    assert story.found.fired["r"] == len(fired)
    for firing in track.firings:
        until = (firing.resolved_at or 2 * T0) - SETTLE
        within = [rates[minute] for minute in judged if firing.started_at <= at(minute) < until]
        assert firing.worst == min(rate for rate in within if rate is not None)
    # Each minute in which the condition held is pending or firing, and no good one is pending before it fires.
    bad = {at(minute) for minute in judged if (rates[minute] or 0) < 0.05}
    shown = [*track.pending, *track.firing_spans(story.found.end_ms)]
    assert all(any(span.begin_ms <= minute < span.end_ms for span in shown) for minute in bad)
    assert all(span.begin_ms in bad for span in track.pending)


def _times(firing: Firing) -> tuple[int, int, int | None]:
    return firing.started_at, firing.fired_at, firing.resolved_at
