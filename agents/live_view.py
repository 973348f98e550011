"""How the demo shows what it has been told: `draw` makes a picture of it, `minute_lines` text for where there is no
terminal, `worst_lines` what stood out. Nothing here writes anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agents.board import Board, Drift, Kind, Minute, Model
from alerting.alert import printable

MOST_BARS = 30
LEAST_BARS = 6
"""Where there is less room, there are none."""
OTHER_COLUMNS = 96
"""Width of the table beside the bars."""
LEAST_REQUESTS = 20
"""Of fewer, the P95 is the slowest of all, and one error more than they can bear."""
MANY_ERRORS = 0.05

_COLUMNS = ("model", "minute", "shown", "CTR", "lately", "P95", "ok", "drift (PSI)")
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=*%@#"
_BAD = "bold red"
_LEVELS = {"severe": "red", "minor": "yellow"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far things are."""

    clock_ms: int
    watermark_ms: int
    told_ms: int
    """The watermark up to which the rows of windows have surely been told."""
    events: int
    events_per_s: float
    speed: float


def draw(
    board: Board, progress: Progress, links: Sequence[str], *, plain: bool = False, width: int = 120
) -> RenderableType:
    """The picture for a terminal of `width` characters; `plain`: for one that has only ASCII."""
    bars = min(width - OTHER_COLUMNS, MOST_BARS)
    table = Table(box=box.ASCII if plain else box.SIMPLE_HEAD, expand=True, padding=(0, 1))
    columns = [name for name in _COLUMNS if bars >= LEAST_BARS or name not in ("shown", "lately")]
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in ("shown", "CTR", "P95", "ok") else "left"
        table.add_column(name, justify=justify, no_wrap=name != "drift (PSI)")
    for model in sorted(board.minutes):
        if settled := board.settled(model, progress.told_ms):
            cells = _cells(model, settled, board.troubles(model), bars, plain)
            table.add_row(*(cells[name] for name in columns))
    if not table.row_count:
        table.add_row("the first minutes appear in a moment")
    texts = [Text.from_ansi(text.rstrip("\n")) for text in list(board.alert_texts)] or [Text("none so far", "dim")]
    return Group(
        Text(_headline(progress), "bold"),
        table,
        Panel(Group(*texts), title="alerts", title_align="left", box=box.ASCII if plain else box.ROUNDED),
        Text("  ".join([*links, "Ctrl-C ends"]), "dim"),
    )


def _cells(
    model: Model, settled: Sequence[tuple[int, Minute]], troubles: set[Kind], bars: int, plain: bool
) -> dict[str, Text]:
    """The row of a model, by column: its newest minute, and the CTR of the minutes before."""
    start, minute = settled[-1]
    ctr, serving = (_BAD if kind in troubles else "" for kind in ("ctr", "serving"))
    recent = [each.ctr for _, each in settled[-bars:] if each.ctr is not None]
    return {
        "model": Text(_name(model), _BAD if troubles else ""),
        "minute": Text(_clock(start)),
        "shown": Text(f"{minute.impressions:,}" if minute.impressions else ""),
        "CTR": Text(_percent(minute.ctr), ctr),
        "lately": Text(sparkline(recent, plain=plain), ctr or "cyan"),
        "P95": Text(_ms(minute.p95_ms), serving),
        "ok": Text(_percent(minute.availability), serving),
        "drift (PSI)": _drift(minute),
    }


