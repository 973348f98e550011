"""How often, and how far apart, a delivery is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from tables.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential back-off with full jitter: a receiver that comes back is not met by all at one instant.

    The wait after attempt n is uniform in [0, min(`cap_s`, `base_s` * 2**(n-1))]. A receiver that asks for a
    longer one gets it, up to `retry_after_cap_s`. No attempt begins later than `budget_s` after the first, nor
    after `tries` of them, or `tries_before_detour` where another channel can stand in.
    """

    tries: int = 30
    tries_before_detour: int = 6
    budget_s: float = 300.0
    base_s: float = 1.0
    cap_s: float = 60.0
    retry_after_cap_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("tries", "tries_before_detour"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("budget_s", "base_s", "cap_s", "retry_after_cap_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}: expected seconds from 0, got {getattr(self, name)!r}")

    def ceiling(self, attempt: int) -> float:
        """The longest wait in seconds after failed attempt number `attempt` (from 1)."""
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 60))

    def wait(
        self,
        attempt: int,
        elapsed_s: float,
        share: float,
        retry_after_s: float | None = None,
        *,
        has_detour: bool = False,
    ) -> float | None:
        """Seconds from failed attempt number `attempt` (from 1) to the next one; None: give up.

        `elapsed_s` is the time since the first attempt began, `share` a random number from 0 to 1, `retry_after_s`
        what the receiver asked for, `has_detour` whether another channel can stand in.
        """
        if attempt >= self.tries or (has_detour and attempt >= self.tries_before_detour):
            return None
        wait = share * self.ceiling(attempt)
        if retry_after_s is not None:
            wait = max(wait, min(retry_after_s, self.retry_after_cap_s))
        return wait if elapsed_s + wait <= self.budget_s else None
