"""References as they are shown."""

from __future__ import annotations

import math

from agents.reference_view import draw, draw_list
from tables.feature_bins import CategoryBins, NumericBins
from tables.reference import FeatureReference, Reference

NOON = 1_777_636_800_000

PRICE = FeatureReference("price", NumericBins((0.0, 1.0, 2.0, 4.0)), (8, 40, 22, 22, 8, 0, 25))
GENDER = FeatureReference("gender", CategoryBins(("f", "m"), ("x", "y")), (20, 60, 10, 10, 0))
CLICKED = FeatureReference("clicked", NumericBins((math.nextafter(1.0, 0), 1.0)), (3, 1, 0, 0, 0))
UNKNOWN = FeatureReference("unknown", CategoryBins(()), (0, 5))


def shown(*features: FeatureReference, plain: bool = False) -> list[str]:
    text = draw(Reference("ranker", None, features, NOON, "may-day.jsonl"), plain=plain)
    head, empty, *lines = text.splitlines()
    assert head.startswith("ranker, every version: reference ")
    assert head.endswith(", built 2026-05-01 12:00 UTC from may-day.jsonl")
    assert empty == ""
    return lines


def test_numbers_are_shown_as_a_density_between_the_outer_edges() -> None:
    header, line, edges = shown(PRICE)
    assert header.split() == ["feature", "kind", "n", "missing", "values"]
    # 40 rows a unit in the first quarter, 22 in the second, 11 in the others; of those that are not missing.
    assert line == ("price    number  125   20.0 %  ██████▅▅▅▅▅▅▃▃▃▃▃▃▃▃▃▃▃▃  0 to 4, 8.0 % up to 0, 8.0 % above 4")
    assert edges.strip() == "edges 0  1  2  4"


def test_categories_are_shown_as_bars_the_most_frequent_first() -> None:
    _, *lines = shown(GENDER)
    assert lines[0] == "gender   category  100    0.0 %  ████████████████   60.0 %  m"
    assert [line.split() for line in lines[1:]] == [
        ["█████▍", "20.0", "%", "f"],
        ["██▋", "10.0", "%", "2", "rare"],
        ["10.0", "%", "unseen:", "of", "no", "bin"],
    ]


def test_few_bins_of_numbers_are_bars_in_their_order() -> None:
    assert [line.split()[-2:] for line in shown(CLICKED)[1:]] == [["<", "1"], ["=", "1"], [">", "1"]]


def test_a_feature_without_values_is_shown() -> None:
    assert shown(UNKNOWN)[1] == "unknown  category  5  100.0 %  no values"


def test_the_inputs_of_a_feature_are_told_where_they_are_not_both() -> None:
    of_one = FeatureReference("prediction", PRICE.bins, PRICE.counts, ("inferences",))
    of_both = FeatureReference("price", PRICE.bins, PRICE.counts, ("impressions", "inferences"))
    assert shown(of_one)[-1].strip() == "of inferences only"
    assert shown(of_both) == shown(PRICE)


def test_many_categories_and_edges_are_cut_down() -> None:
    many = FeatureReference("shop", CategoryBins(tuple("abcdefghij")), (*range(10), 0, 0))
    assert shown(many)[-1].strip() == "and 2 more"
    fine = FeatureReference("at", NumericBins(tuple(map(float, range(49)))), (*[1] * 50, 0, 0))
    assert shown(fine)[-1].strip() == "edges 0  6  12  18  24  30  36  42  48"


def test_numbers_of_any_size_are_shown() -> None:
    wide = FeatureReference("x", NumericBins((-1.7e308, -5e-324, 0.0, 1.7e308)), (1, 2, 2, 2, 1, 0, 0))
    assert "-1.7e+308 to 1.7e+308" in shown(wide)[1]


def test_a_terminal_with_ascii_only_gets_ascii() -> None:
    assert all(line.isascii() for line in shown(PRICE, GENDER, plain=True))


def test_names_from_events_cannot_write_to_the_terminal() -> None:
    wicked = FeatureReference("a\x1b[2Jb", CategoryBins(("\x07",)), (1, 0, 0))
    reference = Reference("m\x1b[2J", "\r", (wicked,), NOON, "\x1b]0;x")
    for text in (draw(reference), draw_list([reference], [])):
        assert all(char.isprintable() or char == "\n" for char in text)


def test_the_list_has_a_line_for_each_and_marks_the_older_ones() -> None:
    new = Reference("ranker", None, (PRICE, GENDER), NOON, "may-day.jsonl")
    old = Reference("ranker", None, (GENDER,), NOON - 86_400_000, "april.csv")
    exact = Reference("ranker", "", (PRICE,), NOON, "")
    header, *lines = draw_list([new, old, exact], [new.id, exact.id]).splitlines()
    assert header.split() == ["model", "version", "id", "created", "source", "features", "n"]
    assert [line.split() for line in lines] == [
        ["ranker", "every", new.id, "2026-05-01", "12:00", "UTC", "may-day.jsonl", "2", "125"],
        ["ranker", "every", old.id, "older", "2026-04-30", "12:00", "UTC", "april.csv", "1", "100"],
        ["ranker", '""', exact.id, "2026-05-01", "12:00", "UTC", "1", "125"],
    ]
