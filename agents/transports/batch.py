"""What a transport hands to an agent: everything fetched from one partition, as one message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Sending: TypeAlias = tuple[str, bytes | None, bytes | None, int | None]
"""A record on its way out: topic, key, value, and partition, or None for the one that the key is assigned to."""


@dataclass(frozen=True, slots=True)
class Section:
    """The records of one topic in a batch, in the order of their offsets."""

    topic: str
    offsets: Sequence[int]
    values: Sequence[bytes | None]
    next_offset: int
    """Where reading goes on after this section; may lie beyond the last record (compaction, control records)."""
    arrival: NDArray[np.int64] | None = None
    """Place of each record in the order of arrival over all topics, where the broker knows one."""
    clock: NDArray[np.int64] | None = None
    """Arrival time of each record, ms; only on a broker whose records carry the clock (a replay)."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Batch:
    """All that was fetched at once from partition `partition` of co-partitioned topics."""

    partition: int
    sections: tuple[Section, ...]
    incarnation: int = 0
    """Which holding of the partition it was fetched in; older ones than the owner's must be dropped."""

    @property
    def records(self) -> int:
        """Number of records in all sections."""
        return sum(len(section.values) for section in self.sections)
