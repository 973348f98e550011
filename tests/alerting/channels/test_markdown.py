from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.channels.markdown import Dialect, Line, Span, neutral, parse


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("plain", [Line((Span("plain"),))]),
        ("a **b** c", [Line((Span("a "), Span("b", bold=True), Span(" c")))]),
        ("> said", [Line((Span("said"),), quoted=True)]),
        ("[Ack](https://x.example/a)", [Line((Span("Ack", url="https://x.example/a"),))]),
        ("**[a\\*](http://x.example/\\_)**", [Line((Span("a*", url="http://x.example/_"),))]),
        ("one\n\ntwo\n", [Line((Span("one"),)), Line(()), Line((Span("two"),))]),
        ("\\*\\*a\\*\\* \\[b\\]\\(http://c\\) \\> \\\\", [Line((Span("**a** [b](http://c) > \\"),))]),
        ("\\> d", [Line((Span("> d"),))]),
        ("[a] (b) * [c](d e)", [Line((Span("[a] (b) * [c](d e)"),))]),
        ("**never closed", [Line((Span("never closed", bold=True),))]),
        ("[Run](javascript:alert\\(1\\))", [Line((Span("Run (javascript:alert(1))"),))]),
        ("[](https://x.example)", [Line((Span("x.example", url="https://x.example"),))]),
    ],
)
def test_what_messages_are_made_of(markdown: str, lines: list[Line]) -> None:
    assert parse(markdown) == lines


@pytest.mark.parametrize(
    "text",
    [
        "recommender-home_v3",
        "ctr < 5 % and psi > 0.2",
        "点击率 4.1 %，低于 5 %",
        "a & b; c",
        "10:00–10:05",
        "f(x) = #3",
        "a.b/c",
        "[Major] a[0]",
    ],
)
def test_what_is_no_mark_up_stays_as_it_is(text: str) -> None:
    assert neutral(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<@all>", "\uff1c@all>"),
        ("a <b", "a \uff1cb"),
        ("[x](https://y)", "\uff3bx\uff3d(https\uff1a//y)"),
        ("a[0] = [1, 2)", "a[0] = \uff3b1, 2)"),
        ("[a] (b) [c][d] [e]: f]", "\uff3ba\uff3d (b) \uff3bc\uff3d\uff3bd\uff3d \uff3be\uff3d: f]"),
        ("*x* `y` ~z~ \\", "\uff0ax\uff0a \uff40y\uff40 \uff5ez\uff5e \uff3c"),
        ("_x_ __y__ a_b", "\uff3fx\uff3f \uff3f\uff3fy\uff3f\uff3f a_b"),
        ("# x # y", "\uff03 x # y"),
        ("  > x", "  \uff1e x"),
        ("&lt;at&gt; &#60; R&D; A & B", "\uff06lt;at\uff06gt; \uff06#60; R\uff06D; A & B"),
        ("WWW.x.example", "WWW\uff0ex.example"),
    ],
)
def test_mark_up_becomes_its_full_width_twin(text: str, shown: str) -> None:
    assert neutral(text) == shown


@given(st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cc", "Zs"])))
def test_twins_can_be_turned_back(text: str) -> None:
    assert unicodedata.normalize("NFKC", neutral(text)) == unicodedata.normalize("NFKC", text)


def test_a_url_cannot_end_the_link_it_stands_in() -> None:
    line = Line((Span("x", url="https://x.example/a)|b>c <d\\点?e=f&g=%20#h"),))
    assert Dialect().draw(line) == "[x](https://x.example/a%29%7Cb%3Ec%20%3Cd%5C%E7%82%B9?e=f&g=%20#h)"


def test_a_line_too_large_is_broken_and_each_piece_keeps_its_kind() -> None:
    line = Line(
        (Span("left " * 3), Span("bold" * 5, bold=True), Span("x", url="https://x.example/" + "y" * 30)), quoted=True
    )
    drawn = Dialect().lines([line], 30)
    assert all(len(piece) <= 30 and piece.startswith("> ") for piece in drawn)
    assert "".join(piece.removeprefix("> ").replace("**", "") for piece in drawn) == (
        "left " * 3 + "bold" * 5 + "x: https\uff1a//x.example/" + "y" * 30
    )
    assert sum("**" in piece for piece in drawn) == 1


@given(st.lists(st.text("ab点", max_size=9), min_size=1), st.integers(30, 60))
def test_filling_keeps_order_and_wastes_little(lines: list[str], limit: int) -> None:
    texts = Dialect().fill(lines, limit)
    assert "\n".join(texts) == "\n".join(lines)
    assert max(len(text.encode()) for text in texts) <= limit
    for one, other in pairwise(texts):
        assert len(one.encode()) + len(b"\n") + len(other.split("\n")[0].encode()) > limit
