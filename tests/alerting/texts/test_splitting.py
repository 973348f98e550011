from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.texts.splitting import cut_bytes, split_bytes

#: Of every length in UTF-8, and much that holds together.
TEXTS = st.text(
    st.sampled_from("ab \nüσ中告🚨👩\N{ZERO WIDTH JOINER}\N{COMBINING ACUTE ACCENT}\N{VARIATION SELECTOR-16}🏽")
)
LIMITS = st.integers(4, 40)


@given(TEXTS, LIMITS)
def test_pieces_fit_and_nothing_is_lost(text: str, limit: int) -> None:
    pieces = split_bytes(text, limit)
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= limit for piece in pieces)
    assert all(pieces) or text == ""
    assert len(pieces) >= 1


@given(TEXTS, LIMITS)
def test_a_piece_ends_with_a_line_unless_the_line_is_longer_than_a_piece(text: str, limit: int) -> None:
    for piece in split_bytes(text, limit)[:-1]:
        assert piece.endswith("\n") or "\n" not in piece


@given(st.lists(st.text("ab中", max_size=9), max_size=9), st.integers(28, 60))
def test_lines_are_packed_as_tightly_as_they_go(lines: list[str], limit: int) -> None:
    text = "".join(line + "\n" for line in lines)
    packed = [""]
    for line in text.splitlines(keepends=True):
        if len((packed[-1] + line).encode()) > limit:
            packed.append("")
        packed[-1] += line
    assert split_bytes(text, limit) == packed


def test_what_looks_like_one_character_stays_whole() -> None:
    assert split_bytes("aaae\N{COMBINING ACUTE ACCENT}b", 5) == ["aaa", "e\N{COMBINING ACUTE ACCENT}b"]
    scientist = "👩🏽\N{ZERO WIDTH JOINER}🔬"
    assert split_bytes(f"ab{scientist}c", 16) == ["ab", f"{scientist}c"]


def test_a_sequence_longer_than_a_piece_is_cut_where_it_has_to_be() -> None:
    accents = "e" + "\N{COMBINING ACUTE ACCENT}" * 1000
    pieces = split_bytes(accents, 100)
    assert "".join(pieces) == accents
    assert len(pieces) == 21


@given(TEXTS, LIMITS)
def test_a_cut_text_fits_and_says_that_it_was_cut(text: str, limit: int) -> None:
    cut = cut_bytes(text, limit)
    assert len(cut.encode()) <= limit
    assert cut == text if len(text.encode()) <= limit else cut.endswith("…") and text.startswith(cut[:-1])


def test_a_cut_text_keeps_as_much_as_fits() -> None:
    assert cut_bytes("点击率低于阈值", 21) == "点击率低于阈值"
    assert cut_bytes("点击率低于阈值!", 21) == "点击率低于阈…"
    assert cut_bytes("abcdefgh", 4) == "a…"


def test_a_limit_that_a_character_may_not_fit_into_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 bytes, got 3"):
        split_bytes("a", 3)
    with pytest.raises(ValueError, match="at least 4 bytes, got 3"):
        cut_bytes("a", 3)
