"""Numbers of models: bounded, given again, and ordered by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.errors import ConfigError
from tables.models import Model, ModelIndex

LIMIT = 6
names = st.tuples(st.sampled_from(["home", "search", "é", "Z", ""]), st.sampled_from(["", "v1", "v10", "v2"]))
steps = st.lists(st.one_of(names, st.sets(st.integers(0, LIMIT)), st.just("restore")), max_size=40)


@given(steps)
def test_a_name_keeps_its_number_as_long_as_a_row_uses_it(steps: list[Model | set[int] | str]) -> None:
    tested, known = ModelIndex(LIMIT), dict[Model, int]()
    for step in steps:
        if isinstance(step, tuple):
            number = tested.number(step)
            if step in known:
                assert number == known[step]
            elif len(known) == LIMIT:
                assert number == -1
            else:
                assert number not in known.values()
                assert 0 <= number < LIMIT
                known[step] = number
        elif isinstance(step, set):
            tested.keep_only(step)
            known = {name: number for name, number in known.items() if number in step}
        else:
            names, tested = tested.state(), ModelIndex(LIMIT)
            tested.restore(names)
        assert {name: tested.name(number) for name, number in known.items()} == {name: name for name in known}
        assert len(tested) == len(known)
        ranks = tested.ranks()
        assert sorted(known, key=lambda name: ranks[known[name]]) == sorted(known)
        assert sorted(ranks[list(known.values())].tolist()) == list(range(len(known)))


def test_ranks_close_up_where_a_model_has_gone() -> None:
    tested = ModelIndex(LIMIT)
    search, home = tested.number(("search", "")), tested.number(("home", ""))
    assert tested.ranks()[[home, search]].tolist() == [0, 1]
    tested.keep_only([search])
    assert tested.ranks()[search] == 0


def test_a_number_that_is_not_in_use_has_no_name() -> None:
    tested = ModelIndex(LIMIT)
    number = tested.number(("home", ""))
    tested.keep_only([])
    with pytest.raises(LookupError, match="model number 0 is not in use"):
        tested.name(number)


def test_a_checkpoint_of_more_models_than_allowed_says_what_to_configure() -> None:
    with pytest.raises(ConfigError, match=r"join.max_models: expected at least 2"):
        ModelIndex(1).restore([("home", ""), ("search", "")])


def test_numbers_are_not_used_up() -> None:
    tested = ModelIndex(2)
    for deployment in range(1_000):
        assert tested.number(("home", f"v{deployment}")) in (0, 1)
        tested.keep_only([tested.number(("home", f"v{deployment}"))])
    assert len(tested.names) <= 2
