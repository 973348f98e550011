"""A replay equals the contract's section 2, partition by partition, whatever the order of arrival."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from itertools import pairwise

import pytest

from agents.config import load_config
from agents.recordings import BrokenLine, Line
from agents.replay import Output, Totals, replaying
from agents.replay_input import CHUNK_MS, CHUNK_RECORDS, clocked, cut
from tests.agents.shop_lines import Arrival, final_counts, lines_of
from tests.oracle import ArrivalOracle, Click, Event, Impression, Key, count
from tests.tables.streams import T0, random_stream

FAR_AHEAD = 2**62
MINUTE = 60_000


def told(lines: list[Line | BrokenLine], attribution: str = "all") -> tuple[Output, Totals]:
    """All that a replay of these lines says."""
    return asyncio.run(_told(lines, attribution))


async def _told(lines: list[Line | BrokenLine], attribution: str) -> tuple[Output, Totals]:
    config = load_config(None, {})
    object.__setattr__(config.join, "attribution", attribution)
    everything = Output()
    async with replaying(config) as replay:
        outputs = [await replay.feed(chunk) for chunk in cut(clocked(lines, FAR_AHEAD))]
        outputs.append(await replay.finish())
        for output in outputs:
            everything.windows += output.windows
            everything.alerts += output.alerts
            everything.dead_letters += output.dead_letters
        return everything, replay.totals


def oracle_of(arrivals: list[Arrival], attribution: str) -> tuple[dict[Key, tuple[int, int]], list[tuple[int, Event]]]:
    """Final counts summed over the partitions, and the late events with their partitions, in order of arrival."""
    oracles: dict[int, ArrivalOracle] = {}
    late = []
    for clock, partition, event in arrivals:
        oracle = oracles.setdefault(partition, ArrivalOracle(attribution, clock=arrivals[0][0]))
        before = len(oracle.late)
        oracle.arrive(event, clock)
        late += [(partition, late_event) for late_event in oracle.late[before:]]
    totals: dict[Key, tuple[int, int]] = {}
    for oracle in oracles.values():
        for key, (shown, clicked) in oracle.end().items():
            before_shown, before_clicked = totals.get(key, (0, 0))
            totals[key] = before_shown + shown, before_clicked + clicked
    return totals, late


def assert_equals_oracle(arrivals: list[Arrival], attribution: str, *, timestamps: bool = True) -> int:
    lines = lines_of(arrivals, timestamps=timestamps)
    output, totals = told([*lines], attribution)
    counts, late = oracle_of(arrivals, attribution)
    assert final_counts(output.windows) == counts
    sources = [(line.topic, line.partition, line.offset) for line in lines]
    event_from = dict(zip(sources, [event for _, _, event in arrivals], strict=True))
    letters = [json.loads(letter) for letter in output.dead_letters]
    assert {letter["reason"] for letter in letters} <= {"late"}
    found = [(x["partition"], event_from[x["topic"], x["partition"], x["offset"]]) for x in letters]
    assert found == late
    assert (totals.events, totals.late, totals.dead) == (len(lines), len(late), len(late))
    return len(late)


@pytest.mark.parametrize("attribution", ["all", "last"])
def test_one_partition_with_pauses_equals_the_oracle(attribution: str) -> None:
    late = 0
    for seed in range(12):
        rng = random.Random(seed)
        pause = rng.choice([10, 1_000, 8_000, 40_000])
        clock, arrivals = T0, []
        for event in random_stream(rng, events=rng.choice([1, 5, 80, 200])):
            clock += rng.randrange(pause)
            arrivals.append((clock, 0, event))
        late += assert_equals_oracle(arrivals, attribution)
    assert late > 20  # or this would say nothing about lateness


@pytest.mark.parametrize("attribution", ["all", "last"])
def test_several_partitions_equal_the_oracle(attribution: str) -> None:
    late = 0
    for seed in range(100, 112):
        rng = random.Random(seed)
        partitions = rng.sample(range(300), rng.randrange(2, 5))
        queues = {p: random_stream(rng, events=80) for p in partitions}
        # Each speaks at once and none falls silent for 15 s: what follows from silence has tests of its own.
        order = [p for p, queue in queues.items() for _ in queue[1:]]
        rng.shuffle(order)
        clock, arrivals = T0 + rng.randrange(CHUNK_MS), []
        for p in [*partitions, *order]:
            arrivals.append((clock, p, queues[p].pop(0)))
            clock += rng.randrange(15_000 // (len(order) + 4))
        late += assert_equals_oracle(arrivals, attribution)
    assert late > 20


def test_without_timestamps_the_event_times_are_the_clock() -> None:
    late = 0
    for seed in range(200, 208):
        clock, arrivals = 0, []
        for event in random_stream(random.Random(seed), events=150):
            clock = max(clock, event.time)
            arrivals.append((clock, 0, event))
        late += assert_equals_oracle(arrivals, "all", timestamps=False)
    assert late > 5


def test_chunks_end_with_the_half_minute_and_after_so_many_lines() -> None:
    quiet = Line("clicks", 0, 0, T0, None, b"{}")
    next_minute = Line("clicks", 0, 0, T0 + CHUNK_MS, None, b"{}")
    lines = [quiet] * (CHUNK_RECORDS + 1) + [next_minute] * 3
    assert [len(chunk) for chunk in cut(clocked(lines, FAR_AHEAD))] == [CHUNK_RECORDS, 1, 3]


def test_the_clock_never_goes_back_and_does_not_believe_everything() -> None:
    def line(timestamp: int | None, event_time: object) -> Line:
        return Line("clicks", 0, 0, timestamp, None, json.dumps({"event_time": event_time}).encode())

    now = T0 + 10 * MINUTE
    broken = BrokenLine("r", 1, "no record", b"?")
    lines: list[Line | BrokenLine] = [
        line(0, "soon"),
        broken,
        line(0, T0),
        line(None, now + 1),
        line(T0 - 5, T0),
        line(None, now),
        line(None, 7),
    ]
    assert [clock for clock, _ in clocked(lines, latest_ms=now)] == [0, 0, T0, T0, T0, now, now]


def shown_every_minute(partition: int, minutes: range, user: str) -> list[Arrival]:
    """An impression and a click on it each ten seconds."""
    arrivals: list[Arrival] = []
    for second in range(minutes.start * 60, minutes.stop * 60, 10):
        at = T0 + second * 1000
        arrivals += [(at, partition, Impression(user, f"i{second}", at, ("home", "v1")))]
        arrivals += [(at, partition, Click(user, f"i{second}", at))]
    return arrivals


def final_minutes_before_the_end(arrivals: list[Arrival]) -> list[int]:
    return asyncio.run(_final_minutes_before_the_end(arrivals))


async def _final_minutes_before_the_end(arrivals: list[Arrival]) -> list[int]:
    async with replaying(load_config(None, {})) as replay:
        rows: list[bytes] = []
        for chunk in cut(clocked(lines_of(sorted(arrivals, key=lambda a: a[0])), FAR_AHEAD)):
            rows += (await replay.feed(chunk)).windows
        return [(start - T0) // MINUTE for _, start in final_counts(rows)]


def test_a_partition_that_falls_silent_holds_no_window_open() -> None:
    steady = shown_every_minute(0, range(30), "u0")
    silent = shown_every_minute(1, range(5), "u1")
    assert final_minutes_before_the_end(steady + silent) == list(range(19))


def test_a_partition_that_lags_behind_holds_the_windows_open() -> None:
    steady = shown_every_minute(0, range(30), "u0")
    lagging = [(clock + 5 * MINUTE, 1, event) for clock, _, event in shown_every_minute(1, range(25), "u1")]
    assert final_minutes_before_the_end(steady + lagging) == list(range(14))


def test_what_a_partition_says_first_when_its_windows_are_final_is_late_not_lost() -> None:
    steady = shown_every_minute(0, range(30), "u0")
    forgotten = Impression("u1", "i1", T0, ("home", "v1"))
    newcomer = [(T0 + 29 * MINUTE + 1, 1, forgotten)]
    output, totals = told([*lines_of(sorted([*steady, *newcomer], key=lambda a: a[0]))])
    assert totals.late == 1
    assert final_counts(output.windows) == count([event for _, _, event in steady])


def test_at_the_end_everything_is_final_even_where_a_partition_shows_nothing() -> None:
    arrivals = [*shown_every_minute(0, range(3), "u0"), (T0 + 1, 1, Click("u1", "i1", T0 + 1))]
    output, totals = told([*lines_of(sorted(arrivals, key=lambda a: a[0]))])
    assert (totals.rows, totals.late) == (3, 0)
    assert final_counts(output.windows) == count([event for _, _, event in arrivals])


def test_rows_come_by_window_and_model_and_dead_letters_by_line() -> None:
    rng = random.Random(5)
    stream = random_stream(rng, events=400, disorder_ms=60 * MINUTE)
    lines: list[Line | BrokenLine] = []
    for number, line in enumerate(lines_of([(T0 + n * 100, n % 3, event) for n, event in enumerate(stream)])):
        lines.append(line)
        if number % 7 == 0:
            lines.append(BrokenLine("r", number, "no record", b"x" * 5000))
        if number % 11 == 0:
            lines.append(Line("clicks", 2, 500_000 + number, line.timestamp, None, b"not json"))
        if number % 13 == 0:
            lines.append(Line("outcomes", 0, number, line.timestamp, None, b"{}"))
    output, totals = told(lines)
    order = [(r["window_end"], r["model_id"], r["model_version"]) for r in map(json.loads, output.windows)]
    assert order == sorted(order) and len(order) > 20
    place: dict[object, int] = {(x.topic, x.partition, x.offset): n for n, x in enumerate(lines) if isinstance(x, Line)}
    place |= {(None, None, x.line_no): n for n, x in enumerate(lines) if isinstance(x, BrokenLine)}
    letters = [json.loads(letter) for letter in output.dead_letters]
    places = [place[letter["topic"], letter["partition"], letter["offset"]] for letter in letters]
    assert all(one < other for one, other in pairwise(places))
    kinds = Counter(letter["reason"].partition(":")[0] for letter in letters)
    assert kinds["late"] == totals.late > 0
    assert kinds["broken_line"] == sum(isinstance(x, BrokenLine) for x in lines)
    assert kinds["not_json"] == sum(isinstance(x, Line) and x.value == b"not json" for x in lines)
    assert totals.dead == len(letters) == kinds.total()
    assert totals.ignored == {"outcomes": sum(isinstance(x, Line) and x.topic == "outcomes" for x in lines)}
