"""What metrics were: against everything that was ever put, through restarts at any point."""

from __future__ import annotations

from fractions import Fraction
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rules.expressions import Change
from alerting.rules.metric_history import Mean, MetricHistory, Need
from alerting.rules.reading import CtrReading
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, drifted, minute, served

CTR, CLICKS, SOON = Need("ctr", 60_000), Need("clicks", 60_000), Need("ctr", 0)
SPAN = 90 * MINUTE


def a_history(*needs: Need, most_series: int = 1000, span_ms: int = SPAN) -> MetricHistory:
    return MetricHistory(dict.fromkeys(needs or (CTR,), span_ms), most_series)


def mean(history: MetricHistory, until: int, span: int, need: Need = CTR, model: str = "home") -> Mean | None:
    """Over `span` minutes up to the one that begins `until` minutes after ten."""
    return history.mean(need, model, "3", "", TEN_O_CLOCK + until * MINUTE, span * MINUTE)


def is_about(found: Mean | None, value: float, n: int, minutes: int) -> bool:
    return found is not None and (found.n, found.minutes) == (n, minutes) and isclose(found.value, value, rel_tol=1e-12)


def save(history: MetricHistory, store: dict[str, bytes]) -> None:
    append, drop = history.take_changes()
    for name in drop:
        store.pop(name, None)
    store.update(append)


def test_minutes_weigh_as_much_as_the_rows_behind_them() -> None:
    history = a_history(CTR, CLICKS)
    for need in (CTR, CLICKS):
        history.put(need, minute(0, 10, 100))
        history.put(need, minute(1, 10, 900))
    assert mean(history, 2, 2) == Mean(0.02, 1000, 2)
    assert is_about(mean(history, 2, 1), 10 / 900, 900, 1)
    assert mean(history, 1, 5) == Mean(0.1, 100, 1)
    assert mean(history, 2, 2, CLICKS) == Mean(10, 1000, 2)  # a tally's minutes weigh alike
    assert mean(history, 5, 2) is None


def test_what_has_no_value_is_no_minute() -> None:
    history = a_history(CTR, Need("p95", 0))
    history.put(CTR, minute(0, 0, 0))
    history.put(Need("p95", 0), served(0, p95=None))
    assert history.series == 0


def test_features_models_and_delays_do_not_meet() -> None:
    psi = Need("psi", 5000)
    history = a_history(CTR, SOON, psi)
    history.put(CTR, minute(0, 10))
    history.put(SOON, minute(0, 20))
    history.put(CTR, minute(0, 30, model_id="cart"))
    for feature, value in (("gender", 0.1), ("age", 0.3)):
        history.put(psi, drifted(0, value, feature))
    assert [found and found.value for found in (mean(history, 1, 1), mean(history, 1, 1, SOON))] == [0.01, 0.02]
    assert mean(history, 1, 1, model="cart") == Mean(0.03, 1000, 1)
    at = TEN_O_CLOCK + MINUTE
    assert history.mean(psi, "recommender-home", "3", "age", at, MINUTE) == Mean(0.3, 5753, 1)


def test_a_minute_that_comes_again_or_too_late_changes_nothing() -> None:
    history = a_history()
    for number, clicks in ((0, 10), (1, 20), (1, 99), (0, 99)):
        history.put(CTR, minute(number, clicks))
    assert mean(history, 2, 2) == Mean(0.015, 2000, 2)


def test_a_flood_of_series_stays_within_the_limit_until_the_old_ones_have_aged() -> None:
    history = a_history(most_series=2)
    for model in ("a", "b", "c", "d"):
        history.put(CTR, minute(0, 10, model_id=model))
    assert (history.series, history.no_room) == (2, 2)
    assert mean(history, 1, 1, model="c") is None
    history.put(CTR, minute(300, 10, model_id="a"))
    history.put(CTR, minute(300, 10, model_id="c"))
    assert mean(history, 301, 1, model="c") == Mean(0.01, 1000, 1)


def test_what_is_out_of_reach_leaves_memory_and_the_store() -> None:
    history, store = a_history(), dict[str, bytes]()
    for number in range(0, 600, 7):
        history.put(CTR, minute(number, 10))
        save(history, store)
        assert len(store) <= 3  # an hour each; ninety minutes are in at most three of them
    assert is_about(mean(history, 600, 600), 0.01, 1000 * 26, 26)


def test_what_was_never_saved_and_is_out_of_reach_or_not_needed_leaves_no_trace() -> None:
    history, store = a_history(CTR, SOON), dict[str, bytes]()
    for number in (0, 300):
        history.put(CTR, minute(number, 10))
        history.put(SOON, minute(number, 10))
    history.need({CTR: SPAN})
    save(history, store)
    assert list(store) == ["metric:ctr:60000:29627460"]


def test_a_history_of_less_room_takes_in_what_it_can() -> None:
    history, store = a_history(), dict[str, bytes]()
    for number in (0, 70):
        for model in "abc":
            history.put(CTR, minute(number, 10, model_id=model))
    save(history, store)
    heir = a_history(most_series=2)
    heir.restore(store)
    assert (heir.series, mean(heir, 71, 71, model="b")) == (2, Mean(0.01, 2000, 2))


