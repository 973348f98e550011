"""Which partitions have told the windows agent what, and how far event time has come by their words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tables.partials import INFERENCES, JOIN, Partial
from tables.watermark import UNKNOWN, reached

Source = tuple[int, int]
"""(group, partition)."""


class _Said(NamedTuple):
    epoch: int
    number: int
    part: int
    watermark: int
    idle: bool
    offset: int
    idle_for_ms: int = 0


class Sources:
    """The last word of each input partition."""

    def __init__(self) -> None:
        self._said: dict[Source, _Said] = {}
        self._of: dict[int, int] = {}

    def hear(self, partial: Partial, offset: int) -> bool:
        """Take in who speaks, read at `offset`; False where it is older than what its source has said already.

        It then comes from an owner that was replaced, or that wakes up while another sends its last words again.
        """
        source = (partial.group, partial.source)
        known = self._said.get(source)
        order = (partial.epoch, partial.number, partial.part)
        if known is not None and order < known[:3]:
            return False
        self._of[partial.group] = partial.of
        self._said[source] = _Said(*order, partial.watermark, partial.idle, offset, partial.idle_for_ms)
        return True

    def watermark_of(self, source: Source) -> int:
        """How far event time has come on one partition."""
        said = self._said.get(source)
        return UNKNOWN if said is None else said.watermark

    def watermark(self, group: int) -> int:
        """How far event time has come on every partition of a group; UNKNOWN before all have spoken."""
        said = self._of_group(group)
        if len(said) < self._of.get(group, 1):
            return UNKNOWN
        return min(word.watermark for word in said)

    def slowest(self) -> int:
        """How far event time has come on both groups; one that is wholly idle does not hold the other back."""
        return reached((self.watermark(group), self.is_idle(group)) for group in (JOIN, INFERENCES))

    def is_idle(self, group: int) -> bool:
        """Whether all partitions of a group are silent."""
        said = self._of_group(group)
        return len(said) >= self._of.get(group, 1) and all(word.idle for word in said)

    def idle_for_ms(self, group: int) -> int:
        """For how long nothing has come in on any partition of a group; 0 while one is not idle."""
        said = self._of_group(group)
        return min(word.idle_for_ms for word in said) if self.is_idle(group) else 0

    def offsets(self) -> Iterable[int]:
        """Where each source's last word was read."""
        return (word.offset for word in self._said.values())

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, msgpack-able."""
        return {"of": self._of, "said": [(*source, *word) for source, word in self._said.items()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._of = dict(state["of"])
        self._said = {(group, partition): _Said(*word) for group, partition, *word in state["said"]}

    def _of_group(self, group: int) -> list[_Said]:
        return [word for (its_group, _), word in self._said.items() if its_group == group]
