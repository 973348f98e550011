"""Which rows a feature of a reference is made of, where some come by one input and some by the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from agents.feature_decoding import IMPRESSIONS, INFERENCES
from agents.reference_rows import MOST_ROWS, ReferenceRows, Row, Wanted
from tables.feature_bins import Value


def impression(**features: Value) -> Row:
    return Row(features, "ranker", "", 1, IMPRESSIONS)


def inference(prediction: Value = None, **features: Value) -> Row:
    return Row(features, "ranker", "", 1, INFERENCES, prediction)


def rows_of(rows: Iterable[Row], most_rows: int = MOST_ROWS, features: tuple[str, ...] = ()) -> ReferenceRows:
    found = ReferenceRows(Wanted(model_id="ranker", features=features), most_rows=most_rows)
    found.add(rows)
    return found


def summary(rows: ReferenceRows) -> dict[str, tuple[tuple[str, ...], int, int]]:
    """Of each feature its inputs, its rows, and how many of them lack it."""
    columns = {name: rows.column(name) for name in rows.features("")}
    return {name: (rows.topics(name), len(column), column.count(None)) for name, column in columns.items()}


SHOWN = [impression(age=age, item="x") for age in range(70)]
ASKED = [inference(age=20 + n, device="phone") for n in range(9)] + [inference(age=29)]


def test_a_feature_belongs_to_the_inputs_that_carry_it_and_is_missing_in_no_others() -> None:
    assert summary(rows_of(SHOWN + ASKED)) == {
        "age": ((IMPRESSIONS, INFERENCES), 80, 0),
        "device": ((INFERENCES,), 10, 1),  # not 71 of 80
        "item": ((IMPRESSIONS,), 70, 0),
    }


def test_one_row_that_carries_it_is_enough_even_if_it_says_nothing() -> None:
    rows = rows_of([*SHOWN, *ASKED, impression(device=None)])
    assert summary(rows)["device"] == ((IMPRESSIONS, INFERENCES), 81, 72)
    # And even if it is not in the sample: whether it is must not decide whose the feature is.
    thinned = rows_of([*SHOWN, *ASKED, impression(device="tv")], most_rows=1)
    assert thinned.topics("device") == (IMPRESSIONS, INFERENCES)


def test_predictions_are_of_inferences_also_of_those_without_features() -> None:
    rows = rows_of([impression(age=30), inference(0.5, age=30), inference(0.7), inference()])
    assert summary(rows)["prediction"] == ((INFERENCES,), 3, 1)
    assert summary(rows)["age"] == ((IMPRESSIONS, INFERENCES), 2, 0)
    # Nobody predicts anything: it is no feature.
    assert "prediction" not in summary(rows_of([inference(age=30), inference()]))


def test_a_feature_that_is_asked_for_is_missing_only_in_the_inputs_that_carry_it() -> None:
    assert summary(rows_of(SHOWN + ASKED, features=("device",))) == {"device": ((INFERENCES,), 10, 1)}


def test_a_table_says_nothing_of_inputs_and_takes_the_word_of_events_that_do() -> None:
    rows = rows_of([Row({"age": 30, "gender": "f", "prediction": 0.5})] * 3)
    assert summary(rows) == {"age": ((), 3, 0), "gender": ((), 3, 0), "prediction": ((INFERENCES,), 3, 0)}
    rows.add([inference(age=40, device="phone")])
    assert summary(rows) == {
        "age": ((INFERENCES,), 4, 0),
        "device": ((INFERENCES,), 1, 0),
        "gender": ((), 3, 0),
        "prediction": ((INFERENCES,), 3, 0),
    }


@pytest.mark.parametrize("batch", [1200, 7])
def test_the_sample_of_a_feature_has_as_large_a_share_of_each_input(batch: int) -> None:
    events = [impression(of="imp", shown=n) for n in range(900)] + [inference(of="inf", asked=n) for n in range(300)]
    rows = ReferenceRows(Wanted(model_id="ranker"), most_rows=100)
    for begin in range(0, len(events), batch):
        rows.add(events[begin : begin + batch])
    assert Counter(rows.column("of")) == {"imp": 75, "inf": 25}
    # What only one input carries is not thinned for the other's sake.
    assert (len(set(rows.column("asked"))), len(set(rows.column("shown")))) == (100, 100)
    assert [rows.drawn_from(name) for name in rows.features("")] == [300, 1200, 900]
    assert rows_of(events[:100], most_rows=100).drawn_from("of") is None
