"""`python -m benchmarks.growth`: what an event costs the join, in one process without Kafka, and what it grows with.

One thing at a time is changed, the others stay as in BASE. The cost is processor time of decoding, join and the
changes of each checkpoint; it should rise with the features (they are skipped, but they are bytes) and hardly with
anything else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from siphashc import siphash

from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.metrics import Metrics
from agents.transports.batch import Batch, Section
from tables.join import Events
from tables.join_policy import WINDOW_MS, JoinPolicy

EVENTS = 100_000
EPOCH_MS = 1_776_675_600_000
OPEN_MINUTES = 11
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


BASE = Case()
VARIED: dict[str, Sequence[int]] = {
    "models": (1, 10, 100, 1_000),
    "features": (0, 10, 50),
    "late_percent": (0, 1, 10),
    "batch": (100, 1_000, 5_000, 20_000),
    "checkpoint": (5_000, 20_000, 100_000),
    "open_rows": (1_000, 10_000, 100_000, 300_000),
}


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
    state = JoinState(0, _setting(), EPOCH_MS)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 done, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--events", type=int, metavar="N", default=EVENTS, help=f"events a row (default {EVENTS:,})")
    parser.add_argument("--only", nargs="+", choices=list(VARIED), default=list(VARIED), help="what to vary")
    options = parser.parse_args(arguments)
    measure(BASE, options.events)  # the first run is slower, whatever it is
    console = Console(highlight=False, width=None if sys.stdout.isatty() else COLUMNS)
    console.print(f"base: {BASE}")
    table = Table("what", "value", title="CPU s per million events", title_justify="left")
    for column in ("apply", "checkpoint", "total", "to the first"):
        table.add_column(column, justify="right")
    for name in options.only:
        first = None
        for value in VARIED[name]:
            cost = measure(_changed(name, value), options.events)
            first = first or cost.total
            figures = (cost.apply, cost.checkpoint, cost.total, cost.total / first)
            table.add_row(name, f"{value:,}", *(f"{figure:.2f}" for figure in figures))
        table.add_section()
    console.print(table)
    return 0


def _changed(name: str, value: int) -> Case:
    change: dict[str, Any] = {name: value}
    return replace(BASE, **change)


def _setting() -> JoinSetting:
    return JoinSetting(
        JoinPolicy(), TOPICS, HASH_KEY, lambda: EPOCH_MS, Metrics(), sources=lambda: 4, targets=lambda: 4
    )


def _fill(state: JoinState, case: Case) -> None:
    """Eleven minutes of events, the last of them at EPOCH_MS."""
    shown = case.open_rows * OPEN_MINUTES
    clicks = shown // CLICK_EVERY
    rng = np.random.default_rng(1)
    pairs = rng.integers(1, 2**63, shown).astype(np.uint64)
    later = [siphash(HASH_KEY, f"{len(user)}:{user}{ITEM}") for user in map(_earlier_user, range(MOST_CLICKED_LATER))]
    pairs[rng.permutation(shown)[: len(later)]] = later[:shown]
    times = np.sort(EPOCH_MS - rng.integers(0, OPEN_MINUTES * WINDOW_MS, shown))
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