def minute_lines(board: Board, start_ms: int) -> list[str]:
    """The minute of all models that began at `start_ms`: their CTR, their P95, and who fails or drifts."""
    minutes = [
        (_name(model), minute)
        for model, known in sorted(board.minutes.items())
        if (minute := known.get(start_ms)) is not None
    ]
    parts = {
        "CTR": [
            f"{name} {_percent(minute.ctr)} ({minute.clicks:,} of {minute.impressions:,})"
            for name, minute in minutes
            if minute.impressions
        ],
        "P95": [f"{name} {_ms(minute.p95_ms)}" for name, minute in minutes if minute.p95_ms is not None],
        "errors": [
            f"{name} {_percent(minute.errors / minute.requests)} ({minute.errors:,} of {minute.requests:,})"
            for name, minute in minutes
            if minute.requests >= LEAST_REQUESTS and minute.errors > MANY_ERRORS * minute.requests
        ],
        "drift": [f"{name} {_drift(minute)}" for name, minute in minutes if minute.drifting()],
    }
    return [f"{_clock(start_ms)} UTC  {title}: {' | '.join(texts)}" for title, texts in parts.items() if texts]


def worst_lines(board: Board) -> list[str]:
    """Of the minutes that are known: the slowest, the one with too many errors, and each feature at its farthest."""
    minutes = [
        (model, start, minute) for model, known in sorted(board.minutes.items()) for start, minute in known.items()
    ]
    served = [each for each in minutes if each[2].requests >= LEAST_REQUESTS]
    lines = []
    if served:
        model, start, minute = max(served, key=lambda each: each[2].p95_ms or 0.0)
        lines.append(f"slowest minute: {_name(model)} at {_clock(start)}, P95 {_ms(minute.p95_ms)}")
        model, start, minute = max(served, key=lambda each: each[2].errors / each[2].requests)
        if minute.errors > MANY_ERRORS * minute.requests:
            lines.append(
                f"most errors: {_name(model)} at {_clock(start)}, {minute.errors:,} of {minute.requests:,} requests"
            )
    severe: dict[str, list[tuple[Drift, Model, int]]] = defaultdict(list)
    for model, start, minute in minutes:
        for feature, drift in minute.drifting():
            if drift.level == "severe":
                severe[feature].append((drift, model, start))
    for feature, found in sorted(severe.items()):
        # The busiest model stands for all.
        busiest = max(found, key=lambda each: each[0].n)[1]
        drift, model, start = max(each for each in found if each[1] == busiest)
        others = len({each[1] for each in found}) - 1
        lines.append(
            f"severe drift: {printable(feature, 40)} of {_name(model)} at {_clock(start)}, PSI {drift.psi:.2f}"
            + (f"; and of {others} more" if others else "")
        )
    return lines


def sparkline(values: Iterable[float], *, plain: bool = False) -> str:
    """One character a value, its height relative to the largest."""
    values = list(values)
    top = max(values, default=0.0)
    bars = _PLAIN_BARS if plain else _BARS
    if top <= 0:
        return bars[0] * len(values)
    return "".join(bars[min(int(value / top * len(bars)), len(bars) - 1)] for value in values)


def _headline(progress: Progress) -> str:
    at = datetime.fromtimestamp(progress.clock_ms / 1000, UTC)
    behind_s = (progress.clock_ms - progress.watermark_ms) / 1000
    watermark = f"watermark {behind_s:.0f} s behind" if progress.watermark_ms > 0 else "no watermark yet"
    return (
        f"simulated shop, {at:%Y-%m-%d %H:%M:%S} UTC, {progress.speed:g} times as fast as life; {watermark}; "
        f"{progress.events_per_s:,.0f} events/s, {progress.events:,} so far"
    )


def _name(model: Model) -> str:
    return " ".join(printable(part, 40) for part in model if part)


def _clock(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M}"


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio * 100:.1f} %"


def _ms(latency: float | None) -> str:
    return "" if latency is None else f"{latency:,.0f} ms"


def _drift(minute: Minute) -> Text:
    """E.g. `severe new_user 0.42, gender 0.21; minor age 0.12`; empty where nothing is known."""
    drifting = minute.drifting()
    if not drifting:
        return Text("none" if minute.drift else "", "dim")
    of_levels = []
    for level, style in _LEVELS.items():
        names = [f"{printable(name, 40)} {drift.psi:.2f}" for name, drift in drifting if drift.level == level]
        if names:
            of_levels.append(Text(f"{level} {', '.join(names)}", style))
    return Text("; ").join(of_levels)
