"""A hundred thousand mutated records among good ones: nothing stops, nothing is lost, nothing is counted wrongly."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from faust.types import TP

from agents.config import load_config
from agents.recordings import Line
from agents.replay import replaying
from agents.replay_input import Chunk, cut
from tests.agents.shop_lines import final_counts
from tests.judge import Verdict, judge
from tests.mutations import MUTATIONS, encode, event, huge
from tests.oracle import ArrivalOracle, Key, count
from tests.tables.streams import T0

MUTATED = 100_000
GOOD = 25_000
HUGE = 40
PARTITIONS = 4
MINUTES = 25


class Lateness(ArrivalOracle):
    """Says only who is late: the counts are made once, at the end."""

    def close(self) -> None:
        """Good events arrive in order, so no window changes after it has become final."""


@dataclass
class Expected:
    """What must come out, as the judge says it line by line."""

    partitions: list[Lateness] = field(default_factory=lambda: [Lateness(clock=T0) for _ in range(PARTITIONS)])
    faults: dict[tuple[str, int, int], tuple[str, bytes | None]] = field(default_factory=dict)
    """(topic, partition, offset) -> (why it cannot be used, the record)"""

    def take(self, line: Line, verdict: Verdict, clock: int) -> None:
        fault = verdict.fault
        if verdict.event is not None:
            partition = self.partitions[line.partition]
            late = len(partition.late)
            partition.arrive(verdict.event, clock)
            fault = "late" if len(partition.late) > late else ""
        if fault:
            self.faults[line.topic, line.partition, line.offset] = fault, line.value

    def counts(self) -> dict[Key, tuple[int, int]]:
        sums: Counter[Key] = Counter()
        clicks: Counter[Key] = Counter()
        for partition in self.partitions:
            for key, (shown, clicked) in count(partition.accepted).items():
                sums[key] += shown
                clicks[key] += clicked
        return {key: (shown, clicks[key]) for key, shown in sums.items()}


def mixture(seed: int, now_ms: int) -> tuple[list[tuple[int, Line]], Expected]:
    """Lines in order of arrival with their clock, and what is expected of them."""
    rng = random.Random(seed)
    # Each input of each partition begins with a good event, so that from then on there is a watermark.
    plan = ["good"] * (GOOD - 2 * PARTITIONS) + ["mutated"] * (MUTATED - HUGE) + ["huge"] * HUGE
    rng.shuffle(plan)
    plan = ["good"] * 2 * PARTITIONS + plan
    lines: list[tuple[int, Line]] = []
    expected, offsets = Expected(), Counter[TP]()
    for number, what in enumerate(plan):
        clock = T0 + number * MINUTES * 60_000 // len(plan)
        first = number < 2 * PARTITIONS
        kind = ("clicks" if number % 2 else "impressions") if first else rng.choice(["impressions"] * 2 + ["clicks"])
        partition = number // 2 if first else rng.randrange(PARTITIONS)
        while True:
            body = event(rng, kind, clock - rng.randrange(4_000))
            body["user_id"] += f"-{partition}"
            mutate = huge if what == "huge" else rng.choice(MUTATIONS)
            value = encode(body) if what == "good" else mutate(rng, body, now_ms)
            verdict = judge(kind, value, now_ms)
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
    async with replaying(load_config(None, {})) as replay:
        for output in [*[await replay.feed(chunk) for chunk in chunks], await replay.finish()]:
            windows += output.windows
            letters += map(json.loads, output.dead_letters)
        return windows, letters, replay.app.join_agent.custodian.applied


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

    # A mixture in which something is missing would say nothing.
    often = Counter(reasons.values())
    assert set(often) == {"empty", "too_large", "not_utf8", "not_json", "invalid_field", "time_out_of_range", "late"}
    assert often["late"] > 1_000
    assert often.total() > 0.5 * MUTATED
    assert sum(shown for shown, _ in expected.counts().values()) > GOOD / 3
    assert sum(clicks for _, clicks in expected.counts().values()) > 1_000
