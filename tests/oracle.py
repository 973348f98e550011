"""The contract's section 2 word for word, without a thought for speed: what everything else must equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

MINUTE = 60_000


class Impression(NamedTuple):
    user: str
    item: str
    time: int
    model: tuple[str, str]
    features: str = "null"
    """JSON text."""


class Click(NamedTuple):
    user: str
    item: str
    time: int


class Inference(NamedTuple):
    time: int
    model: tuple[str, str]
    latency_ms: float | None = None
    status: str | None = None
    prediction: float | str | None = None
    features: str = "null"
    """JSON text."""


Event = Impression | Click
E = TypeVar("E", Event, Inference)
Key = tuple[tuple[str, str], int]
"""(model, window start)"""


def count(events: Iterable[Event], attribution: str = "all", within: int = 600_000) -> dict[Key, tuple[int, int]]:
    """(impressions, clicks) of every window, from the set of events alone."""
    shown: dict[Key, set[tuple[str, str]]] = defaultdict(set)
    clicked: dict[Key, set[tuple[str, str]]] = defaultdict(set)
    by_pair: dict[tuple[str, str], list[Impression]] = defaultdict(list)
    clicks = set()
    for event in events:
        if isinstance(event, Click):
            clicks.add(event)
        else:
            by_pair[event.user, event.item].append(event)
            shown[event.model, event.time // MINUTE * MINUTE].add((event.user, event.item))
    for click in clicks:
        before = [i for i in by_pair[click.user, click.item] if i.time <= click.time]
        if attribution == "last" and before:
            before = [max(before, key=lambda i: (i.time, i.model))]
        for impression in before:
            if click.time <= impression.time + within:
                clicked[impression.model, impression.time // MINUTE * MINUTE].add((click.user, click.item))
    return {key: (len(pairs), len(clicked[key])) for key, pairs in shown.items()}


@dataclass(kw_only=True)
class Arrivals(Generic[E]):
    """One partition, event by event: the watermark moves, and late events are kept out."""

    sides: tuple[type, ...]
    """What its topics carry."""
    within: int = 600_000
    out_of_orderness: int = 5_000
    idle_after: int = 15_000
    clock: int = 0
    watermark: float = float("-inf")
    accepted: list[E] = field(default_factory=list)
    late: list[E] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.high = dict.fromkeys(self.sides, float("-inf"))
        self.seen = dict.fromkeys(self.sides, self.clock)

    def is_final(self, start: int) -> bool:
        return start + MINUTE + self.within <= self.watermark

    def arrive(self, event: E, clock: int) -> None:
        side = type(event)
        self.high[side] = max(self.high[side], event.time)
        self.seen[side] = clock
        awake = [self.high[s] for s in self.sides if clock - self.seen[s] <= self.idle_after]
        self.watermark = max(self.watermark, min(awake) - self.out_of_orderness)
        self.close()
        if self.is_final(event.time // MINUTE * MINUTE):
            self.late.append(event)
        else:
            self.accepted.append(event)

    def close(self) -> None:
        """The watermark may have passed windows."""


@dataclass
class ArrivalOracle(Arrivals[Event]):
    """The join on one partition: windows become final in between."""

    sides: tuple[type, ...] = field(default=(Impression, Click), kw_only=True)
    attribution: str = "all"
    final: dict[Key, tuple[int, int]] = field(default_factory=dict)

    def close(self) -> None:
        now_final = {
            key: numbers
            for key, numbers in count(self.accepted, self.attribution, self.within).items()
            if self.is_final(key[1]) and key not in self.final
        }
        if now_final:
            self.final.update(now_final)

    def end(self) -> dict[Key, tuple[int, int]]:
        self.watermark = float("inf")
        self.close()
        return self.final
