"""What fires ends where nothing is left to judge: versions that were rolled back, models that were switched off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rules.incidents import GIVEN_UP_AFTER_MS, IncidentBook
from alerting.rules.reading import CtrReading
from alerting.rules.rule import parse_rule
from tests.alerting.rules.test_incidents import BAD, GOOD, alerts, reasons
from tests.alerting.rules.test_incidents_of_silence import look
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served

TWO_DAYS = GIVEN_UP_AFTER_MS // MINUTE


def a_book(**keys: Any) -> IncidentBook:
    return IncidentBook([parse_rule({"name": "ctr-low", "expr": "ctr < 5%", "for": "2m"} | keys)])


def fired(**keys: Any) -> IncidentBook:
    """Version 3 has fired; its last minute is that of 10:01."""
    book = a_book(**keys)
    assert reasons(book, minute(0, BAD), minute(1, BAD)) == ["pending_started", "fired"]
    return book


def test_a_version_that_was_rolled_back_fires_no_longer_than_a_quarter_of_an_hour() -> None:
    book = fired()
    before = [minute(number, GOOD, model_version="2") for number in range(2, 16)]
    assert reasons(book, *before) == ["condition_false"] * 14
    decisions = book.observe(minute(16, GOOD, model_version="2"))
    assert [(each.reason, each.model_version) for each in decisions] == [
        ("version_gone", "3"),
        ("condition_false", "2"),
    ]
    (over,) = alerts(decisions)
    assert (over.status, over.value, over.resolved_at) == ("resolved", None, TEN_O_CLOCK + 18 * MINUTE)
    assert over.related["resolved_because"] == "version_gone"
    assert over.summary == (
        "ctr-low of home v3 is no longer watched: other versions have rows, this one has none any more "
        "(it held for 2 min)"
    )
    assert len(book) == 0
    # Rolled out again, it is judged anew.
    assert reasons(book, minute(30, BAD), minute(31, BAD)) == ["pending_started", "fired"]


def test_a_rule_about_that_version_alone_knows_it_too() -> None:
    book = fired(version="3")
    assert reasons(book, minute(16, GOOD, model_version="2")) == ["version_gone", "not_selected"]


def test_another_model_or_kind_of_row_says_nothing_of_a_version() -> None:
    book = fired()
    reasons(book, *(minute(number, GOOD, model_id="cart", model_version="2") for number in range(60)))
    reasons(book, *(replace(served(number), model_id="home", model_version="2") for number in range(60)))
    assert book.firing == 1


def test_as_long_as_both_versions_have_rows_each_goes_its_own_way() -> None:
    book = fired()
    for number in range(2, 60):
        assert reasons(book, minute(number, GOOD, model_version="2"), minute(number, BAD)) == [
            "condition_false",
            "still_firing",
        ]


def test_each_feature_of_the_version_is_over() -> None:
    book = a_book(expr="psi(*) > 0.2", **{"for": "0s"})
    assert reasons(book, drifted(0, 0.3, "age"), drifted(0, 0.3, "gender")) == ["fired", "fired"]
    later = replace(drifted(15, 0.1, "age"), model_version="4")
    assert reasons(book, later) == ["version_gone", "version_gone", "condition_false"]


def test_that_no_data_came_goes_on_to_be_told() -> None:
    book = fired(no_data="5m")
    (silent,) = alerts(look(book, 7))
    assert reasons(book, minute(16, GOOD, model_version="2")) == ["version_gone", "condition_false"]
    assert (book.firing, silent.labels) == (1, {"no_data": "true"})


@pytest.mark.parametrize("keys", [{}, {"no_data": "5m"}])
def test_what_is_switched_off_is_given_up_after_two_days(keys: dict[str, str]) -> None:
    book = fired(**keys)
    look(book, 10)
    assert look(book, 1 + TWO_DAYS) == []
    *_, over = alerts(look(book, 2 + TWO_DAYS))
    assert over.resolved_at == TEN_O_CLOCK + (3 + TWO_DAYS) * MINUTE
    assert (over.related["resolved_because"], over.labels) == ("given_up", {})
    assert over.summary == (
        "ctr-low of home v3 is no longer watched: there have been no rows for 2 d (it held for 2 min)"
    )
    assert len(book) == 0


def test_a_restart_or_a_longer_delay_puts_no_end_off() -> None:
    for settle in ("1m", "5m"):
        book = a_book(settle=settle)
        book.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(fired().state())))
        assert reasons(book, minute(16, GOOD, model_version="2")) == ["version_gone", "condition_false"]


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("23"), st.booleans()), max_size=60), st.integers(1, 50))
def test_however_often_one_looks_the_decisions_are_the_same(found: list[tuple[int, str, bool]], step: int) -> None:
    rows = {(number * 300, version): bad for number, version, bad in found}
    rows |= {(number * 300 + 1, version): bad for number, version, bad in found}
    readings: list[CtrReading] = [
        minute(number, BAD if bad else GOOD, model_version=version) for (number, version), bad in sorted(rows.items())
    ]
    often, seldom = a_book(), a_book()
    told, expected = [], []
    for place, reading in enumerate(readings):
        told += often.observe(reading)
        told += look(often, (reading.window_start - TEN_O_CLOCK) // MINUTE)
        expected += seldom.observe(reading)
        if place % step == 0:
            expected += look(seldom, (reading.window_start - TEN_O_CLOCK) // MINUTE)
    assert alerts(told) == alerts(expected)
