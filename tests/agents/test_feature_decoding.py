"""Features counted by the batch equal what a reader of one value at a time makes of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.feature_decoding import PREDICTION, FeatureCounter
from tables.feature_bins import Bins, CategoryBins, NumericBins
from tables.reference import FeatureReference, Reference
from tests.feature_oracle import features_of

NAMES = ("age", "f0", "", "größe", "😀", 'he "said"', "back\\slash", "new\nline", "\u2028", "true", PREDICTION)
EDGES = (-1e308, -5.0, -0.0, 5e-324, 0.1, 1.0, 2.0, 1e15, 1.7e308)
CATEGORIES = ("", "a", "b", "true", "false", "1", "null", "😀", 'q"', "\\")
TOKENS = (
    *("null", "true", "false", "0", "-0.0", "1", "1.0", "10e-1", "2", "0.1", "5e-324", "-5", "1e999", "-1e999"),
    *("1" + "0" * 30, "-1" + "0" * 400, "1" + "0" * 5000, "123456789012345678901234567890", "1.7976931348623157e308"),
    *('"a"', '"1"', '"true"', '"1e999"', '"NaN"', '"\\u0061"', '"\\ud83d\\ude00"'),
    *('"\\ud83d"', '"a\\ude00b"', '"\\\\ud83d"'),
)
"""JSON texts of values."""


def one_at_a_time(reference: Reference, texts: list[str]) -> dict[str, list[int]]:
    """The oracle: counts of every feature."""
    counts = {feature.name: [0] * feature.bins.width for feature in reference.features}
    for text in texts:
        found = features_of(text)
        if found:
            for feature in reference.features:
                if feature.name != PREDICTION:
                    counts[feature.name][feature.bins.index_of(found.get(feature.name))] += 1
    return counts


def batched(counter: FeatureCounter, texts: list[str]) -> list[int]:
    counts: list[int] = counter.count([msgspec.Raw(text.encode()) for text in texts]).tolist()
    return counts


def end_to_end(reference: Reference, counts: dict[str, list[int]]) -> list[int]:
    return [count for feature in reference.features for count in counts[feature.name]]


def reference_of(**bins: Bins) -> Reference:
    features = tuple(FeatureReference(name, its, (0,) * its.width) for name, its in bins.items())
    return Reference("home", None, features, 0, "test")


@st.composite
def bins_of_a_feature(draw: st.DrawFn) -> Bins:
    if draw(st.booleans()):
        return NumericBins(tuple(sorted(draw(st.sets(st.sampled_from(EDGES), max_size=5)))))
    known = draw(st.lists(st.sampled_from(CATEGORIES), unique=True, max_size=7))
    split = draw(st.integers(0, len(known)))
    return CategoryBins(tuple(known[:split]), tuple(known[split:]))


@st.composite
def reference_and_events(draw: st.DrawFn) -> tuple[Reference, list[str]]:
    # Thirty features of a few kinds, or a few with whatever names there are.
    if draw(st.integers(0, 9)) == 0:
        kinds = draw(st.lists(bins_of_a_feature(), min_size=1, max_size=3))
        names = [f"feature_{n}" for n in range(30)]
        bins = {name: kinds[n % len(kinds)] for n, name in enumerate(names)}
    else:
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
        bins = {name: draw(bins_of_a_feature()) for name in names}
    name_texts = [json.dumps(name, ensure_ascii=ascii) for name in [*names, "other"] for ascii in (True, False)]
    values = [json.dumps(value, ensure_ascii=ascii) for value in (*EDGES, *CATEGORIES) for ascii in (True, False)]
    members = st.tuples(st.sampled_from([*name_texts, '"\\ud83d"']), st.sampled_from([*TOKENS, *values]))
    space = st.sampled_from(["", "", "", " ", "\n  ", "      "])

    @st.composite
    def event(draw: st.DrawFn) -> str:
        # A key may be there twice: the last one holds.
        inside = f",{draw(space)}".join(
            f"{name}:{draw(space)}{value}" for name, value in draw(st.lists(members, max_size=4))
        )
        return f"{{{draw(space)}{inside}{draw(space)}}}"

    return reference_of(**bins), draw(st.lists(st.one_of(st.just("null"), st.just("{}"), event()), max_size=8))


@given(reference_and_events(), st.integers(0, 8))
def test_a_batch_equals_one_value_at_a_time_however_it_is_split(drawn: tuple[Reference, list[str]], at: int) -> None:
    reference, events = drawn
    expected = end_to_end(reference, one_at_a_time(reference, events))
    counter = FeatureCounter(reference)
    assert batched(counter, events) == expected
    parts = zip(batched(counter, events[:at]), batched(counter, events[at:]), strict=True)
    assert [one + other for one, other in parts] == expected


@given(bins_of_a_feature(), st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.sampled_from(CATEGORIES))))
def test_predictions_equal_one_value_at_a_time(bins: Bins, values: list[Any]) -> None:
    counter = FeatureCounter(reference_of(age=NumericBins((1.0,)), prediction=bins))
    expected = np.zeros(counter.width, np.int64)
    for value in values:
        expected[4 + bins.index_of(value)] += 1
    assert counter.counts_predictions
    assert counter.count_predictions(values).tolist() == expected.tolist()


def test_thousands_of_events_in_categories_that_are_counted_together() -> None:
    # 3 * 4 * 5 combinations fit one group, the two wide ones get a group each.
    wide = tuple(f"c{n}" for n in range(200))
    bins: dict[str, Bins] = {
        "a": CategoryBins(("x",)),
        "b": CategoryBins(("x", "y")),
        "c": CategoryBins(("x", "y", "z")),
    }
    reference = reference_of(**bins, d=CategoryBins(wide), e=CategoryBins(wide), n=NumericBins((10.0, 20.0)))
    events = [
        json.dumps(
            {"a": "x", "b": "xyz"[n % 3], "c": "xyz"[n % 2], "d": wide[n % 200], "e": n % 7 == 0 or "c1", "n": n % 31}
        )
        for n in range(5_000)
    ]
    events[1234] = '{"n": "eleven"}'  # of which only this value is not counted with the others
    assert batched(FeatureCounter(reference), events) == end_to_end(reference, one_at_a_time(reference, events))


@pytest.mark.parametrize("name", ['he "said"', "back\\slash", "tab\t", "\x7f"])
def test_names_that_must_be_escaped(name: str) -> None:
    counter = FeatureCounter(reference_of(**{name: NumericBins((1.0,))}))
    assert batched(counter, [json.dumps({name: 2}), "{}", '{"other": 2}']) == [0, 1, 0, 1]


def test_half_a_character_costs_its_own_value_and_no_other() -> None:
    counter = FeatureCounter(reference_of(age=NumericBins((1.0,)), city=CategoryBins(("Kyiv",))))
    assert batched(counter, ['{"age": 2, "city": "Kyiv", "note": "cut \\ud83d"}', '{"age": 2, "city": "\\ud83d"}']) == [
        *(0, 2, 0, 0),
        *(1, 1, 0),
    ]


@pytest.mark.parametrize("nothing", ["null", "{}", "{ }", "{          }", "{\n\n\n\n\n}"])
def test_an_object_without_features_counts_nowhere(nothing: str) -> None:
    counter = FeatureCounter(reference_of(age=NumericBins((1.0,)), city=CategoryBins(("Kyiv",))))
    assert batched(counter, [nothing, '{"other": 1}']) == [0, 0, 0, 1, 0, 0, 1]
