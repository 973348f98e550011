"""`python -m benchmarks.growth`: what an event costs the join, in one process without Kafka, and what it grows with.

One thing at a time is changed, the others stay as in BASE. The cost is processor time of decoding, join and the
changes of each checkpoint; it should rise with the features, which are bytes at least, and hardly with anything else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from siphashc import siphash

from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.metrics import Metrics
from agents.transports.batch import Batch, Section
from benchmarks.measurement import Spread
from tables.join import Events
from tables.join_policy import WINDOW_MS, JoinPolicy

EVENTS, ROUNDS = 100_000, 3
EPOCH_MS = 1_776_675_600_000
CLICK_EVERY = 20
LATE_MS = 30 * 60_000
COLUMNS = 110
HASH_KEY = bytes(16)
ITEM = "item-1"
MOST_CLICKED_LATER = 5_000
"""Users whose impressions lie anywhere in the open windows before the first event; the clicks are theirs."""

TOPICS = JoinTopics("impressions", "clicks", "partials", "dead_letters")


@dataclass(frozen=True, slots=True)
class Case:
    """What the events are like, and what is held before they come."""

    models: int = 10
    features: int = 0
    late_percent: int = 0
    batch: int = 5_000
    """Events taken in at once."""
    checkpoint: int = 10_000
    """Events between two checkpoints."""
    open_rows: int = 10_000
    """Impressions in each open window; so many events come in a minute of event time."""
    open_windows: int = 11
    """The attribution time in minutes, and one."""


BASE = Case()
VARIED: dict[str, Sequence[int]] = {
    "models": (1, 10, 100, 1_000),
    "features": (0, 5, 10, 25, 50),
    "late_percent": (0, 1, 5, 10),
    "batch": (100, 1_000, 5_000, 20_000),
    "checkpoint": (5_000, 20_000, 100_000),
    "open_rows": (1_000, 10_000, 100_000, 300_000),
    "open_windows": (2, 11, 31, 61),
}
"""What is changed -> its values."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds per million events."""

    apply: float
    checkpoint: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.apply + self.checkpoint


