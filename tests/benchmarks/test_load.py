"""What the benchmark feeds to the systems, and what it expects of them."""

from __future__ import annotations

from itertools import islice

import orjson

from agents.simulation.events import BREAKAGES, break_event
from benchmarks.load import CLOSING_MODEL, FinalRows, event_of, shop_lines
from tests.oracle import Click, Impression, count

EVENTS = 10_000


def test_there_are_about_as_many_events_as_asked_for_and_always_the_same() -> None:
    lines = list(shop_lines(EVENTS))

    assert 0.95 * EVENTS < len(lines) < 1.05 * EVENTS
    assert {line.topic for line in lines} == {"impressions", "clicks"}
    assert list(islice(shop_lines(EVENTS), 100)) == lines[:100]


def test_the_closing_events_make_every_window_before_them_final_on_all_partitions() -> None:
    lines = list(shop_lines(EVENTS))
    closing = [line for line in lines if line.key == b"closing"]
    event_times = [
        e.time for line in lines if line.key != b"closing" and (e := event_of(line.topic, line.value or b""))
    ]

    assert {(line.topic, line.partition) for line in closing} == {
        (topic, partition) for topic in ("impressions", "clicks") for partition in range(4)
    }
    closed_at = {e.time for line in closing if (e := event_of(line.topic, line.value or b""))}
    assert min(closed_at) > max(event_times) + 60_000 + 600_000 + 5_000


def test_a_record_is_an_event_to_the_oracle_only_when_it_is_whole() -> None:
    shown = b'{"user_id":"u","item_id":"i","event_time":1776675779820,"model_id":"m","model_version":"v"}'

    assert event_of("impressions", shown) == Impression("u", "i", 1776675779820, ("m", "v"))
    assert event_of("clicks", shown) == Click("u", "i", 1776675779820)
    assert [event_of("impressions", break_event(shown, breakage)) for breakage in range(BREAKAGES)] == [None] * 6


def test_final_rows_are_kept_and_provisional_ones_are_not() -> None:
    row = {"model_id": "m", "model_version": "v", "window_start": 60_000, "impressions": 5, "clicks": 2}
    rows = FinalRows()

    rows.read(orjson.dumps({**row, "final": False, "clicks": 1}), 10)
    rows.read(orjson.dumps({**row, "final": True}), 20)
    # Of another kind, which says nothing of clicks.
    rows.read(orjson.dumps({**row, "kind": "serving", "final": True, "impressions": 9}), 30)

    assert rows.counts == {(("m", "v"), 60_000): (5, 2)}
    assert rows.last_ms == 20


def test_the_closing_model_is_the_only_one_without_a_final_row() -> None:
    events = [event_of(line.topic, line.value or b"") for line in shop_lines(EVENTS)]
    models = {model for (model, _), _ in count([event for event in events if event is not None])}

    assert models - {"recommender-home", "recommender-cart", "search-ranking"} == {CLOSING_MODEL}
