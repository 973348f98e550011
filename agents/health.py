"""What a worker knows of its own health: the facts behind /livez and /readyz."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

LOOP_STALLED_S = 30.0
"""A main loop that has not turned for so long is dead: only a restart helps."""


@dataclass(slots=True)
class Health:
    """Facts that the parts of a worker note down as they learn them."""

    monotonic: Callable[[], float] = time.monotonic
    store_error: str | None = None
    broker_error: str | None = None
    assigned: bool = False
    """Whether the group has given an answer (an empty assignment counts: a standby is ready)."""
    restoring: dict[str, set[int]] = field(default_factory=dict)
    """Agent -> partitions whose state is not loaded yet."""
    stopping: bool = False
    _turned_at: float = 0.0

    def __post_init__(self) -> None:
        self._turned_at = self.monotonic()

    def turn(self) -> None:
        """Called by the main loop, often."""
        self._turned_at = self.monotonic()

    def why_not_live(self) -> list[str]:
        """Reasons to be restarted; none of them lies outside this process."""
        stalled = self.monotonic() - self._turned_at
        return [f"the main loop has not turned for {stalled:.0f} s"] if stalled > LOOP_STALLED_S else []

    def why_not_ready(self) -> list[str]:
        """Reasons why this worker does not do its work just now."""
        reasons = []
        if self.stopping:
            reasons.append("stopping")
        if not self.assigned:
            reasons.append("waiting for the consumer group to assign partitions")
        if self.store_error is not None:
            reasons.append(f"store: {self.store_error}")
        if self.broker_error is not None:
            reasons.append(f"broker: {self.broker_error}")
        for agent, partitions in sorted(self.restoring.items()):
            if partitions:
                reasons.append(f"{agent}: restoring partitions {', '.join(map(str, sorted(partitions)))}")
        return reasons
