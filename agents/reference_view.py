"""References as people look at them: a picture of each feature, and a table of many references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

import numpy as np

from agents.live_view import sparkline
from alerting.alert import printable
from tables.feature_bins import NumericBins
from tables.reference import FeatureReference, Reference

MOST_BARS = 8
"""Of more categories only the most frequent ones are shown."""
MOST_EDGES = 9
_LINE_CELLS = 24
_BAR_CELLS = 16
_PARTS = " ▏▎▍▌▋▊▉"
_NAME_WIDTH = 32

Table = Sequence[Sequence[str]]


def draw(reference: Reference, *, plain: bool = False) -> str:
    """The whole reference as text; `plain`: in ASCII only."""
    title = f"{_model(reference)}: reference {reference.id}, built {_time(reference.created_at_ms)}"
    if reference.source:
        title += f" from {printable(reference.source)}"
    rows = [("feature", "kind", "n", "missing", "values")]
    for feature in reference.features:
        first, *more = _pictures(feature, plain)
        kind = "number" if isinstance(feature.bins, NumericBins) else "category"
        missing = _percent(feature.counts[-1], feature.n)
        rows.append((printable(feature.name, _NAME_WIDTH), kind, f"{feature.n:,}", missing, first))
        rows += [("", "", "", "", line) for line in more]
    return title + "\n\n" + _aligned(rows, right=(2, 3))


def draw_list(references: Iterable[Reference], holding: Iterable[str]) -> str:
    """One line a reference; `holding`: ids of those in force, the others are older."""
    ids = set(holding)
    rows = [("model", "version", "id", "", "created", "source", "features", "n")]
    for each in references:
        version = "every" if each.model_version is None else printable(each.model_version, _NAME_WIDTH) or '""'
        rows.append(
            (
                printable(each.model_id, _NAME_WIDTH),
                version,
                each.id,
                "" if each.id in ids else "older",
                _time(each.created_at_ms),
                printable(each.source, 40),
                str(len(each.features)),
                f"{_rows(each):,}",
            )
        )
    return _aligned(rows, right=(6, 7))


def describe(reference: Reference) -> str:
    """The reference in a few words."""
    count = len(reference.features)
    return f"reference {reference.id} of {_model(reference)}: {count} feature{'s' * (count != 1)}"


def _model(reference: Reference) -> str:
    version = reference.model_version
    return printable(reference.model_id, 80) + (
        ", every version" if version is None else f" {printable(version, 80)}" if version else ' ""'
    )


def _rows(reference: Reference) -> int:
    return max((feature.n for feature in reference.features), default=0)


def _pictures(feature: FeatureReference, plain: bool) -> Iterator[str]:
    yield from _values(feature, plain)
    if unseen := feature.counts[feature.bins.unseen]:
        yield f"{_percent(unseen, feature.n - feature.counts[-1])} unseen: of no bin"
    if len(feature.topics) == 1:
        yield f"of {feature.topics[0]} only"


def _values(feature: FeatureReference, plain: bool) -> Iterator[str]:
    bins, present = feature.bins, feature.n - feature.counts[-1]
    if isinstance(bins, NumericBins) and len(bins.edges) > 3:
        below, above = _percent(feature.counts[0], present), _percent(feature.counts[bins.bins - 1], present)
        line = sparkline(_densities(bins.edges, feature.counts), plain=plain)
        first, last = f"{bins.edges[0]:.6g}", f"{bins.edges[-1]:.6g}"
        yield f"{line}  {first} to {last}, {below} up to {first}, {above} above {last}"
        yield "edges " + "  ".join(_some_edges(bins.edges))
        return
    counts = feature.counts[: bins.bins]
    named = list(zip(bins.labels(), counts, strict=False))
    if not isinstance(bins, NumericBins):
        named.sort(key=lambda each: -each[1])
    for label, count in named[:MOST_BARS]:
        bar = _bar(count / max(1, *counts), plain)
        yield f"{bar}  {_percent(count, present):>7}  {printable(label, _NAME_WIDTH)}"
    if len(named) > MOST_BARS:
        yield f"and {len(named) - MOST_BARS} more"
    if not named:
        yield "no values"


def _densities(edges: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Rows in equally wide cells between the first and the last edge, spread evenly within their bins."""
    # Quarters, for twice the largest float would be too much.
    at = np.array(edges) / 4
    below = np.cumsum([0, *counts[1 : len(edges)]])
    densities: list[float] = np.diff(np.interp(np.linspace(at[0], at[-1], _LINE_CELLS + 1), at, below)).tolist()
    return densities


def _some_edges(edges: Sequence[float]) -> list[str]:
    # Two edges around one value are written alike.
    texts = [text for text, _ in groupby(f"{edge:.6g}" for edge in edges)]
    if len(texts) <= MOST_EDGES:
        return texts
    step = (len(texts) - 1) / (MOST_EDGES - 1)
    return [texts[round(place * step)] for place in range(MOST_EDGES)]


def _bar(share: float, plain: bool) -> str:
    eighths = round(share * _BAR_CELLS * 8)
    if plain:
        return ("#" * round(eighths / 8)).ljust(_BAR_CELLS)
    return ("█" * (eighths // 8) + _PARTS[eighths % 8].strip()).ljust(_BAR_CELLS)


def _percent(count: int, n: int) -> str:
    return f"{100 * count / n:.1f} %" if n else "-"


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _aligned(rows: Table, right: Sequence[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines) + "\n"
