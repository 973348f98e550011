"""Which impressions a set of clicks counts for: the one place that knows what `all` and `last` mean.

Both work on flat columns of a few (user, item) pairs at once. `owner` numbers the pairs; adding
`owner * span` to the times, with a span wider than everything that can match, turns "the nearest time within
the same pair" into one binary search over one sorted array.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def attribute(
    attribution: Literal["all", "last"],
    attribution_ms: int,
    shown_owner: Ints,
    shown_time: Ints,
    shown_rank: Ints,
    click_owner: Ints,
    click_time: Ints,
) -> Flags:
    """Which impressions count as clicked; shape of `shown_owner`.

    `all`: an impression is clicked if any click of its pair lies in [its time, its time + attribution].
    `last`: a click counts only for the latest impression of its pair at or before it, ties going to the greater
    `shown_rank`, if that one is at most `attribution_ms` older.
    Clicks must be sorted by (owner, time); impressions may come in any order. Times in ms, all int64.
    """
    clicked = np.zeros(len(shown_owner), np.bool_)
    if not len(shown_owner) or not len(click_owner):
        return clicked
    base = min(int(shown_time.min()), int(click_time.min()))
    span = max(int(shown_time.max()), int(click_time.max())) - base + attribution_ms + 1
    shown = shown_owner * span + (shown_time - base)
    click = click_owner * span + (click_time - base)
    if attribution == "all":
        nearest = np.searchsorted(click, shown, side="left")
        found = nearest < len(click)
        clicked[found] = click[nearest[found]] <= shown[found] + attribution_ms
        return clicked
    order = np.lexsort((shown_rank, shown))
    shown = shown[order]
    latest = np.searchsorted(shown, click, side="right") - 1
    found = latest >= 0
    latest, click = latest[found], click[found]
    clicked[order[latest[shown[latest] >= click - attribution_ms]]] = True
    return clicked
