"""What the rules judge: the counts of one window of one model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Distinct pairs shown and clicked in [`window_start`, `window_end`), in milliseconds of event time."""

    model_id: str
    model_version: str
    window_start: int
    window_end: int
    impressions: int
    clicks: int

    @property
    def ctr(self) -> float | None:
        """Clicked / shown, from 0 to 1; None where nothing was shown."""
        return self.clicks / self.impressions if self.impressions else None
