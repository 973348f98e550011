"""What the demo shows of a running shop: the windows of each model, the alerts, and how far time has come.

`Board` keeps what the topics said; `draw` makes a picture of it, `minute_line` a line for where there is no terminal.
Nothing here writes anywhere.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alerting.alert import printable
from tables.join_policy import WINDOW_MS

KEPT_WINDOWS = 40
SHOWN_MINUTES = 30
SHOWN_ALERTS = 5
SETTLE_MS = 60_000
"""A window is shown when the watermark has left it behind by this: before, most of its clicks are to come."""

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=*%@#"

Model = tuple[str, str]


class Window(NamedTuple):
    """What was last told about one window."""

    impressions: int
    clicks: int
    final: bool

    @property
    def ctr(self) -> float:
        """Clicked over shown, 0 where nothing was shown."""
        return self.clicks / self.impressions if self.impressions else 0.0


@dataclass(slots=True)
class Board:
    """What has been told so far."""

    windows: dict[Model, dict[int, Window]] = field(default_factory=lambda: defaultdict(dict))
    """Model and version -> window start in ms -> the window; the newest KEPT_WINDOWS of each."""
    firing: dict[str, Model] = field(default_factory=dict)
    """Id of each alert that fires -> whose it is."""
    fired: int = 0
    resolved: int = 0
    final_rows: int = 0
    alert_texts: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN_ALERTS))
    """What the notifier has written, with its colours."""

    def take_row(self, data: bytes) -> None:
        """A row of `tidemark.windows`."""
        row = orjson.loads(data)
        known = self.windows[row["model_id"], row["model_version"]]
        known[row["window_start"]] = Window(row["impressions"], row["clicks"], row["final"])
        self.final_rows += row["final"]
        while len(known) > KEPT_WINDOWS:
            del known[min(known)]

    def take_alert(self, data: bytes) -> None:
        """An alert of `tidemark.alerts`."""
        alert = orjson.loads(data)
        if alert["status"] == "firing":
            self.fired += 1
            self.firing[alert["alert_id"]] = alert["model_id"], alert["model_version"]
        elif alert["status"] == "resolved":
            self.resolved += 1
            self.firing.pop(alert["alert_id"], None)

    def settled(self, model: Model, told_ms: int) -> list[tuple[int, Window]]:
        """The windows of a model whose clicks have come, oldest first."""
        until = told_ms - SETTLE_MS - WINDOW_MS
        return sorted((start, window) for start, window in self.windows[model].items() if start <= until)


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


def draw(board: Board, progress: Progress, links: Sequence[str], *, plain: bool = False) -> RenderableType:
    """The picture for a terminal; `plain`: for one that has only ASCII."""
    table = Table(box=box.ASCII if plain else box.SIMPLE_HEAD, expand=True, padding=(0, 1))
    for name in ("model", "window"):
        table.add_column(name, no_wrap=True)
    for name in ("shown", "clicked", "CTR"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column(f"CTR of the last {SHOWN_MINUTES} minutes", no_wrap=True)
    in_trouble = set(board.firing.values())
    for model in sorted(board.windows):
        settled = board.settled(model, progress.told_ms)[-SHOWN_MINUTES:]
        if not settled:
            continue
        start, window = settled[-1]
        style = "bold red" if model in in_trouble else ""
        table.add_row(
            Text(_name(model), style),
            f"{_clock(start)}-{_clock(start + WINDOW_MS)}",
            f"{window.impressions:,}",
            f"{window.clicks:,}",
            Text(_percent(window.ctr), style),
            Text("final" if window.final else "provisional", "dim"),
            Text(sparkline([each.ctr for _, each in settled], plain=plain), style or "cyan"),
        )
    if not table.row_count:
        table.add_row("the first windows appear in a moment", *[""] * 6)
    texts = [Text.from_ansi(text.rstrip("\n")) for text in list(board.alert_texts)] or [Text("none so far", "dim")]
    return Group(
        Text(_headline(progress), "bold"),
        table,
        Panel(Group(*texts), title="alerts", title_align="left", box=box.ASCII if plain else box.ROUNDED),
        Text("  ".join([*links, "Ctrl-C ends"]), "dim"),
    )


def minute_line(board: Board, start_ms: int) -> str:
    """All models' windows that began at `start_ms`, in one line."""
    parts = [
        f"{_name(model)} {_percent(window.ctr)} ({window.clicks:,} of {window.impressions:,})"
        for model, windows in sorted(board.windows.items())
        if (window := windows.get(start_ms)) is not None
    ]
    return f"{_clock(start_ms)} UTC  CTR: " + " | ".join(parts)


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


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.1f} %"