def test_a_change_needs_both_sides() -> None:
    def changed(before: range, now: range, *, minimum: int = 1000, clicks: int = 80) -> float | None:
        history, change = a_history(), Change(direction="drop", vs_ms=60 * MINUTE)
        for number in before:
            history.put(CTR, minute(number, clicks))
        for number in now:
            history.put(CTR, minute(number, 60))
        found = history.change(CTR, change, minute(69, 60), minimum)
        return None if found is None else found.value

    whole, half = (range(0, 10), range(60, 70)), (range(5, 10), range(65, 70))
    assert changed(*whole) == pytest.approx(0.25)
    assert changed(half[0], whole[1]) == changed(whole[0], half[1]) == pytest.approx(0.25)
    assert changed(range(6, 10), whole[1]) is None  # less than half of the minutes
    assert changed(whole[0], range(66, 70)) is None
    assert changed(range(0), whole[1]) is None
    assert changed(*half, minimum=5000) == pytest.approx(0.25)
    assert changed(*half, minimum=5001) is None
    assert changed(*whole, clicks=0) is None  # of nothing there is no share


def test_what_nobody_needs_any_more_is_dropped_now_and_after_a_restart() -> None:
    store: dict[str, bytes] = {}
    history = a_history(CTR, SOON)
    history.put(CTR, minute(0, 10))
    history.put(SOON, minute(0, 20))
    save(history, store)
    assert len(store) == 2

    heir = a_history(CTR)
    heir.restore(store | {"ctr:0": b"of somebody else"})
    save(heir, kept := dict(store))
    assert list(kept) == ["metric:ctr:60000:29627160"]

    history.need({SOON: SPAN, CLICKS: SPAN})
    save(history, store)
    assert list(store) == ["metric:ctr:0:29627160"]
    assert mean(history, 1, 1, SOON) == Mean(0.02, 1000, 1)
    history.put(CLICKS, minute(0, 20))
    assert mean(history, 1, 1, CLICKS) == Mean(20, 1000, 1)


@pytest.mark.parametrize(
    "chunks",
    [
        {"metric:ctr:60000:0": b"\xc1"},
        {"metric:ctr:60000:0": b"\x91\x01"},
        {"metric:ctr:60000:0": b"\x91\x96\xa1a\xa1b\xa0\xc4\x01\x00\xc4\x01\x00\xc4\x01\x00"},
        {"metric:ctr:60000:x": b"\x90"},
        {"metric:ctr": b"\x90"},
    ],
)
def test_damage_is_a_value_error(chunks: dict[str, bytes]) -> None:
    with pytest.raises(ValueError):
        a_history().restore(chunks)


rows = st.tuples(
    st.sampled_from([0, 1, 1, 1, 2, 5, 40, 130]),  # minutes since the one before, of whatever model
    st.sampled_from(["a", "b", "c", "\n\u4e00"]),
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.booleans(),  # whether a checkpoint follows
    st.booleans(),  # whether a restart follows that
)


@given(
    stream=st.lists(rows, max_size=60), spans=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 59)), max_size=4)
)
def test_a_mean_is_of_all_that_was_put_however_often_it_was_restored(
    stream: list[tuple[int, str, int, int, bool, bool]], spans: list[tuple[int, int]]
) -> None:
    history, restarted, store = a_history(CTR, CLICKS), a_history(CTR, CLICKS), dict[str, bytes]()
    past: dict[str, dict[int, CtrReading]] = {}
    at = 0
    for gap, model, clicks, impressions, saves, restarts in stream:
        at += gap
        reading = minute(at, min(clicks, impressions), impressions, model)
        if past.setdefault(model, {}).setdefault(at, reading) is not reading:
            continue  # a book asks once
        for need in (CTR, CLICKS):
            history.put(need, reading)
            restarted.put(need, reading)
        if saves:
            save(restarted, store)
        if saves and restarts:
            restarted = a_history(CTR, CLICKS)
            restarted.restore(store)
        for span, back in spans:
            seen = [found for number, found in past[model].items() if at + 1 - back - span <= number < at + 1 - back]
            shown = [found for found in seen if found.impressions]
            n = sum(found.impressions for found in shown)
            got = mean(history, at + 1 - back, span, CTR, model)
            assert got == mean(restarted, at + 1 - back, span, CTR, model)
            if not shown:
                assert got is None
            else:
                ctr = Fraction(sum(found.clicks for found in shown), n)
                assert is_about(got, float(ctr), n, len(shown))
            got = mean(history, at + 1 - back, span, CLICKS, model)
            assert got == mean(restarted, at + 1 - back, span, CLICKS, model)
            if not seen:
                assert got is None
            else:
                clicked = Fraction(sum(found.clicks for found in seen), len(seen))
                assert is_about(got, float(clicked), n, len(seen))
