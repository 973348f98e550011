"""What a backtest found, as one HTML page that needs nothing else: no script, no fonts, no network."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from html import escape
from typing import Final

from agents.backtest import Backtest, Series, Span, Track
from agents.backtest_text import (
    between,
    clock,
    feature_of,
    label_of,
    loud_tracks,
    model_of,
    often,
    told_firing,
    told_judged,
)
from agents.rule_words import condition_of, counted, value_of
from agents.timeline import ticks
from alerting.alert import printable
from alerting.rules.rule import Rule

Across = Callable[[int], float]
"""Event time -> place from the left."""

MOST_CHARTS: Final = 200
MOST_ROWS: Final = 2_000

_WIDTH, _LINE, _BAR, _AXIS, _TICKS = 960, 72, 12, 18, 12
_HEIGHT: Final = _LINE + 8 + _BAR + _AXIS
_STYLE: Final = """
:root { color-scheme: light dark; --line: #2563eb; --limit: #b91c1c; --quiet: #9ca3af55; --pending: #f59e0b;
  --critical: #991b1b; --major: #dc2626; --minor: #d97706; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 0; }
p { margin: .2rem 0; }
table { border-collapse: collapse; width: 100%; margin-top: 1rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #9ca3af55; }
svg { width: 100%; height: auto; font-size: 11px; fill: currentColor; }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; stroke-linejoin: round; }
.limit { stroke: var(--limit); stroke-dasharray: 5 4; }
.tick { stroke: #9ca3af55; }
.judged { fill: var(--quiet); } .pending { fill: var(--pending); }
.critical { fill: var(--critical); } .major { fill: var(--major); } .minor { fill: var(--minor); }
"""


def page(found: Backtest, title: str) -> str:
    """The rules and what they did, then a chart of each series that was ever pending or firing.

    Needs the points of the series, see `Backtest`.
    """
    return "\n".join(_lines(found, printable(title))) + "\n"


def _lines(found: Backtest, title: str) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}: backtest of rules</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    total = found.fired.total()
    yield f"<h1>{escape(title)}</h1>"
    said = f"{counted(len(found.rules), 'rule')}, {f'fired {often(total)}' if total else 'never fired'}"
    yield f"<p>{between(found.begin_ms, found.end_ms)}; {said}</p>"
    yield from _table(found)
    loud = loud_tracks(found)
    for rule, series, track in loud[:MOST_CHARTS]:
        yield f"<h2>{escape(label_of(series))}</h2>"
        yield f"<p>{escape(rule.severity)}: {escape(condition_of(rule))}</p>"
        yield from _chart(rule, series, track, found)
        for firing in track.firings:
            yield f"<p>{escape(told_firing(rule, firing, found))}: {escape(firing.summary)}</p>"
    if len(loud) > MOST_CHARTS:
        yield f"<p>and {len(loud) - MOST_CHARTS:,} more</p>"
    yield "</body>\n</html>"


def _table(found: Backtest) -> Iterator[str]:
    names = ("rule", "model", "feature", "fired", "worst", "judged")
    yield "<table>\n<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    tracks = found.tracks()
    for rule, series, track in tracks[:MOST_ROWS]:
        cells = (
            rule.name,
            model_of(series),
            feature_of(series),
            str(len(track.firings)),
            value_of(rule, track.worst),
            told_judged(track.windows, track.left_out),
        )
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    judging = {series.rule for _, series, _ in tracks}
    for rule in found.rules:
        if rule.name not in judging:
            yield f'<tr><td>{escape(rule.name)}</td><td colspan="5">nothing</td></tr>'
    yield "</table>"
    if len(tracks) > MOST_ROWS:
        yield f"<p>and {len(tracks) - MOST_ROWS:,} more</p>"


def _chart(rule: Rule, series: Series, track: Track, found: Backtest) -> Iterator[str]:
    """The metric against the threshold, under it what the rule made of it."""
    begin_ms, end_ms = found.begin_ms, found.end_ms

    def across(at_ms: int) -> float:
        return round((at_ms - begin_ms) * _WIDTH / max(end_ms - begin_ms, 1), 1)

    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label_of(series))}">'
    for at_ms, name in ticks(begin_ms, end_ms, _TICKS):
        x = across(at_ms)
        yield f'<line class="tick" x1="{x}" x2="{x}" y1="0" y2="{_LINE + 8 + _BAR}"/>'
        yield f'<text x="{x}" y="{_HEIGHT - 4}">{name}</text>'
    yield from _metric(rule, track, across)
    y = _LINE + 8
    bars = (
        ("judged", track.judged),
        ("pending", track.pending),
        (rule.severity, track.firing_spans(end_ms)),
    )
    for kind, spans in bars:
        said = kind if kind in ("judged", "pending") else "firing"
        for span in spans:
            x, width = across(span.begin_ms), max(across(span.end_ms) - across(span.begin_ms), 1.5)
            tip = f"{said} {clock(span.begin_ms)} to {clock(span.end_ms)} UTC"
            yield f'<rect class="{kind}" x="{min(x, _WIDTH - 1.5)}" y="{y}" width="{width:.1f}" height="{_BAR}">'
            yield f"<title>{tip}</title></rect>"
    yield "</svg>"


def _metric(rule: Rule, track: Track, across: Across) -> Iterator[str]:
    if not track.points:
        return
    limits = [] if rule.query is not None else [rule.threshold]
    values = [value for _, value in track.points] + limits
    least, most = min(values), max(values)

    def up(value: float) -> float:
        return round(_LINE - 2 - (value - least) * (_LINE - 16) / (most - least or 1.0), 1)

    for line in _unbroken(track.points, track.judged):
        points = " ".join(f"{across(at_ms)},{up(value)}" for at_ms, value in line)
        if len(line) == 1:
            x, y = across(line[0][0]), up(line[0][1])
            yield f'<circle cx="{x}" cy="{y}" r="2"/>'
        else:
            yield f'<polyline class="line" points="{points}"/>'
    for limit in limits:
        y = up(limit)
        yield f'<line class="limit" x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}"/>'
        yield f'<text x="4" y="{max(y - 4, 10)}">{escape(value_of(rule, limit))}</text>'


def _unbroken(points: list[tuple[int, float]], judged: list[Span]) -> list[list[tuple[int, float]]]:
    """The points, cut where windows between them were not judged."""
    begins = [span.begin_ms for span in judged]
    lines: dict[int, list[tuple[int, float]]] = {}
    for at_ms, value in points:
        # A point is at its window's end, which may be where the next span begins.
        lines.setdefault(bisect_right(begins, at_ms - 1), []).append((at_ms, value))
    return list(lines.values())
