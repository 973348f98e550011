"""What is sent in a crash test, and what must come out: computed from the set of events alone."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import orjson

from agents.recordings import Line
from agents.simulation.scenarios import scenario_named
from agents.simulation.shop import Shop
from tables.drift_policy import DriftPolicy
from tables.feature_bins import Bins, CategoryBins, NumericBins
from tables.reference import FeatureReference, Reference
from tests.agents.shop_lines import event_json, topic_of
from tests.feature_oracle import DriftKey, drift_rows, feature_counts, serving_rows
from tests.judge import judge_inference
from tests.oracle import MINUTE, Click, Event, Impression, Inference, Key, count
from tests.tables.streams import random_stream

PARTITIONS = 4
TOPICS = ("impressions", "clicks", "inferences")
DRIFT = DriftPolicy(horizon_ms=10 * MINUTE)
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
    references: tuple[Reference, ...] = ()
    served: dict[Key, tuple[int, int, int]] = field(default_factory=dict)
    """Requests, errors and latencies told."""
    compared: dict[DriftKey, int] = field(default_factory=dict)
    """The `n` of every drift row, with the policy DRIFT."""
    alone: dict[DriftKey, int] = field(default_factory=dict)
    """What it would be with a horizon of one minute: so much at least is known where the store was lost."""

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
        """One event of each topic a partition, so late that every window before them becomes final."""
        at = self.end_ms + CLOSING_MS
        return [
            as_line(event, partition, at)
            for partition in range(PARTITIONS)
            for event in (
                Impression(f"closing-{partition}", "i", at, ("closing", "")),
                Click(f"closing-{partition}", "i", at),
                Inference(at, ("closing", "")),
            )
        ]


def shop_traffic(seed: int, *, rate: float, minutes: float, start_ms: int, attribution: str = "all") -> Traffic:
    """The simulated shop with all its noise but hopelessly late events, of which the oracle knows nothing."""
    scenario = scenario_named("may-day")
    scenario = replace(scenario, noise=replace(scenario.noise, hopelessly_late=0.0))
    shop = Shop(scenario, rate, seed, minutes, start_ms, partitions=PARTITIONS)
    lines = (line for lines in shop.slices() for line in lines if line.topic in TOPICS)
    return _traffic(lines, attribution, (shop_reference(),))


def random_traffic(seed: int, *, events: int) -> Traffic:
    """Few users and items, so that everything collides, two minutes out of order."""
    rng = random.Random(seed)
    stream = random_stream(rng, events, disorder_ms=2 * MINUTE)
    partition = {user: rng.randrange(PARTITIONS) for user in sorted({event.user for event in stream})}
    # The order of arrival counts, not its times; these only spread the records over the run.
    return _traffic((as_line(e, partition[e.user], stream[0].time + n) for n, e in enumerate(stream)), "all")


def shop_reference() -> Reference:
    """Of one of the shop's models; what its counts are changes no `n`."""
    bins: dict[str, Bins] = {
        "age": NumericBins((25.0, 40.0, 60.0)),
        "gender": CategoryBins(("F", "M")),
        "new_user": CategoryBins(("false", "true")),
        "prediction": NumericBins((0.1,)),
    }
    features = tuple(FeatureReference(name, its, (1,) * its.width) for name, its in bins.items())
    return Reference("recommender-home", None, features, 1, "test")


def as_line(event: Event | Inference, partition: int, at_ms: int) -> Line:
    """The record of an event."""
    key = None if isinstance(event, Inference) else event.user.encode()
    return Line(topic_of(event), partition, -1, at_ms, key, event_json(event))


def traffic_of(
    lines: list[Line],
    events: Sequence[Event],
    inferences: Sequence[Inference],
    *,
    broken: frozenset[bytes] = frozenset(),
    references: tuple[Reference, ...] = (),
    attribution: str = "all",
) -> Traffic:
    """Records, and the answer to the events that are in them."""
    served = {
        key: (row["requests"], row["errors"], row["latency_ms"]["count"])
        for key, row in serving_rows(inferences).items()
    }
    everything = [*events, *inferences]
    counts = feature_counts(everything, references)
    compared, alone = (
        {key: row["n"] for key, row in drift_rows(counts, references, policy).items()}
        for policy in (DRIFT, replace(DRIFT, horizon_ms=MINUTE))
    )
    end_ms = max(event.time for event in everything)
    return Traffic(lines, count(events, attribution), broken, end_ms, references, served, compared, alone)


def _traffic(lines: Iterable[Line], attribution: str, references: tuple[Reference, ...] = ()) -> Traffic:
    kept = list(lines)
    events: list[Event] = []
    inferences: list[Inference] = []
    broken: set[bytes] = set()
    now_ms = time.time_ns() // 1_000_000
    for line in kept:
        value = line.value or b""
        event = judge_inference(value, now_ms).event if line.topic == "inferences" else _event(line.topic, value)
        if event is None:
            broken.add(value)
        elif isinstance(event, Inference):
            inferences.append(event)
        else:
            events.append(event)
    return traffic_of(
        kept, events, inferences, broken=frozenset(broken), references=references, attribution=attribution
    )


def _event(topic: str, value: bytes) -> Event | None:
    """What a record says; None where the shop has broken it."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if type(body.get("event_time")) is not int:
        return None
    user, item, at = body["user_id"], body["item_id"], body["event_time"]
    if topic == "clicks":
        return Click(user, item, at)
    features = orjson.dumps(body["features"]).decode() if "features" in body else "null"
    return Impression(user, item, at, (body["model_id"], body["model_version"]), features)
