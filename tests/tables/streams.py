"""Random streams of impressions and clicks, and what the join table makes of them."""

from __future__ import annotations

import random

import numpy as np

from tables.join import Events, JoinTable, Step
from tests.oracle import Click, Event, Impression, Key

T0 = 1_777_629_600_000


def random_stream(rng: random.Random, events: int = 60, disorder_ms: int = 20 * 60_000) -> list[Event]:
    """Few users, items and models, so that everything collides; in an order that is anything but sorted."""
    models = [("home", "v1"), ("home", "v2"), ("search", ""), ("home", "v10")]
    span = rng.choice([30_000, 3 * 60_000, 15 * 60_000, 60 * 60_000])
    grain = rng.choice([1, 500, 30_000, 60_000])
    stream: list[tuple[int, Event]] = []
    for _ in range(events):
        user, item = f"u{rng.randrange(3)}", f"i{rng.randrange(3)}"
        time = T0 + rng.randrange(span) // grain * grain
        event: Event = (
            Impression(user, item, time, rng.choice(models)) if rng.random() < 0.6 else Click(user, item, time)
        )
        copies = 2 if rng.random() < 0.1 else 1
        stream += [(time + rng.randrange(disorder_ms + 1), event) for _ in range(copies)]
    stream.sort(key=lambda pair: pair[0])
    return [event for _, event in stream]


def pair_hash(event: Event) -> int:
    return hash((event.user, event.item)) & 0xFFFF_FFFF_FFFF_FFFF


def columns(table: JoinTable, events: list[Event]) -> Events:
    return Events(
        is_click=np.array([isinstance(e, Click) for e in events], np.bool_),
        pair=np.array([pair_hash(e) for e in events], np.uint64),
        time=np.array([e.time for e in events], np.int64),
        model=np.array([-1 if isinstance(e, Click) else table.models.number(e.model) for e in events], np.int64),
    )


class FinalCounts:
    """Keeps what each step says, replacing, and freezes a window when the watermark passes it."""

    def __init__(self, table: JoinTable) -> None:
        self.policy = table.policy
        self.open: dict[Key, tuple[int, int]] = {}
        self.final: dict[Key, tuple[int, int]] = {}

    def take(self, steps: list[Step]) -> None:
        for step in steps:
            for row in step.counts:
                key = (row.model, row.start)
                assert key not in self.final, "a final window changed"
                self.open[key] = (row.impressions, row.clicks)
            first_open = self.policy.first_open(step.watermark)
            for key in [key for key in self.open if key[1] < first_open]:
                self.final[key] = self.open.pop(key)
