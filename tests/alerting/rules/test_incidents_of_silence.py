"""`no_data`: what has been judged before, and of which nothing comes any more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.alert import Alert
from alerting.rules.incidents import GIVEN_UP_AFTER_MS, Decision, IncidentBook
from alerting.rules.rule import Rule, parse_rule
from tables.watermark import END
from tests.alerting.rules.test_incidents import BAD, GOOD, alerts, reasons
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served

SETTLE = 60_000


def a_rule(**keys: Any) -> Rule:
    return parse_rule({"name": "ctr-low", "expr": "ctr < 5%", "for": "2m", "no_data": "5m"} | keys)


def look(book: IncidentBook, until: int, kind: Any = "ctr", settle_ms: int = SETTLE) -> list[Decision]:
    """All windows up to the one that begins `until` minutes after ten have been judged."""
    return book.observe_time(kind, TEN_O_CLOCK + until * MINUTE, settle_ms)


def test_a_model_falls_silent_and_comes_back() -> None:
    book = IncidentBook([a_rule(labels={"team": "recsys"}, owner="ann")])
    assert reasons(book, minute(0, GOOD), minute(1, GOOD)) == ["condition_false"] * 2
    assert look(book, 2) == look(book, 6) == []
    (decision,) = look(book, 7)
    assert decision.reason == "no_data"
    (fired,) = alerts([decision])
    assert (fired.status, fired.severity, fired.value, fired.threshold) == ("firing", "major", None, None)
    assert fired.labels == {"team": "recsys", "no_data": "true"}
    assert (fired.started_at, fired.fired_at) == (TEN_O_CLOCK + 2 * MINUTE, TEN_O_CLOCK + 8 * MINUTE)
    assert fired.summary == "No data of CTR of home v3 for 5 min (none since 10:02 UTC)"
    assert fired.related == {
        "window_start": TEN_O_CLOCK + 2 * MINUTE,
        "window_end": TEN_O_CLOCK + 7 * MINUTE,
        "expression": "ctr < 5%",
        "metric": "ctr",
        "for_ms": 5 * MINUTE,
        "owner": "ann",
    }
    assert look(book, 8) == look(book, 60) == []
    decisions = book.observe(minute(62, GOOD))
    assert [decision.reason for decision in decisions] == ["data_back", "condition_false"]
    (resolved,) = alerts(decisions)
    assert (resolved.status, resolved.alert_id, resolved.labels) == ("resolved", fired.alert_id, fired.labels)
    assert resolved.resolved_at == TEN_O_CLOCK + 64 * MINUTE
    assert resolved.summary == "Data of CTR of home v3 are back after 1 h (none 10:02-11:02 UTC)"
    assert len(book) == 0


def test_it_is_another_incident_than_that_of_the_condition() -> None:
    book = IncidentBook([a_rule()])
    (low,) = alerts(book.observe(minute(0, BAD)) + book.observe(minute(1, BAD)))
    (silent,) = alerts(look(book, 7))
    assert (low.fingerprint != silent.fingerprint, book.firing) == (True, 2)
    back, over = alerts(book.observe(minute(8, GOOD)))
    assert [back.alert_id, over.alert_id] == [silent.alert_id, low.alert_id]


def test_what_was_never_judged_is_not_missed() -> None:
    book = IncidentBook([a_rule(model="search")])
    assert reasons(book, minute(0, GOOD)) == ["not_selected"]
    assert look(book, 60) == []


def test_what_never_had_enough_rows_to_be_judged_is_not_missed_either() -> None:
    book = IncidentBook([a_rule()])
    assert reasons(book, minute(0, 1, 10)) == ["too_few_impressions"]
    assert look(book, 60) == []


def test_a_few_rows_end_the_silence() -> None:
    book = IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD))
    look(book, 60)
    assert reasons(book, minute(60, 1, 10)) == ["data_back", "too_few_impressions"]


def test_a_rule_that_now_waits_longer_still_hears_the_end_of_a_silence() -> None:
    book = IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD))
    look(book, 60)
    assert book.replace_rules([a_rule(settle="2m")], TEN_O_CLOCK) == []
    assert look(book, 61, settle_ms=120_000) == []
    assert reasons(book, minute(61, GOOD)) == ["data_back", "condition_false"]
    assert len(alerts(look(book, 90, settle_ms=120_000))) == 1


def test_a_rule_that_now_waits_longer_still_gives_up() -> None:
    book = IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD))
    look(book, 60)
    book.replace_rules([a_rule(settle="2m")], TEN_O_CLOCK)
    (given_up,) = alerts(look(book, 1 + GIVEN_UP_AFTER_MS // MINUTE, settle_ms=120_000))
    assert (given_up.status, len(book)) == ("resolved", 0)


def test_others_that_are_heard_later_do_not_hide_a_silence() -> None:
    book = IncidentBook([a_rule(model="gone"), parse_rule({"name": "all", "expr": "ctr < 1%"})], limit=3)
    reasons(book, minute(0, GOOD, model_id="gone"))
    reasons(book, *(minute(1, GOOD, model_id=f"m{number}") for number in range(9)))
    assert [alert.model_id for alert in alerts(look(book, 60))] == ["gone"]


def test_rules_without_the_key_and_of_other_kinds_and_delays_wait_for_nothing() -> None:
    quiet = parse_rule({"name": "quiet", "expr": "ctr < 1%"})
    book = IncidentBook([quiet, a_rule(), a_rule(name="errors", expr="errors > 5", no_data="10m")])
    reasons(book, minute(0, GOOD), served(0))
    assert look(book, 60, "drift") == look(book, 60, settle_ms=0) == []
    assert [alert.rule for alert in alerts(look(book, 60))] == ["ctr-low"]
    (errors,) = alerts(look(book, 60, "serving", 5_000))
    assert (errors.rule, errors.started_at) == ("errors", TEN_O_CLOCK + MINUTE)
    assert errors.fired_at == TEN_O_CLOCK + 11 * MINUTE + 5_000


def test_one_feature_is_missing() -> None:
    book = IncidentBook([a_rule(expr="psi(*) > 0.2")])
    reasons(book, drifted(0, 0.1, "age"), drifted(0, 0.1, "gender"))
    reasons(book, *(drifted(number, 0.1, "age") for number in range(1, 8)))
    (fired,) = alerts(look(book, 8, "drift", 5_000))
    assert fired.labels == {"feature": "gender", "no_data": "true"}
    assert fired.summary == "No data of PSI of gender of recommender-home v3 for 5 min (none since 10:01 UTC)"


def test_a_version_that_was_replaced_is_not_waited_for_for_ever() -> None:
    book = IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD))
    assert [decision.reason for decision in look(book, 10)] == ["no_data"]
    two_days = GIVEN_UP_AFTER_MS // MINUTE
    assert look(book, two_days) == []
    (given_up,) = alerts(look(book, 1 + two_days))
    assert (given_up.status, given_up.resolved_at) == ("resolved", TEN_O_CLOCK + (2 + two_days) * MINUTE)
    assert given_up.summary == "No data of CTR of home v3 for 2 d: no longer waited for"
    assert look(book, 9 * two_days) == []
    assert book.state()["expected"] == book.state()["open"] == []
    assert reasons(book, minute(9 * two_days, GOOD)) == ["condition_false"]
    assert len(alerts(look(book, 9 * two_days + 10))) == 1


def test_who_is_no_longer_watched_is_no_longer_missed() -> None:
    book = IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD))
    assert book.replace_rules([a_rule(model="search")], TEN_O_CLOCK) == []
    assert look(book, 60) == []


def test_a_flood_of_model_ids_is_not_all_waited_for() -> None:
    book = IncidentBook([a_rule()], limit=3)
    reasons(book, *(minute(0, GOOD, model_id=f"junk-{number}") for number in range(9)))
    assert [key[1] for key in book.state()["expected"]] == ["junk-6", "junk-7", "junk-8"]
    heir = IncidentBook([a_rule()], limit=2)
    heir.restore(book.state())
    assert [alert.model_id for alert in alerts(look(heir, 60))] == ["junk-7", "junk-8"]


def test_a_book_that_goes_back_looks_again() -> None:
    book = IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD))
    before = book.state()
    assert alerts(look(book, 60))
    book.restore(before)
    assert alerts(look(book, 60))


def test_the_end_of_a_recording_is_no_silence() -> None:
    book = IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD))
    assert book.observe_time("ctr", (END - SETTLE) // MINUTE * MINUTE, SETTLE) == []
    assert len(book) == 0


def test_a_restart_forgets_nothing_of_it() -> None:
    book, heir = IncidentBook([a_rule()]), IncidentBook([a_rule()])
    reasons(book, minute(0, GOOD), minute(0, GOOD, model_id="cart"), minute(4, GOOD, model_id="cart"))
    look(book, 6)
    assert heir.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(book.state()))) == []
    assert [alert.model_id for alert in alerts(look(heir, 20))] == ["cart"]
    assert reasons(heir, minute(21, GOOD)) == ["data_back", "condition_false"]


gaps = st.lists(st.sampled_from([1, 1, 2, 5, 6, 7, 20, 3000]), max_size=12)


@pytest.mark.parametrize("step", [1, 3, 100_000])
@given(gaps=gaps, models=st.lists(st.sampled_from("ab"), min_size=12, max_size=12))
def test_whenever_one_looks_the_alerts_are_the_same(step: int, gaps: list[int], models: list[str]) -> None:
    """Against the two lines that say what silence is, minute by minute."""
    rules = [a_rule(), a_rule(name="longer", no_data="1h")]
    numbers = [sum(gaps[: place + 1]) for place in range(len(gaps))]
    book, told = IncidentBook(rules), list[Alert]()
    looked = 0
    for number, model in zip(numbers, models, strict=False):
        for until in range(looked + step, number + 1, step):
            told += alerts(look(book, until))
            looked = until
        told += alerts(book.observe(minute(number, GOOD, model_id=model)))
    end = (numbers[-1] if numbers else 0) + 100
    told += alerts(look(book, end))

    expected = set()
    for model in set(models[: len(numbers)]):
        ends = [number + 1 for number, of in zip(numbers, models, strict=False) if of == model]
        for last, following in zip(ends, [*ends[1:], None], strict=True):
            quiet = (end if following is None else following - 1) - last
            for rule, longest in (("ctr-low", 5), ("longer", 60)):
                if quiet >= longest:
                    expected.add((rule, model, "firing", last + longest + 1))
                    if quiet >= 2880:
                        expected.add((rule, model, "resolved", last + 2881))
                    elif following is not None:
                        expected.add((rule, model, "resolved", following + 1))
    found = [
        (alert.rule, alert.model_id, alert.status, (alert.resolved_at or alert.fired_at) - TEN_O_CLOCK)
        for alert in told
    ]
    assert sorted(found) == sorted((rule, model, status, at * MINUTE) for rule, model, status, at in expected)
