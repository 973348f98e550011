"""The watermark of one partition: how far event time has surely come on all of its inputs.

It is the smaller of the inputs' (newest event time - out-of-orderness); an idle input stops holding it back,
and it never goes down. Idleness is judged on a *clock* that the caller gives: arrival times in a replay,
a supervised wall clock on a live broker (see `agents.input_agent`), so that a stalled worker is never taken
for a silent input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -(2**60)
"""Event time before the first event; far from every real time, yet safe to add to and to divide."""

END = 2**60
"""Event time after the last event."""

IMPRESSIONS, CLICKS = 0, 1

Times = NDArray[np.int64]


def reached(partitions: Iterable[tuple[int, bool]]) -> int:
    """How far event time has come over (watermark, whether idle) of all partitions; idle ones hold nothing back."""
    known = list(partitions)
    awake = [value for value, idle in known if not idle]
    return min(awake) if awake else max((value for value, _ in known), default=UNKNOWN)


class Watermark:
    """Running watermark over the inputs of a partition: impressions and clicks, or one topic alone."""

    __slots__ = ("_high", "_idle_after", "_out_of_orderness", "_seen", "frozen", "value")

    def __init__(self, out_of_orderness_ms: int, idle_after_ms: int, clock_ms: int, inputs: int = 2) -> None:
        self._out_of_orderness = out_of_orderness_ms
        self._idle_after = idle_after_ms
        self._high = [UNKNOWN] * inputs
        self._seen = [clock_ms] * inputs
        self.value = UNKNOWN
        self.frozen = False
        """The watermark stays where it is, whatever is taken in: events are being read again."""

    def advance(self, side: NDArray[np.bool_] | NDArray[np.int64], time: Times, clock: Times | int) -> Times:
        """Take in events in their order of arrival; returns the watermark after each, shape (n,), int64 ms.

        `side`: the number of each event's input, shape (n,), such as IMPRESSIONS or CLICKS. `clock`: the arrival clock
        at each event (non-decreasing), or one value for all of them.
        """
        clocks = np.broadcast_to(np.asarray(clock, dtype=np.int64), time.shape)
        holds = []
        for number in range(len(self._high)):
            mine = side == number
            high = np.maximum.accumulate(np.where(mine, time, self._high[number]))
            np.maximum(high, self._high[number], out=high)
            seen = np.maximum.accumulate(np.where(mine, clocks, self._seen[number]))
            holds.append(np.where(clocks - seen > self._idle_after, END, high))
            self._high[number] = int(high[-1])
            self._seen[number] = max(self._seen[number], int(seen[-1]))
        if self.frozen:
            return np.full(time.shape, self.value)
        marks: Times = np.min(holds, axis=0) - self._out_of_orderness
        np.maximum.accumulate(marks, out=marks)
        np.maximum(marks, self.value, out=marks)
        self.value = int(marks[-1])
        return marks

    def tick(self, clock: int) -> int:
        """Let the clock move without an event: an input may have become idle. Returns the watermark."""
        if self.frozen:
            return self.value
        awake = [high for high, seen in zip(self._high, self._seen, strict=True) if clock - seen <= self._idle_after]
        hold = min(awake) if awake else max(self._high)
        self.value = max(self.value, hold - self._out_of_orderness)
        return self.value

    def touch(self, side: int, clock: int) -> None:
        """Say that an input is not known to be at its end, so that it does not count as idle."""
        self._seen[side] = max(self._seen[side], clock)

    def is_idle(self, clock: int) -> bool:
        """Whether all inputs are idle: then this partition must not hold the others back."""
        return self.idle_for(clock) > 0

    def idle_for(self, clock: int) -> int:
        """For how long nothing has come in, ms; 0 while an input is not idle."""
        silent = clock - max(self._seen)
        return silent if silent > self._idle_after else 0

    def lift(self, value: int) -> None:
        """Raise the watermark to what the other partitions have reached."""
        if not self.frozen:
            self.value = max(self.value, value)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; the clock is left out, for it means nothing to the next owner."""
        return {"value": self.value, "high": list(self._high)}

    def restore(self, state: dict[str, Any], clock_ms: int) -> None:
        """Continue from `state`; all inputs count as just seen."""
        self.value = int(state["value"])
        self._high = [int(high) for high in state["high"]]
        self._seen = [clock_ms] * len(self._high)
