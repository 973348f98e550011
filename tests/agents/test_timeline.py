"""Bars over time in lines of text."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from agents.backtest import Span
from agents.timeline import DAY_MS, HOUR_MS, MINUTE_MS, STEPS_MS, Bar, draw, ticks

T0 = 1_777_593_600_000
"""2026-05-01 00:00 UTC."""

moments = st.integers(-20, 120).map(lambda tenths: T0 + tenths * 6_000)
spans = st.tuples(moments, moments).map(sorted).map(lambda pair: Span(*pair))
bars = st.builds(
    Bar,
    label=st.text(alphabet="ab 中…", max_size=50),
    severity=st.sampled_from(["critical", "major", "minor"]),
    judged=st.lists(spans, max_size=3),
    pending=st.lists(spans, max_size=3),
    firing=st.lists(spans, max_size=3),
)


def bar(label: str = "rule home v1", **of: list[Span]) -> Bar:
    nothing: dict[str, list[Span]] = {"judged": [], "pending": [], "firing": []}
    return Bar(label=label, severity="major", **{**nothing, **of})


def drawn(one: Bar, end_ms: int, width: int) -> list[str]:
    return [line.plain.rstrip() for line in draw([one], T0, end_ms, width, plain=True)]


def test_an_hour_with_its_axis_and_legend() -> None:
    minute = [Span(T0 + n * MINUTE_MS, T0 + (n + 1) * MINUTE_MS) for n in range(60)]
    one = bar(
        "ctr-low home",
        judged=[Span(T0, minute[49].end_ms)],
        pending=[Span(minute[10].begin_ms, minute[14].end_ms)],
        firing=[Span(minute[15].begin_ms, minute[24].end_ms)],
    )
    assert drawn(one, T0 + HOUR_MS, 73) == [
        "             05-01     00:10     00:20     00:30     00:40     00:50",
        "             +---------+---------+---------+---------+---------+---------",
        "ctr-low home ..........=====##########.........................",
        "             # firing  = pending  . judged, well  (blank: not judged)",
    ]


def test_what_is_shorter_than_a_character_is_still_seen() -> None:
    one = bar(judged=[Span(T0, T0 + DAY_MS)], firing=[Span(T0 + 5 * HOUR_MS, T0 + 5 * HOUR_MS + 1)])
    assert drawn(one, T0 + DAY_MS, 40)[2].count("#") == 1
    assert drawn(bar(firing=[Span(T0, T0)]), T0 + DAY_MS, 40)[2].count("#") == 1


def test_what_begins_with_the_end_is_still_seen() -> None:
    assert drawn(bar(firing=[Span(T0 + HOUR_MS, T0 + HOUR_MS)]), T0 + HOUR_MS, 40)[2].endswith("#")


def test_a_long_label_leaves_room_and_says_that_it_was_cut() -> None:
    (line,) = drawn(bar("r" * 200, firing=[Span(T0, T0 + HOUR_MS)]), T0 + HOUR_MS, 60)[2:3]
    assert line == "r" * 29 + "~ " + "#" * 29


def test_unicode_where_the_terminal_has_it() -> None:
    one = bar(judged=[Span(T0, T0 + HOUR_MS)], pending=[Span(T0, T0 + HOUR_MS // 2)], firing=[Span(T0, T0 + MINUTE_MS)])
    text = "\n".join(line.plain for line in draw([one], T0, T0 + HOUR_MS, 60, plain=False))
    assert {"█", "▒", "·", "┬", "─"} <= set(text)
    assert draw([one], T0, T0 + HOUR_MS, 60, plain=True)[2].plain.isascii()


@given(st.lists(bars, max_size=3), st.integers(0, 20 * DAY_MS), st.integers(24, 200), st.booleans())
def test_no_line_of_bars_is_wider_than_asked(found: list[Bar], span_ms: int, width: int, plain: bool) -> None:
    lines = draw(found, T0, T0 + span_ms, width, plain=plain)
    assert len(lines) == len(found) + 3
    assert all(cell_len(line.plain) <= width for line in lines[:-1])


@given(bars, st.integers(20, 90))
def test_each_character_shows_the_most_urgent_of_its_time(found: Bar, width: int) -> None:
    span_ms = 10 * MINUTE_MS
    ruler, line = (text.plain for text in draw([found], T0, T0 + span_ms, width, plain=True)[1:3])
    cells = ruler.count("-") + ruler.count("+")
    for cell, mark in enumerate(line[-cells:]):
        begin, end = (T0 + Fraction(span_ms * place, cells) for place in (cell, cell + 1))

        def is_in(spans: list[Span], begin: Fraction = begin, end: Fraction = end) -> bool:
            return any(span.begin_ms < end and max(span.end_ms, span.begin_ms + 1) > begin for span in spans)

        at_the_end = cell == cells - 1 and any(span.begin_ms >= T0 + span_ms for span in found.firing)
        expected = "#" if is_in(list(found.firing)) or at_the_end else "="
        if expected != "#" and not is_in(list(found.pending)):
            expected = "." if is_in(list(found.judged)) else " "
        assert mark == expected, cell


@given(st.integers(0, 2 * 10**12), st.integers(0, 400 * DAY_MS), st.integers(1, 30))
def test_ticks_are_round_times_and_not_too_many(begin_ms: int, span_ms: int, most: int) -> None:
    found = ticks(begin_ms, begin_ms + span_ms, most)
    if span_ms <= STEPS_MS[-1] * most:
        assert len(found) <= most + 1
    times = [at for at, _ in found]
    assert all(begin_ms <= at < begin_ms + span_ms for at in times)
    assert len({later - at for at, later in pairwise(times)} - set(STEPS_MS)) == 0
    assert all(len(name) == 5 for _, name in found)
