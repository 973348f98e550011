"""What a robot that takes so many messages a minute allows, from the times at which it got some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MINUTE_S: Final = 60.0
BUDGET: Final = 20


def most_in_any_window(times: Sequence[float], span: float = MINUTE_S) -> int:
    """Of `span` seconds."""
    return max(sum(first <= at < first + span for at in times) for first in times)


def first_free(since: float, times: Sequence[float]) -> float:
    """From `since` on the first moment at which it would take one more."""
    moments = [since, *(at + MINUTE_S for at in times if at + MINUTE_S > since)]
    return next(at for at in sorted(moments) if sum(at - MINUTE_S < each <= at for each in times) < BUDGET)
