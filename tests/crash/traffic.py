"""What is sent in a crash test, and what must come out: computed from the set of events alone."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

import orjson

from agents.recordings import Line
from agents.simulation.scenarios import scenario_named
from agents.simulation.shop import Shop
from tests.oracle import MINUTE, Click, Event, Impression, Key, count
from tests.tables.streams import random_stream

PARTITIONS = 4
TOPICS = ("impressions", "clicks")
# Beyond the attribution window and the watermark's delay, so that everything before is final.
CLOSING_MS = 15 * MINUTE


@dataclass(frozen=True, slots=True)
class Traffic:
    """Records in their order of arrival, and the answer to them."""

    lines: list[Line]
    expected: dict[Key, tuple[int, int]]
    broken: frozenset[bytes]
    """Values of the records that must become dead letters."""
    end_ms: int
    """Newest event time."""

    def slices(self, seconds: float, slice_s: float) -> dict[tuple[str, int], list[tuple[float, list[Line]]]]:
        """By topic and partition: when each bunch of records is due, if all shall take so many seconds."""
        first, last = self.lines[0].timestamp or 0, self.lines[-1].timestamp or 0
        pace = seconds / max(last - first, 1)
        parts: dict[tuple[str, int], list[tuple[float, list[Line]]]] = {}
        for topic in TOPICS:
            for partition in range(PARTITIONS):
                mine = (line for line in self.lines if (line.topic, line.partition) == (topic, partition))
                parts[topic, partition] = [
                    (number * slice_s, list(lines))
                    for number, lines in groupby(mine, lambda line: ((line.timestamp or 0) - first) * pace // slice_s)
                ]
        return parts

    def closing(self) -> list[Line]:
        """One impression and one click a partition, so late that every window before them becomes final."""
        at = self.end_ms + CLOSING_MS
        return [
            line
            for partition in range(PARTITIONS)
            for line in (
                as_line(Impression(f"closing-{partition}", "i", at, ("closing", "")), partition, at),
                as_line(Click(f"closing-{partition}", "i", at), partition, at),
            )
        ]


def shop_traffic(seed: int, *, rate: float, minutes: float, start_ms: int, attribution: str = "all") -> Traffic:
    """The simulated shop with all its noise but hopelessly late events, of which the oracle knows nothing."""
    scenario = scenario_named("may-day")
    scenario = replace(scenario, noise=replace(scenario.noise, hopelessly_late=0.0))
    shop = Shop(scenario, rate, seed, minutes, start_ms, partitions=PARTITIONS)
    return _traffic((line for lines in shop.slices() for line in lines if line.topic in TOPICS), attribution)


def random_traffic(seed: int, *, events: int) -> Traffic:
    """Few users and items, so that everything collides, two minutes out of order."""
    rng = random.Random(seed)
    stream = random_stream(rng, events, disorder_ms=2 * MINUTE)
    partition = {user: rng.randrange(PARTITIONS) for user in sorted({event.user for event in stream})}
    # The order of arrival counts, not its times; these only spread the records over the run.
    return _traffic((as_line(e, partition[e.user], stream[0].time + n) for n, e in enumerate(stream)), "all")


def as_line(event: Event, partition: int, at_ms: int) -> Line:
    """The record of an event."""
    body = {"user_id": event.user, "item_id": event.item, "event_time": event.time}
    if isinstance(event, Click):
        return Line("clicks", partition, -1, at_ms, event.user.encode(), orjson.dumps(body))
    body |= {"model_id": event.model[0], "model_version": event.model[1]}
    return Line("impressions", partition, -1, at_ms, event.user.encode(), orjson.dumps(body))


def _traffic(lines: Iterable[Line], attribution: str) -> Traffic:
    kept = list(lines)
    events: list[Event] = []
    broken: set[bytes] = set()
    for line in kept:
        value = line.value or b""
        event = _event(line.topic, value)
        if event is None:
            broken.add(value)
        else:
            events.append(event)
    return Traffic(kept, count(events, attribution), frozenset(broken), max(event.time for event in events))


def _event(topic: str, value: bytes) -> Event | None:
    """What a record says; None where the shop has broken it."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if type(body.get("event_time")) is not int:
        return None
    user, item, time = body["user_id"], body["item_id"], body["event_time"]
    if topic == "clicks":
        return Click(user, item, time)
    return Impression(user, item, time, (body["model_id"], body["model_version"]))
