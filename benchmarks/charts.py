"""`python -m benchmarks.charts results/full.json`: the figures of a full run drawn as two SVG files beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, OTHER, SECOND = "#0b7285", "#adb5bd", "#e8590c"
COLUMNS = 3
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tidemark",  # the same figures give the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
}
COST = "CPU s per million events"
VARIED = {
    "models": ("Models", "models"),
    "features": ("Features", "features per event"),
    "late_percent": ("Late events", "late events, %"),
    "open_windows": ("Open windows", "windows (attribution, minutes + 1)"),
    "open_rows": ("Live rows", "impressions in each of 11 open windows"),
    "batch": ("Batch size", "events taken in at once"),
    "checkpoint": ("Checkpoint size", "events between two checkpoints"),
}
"""What growth varies -> title and axis; on a logarithmic axis where no value is 0."""


def systems(table: Mapping[str, Any]) -> Figure:
    """A bar for each system of `python -m benchmarks`, the range of its rounds across the bar's end."""
    figures = table["systems"]
    names = list(reversed(figures))
    figure = Figure(figsize=(10, 0.8 + 0.42 * len(names)), layout="constrained")
    figure.suptitle(f"One core, one Kafka: median of {len(table['rounds'])} rounds, with their range")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, names, [figures[name]["cpu_s_per_million"] for name in names], "{:,.1f}")
    left.set(title="What it costs (less is better)", xlabel=f"{COST}, log scale", ylabel="system")
    _bars(right, names, [figures[name]["records_per_s"] for name in names], "{:,.0f}")
    right.set(title="What it does (more is better)", xlabel="events/s on one core, log scale")
    return figure


def _bars(axes: Axes, names: Sequence[str], spreads: Sequence[Mapping[str, float]], form: str) -> None:
    medians = [spread["median"] for spread in spreads]
    colors = [OURS if name == "tidemark" else OTHER for name in names]
    axes.barh(names, medians, color=colors, xerr=_ranges(spreads), error_kw={"elinewidth": 1, "capsize": 2})
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 3, max(medians) * 6)
    for place, spread in enumerate(spreads):
        axes.annotate(
            form.format(spread["median"]), (spread["high"], place), xytext=(4, 0), textcoords="offset points",
            verticalalignment="center",
        )  # fmt: skip


def _ranges(spreads: Sequence[Mapping[str, float]]) -> list[list[float]]:
    below = [spread["median"] - spread["low"] for spread in spreads]
    return [below, [spread["high"] - spread["median"] for spread in spreads]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One curve, or several, of the second figure."""

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[Mapping[str, float]]]]
    """Label -> values and what was measured there; one without a label needs no legend."""

    def draw(self, axes: Axes) -> None:
        """From zero up, so that what grows little looks it."""
        for (label, (values, spreads)), color in zip(self.lines.items(), (OURS, SECOND), strict=False):
            medians = [spread["median"] for spread in spreads]
            axes.errorbar(
                values, medians, _ranges(spreads), color=color, marker="o", markersize=4, capsize=2, label=label
            )
            if min(values) > 0 and max(values) > 2 * min(values):
                axes.set_xscale("log")
                axes.minorticks_off()
            axes.set_xticks(values, [_short(value) for value in values])
        axes.set(title=self.title, xlabel=self.x, ylabel=self.y)
        highest = max(spread["high"] for _, spreads in self.lines.values() for spread in spreads)
        axes.set_ylim(0, highest * 1.1)
        axes.yaxis.set_major_formatter(lambda value, _: _short(value))
        axes.grid(axis="y", linewidth=0.3)
        if any(self.lines):
            axes.legend(frameon=False)


def growth(panels: Sequence[Panel]) -> Figure:
    """A panel for each thing that cost may grow with; at least one."""
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.9 * rows), layout="constrained")
    figure.suptitle("How cost grows: median of the rounds, with their range")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for panel, axes in zip(panels, grid, strict=False):
        panel.draw(axes)
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    return figure


def panels_of(full: Mapping[str, Any]) -> list[Panel]:
    """Those that were measured."""
    return [panel for make in (_workers, _partitions, _join, _restart) for panel in make(full)]


def _workers(full: Mapping[str, Any]) -> list[Panel]:
    if "workers" not in full:
        return []
    points = full["workers"]["points"]
    line = [point["workers"] for point in points], [point["records_per_s"] for point in points]
    return [Panel("Workers, a core each", "workers", "events/s", {"": line})]


def _partitions(full: Mapping[str, Any]) -> list[Panel]:
    if "partitions" not in full:
        return []
    points = full["partitions"]
    line = [point["partitions"] for point in points], [point["records_per_s"] for point in points]
    return [Panel("Partitions, one worker", "partitions", "events/s", {"": line})]


def _join(full: Mapping[str, Any]) -> list[Panel]:
    points = full.get("growth", ())
    panels = []
    for what, (title, axis) in VARIED.items():
        mine = [point for point in points if point["what"] == what]
        if mine:
            line = [point["value"] for point in mine], [point["total"] for point in mine]
            panels.append(Panel(f"{title} (join alone)", axis, COST, {"": line}))
    return panels


def _restart(full: Mapping[str, Any]) -> list[Panel]:
    found = full.get("restart", ())
    lines = {}
    for ended in dict.fromkeys(one["ended"] for one in found):
        sizes = sorted({one["impressions"] for one in found if one["ended"] == ended})
        if len(sizes) > 1:
            spreads = [_spread([one["caught_up_s"] for one in found if _is(one, ended, size)]) for size in sizes]
            lines[ended] = sizes, spreads
    return [Panel("Restart", "live impressions", "s until caught up", lines)] if lines else []


def _is(restart: Mapping[str, Any], ended: str, size: int) -> bool:
    return bool(restart["ended"] == ended and restart["impressions"] == size)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def draw(full: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what a full run holds, be it complete or not; the files."""
    makers: dict[str, Callable[[], Figure]] = {}
    if "table" in full:
        makers["systems.svg"] = lambda: systems(full["table"])
    if panels := panels_of(full):
        makers["growth.svg"] = lambda: growth(panels)
    for name, make in makers.items():
        with mpl.rc_context(STYLE):
            make().savefig(folder / name, metadata={"Date": None})
    return [folder / name for name in makers]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; 0 done, 1 the file cannot be read, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.charts", description=__doc__)
    parser.add_argument("file", type=Path, help="what `python -m benchmarks --full` has written")
    options = parser.parse_args(arguments)
    try:
        full = json.loads(options.file.read_text())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.file}: expected the JSON of a full run: {error}\n")
        return 1
    for path in draw(full, options.file.parent):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
