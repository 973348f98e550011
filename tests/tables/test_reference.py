"""References: what makes one, its file, and which of several holds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.errors import ConfigError
from tables.feature_bins import CategoryBins, NumericBins
from tables.reference import INPUTS, FeatureReference, Reference, ReferenceBook
from tables.reference_building import feature_reference

AGE = FeatureReference("age", NumericBins((18.0, 30.5)), (10, 20, 30, 0, 5))
SHOP = FeatureReference("shop", CategoryBins(("de", "fr"), ("li",)), (40, 15, 5, 2, 3))
HOME = Reference("home", None, (SHOP, AGE), created_at_ms=1_000, source="may.csv")

FILE = """\
{
  "created_at_ms": 1000,
  "features": {
    "age": {
      "counts": [
        10,
        20,
        30
      ],
      "edges": [
        18.0,
        30.5
      ],
      "kind": "numeric",
      "missing": 5,
      "unseen": 0
    },
    "shop": {
      "categories": [
        "de",
        "fr"
      ],
      "counts": [
        40,
        15,
        5
      ],
      "kind": "category",
      "missing": 3,
      "other": [
        "li"
      ],
      "unseen": 2
    }
  },
  "format": 1,
  "id": "ID",
  "model_id": "home",
  "model_version": null,
  "source": "may.csv"
}
"""


def test_a_file_that_people_can_read() -> None:
    assert HOME.to_json().decode() == FILE.replace("ID", HOME.id)
    assert Reference.from_json(HOME.to_json()) == HOME


rows = st.lists(st.floats() | st.text(max_size=3) | st.booleans() | st.none(), max_size=20)
features = st.dictionaries(
    st.text(max_size=5), st.tuples(rows, st.lists(st.sampled_from(INPUTS), unique=True).map(tuple)), max_size=4
)


@given(features, st.text(max_size=3), st.none() | st.text(max_size=3))
def test_what_is_written_is_read_again(found: dict[str, Any], model_id: str, version: str | None) -> None:
    made = (feature_reference(name, values, topics=topics) for name, (values, topics) in found.items())
    built = Reference(model_id, version, tuple(made), created_at_ms=7, source="test")

    again = Reference.from_json(built.to_json().decode())

    assert again == built
    assert (again.id, hash(again), again.to_json()) == (built.id, hash(built), built.to_json())
    assert again.bins_id == built.bins_id


def test_the_id_stands_for_the_content_and_nothing_else() -> None:
    same = replace(HOME, created_at_ms=2_000, source="june.csv", features=(AGE, SHOP))
    others = [
        replace(HOME, model_id="search"),
        replace(HOME, model_version="v3"),
        replace(HOME, features=(AGE,)),
        replace(HOME, features=(AGE, replace(SHOP, counts=(40, 15, 5, 3, 2)))),
        replace(HOME, features=(AGE, replace(SHOP, bins=CategoryBins(("de", "es"), ("li",))))),
        replace(HOME, features=(replace(AGE, name="years"), SHOP)),
        replace(HOME, features=(replace(AGE, topics=("inferences",)), SHOP)),
    ]

    assert same.id == HOME.id
    assert len(HOME.id) == 12
    assert len({HOME.id, *(other.id for other in others)}) == 8


def test_references_whose_counts_can_be_added_up_have_the_same_bins() -> None:
    more = replace(AGE, counts=(11, 22, 33, 4, 5))
    same = Reference("search", "v3", (more, SHOP), created_at_ms=2_000, source="june.csv")
    others = [
        (AGE,),
        (replace(AGE, name="years"), SHOP),
        (replace(AGE, bins=NumericBins((18.0, 30.6))), SHOP),
        (replace(AGE, bins=CategoryBins(("a", "b", "c"))), SHOP),
        (AGE, replace(SHOP, bins=CategoryBins(("de", "es"), ("li",)))),
        (AGE, replace(SHOP, bins=CategoryBins(("de", "fr"), ("mc",)))),
        # In the same bins, but rows of something else.
        (replace(AGE, topics=("inferences",)), SHOP),
        (replace(AGE, topics=("impressions",)), SHOP),
    ]

    assert same.bins_id == HOME.bins_id
    assert same.id != HOME.id
    assert len({HOME.bins_id, *(replace(HOME, features=features).bins_id for features in others)}) == 9


def test_a_feature_is_of_the_inputs_that_it_names_or_else_of_both() -> None:
    device = replace(SHOP, name="device", topics=("inferences",))

    assert [device.is_of(topic) for topic in INPUTS] == [False, True]
    assert [SHOP.is_of(topic) for topic in INPUTS] == [True, True]
    with pytest.raises(ConfigError, match="topics: expected some of impressions, inferences, got clicks"):
        replace(SHOP, topics=("clicks",))


def test_the_file_tells_the_inputs_of_a_feature_where_they_are_known() -> None:
    known = replace(HOME, features=(replace(AGE, topics=("impressions", "inferences")), SHOP))
    file = json.loads(known.to_json())["features"]

    assert file["age"]["topics"] == ["impressions", "inferences"]
    assert "topics" not in file["shop"]
    assert Reference.from_json(known.to_json()) == known


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"de"', "7", "features.shop: Expected `str`, got `int` - at `categories[0]`"),
        ('"li"', '"fr"', "features.shop.categories, other: expected every category once"),
        ("30.5", "3.5", "features.age.edges: expected numbers that rise from one to the next"),
        ("30.5", '"x"', "features.age: Expected `float`, got `str` - at `edges[1]`"),
        ("18.0,\n", "", "features.age.counts: expected 4 with unseen and missing, got 5"),
        ('"missing": 5', '"missing": -5', "features.age.counts: expected 0 or more, and at most 2**53 in all"),
        ('"missing": 5', '"missing": 9007199254740992', "features.age.counts: expected 0 or more, and at most 2**53"),
        (
            '"missing": 5',
            '"missing": 5, "topics": ["clicks"]',
            "features.age.topics: expected some of impressions, inferences, got clicks",
        ),
        (
            '"missing": 3',
            '"missing": 3, "topics": "inferences"',
            "features.shop: Expected `array`, got `str` - at `topics`",
        ),
        ('"missing": 5', '"lost": 5', "features.age: Object missing required field `missing`"),
        ('"numeric"', '"number"', "features.age: Invalid value 'number' - at `kind`"),
        ('"format": 1', '"format": 2', "format: expected 1, got 2; build the reference anew"),
        ('"home"', "null", "not a reference: Expected `str`, got `null` - at `model_id`"),
        ("{", "", "not a reference: "),
    ],
)
def test_a_mistake_is_found_and_placed(old: str, new: str, message: str) -> None:
    broken = FILE.replace(old, new, 1)
    assert broken != FILE

    with pytest.raises(ConfigError) as caught:
        Reference.from_json(broken)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", "null", "[]", '{"format": 1}'])
def test_another_file_is_no_reference(data: bytes | str) -> None:
    with pytest.raises(ConfigError, match="not a reference: "):
        Reference.from_json(data)


def test_a_feature_is_there_once() -> None:
    with pytest.raises(ConfigError, match="features: expected every name once"):
        replace(HOME, features=(AGE, AGE))


def test_the_reference_of_the_version_comes_before_the_one_for_all() -> None:
    v3 = replace(HOME, model_version="v3")
    unversioned = replace(HOME, model_version="")
    book = ReferenceBook([HOME, v3, unversioned])

    assert book.find("home", "v3") is v3
    assert book.find("home", "v4") is HOME
    assert book.find("home", "") is unversioned
    assert book.find("home", None) is HOME
    assert book.find("search", "v3") is None
    assert book.references == (HOME, unversioned, v3)
    assert ReferenceBook([v3]).find("home", "v4") is None


def test_of_two_for_the_same_the_later_holds_in_whatever_order_they_come() -> None:
    later = replace(HOME, created_at_ms=2_000, features=(AGE,))
    as_late = replace(later, features=(SHOP,))
    greatest = max(later, as_late, key=lambda reference: reference.id)

    for references in ([HOME, later, as_late], [as_late, later, HOME]):
        assert ReferenceBook(references).references == (greatest,)


def test_a_book_that_is_replaced_knows_nothing_of_what_it_held() -> None:
    v3, search = replace(HOME, model_version="v3"), replace(HOME, model_id="search", created_at_ms=500)
    book = ReferenceBook([HOME, v3])

    book.replace([search])

    # Not the newest of all that ever were: what is gone, is gone, and what is new may be older.
    assert book.references == (search,)
    assert (book.find("home", "v3"), book.find("search", "v3")) == (None, search)
    older = replace(search, created_at_ms=400)
    book.replace([older])
    assert book.find("search", None) is older
    book.replace([])
    assert not book.references
