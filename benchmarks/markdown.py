"""The figures of a full run as Markdown tables, for the README."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from benchmarks.machine import versions
from benchmarks.same_job import PEERS

MIB = 2**20
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

Full = Mapping[str, Any]


def markdown(full: Full) -> str:
    """The tables of all parts that the run has."""
    lines = [f"{full['machine']['cpu']}, {full['machine']['system']}; {versions(full['machine'])}."]
    for name, part in PARTS.items():
        if name in full:
            lines += ["", *part(full[name])]
    return "\n".join(lines) + "\n"


def _table(part: Full) -> Iterator[str]:
    yield f"Median of {len(part['rounds'])} rounds (lowest to highest), on one core:"
    yield ""
    yield from _header("system", "events/s", "CPU s per million", "peak MiB", "start s", "windows right")
    for name, figures in part["systems"].items():
        yield _row(
            name,
            _cell(figures["records_per_s"], "{:,.0f}"),
            _cell(figures["cpu_s_per_million"], "{:.2f}"),
            f"{figures['peak_rss']['median'] / MIB:,.0f}",
            f"{figures['startup_s']['median']:.1f}",
            figures["windows_right"],
        )
    yield ""
    yield from _header("events/s of", "over those of", "times")
    for name, spread in part["ratios"].items():
        yield _row(*name.split(" / "), _cell(spread, "{:.2f}"))
    yield ""
    yield from (f"- `{name}`: {PEERS[name].differences}" for name in part["systems"] if name in PEERS)


def _workers(part: Full) -> Iterator[str]:
    yield from _header("workers", "events/s", "CPU s per million", "Kafka's and Redis's share of both cores")
    for point in part["points"]:
        rate, cost = _cell(point["records_per_s"], "{:,.0f}"), _cell(point["cpu_s_per_million"], "{:.2f}")
        yield _row(str(point["workers"]), rate, cost, _cell(point["servers"], "{:.0%}"))
    yield ""
    yield f"Two over one, within a round: **{_cell(part['ratio'], '{:.2f}')}**."


def _partitions(part: Sequence[Full]) -> Iterator[str]:
    yield from _header("partitions", "events/s", "CPU s per million")
    for point in part:
        rate, cost = _cell(point["records_per_s"], "{:,.0f}"), _cell(point["cpu_s_per_million"], "{:.2f}")
        yield _row(str(point["partitions"]), rate, cost)


def _monitoring(part: Full) -> Iterator[str]:
    yield from _header(f"features watched, of {part['features']}", "events/s", "CPU s per million", "peak MiB")
    for point in part["points"]:
        rate, cost = _cell(point["records_per_s"], "{:,.0f}"), _cell(point["cpu_s_per_million"], "{:.2f}")
        yield _row("all" if point["watched"] else "none", rate, cost, f"{point['peak_rss'] / MIB:,.0f}")
    yield ""
    yield f"All over none, within a round: **{_cell(part['ratio'], '{:.2f}')}**."


def _growth(part: Sequence[Full]) -> Iterator[str]:
    yield from _header("join alone", "CPU s per million events, at each value")
    for what, points in groupby(part, key=lambda point: point["what"]):
        yield _row(what, ", ".join(f"{point['value']:,}: {point['total']['median']:.2f}" for point in points))


def _live_state(part: Full) -> Iterator[str]:
    shown = part["impressions"]
    yield from _header("live impressions", "resident MiB (peak)", "bytes each, resident", "bytes each in Redis")
    resident = f"{part['steady_rss'] / MIB:,.0f} ({part['peak_rss'] / MIB:,.0f})"
    yield _row(f"{shown:,}", resident, f"{part['steady_rss'] / shown:.0f}", f"{part['used_memory'] / shown:.1f}")


def _restart(part: Sequence[Full]) -> Iterator[str]:
    yield from _header("live impressions", "the worker before", "ready, s", "first record, s", "caught up, s")
    for (shown, ended), runs in _grouped(part, "impressions", "ended").items():
        times = (_times([run[name] for run in runs]) for name in ("ready_s", "consumed_s", "caught_up_s"))
        yield _row(f"{shown:,}", ended, *times)


def _latency(part: Sequence[Full]) -> Iterator[str]:
    yield from _header("produced to", "events/s", "probes", "p50, s", "p99, s")
    for one in part:
        p50, p99 = f"{one['p50_s']:.2f}", f"{one['p99_s']:.2f}"
        yield _row(one["to"], f"{one['rate']:,.0f}", str(one["probes"]), p50, p99)


PARTS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "table": _table,
    "workers": _workers,
    "partitions": _partitions,
    "monitoring": _monitoring,
    "growth": _growth,
    "live_state": _live_state,
    "restart": _restart,
    "latency": _latency,
}
"""A part of a full run -> its lines."""


def _header(*cells: str) -> list[str]:
    return [_row(*cells), _row("---", *("---:" for _ in cells[1:]))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(spread: Mapping[str, float], form: str) -> str:
    middle, low, high = (form.format(spread[name]) for name in ("median", "low", "high"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _times(values: Sequence[float]) -> str:
    return _cell({"median": median(values), "low": min(values), "high": max(values)}, "{:.1f}")


def _grouped(rows: Sequence[Full], *names: str) -> dict[tuple[Any, ...], list[Full]]:
    groups: dict[tuple[Any, ...], list[Full]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def put_between(text: str, found: str) -> str:
    """The text with `found` between its markers. Raises ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected a line {BEGIN} and after it a line {END}")
    return f"{before}{BEGIN}\n\n{found}\n{END}{after}"
