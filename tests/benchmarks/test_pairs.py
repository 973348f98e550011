"""What two of the peers keep of a pair counts as the oracle does, whatever the order of arrival."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import peers
from tests.oracle import Click, Event, Impression, count

MODELS = [("m", "1"), ("m", "2"), ("n", "")]
TIMES = st.integers(min_value=0, max_value=15).map(lambda minutes: minutes * 60_000 + minutes)
IMPRESSIONS = st.builds(Impression, st.just("u"), st.sampled_from(["i", "j"]), TIMES, st.sampled_from(MODELS))
CLICKS = st.builds(Click, st.just("u"), st.sampled_from(["i", "j"]), TIMES)


@pytest.fixture(scope="module")
def pairs() -> Any:
    """The module as a peer imports it: from the folder of the apps."""
    assert peers.__file__ is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(peers.__file__).parent)
        return importlib.import_module("pairs")


@given(events=st.lists(st.one_of(IMPRESSIONS, CLICKS), max_size=20))
def test_marks_add_up_to_what_the_oracle_counts(pairs: Any, events: list[Event]) -> None:
    kept: dict[str, dict[str, Any]] = {}
    marks: Counter[tuple[str, str, int, str]] = Counter()

    for event in events:
        marks.update(pairs.take(kept.setdefault(event.item, {"shown": [], "clicks": []}), as_json(event)))

    expected: Counter[tuple[str, str, int, str]] = Counter()
    for (model, start), (shown, clicked) in count(events).items():
        expected[*model, start, "shown"] += shown
        expected[*model, start, "clicked"] += clicked
    assert +marks == +expected


def as_json(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {"user_id": event.user, "item_id": event.item, "event_time": event.time}
    if isinstance(event, Impression):
        told |= {"model_id": event.model[0], "model_version": event.model[1]}
    return told