def measure(case: Case, events: int = EVENTS) -> Cost:
    """What so many events cost on top of a state that holds all of its open windows already."""
    state = JoinState(0, _setting(case), EPOCH_MS)
    _fill(state, case)
    state.changes(1, 1)
    state.table.settle()
    values = list(_values(case, events))
    apply = checkpoint = 0.0
    since = number = 0
    for batch in _batches(values, case.batch):
        began = time.process_time()
        state.apply(batch, {})
        apply += time.process_time() - began
        since += batch.records
        if since >= case.checkpoint:
            since, number = 0, number + 1
            began = time.process_time()
            state.changes(1, 1 + number)
            checkpoint += time.process_time() - began
    return Cost(apply / events * 1e6, checkpoint / events * 1e6)


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve; costs in processor seconds per million events."""

    what: str
    """A field of Case."""
    value: int
    total: Spread
    apply: float
    """Decoding and join, the median."""
    checkpoint: float
    """The median of what the total holds beside it."""

    @property
    def events_per_s(self) -> float:
        """On one core, if nothing else ran on it."""
        return 1e6 / self.total.median


def curves(only: Sequence[str] = tuple(VARIED), events: int = EVENTS, rounds: int = ROUNDS) -> Iterator[Point]:
    """The points of all curves, each the median of so many rounds."""
    measure(BASE, events)  # the first run is slower, whatever it is
    for name in only:
        for value in VARIED[name]:
            costs = [measure(_changed(name, value), events) for _ in range(rounds)]
            yield Point(
                name,
                value,
                Spread.of([cost.total for cost in costs]),
                statistics.median(cost.apply for cost in costs),
                statistics.median(cost.checkpoint for cost in costs),
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 done, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--events", type=int, metavar="N", default=EVENTS, help=f"events a row (default {EVENTS:,})")
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS)
    parser.add_argument("--only", nargs="+", choices=list(VARIED), default=list(VARIED), help="what to vary")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the points go as JSON")
    options = parser.parse_args(arguments)
    points = []
    for point in curves(options.only, options.events, options.rounds):
        sys.stderr.write(f"{point.what} {point.value:,}: {point.total.median:.2f} CPU s per million\n")
        points.append(point)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else COLUMNS)
    console.print(f"base: {BASE}")
    console.print(_table(points))
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(point) for point in points]))
    return 0


def _table(points: Sequence[Point]) -> Table:
    table = Table("what", "value", title="CPU s per million events", title_justify="left")
    for column in ("apply", "checkpoint", "total", "to the first"):
        table.add_column(column, justify="right")
    for name, group in groupby(points, key=lambda point: point.what):
        curve = list(group)
        for point in curve:
            total = point.total.median
            figures = (point.apply, point.checkpoint, total, total / curve[0].total.median)
            table.add_row(name, f"{point.value:,}", *(f"{figure:.2f}" for figure in figures))
        table.add_section()
    return table


def _changed(name: str, value: int) -> Case:
    change: dict[str, Any] = {name: value}
    return replace(BASE, **change)


def _setting(case: Case) -> JoinSetting:
    policy = JoinPolicy(attribution_ms=(case.open_windows - 1) * WINDOW_MS)
    return JoinSetting(policy, TOPICS, HASH_KEY, lambda: EPOCH_MS, Metrics(), sources=lambda: 4, targets=lambda: 4)


def _fill(state: JoinState, case: Case) -> None:
    """All open windows full of events, the last of them at EPOCH_MS."""
    shown = case.open_rows * case.open_windows
    clicks = shown // CLICK_EVERY
    rng = np.random.default_rng(1)
    pairs = rng.integers(1, 2**63, shown).astype(np.uint64)
    later = [siphash(HASH_KEY, f"{len(user)}:{user}{ITEM}") for user in map(_earlier_user, range(MOST_CLICKED_LATER))]
    pairs[rng.permutation(shown)[: len(later)]] = later[:shown]
    times = np.sort(EPOCH_MS - rng.integers(0, case.open_windows * WINDOW_MS, shown))
    numbers = np.array([state.table.models.number((f"model-{number}", "1")) for number in range(case.models)])
    no_model = np.full(clicks, -1)
    order = np.argsort(np.concatenate([times, times[:clicks]]), kind="stable")
    state.table.apply(
        Events(
            np.repeat([False, True], [shown, clicks])[order],
            np.concatenate([pairs, pairs[:clicks]])[order],
            np.concatenate([times, times[:clicks]])[order],
            np.concatenate([numbers[rng.integers(0, case.models, shown)], no_model])[order],
        ),
        EPOCH_MS,
    )


def _values(case: Case, events: int) -> Iterator[tuple[bool, bytes]]:
    """(whether it is a click, record), in the order of time."""
    features = b"{%b}" % b",".join(b'"feature-%d":%d.25' % (number, number) for number in range(case.features))
    for number in range(events):
        at = EPOCH_MS + number * WINDOW_MS // case.open_rows
        if number % 100 < case.late_percent:
            at -= LATE_MS
        is_click = number % CLICK_EVERY == CLICK_EVERY - 1
        user = _earlier_user(number // CLICK_EVERY % MOST_CLICKED_LATER) if is_click else f"user-{number}"
        who = b'{"user_id":"%b","item_id":"%b","event_time":%d' % (user.encode(), ITEM.encode(), at)
        model = b',"model_id":"model-%d","model_version":"1","features":%b' % (number % case.models, features)
        yield is_click, who + (b"}" if is_click else model + b"}")


def _earlier_user(number: int) -> str:
    return f"earlier-{number}"


def _batches(values: Sequence[tuple[bool, bytes]], size: int) -> Iterator[Batch]:
    offsets = [0, 0]
    for begin in range(0, len(values), size):
        sections = []
        for side, topic in enumerate((TOPICS.impressions, TOPICS.clicks)):
            mine = [value for is_click, value in values[begin : begin + size] if is_click == side]
            if mine:
                offset, offsets[side] = offsets[side], offsets[side] + len(mine)
                sections.append(Section(topic, range(offset, offsets[side]), mine, offsets[side]))
        yield Batch(0, tuple(sections))


if __name__ == "__main__":
    sys.exit(main())
