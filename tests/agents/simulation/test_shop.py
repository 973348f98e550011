"""The simulated shop, judged by what comes out of its topics."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, pairwise
from math import log
from typing import Any

import pytest

from agents.recording_codec import encode_lines
from agents.recordings import Line
from agents.simulation.scenarios import SILENCE, Noise, Scenario, scenario_named
from agents.simulation.shop import Shop
from tables.errors import ConfigError
from tests.oracle import Click, Event, Impression, count

MINUTE = 60_000
TEN_O_CLOCK = 1777629600000  # 2026-05-01T10:00:00Z

MAY_DAY = scenario_named("may-day")
STEADY = scenario_named("steady")
HOME = "recommender-home"


def lines_of(shop: Shop) -> list[Line]:
    return list(chain.from_iterable(shop.slices()))


def with_noise(scenario: Scenario, **kinds: Any) -> Scenario:
    """The scenario with these kinds of noise and no other."""
    return replace(scenario, noise=replace(SILENCE, **kinds))


def events_of(lines: Iterable[Line], topic: str) -> list[dict[str, Any]]:
    """The events of a topic in order of arrival; broken ones are left out."""
    events = []
    for line in lines:
        try:
            event = json.loads(line.value or b"")
        except ValueError:
            continue
        if line.topic == topic and isinstance(event.get("event_time"), int):
            events.append(event)
    return events


def impression(event: dict[str, Any]) -> Impression:
    model = event["model_id"], event["model_version"]
    return Impression(event["user_id"], event["item_id"], event["event_time"], model)


def click(event: dict[str, Any]) -> Click:
    return Click(event["user_id"], event["item_id"], event["event_time"])


def ctr_by_minute(lines: list[Line], start_ms: int) -> dict[str, dict[int, float]]:
    """Model -> minute of the run -> CTR as the contract defines it, versions taken together."""
    events: list[Event] = [impression(event) for event in events_of(lines, "impressions")]
    events += [click(event) for event in events_of(lines, "clicks")]
    shown: dict[str, Counter[int]] = defaultdict(Counter)
    clicked: dict[str, Counter[int]] = defaultdict(Counter)
    for ((model_id, _), window), (impressions, clicks) in count(events).items():
        shown[model_id][(window - start_ms) // MINUTE] += impressions
        clicked[model_id][(window - start_ms) // MINUTE] += clicks
    return {
        model_id: {minute: clicked[model_id][minute] / shown[model_id][minute] for minute in sorted(minutes)}
        for model_id, minutes in shown.items()
    }


@pytest.fixture(scope="module")
def may_day() -> Shop:
    """Nine minutes, noise and all: three before, three of promotion, three after."""
    return Shop(MAY_DAY, rate=100, seed=7, minutes=9)


@pytest.fixture(scope="module")
def may_day_lines(may_day: Shop) -> list[Line]:
    return lines_of(may_day)


@pytest.fixture(scope="module")
def may_day_impressions(may_day_lines: list[Line]) -> list[dict[str, Any]]:
    return events_of(may_day_lines, "impressions")


@pytest.fixture(scope="module")
def may_day_ctr(may_day: Shop, may_day_lines: list[Line]) -> dict[str, dict[int, float]]:
    return ctr_by_minute(may_day_lines, may_day.start_ms)


# ---------------------------------------------------------------- the case study


def test_the_promotion_begins_at_ten_and_takes_a_third(may_day: Shop) -> None:
    assert [(stage.phase.name, stage.start_ms, stage.end_ms) for stage in may_day.stages] == [
        ("before", TEN_O_CLOCK - 3 * MINUTE, TEN_O_CLOCK),
        ("promotion", TEN_O_CLOCK, TEN_O_CLOCK + 3 * MINUTE),
        ("after", TEN_O_CLOCK + 3 * MINUTE, TEN_O_CLOCK + 6 * MINUTE),
    ]


@pytest.mark.parametrize("minutes", [0.1, 1, 10, 31.7])
def test_it_begins_at_ten_however_long_the_run(minutes: float) -> None:
    shop = Shop(MAY_DAY, rate=1, seed=1, minutes=minutes)
    assert shop.stages[1].start_ms == TEN_O_CLOCK
    assert shop.end_ms - shop.start_ms == round(minutes * MINUTE)


def test_the_home_recommenders_ctr_halves_in_the_promotion_and_recovers(
    may_day_ctr: dict[str, dict[int, float]],
) -> None:
    ctr = [may_day_ctr[HOME][minute] for minute in range(9)]
    assert ctr[:3] == pytest.approx([0.08] * 3, abs=0.004)
    assert ctr[3:6] == pytest.approx([0.04] * 3, abs=0.004)
    assert ctr[6:] == pytest.approx([0.08] * 3, abs=0.004)


@pytest.mark.parametrize("model_id", ["search-ranking", "recommender-cart"])
def test_the_other_models_hold_their_ctr(may_day_ctr: dict[str, dict[int, float]], model_id: str) -> None:
    assert min(may_day_ctr[model_id][minute] for minute in range(9)) >= 0.07


@pytest.mark.parametrize(
    ("model_id", "version", "share"), [("search-ranking", "v7", 0.9), ("search-ranking", "v8", 0.1)]
)
def test_versions_have_their_share(
    may_day_impressions: list[dict[str, Any]], model_id: str, version: str, share: float
) -> None:
    versions = Counter(e["model_version"] for e in may_day_impressions if e["model_id"] == model_id)
    assert versions[version] / versions.total() == pytest.approx(share, abs=0.02)


def share_of(events: list[dict[str, Any]], feature: str) -> dict[object, float]:
    counts = Counter(event["features"][feature] for event in events)
    return {value: number / counts.total() for value, number in counts.items()}


def test_visitors_change_as_the_case_study_says(may_day_impressions: list[dict[str, Any]]) -> None:
    first, last = TEN_O_CLOCK, TEN_O_CLOCK + 3 * MINUTE
    before = [e for e in may_day_impressions if e["event_time"] < first]
    promotion = [e for e in may_day_impressions if first <= e["event_time"] < last]
    assert len(promotion) / len(before) == pytest.approx(1.5, abs=0.05)
    assert share_of(before, "new_user")[True] == pytest.approx(0.2, abs=0.03)
    assert share_of(promotion, "new_user")[True] == pytest.approx(0.5, abs=0.03)
    usual, now = share_of(before, "gender"), share_of(promotion, "gender")
    psi = sum((now[gender] - usual[gender]) * log(now[gender] / usual[gender]) for gender in usual)
    assert psi == pytest.approx(0.21, abs=0.07)


def test_new_users_click_promoted_items_of_which_the_model_goes_on_showing_few(
    may_day_lines: list[Line], may_day_impressions: list[dict[str, Any]]
) -> None:
    clicked = {(e["user_id"], e["item_id"]) for e in events_of(may_day_lines, "clicks")}
    shown: Counter[object] = Counter()
    clicks: Counter[object] = Counter()
    for event in may_day_impressions:
        if 0 <= event["event_time"] - TEN_O_CLOCK < 3 * MINUTE and event["model_id"] == HOME:
            kind = event["features"]["new_user"], event["features"]["promoted"]
            shown[kind] += 1
            clicks[kind] += (event["user_id"], event["item_id"]) in clicked
    ctr = {kind: clicks[kind] / shown[kind] for kind in shown}
    assert (shown[True, True] + shown[False, True]) / shown.total() == pytest.approx(0.1, abs=0.01)
    assert ctr[True, True] > 8 * ctr[True, False]
    assert ctr[False, False] > 4 * ctr[True, False]


# ---------------------------------------------------------------- the same for the same arguments


@pytest.mark.parametrize(
    ("scenario", "shown_and_clicked", "inferences"),
    [
        ("steady", "b286e386615cdb84", "d7de8d900ad14ebf"),
        ("may-day", "9c3d33398a89d966", "c2e4bd267ffe9a84"),
    ],
)
def test_the_same_arguments_give_the_same_bytes_on_any_machine(
    scenario: str, shown_and_clicked: str, inferences: str
) -> None:
    # Pinned: recordings are cited by their arguments alone. A change here is a change of every recording.
    lines = lines_of(Shop(scenario_named(scenario), rate=50, seed=2026, minutes=3, partitions=3))
    # Of their own, since figures have been measured with them: inferences have changed without them.
    assert digest([line for line in lines if line.topic != "inferences"]) == shown_and_clicked
    assert digest([line for line in lines if line.topic == "inferences"]) == inferences


def digest(lines: list[Line]) -> str:
    return hashlib.sha256(encode_lines(lines)).hexdigest()[:16]


def test_another_seed_is_another_shop() -> None:
    one, two = (lines_of(Shop(with_noise(STEADY), 20, seed, 1)) for seed in (1, 2))
    assert [line.value for line in one] != [line.value for line in two]


@pytest.mark.parametrize("slice_ms", [10, 250, 999, 7000, 10**9])
def test_slicing_changes_nothing(slice_ms: int) -> None:
    shop = Shop(MAY_DAY, rate=5, seed=1, minutes=0.5)
    slices = list(shop.slices(slice_ms))
    assert list(chain.from_iterable(slices)) == lines_of(shop)
    for index, lines in enumerate(slices):
        for line in lines:
            assert line.timestamp is not None
            assert (line.timestamp - shop.start_ms) // slice_ms == index


def test_noise_changes_neither_visitors_nor_models() -> None:
    clean = lines_of(Shop(with_noise(STEADY), 50, 3, 2))
    noisy = {(line.topic, line.value) for line in lines_of(Shop(replace(STEADY, noise=Noise()), 50, 3, 2))}
    inferences = [line for line in clean if line.topic == "inferences"]
    assert inferences
    assert all((line.topic, line.value) in noisy for line in inferences)


# ---------------------------------------------------------------- what the topics hold


def test_every_clean_event_follows_the_contract() -> None:
    shop = Shop(with_noise(MAY_DAY), rate=100, seed=1, minutes=3)
    lines = lines_of(shop)
    assert {line.topic for line in lines} == {"impressions", "clicks", "inferences"}
    for line in lines:
        assert line.value is not None
        event = json.loads(line.value)
        assert line.key == event["user_id"].encode()
        assert line.timestamp == event["event_time"]
        if line.topic != "clicks":
            assert shop.start_ms <= event["event_time"] < shop.end_ms
            assert event["features"]["hour"] in (9, 10)
        if line.topic == "inferences":
            assert event.get("latency_ms", 1) > 0
            assert event["status"] in ("ok", "error", "timeout")
            assert ("prediction" in event) == (event["status"] == "ok")
        else:
            assert event["item_id"]


def test_each_request_shows_five_to_ten_items_numbered_from_one() -> None:
    lines = lines_of(Shop(with_noise(STEADY), rate=200, seed=1, minutes=1))
    slates: defaultdict[str, list[int]] = defaultdict(list)
    for event in events_of(lines, "impressions"):
        slates[event["request_id"]].append(event["position"])
    assert {len(slate) for slate in slates.values()} == set(range(5, 11))
    assert all(sorted(slate) == list(range(1, len(slate) + 1)) for slate in slates.values())
    served = {
        event["request_id"]
        for event in events_of(lines, "inferences")
        if event["status"] == "ok" and event["model_id"] != "price-estimator"
    }
    assert set(slates) == served


def test_the_rate_is_impressions_per_second() -> None:
    lines = lines_of(Shop(with_noise(STEADY), rate=300, seed=1, minutes=2))
    assert len(events_of(lines, "impressions")) == pytest.approx(300 * 120, rel=0.03)


def test_a_trickle_of_traffic_is_still_a_run() -> None:
    lines = lines_of(Shop(STEADY, rate=0.05, seed=1, minutes=60))
    assert len(events_of(lines, "impressions")) == pytest.approx(180, rel=0.3)


def test_a_few_requests_fail() -> None:
    lines = lines_of(Shop(with_noise(replace(STEADY, failures=0.1)), rate=500, seed=1, minutes=1))
    statuses = Counter(event["status"] for event in events_of(lines, "inferences"))
    assert statuses["error"] / statuses.total() == pytest.approx(0.075, abs=0.02)
    assert statuses["timeout"] / statuses.total() == pytest.approx(0.025, abs=0.01)


def test_clicks_that_are_not_spread_evenly_keep_the_rate_in_the_long_run() -> None:
    shop = Shop(with_noise(STEADY), rate=200, seed=5, minutes=4)
    by_minute = ctr_by_minute(lines_of(shop), shop.start_ms)[HOME]
    assert sum(by_minute.values()) / len(by_minute) == pytest.approx(0.08, abs=0.004)


def test_offsets_run_and_arrivals_never_go_back(may_day_lines: list[Line]) -> None:
    expected: Counter[tuple[str, int]] = Counter()
    for line in may_day_lines:
        assert line.offset == expected[line.topic, line.partition]
        expected[line.topic, line.partition] += 1
    assert {partition for _, partition in expected} == {0, 1, 2, 3}
    arrivals = [line.timestamp for line in may_day_lines if line.timestamp is not None]
    assert len(arrivals) == len(may_day_lines)
    assert all(one <= next_one for one, next_one in pairwise(arrivals))


def test_a_user_keeps_partition_and_features(may_day_lines: list[Line]) -> None:
    partition_of: dict[bytes | None, int] = {}
    for line in may_day_lines:
        assert partition_of.setdefault(line.key, line.partition) == line.partition
    kind_of: dict[str, tuple[object, ...]] = {}
    for event in events_of(may_day_lines, "impressions"):
        kind = tuple(event["features"][name] for name in ("gender", "age", "new_user"))
        assert kind_of.setdefault(event["user_id"], kind) == kind


# ---------------------------------------------------------------- noise, one kind at a time


def lag_of_each(lines: list[Line]) -> list[int]:
    """How far each event lies behind the largest event time that its topic and partition had shown."""
    highest: defaultdict[tuple[str, int], int] = defaultdict(int)
    lags = []
    for line in lines:
        time = json.loads(line.value or b"")["event_time"]
        highest[line.topic, line.partition] = max(highest[line.topic, line.partition], time)
        lags.append(highest[line.topic, line.partition] - time)
    return lags


def test_everything_but_the_hopelessly_late_comes_within_five_seconds() -> None:
    noise = replace(Noise(), broken=0.0, hopelessly_late=0.0, duplicates=0.1, early_clicks=0.1)
    lags = lag_of_each(lines_of(Shop(replace(STEADY, noise=noise), rate=200, seed=1, minutes=3)))
    assert 4000 < max(lags) < 5000


def test_without_noise_events_arrive_in_order() -> None:
    assert set(lag_of_each(lines_of(Shop(with_noise(STEADY), rate=50, seed=1, minutes=1)))) == {0}


def test_duplicates_are_exact() -> None:
    lines = lines_of(Shop(with_noise(STEADY, duplicates=0.05), rate=100, seed=1, minutes=2))
    for topic in ("impressions", "clicks", "inferences"):
        times = Counter((line.partition, line.key, line.value) for line in lines if line.topic == topic)
        assert set(times.values()) <= {1, 2}
        assert (times.total() - len(times)) / len(times) == pytest.approx(0.05, abs=0.02)


def test_broken_records_come_in_every_kind_beside_the_good_ones() -> None:
    lines = lines_of(Shop(with_noise(STEADY, broken=0.05), rate=100, seed=1, minutes=1))
    good = lines_of(Shop(with_noise(STEADY), rate=100, seed=1, minutes=1))
    values = Counter(line.value for line in lines)
    values.subtract(Counter(line.value for line in good))
    assert min(values.values()) == 0
    broken = [value for value, surplus in values.items() if surplus and value is not None]
    assert values.total() / len(good) == pytest.approx(0.05, abs=0.01)
    for part in (b"<html>", b"\xff\xfe", b'"event_time":NaN', b'"event_time":['):
        assert any(part in value for value in broken)
    assert any(value.startswith(b"{") and not value.endswith(b"}") for value in broken)
    assert any(value.endswith(b"}") and b"event_time" not in value for value in broken)


def test_the_hopelessly_late_are_a_quarter_of_an_hour_late_at_least() -> None:
    lines = lines_of(Shop(with_noise(STEADY, hopelessly_late=0.01), rate=100, seed=1, minutes=2))
    late = Counter(line.topic for line, lag in zip(lines, lag_of_each(lines), strict=True) if lag)
    lags = [lag for lag in lag_of_each(lines) if lag]
    assert late["impressions"] == pytest.approx(120, abs=40)
    assert late["clicks"] > 0
    assert 14 * MINUTE < min(lags) <= max(lags) < 20 * MINUTE
    ids = [event["event_id"] for event in events_of(lines, "impressions")]
    assert len(ids) == len(set(ids))


def test_early_clicks_arrive_before_their_impression_and_still_count() -> None:
    lines = lines_of(Shop(with_noise(STEADY, early_clicks=0.2), rate=100, seed=1, minutes=2))
    seen: set[tuple[str, str]] = set()
    early = []
    for line in lines:
        event = json.loads(line.value or b"")
        if line.topic == "impressions":
            seen.add((event["user_id"], event["item_id"]))
        elif line.topic == "clicks" and (event["user_id"], event["item_id"]) not in seen:
            early.append(click(event))
    clicks = events_of(lines, "clicks")
    assert len(early) / len(clicks) == pytest.approx(0.2, abs=0.04)
    shown = [*map(impression, events_of(lines, "impressions"))]
    counted = sum(clicks for _, clicks in count([*shown, *early]).values())
    assert counted >= len(early)


@pytest.mark.parametrize("kind", ["clicks_after_window", "stray_clicks"])
def test_clicks_too_late_or_on_nothing_shown_do_not_count(kind: str) -> None:
    clean, noisy = (
        lines_of(Shop(scenario, rate=100, seed=1, minutes=3))
        for scenario in (with_noise(STEADY), with_noise(STEADY, **{kind: 0.2}))
    )
    shown = [*map(impression, events_of(noisy, "impressions"))]
    few, many = ([*map(click, events_of(lines, "clicks"))] for lines in (clean, noisy))
    assert len(many) / len(few) == pytest.approx(1.2, abs=0.05)
    assert count([*shown, *many]) == count([*shown, *few])


# ---------------------------------------------------------------- arguments


def test_a_run_can_start_at_any_time() -> None:
    shop = Shop(MAY_DAY, rate=10, seed=1, minutes=1, start_ms=TEN_O_CLOCK + 123)
    assert shop.start_ms == TEN_O_CLOCK + 123
    first = lines_of(shop)[0].timestamp
    assert first is not None
    assert 0 <= first - shop.start_ms < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0}, "rate must be a number above 0, at most 100,000, got 0"),
        ({"rate": float("nan")}, "rate must be"),
        ({"rate": float("inf")}, "rate must be"),
        ({"minutes": -1}, "minutes must be a number above 0, at most 527,040, got -1"),
        ({"seed": -1}, "seed must be an integer from 0, got -1"),
        ({"partitions": 0}, "partitions must be an integer from 1, got 0"),
    ],
)
def test_arguments_that_make_no_run_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shop(STEADY, **({"rate": 1, "seed": 1, "minutes": 1} | arguments))
