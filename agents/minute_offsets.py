"""Where the open minutes of event time begin in the broker: from there a rebuild must read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tables.join_policy import WINDOW_MS


class MinuteOffsets:
    """The first offset that matters to each open minute, by topic."""

    def __init__(self, topics: Sequence[str]) -> None:
        self._first: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        self._next: dict[str, int] = {}

    def read_up_to(self, topic: str, next_offset: int) -> None:
        """Say where reading goes on."""
        self._next[topic] = next_offset

    def remember(self, topic: str, times: NDArray[np.int64], offsets: NDArray[np.int64], first_open: int) -> None:
        """Take in records: event times (ms) and offsets, shape (n,)."""
        if not len(times):
            return
        first = self._first[topic]
        starts, where = np.unique(times // WINDOW_MS * WINDOW_MS, return_inverse=True)
        lowest = np.full(len(starts), np.iinfo(np.int64).max)
        np.minimum.at(lowest, where, offsets)
        for minute, offset in zip(starts.tolist(), lowest.tolist(), strict=True):
            if minute >= first_open:
                first[minute] = min(offset, first.get(minute, offset))

    def forget_before(self, first_open: int) -> None:
        """The minutes before it are final."""
        for topic, minutes in self._first.items():
            self._first[topic] = {minute: offset for minute, offset in minutes.items() if minute >= first_open}

    def rebuild(self) -> dict[str, int]:
        """Topic -> where to read again from."""
        return {
            topic: min(minutes.values(), default=self._next.get(topic, 0)) for topic, minutes in self._first.items()
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"first": self._first, "next": self._next}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._first = {topic: dict(state["first"].get(topic, {})) for topic in self._first}
        self._next = dict(state["next"])
