"""Conditions that come and go: told once and held open, instead of a message each time."""

from __future__ import annotations

from collections.abc import Mapping

from alerting.desk.policy import Flapping


class FlapWatch:
    """When each condition began of late, by fingerprint; at most `limit` of them, the ones that began last."""

    def __init__(self, flapping: Flapping, limit: int) -> None:
        self.flapping = flapping
        self._limit = limit
        self._begins: dict[str, list[int]] = {}

    def began(self, fingerprint: str, now_ms: int) -> None:
        """It begins again."""
        begins = self._begins.pop(fingerprint, [])
        kept = [at for at in begins if at > now_ms - self.flapping.within_ms]
        # More than `times` say nothing more.
        self._begins[fingerprint] = [*kept, now_ms][-self.flapping.times :]
        while len(self._begins) > self._limit or self._is_over(now_ms):
            del self._begins[next(iter(self._begins))]

    def held_until(self, fingerprint: str, now_ms: int) -> int | None:
        """Until when an end that comes now is to be held back; None where the condition is not flapping."""
        begins = self._begins.get(fingerprint, [])
        if len(begins) < self.flapping.times:
            return None
        until = begins[-1] + self.flapping.quiet_ms
        return until if until > now_ms else None

    def state(self) -> dict[str, list[int]]:
        """Plain data."""
        return {fingerprint: list(begins) for fingerprint, begins in self._begins.items()}

    def restore(self, state: Mapping[str, list[int]]) -> None:
        """The reverse."""
        self._begins = {fingerprint: [int(at) for at in begins] for fingerprint, begins in state.items()}

    def _is_over(self, now_ms: int) -> bool:
        """Whether the condition that began longest ago has been quiet for so long that nothing hangs on it."""
        last = self._begins[next(iter(self._begins))][-1]
        return last <= now_ms - max(self.flapping.within_ms, self.flapping.quiet_ms)
