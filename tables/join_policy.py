"""The numbers that define the click join; contract: one value object, validated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tables.errors import ConfigError

WINDOW_MS = 60_000
"""Length of a tumbling window; a row's time inside its window fits 16 bits, so it is not configurable."""

MODEL_LIMIT = 65_535
"""Indices of (model, version) are 16 bits wide in a packed row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinPolicy:
    """How impressions and clicks are joined; all times are event-time milliseconds.

    Raises ConfigError for values that cannot work.
    """

    attribution: Literal["all", "last"] = "all"
    attribution_ms: int = 600_000
    """A click counts for impressions at most this much older than itself."""
    out_of_orderness_ms: int = 5_000
    """The watermark stays this far behind the newest event of an input."""
    idle_after_ms: int = 15_000
    """An input without records for so long (and without a backlog) stops holding the watermark back."""
    max_rows: int = 20_000_000
    """Live impressions and clicks of one partition; what comes on top is dead-lettered."""
    max_models: int = 10_000
    """(model, version) pairs alive in one partition; what comes on top is dead-lettered."""

    def __post_init__(self) -> None:
        if self.attribution not in ("all", "last"):
            raise ConfigError(f'join.attribution: expected "all" or "last", got {self.attribution!r}')
        if self.attribution_ms <= 0 or self.attribution_ms % WINDOW_MS:
            raise ConfigError(f"join.attribution_window: expected whole minutes, got {self.attribution_ms} ms")
        for name in ("out_of_orderness_ms", "idle_after_ms", "max_rows"):
            if getattr(self, name) < 0:
                raise ConfigError(f"join.{name}: expected 0 or more, got {getattr(self, name)}")
        if not 0 < self.max_models <= MODEL_LIMIT:
            raise ConfigError(f"join.max_models: expected 1 to {MODEL_LIMIT}, got {self.max_models}")

    def first_open(self, watermark: int) -> int:
        """Start of the oldest window that is not final when the watermark stands at `watermark`.

        A window is final once the watermark has passed its end plus the attribution time.
        """
        return (watermark - self.attribution_ms) // WINDOW_MS * WINDOW_MS
