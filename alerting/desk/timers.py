"""What is due when: one time for each thing, moved or taken back at will."""

from __future__ import annotations

import heapq


class Timers:
    """Names with a time each. What is due at once comes out in order of time and name, whatever was set first."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, ...], int] = {}
        self._heap: list[tuple[int, tuple[str, ...]]] = []

    def set(self, name: tuple[str, ...], at_ms: int | None) -> None:
        """Let `name` be due at `at_ms` instead of when it was; None: not at all."""
        if at_ms is None:
            self._at.pop(name, None)
        elif self._at.get(name) != at_ms:
            self._at[name] = at_ms
            heapq.heappush(self._heap, (at_ms, name))
            if len(self._heap) > 64 + 4 * len(self._at):  # mostly times that were moved since
                self._heap = [(at, name) for name, at in self._at.items()]
                heapq.heapify(self._heap)

    def next_due(self) -> int | None:
        """When the first of them is due."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now_ms: int) -> tuple[str, ...] | None:
        """Take out the first that is due at `now_ms`; None where none is."""
        due = self.next_due()
        if due is None or due > now_ms:
            return None
        _, name = heapq.heappop(self._heap)
        del self._at[name]
        return name
