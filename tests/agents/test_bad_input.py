"""A hundred thousand mutated records among good ones: nothing stops, nothing is lost, nothing is counted wrongly."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from faust.types import TP

from agents.config import DriftConfig, load_config
from agents.recordings import Line
from agents.replay import replaying
from agents.replay_input import Chunk, cut
from tables.drift_policy import DriftPolicy
from tables.feature_bins import CategoryBins, NumericBins
from tables.reference import FeatureReference, Reference
from tests.agents.shop_lines import final_counts
from tests.feature_oracle import DriftKey, drift_rows, feature_counts, serving_rows
from tests.judge import Verdict, judge, judge_inference
from tests.mutations import MUTATIONS, encode, event, huge
from tests.oracle import Arrivals, Click, Event, Impression, Inference, Key, count
from tests.tables.streams import T0

MUTATED = 100_000
GOOD = 25_000
HUGE = 40
PARTITIONS = 4
MINUTES = 25
TOPICS = ("impressions", "clicks", "inferences")
REFERENCES = (
    Reference(
        "home",
        None,
        (
            FeatureReference("age", NumericBins((30.0, 60.0)), (1, 1, 1, 0, 0)),
            FeatureReference("gender", CategoryBins(("m", "f")), (1, 1, 0, 0)),
            FeatureReference("a", NumericBins((1.0,)), (1, 1, 0, 0)),
            FeatureReference("prediction", NumericBins((0.5,)), (1, 1, 0, 0)),
        ),
        1,
        "test",
    ),
)


def _joined() -> list[Arrivals[Event]]:
    return [Arrivals(sides=(Impression, Click), clock=T0) for _ in range(PARTITIONS)]


def _served() -> list[Arrivals[Inference]]:
    return [Arrivals(sides=(Inference,), clock=T0) for _ in range(PARTITIONS)]


@dataclass
class Expected:
    """What must come out, as the judge says it line by line."""

    joined: list[Arrivals[Event]] = field(default_factory=_joined)
    served: list[Arrivals[Inference]] = field(default_factory=_served)
    faults: dict[tuple[str, int, int], tuple[str, bytes | None]] = field(default_factory=dict)
    """(topic, partition, offset) -> (why it cannot be used, the record)"""

    def take(self, line: Line, verdict: Verdict[Any], clock: int) -> None:
        fault = verdict.fault
        if verdict.event is not None:
            partition: Arrivals[Any] = (self.served if line.topic == "inferences" else self.joined)[line.partition]
            late = len(partition.late)
            partition.arrive(verdict.event, clock)
            fault = "late" if len(partition.late) > late else ""
        if fault:
            self.faults[line.topic, line.partition, line.offset] = fault, line.value

    def counts(self) -> dict[Key, tuple[int, int]]:
        sums: Counter[Key] = Counter()
        clicks: Counter[Key] = Counter()
        for partition in self.joined:
            for key, (shown, clicked) in count(partition.accepted).items():
                sums[key] += shown
                clicks[key] += clicked
        return {key: (shown, clicks[key]) for key, shown in sums.items()}

    def requests(self) -> dict[Key, tuple[int, int, int]]:
        """Requests, errors and latencies told."""
        rows = serving_rows(event for partition in self.served for event in partition.accepted)
        return {key: (row["requests"], row["errors"], row["latency_ms"]["count"]) for key, row in rows.items()}

    def compared(self) -> dict[DriftKey, int]:
        """The `n` of every drift row."""
        partitions: list[Arrivals[Event] | Arrivals[Inference]] = [*self.joined, *self.served]
        events = [event for partition in partitions for event in partition.accepted]
        rows = drift_rows(feature_counts(events, REFERENCES), REFERENCES, DriftPolicy())
        return {key: row["n"] for key, row in rows.items()}


def mixture(seed: int, now_ms: int) -> tuple[list[tuple[int, Line]], Expected]:
    """Lines in order of arrival with their clock, and what is expected of them."""
    rng = random.Random(seed)
    # Each input of each partition begins with a good event, so that from then on there is a watermark.
    first = [(topic, partition) for partition in range(PARTITIONS) for topic in TOPICS]
    plan = ["good"] * (GOOD - len(first)) + ["mutated"] * (MUTATED - HUGE) + ["huge"] * HUGE
    rng.shuffle(plan)
    plan = ["good"] * len(first) + plan
    lines: list[tuple[int, Line]] = []
    expected, offsets = Expected(), Counter[TP]()
    for number, what in enumerate(plan):
        clock = T0 + number * MINUTES * 60_000 // len(plan)
        random_place = rng.choice(["impressions", *TOPICS]), rng.randrange(PARTITIONS)
        kind, partition = first[number] if number < len(first) else random_place
        while True:
            body = event(rng, kind, clock - rng.randrange(4_000))
            if "user_id" in body:
                body["user_id"] += f"-{partition}"
            mutate = huge if what == "huge" else rng.choice(MUTATIONS)
            value = encode(body) if what == "good" else mutate(rng, body, now_ms)
            verdict: Verdict[Any] = (
                judge_inference(value, now_ms) if kind == "inferences" else judge(kind, value, now_ms)
            )
            # A plausible time from the future is a good one, and all that comes after it would be late.
            if verdict.event is None or verdict.event.time <= clock:
                break
        tp = TP(kind, partition)
        line = Line(kind, partition, offsets[tp], clock, None, value)
        offsets[tp] += 1
        lines.append((clock, line))
        expected.take(line, verdict, clock)
    return lines, expected


async def replayed(chunks: Iterable[Chunk]) -> tuple[list[bytes], list[dict[str, Any]], int]:
    """Final rows, dead letters, and how many records the agents took."""
    windows: list[bytes] = []
    letters: list[dict[str, Any]] = []
    config = replace(load_config(None, {}), drift=DriftConfig(references=REFERENCES))
    async with replaying(config) as replay:
        for output in [*[await replay.feed(chunk) for chunk in chunks], await replay.finish()]:
            windows += output.windows
            letters += map(json.loads, output.dead_letters)
        taken = sum(agent.custodian.applied for agent in (replay.app.join_agent, replay.app.inference_agent))
        return windows, letters, taken


def test_every_bad_record_is_a_dead_letter_and_every_good_one_is_counted() -> None:
    lines, expected = mixture(seed=20260501, now_ms=time.time_ns() // 1_000_000)
    windows, letters, taken = asyncio.run(replayed(cut(lines)))
    assert taken == MUTATED + GOOD

    told = {(letter["topic"], letter["partition"], letter["offset"]): letter for letter in letters}
    assert len(told) == len(letters)
    reasons = {where: letter["reason"].partition(":")[0] for where, letter in told.items()}
    assert reasons == {where: fault for where, (fault, _) in expected.faults.items()}
    for where, (_, value) in expected.faults.items():
        shown = told[where]["value"]
        assert (None if shown is None else base64.b64decode(shown)) == (None if value is None else value[:4096])
    assert final_counts(windows) == expected.counts()
    rows = [json.loads(row) for row in windows]
    served = {
        ((r["model_id"], r["model_version"]), r["window_start"]): (r["requests"], r["errors"], r["latency_ms"]["count"])
        for r in rows
        if r["kind"] == "serving"
    }
    assert served == expected.requests()
    compared = {
        ((r["model_id"], r["model_version"]), r["window_start"], r["feature"], r["method"]): r["n"]
        for r in rows
        if r["kind"] == "drift"
    }
    assert compared == expected.compared()

    # A mixture in which something is missing would say nothing.
    often = Counter(reasons.values())
    assert set(often) == {"empty", "too_large", "not_utf8", "not_json", "invalid_field", "time_out_of_range", "late"}
    assert often["late"] > 1_000
    assert often.total() > 0.5 * MUTATED
    assert sum(shown for shown, _ in expected.counts().values()) > GOOD / 3
    assert sum(requests for requests, *_ in served.values()) > GOOD / 4
    assert len(compared) > 500
    assert sum(clicks for _, clicks in expected.counts().values()) > 1_000
