"""What is kept of one (user, item) where a framework has keyed state but no join that fits: lists, as they are JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from task import MINUTE_MS, WITHIN_MS

Pair = dict[str, Any]
"""`shown`: [model, version, event time, clicked] of each impression; `clicks`: the event times of its clicks."""
Mark = tuple[str, str, int, str]
"""A pair was for the first time `shown` or `clicked` in a window: (model, version, window start, which)."""


def take(pair: Pair, event: dict[str, Any]) -> Iterator[Mark]:
    """Add an event to its pair; what is new by it."""
    at = event["event_time"]
    if "model_id" not in event:
        pair["clicks"].append(at)
        for impression in pair["shown"]:
            yield from _clicked(pair, impression, (at,))
        return
    impression = [event["model_id"], event.get("model_version") or "", at, False]
    if not any(_same_window(impression, other) for other in pair["shown"]):
        yield impression[0], impression[1], _start(at), "shown"
    pair["shown"].append(impression)
    yield from _clicked(pair, impression, pair["clicks"])


def _clicked(pair: Pair, impression: list[Any], clicks: Any) -> Iterator[Mark]:
    at = impression[2]
    if not any(at <= click <= at + WITHIN_MS for click in clicks):
        return
    if not any(other[3] and _same_window(impression, other) for other in pair["shown"]):
        yield impression[0], impression[1], _start(at), "clicked"
    impression[3] = True


def _same_window(one: list[Any], other: list[Any]) -> bool:
    return one[:2] == other[:2] and _start(one[2]) == _start(other[2])


def _start(at: int) -> int:
    return at - at % MINUTE_MS
