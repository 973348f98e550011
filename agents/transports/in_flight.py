"""Which offsets of one topic-partition were delivered, and up to where all of them are done.

Stock Faust keeps one integer per record and takes every batch for a gap; here a batch is one range, and both
operations are O(1) amortised however many records it holds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Range:
    next_offset: int
    records: int
    done: bool = False


@dataclass(slots=True)
class InFlight:
    """Delivered ranges in order, each acknowledged once."""

    records: int = 0
    """Records delivered and not yet done."""
    committable: int | None = None
    """Everything before this offset is done; None until something is."""
    _ranges: deque[_Range] = field(default_factory=deque)
    _by_next: dict[int, _Range] = field(default_factory=dict)

    def delivered(self, next_offset: int, records: int) -> None:
        """A range up to (not including) `next_offset` goes to an agent."""
        entry = _Range(next_offset, records)
        self._ranges.append(entry)
        self._by_next[next_offset] = entry
        self.records += records

    def done(self, next_offset: int) -> None:
        """The range that ends before `next_offset` is done; unknown or repeated ones are ignored."""
        entry = self._by_next.pop(next_offset, None)
        if entry is None:
            return
        entry.done = True
        self.records -= entry.records
        while self._ranges and self._ranges[0].done:
            self.committable = self._ranges.popleft().next_offset
