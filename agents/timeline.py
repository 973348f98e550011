"""When something was pending and fired, drawn in lines of text; and where the ticks of a time axis stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from agents.backtest import Span
from alerting.alert import Severity

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
STEPS_MS: Final = (
    *(minutes * MINUTE_MS for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * HOUR_MS for hours in (1, 2, 3, 6, 12)),
    *(days * DAY_MS for days in (1, 2, 7, 28, 364)),
)
CELLS_A_TICK: Final = 9
LEAST_CELLS: Final = 10
SEVERITY_STYLES: Final[dict[Severity, str]] = {"critical": "bold red", "major": "red", "minor": "yellow"}

_FIRING, _PENDING, _JUDGED = 3, 2, 1
_MARKS: Final = {0: " ", _JUDGED: "·", _PENDING: "▒", _FIRING: "█"}
_PLAIN_MARKS: Final = {0: " ", _JUDGED: ".", _PENDING: "=", _FIRING: "#"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row; `label` is one printable line."""

    label: str
    severity: Severity
    judged: Sequence[Span]
    pending: Sequence[Span]
    firing: Sequence[Span]


def ticks(begin_ms: int, end_ms: int, most: int) -> list[tuple[int, str]]:
    """At most `most` (and one) round times from `begin_ms` to before `end_ms`, in UTC, and how they are written: the
    time of day, or the date at midnight."""
    span_ms = end_ms - begin_ms
    step_ms = next((step for step in STEPS_MS if span_ms <= step * most), STEPS_MS[-1])
    first = -(-begin_ms // step_ms) * step_ms
    return [(at, _tick(at)) for at in range(first, end_ms, step_ms)]


def draw(bars: Sequence[Bar], begin_ms: int, end_ms: int, width: int, *, plain: bool) -> list[Text]:
    """The bars over [`begin_ms`, `end_ms`) in lines of at most `width` characters, with an axis above and a legend
    below. `plain`: in ASCII, but for the labels.

    What is shorter than a character's time still gets one: what fires goes before what is pending.
    """
    longest = max((cell_len(bar.label) for bar in bars), default=0)
    left = min(longest, max(width // 2, width - 80), max(width - LEAST_CELLS - 1, 1))
    cells = max(width - left - 1, LEAST_CELLS)
    names, ruler = _axis(begin_ms, end_ms, cells, plain)
    margin = " " * (left + 1)
    lines = [Text(margin + names, "dim"), Text(margin + ruler, "dim")]
    marks = _PLAIN_MARKS if plain else _MARKS
    for bar in bars:
        line = Text(_fitted(bar.label, left, plain) + " ")
        for state in _states(bar, begin_ms, end_ms, cells):
            style = SEVERITY_STYLES[bar.severity] if state == _FIRING else "yellow" if state == _PENDING else "dim"
            line.append(marks[state], style)
        lines.append(line)
    said = f"{marks[_FIRING]} firing  {marks[_PENDING]} pending  {marks[_JUDGED]} judged, well  (blank: not judged)"
    lines.append(Text(margin + said if left + 1 + len(said) <= width else said, "dim"))
    return lines


def _states(bar: Bar, begin_ms: int, end_ms: int, cells: int) -> list[int]:
    states = [0] * cells
    span_ms = max(end_ms - begin_ms, 1)
    for state, spans in ((_JUDGED, bar.judged), (_PENDING, bar.pending), (_FIRING, bar.firing)):
        for span in spans:
            first = (span.begin_ms - begin_ms) * cells // span_ms
            last = max(-(-(span.end_ms - begin_ms) * cells // span_ms), first + 1)
            for cell in range(max(first, 0), min(last, cells)):
                states[cell] = state
            if first >= cells and state == _FIRING:
                states[-1] = state  # it began with the last moment that is shown
    return states


def _axis(begin_ms: int, end_ms: int, cells: int, plain: bool) -> tuple[str, str]:
    names, ruler = [" "] * cells, ["-" if plain else "─"] * cells
    free = 0
    for at, name in ticks(begin_ms, end_ms, max(cells // CELLS_A_TICK, 1)):
        cell = (at - begin_ms) * cells // max(end_ms - begin_ms, 1)
        ruler[cell] = "+" if plain else "┬"
        if free <= cell <= cells - len(name):
            names[cell : cell + len(name)] = name
            free = cell + len(name) + 1
    return "".join(names), "".join(ruler)


def _fitted(label: str, cells: int, plain: bool) -> str:
    if cell_len(label) <= cells:
        return set_cell_size(label, cells)
    mark = "~" if plain else "…"
    return set_cell_size(label, cells - 1) + mark


def _tick(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.strftime("%m-%d" if at_ms % DAY_MS == 0 else "%H:%M")
