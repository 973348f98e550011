"""A replay of impressions, clicks and inferences: rows of every kind equal the oracle's, in the contract's order."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import orjson
import pytest

from agents.config import DriftConfig, load_config
from agents.recordings import BrokenLine, Line
from agents.replay import Output, Totals, replaying
from agents.replay_input import clocked, cut
from alerting.rules.rule import Rule, parse_rule
from tables.drift_policy import DriftPolicy
from tables.feature_bins import CategoryBins, NumericBins
from tables.reference import FeatureReference, Reference
from tests.agents.shop_lines import AnyArrival, final_counts, lines_of
from tests.feature_oracle import drift_rows, feature_counts, serving_rows
from tests.oracle import MINUTE, ArrivalOracle, Arrivals, Click, Event, Impression, Inference, Key, count
from tests.tables.streams import T0

FAR_AHEAD = 2**62
MINUTES = 32
"""Of event time: windows become final after ten, so most do on the way."""
POLICY = DriftPolicy(horizon_ms=5 * MINUTE)
MODELS = [("home", "v1"), ("home", "v2"), ("home", "v10"), ("search", ""), ("price", "v1")]
"""The last has no reference."""

Row = dict[str, Any]


def references() -> tuple[Reference, ...]:
    age = FeatureReference("age", NumericBins((20.0, 30.0, 50.0)), (100, 200, 300, 50, 0, 7))
    city = FeatureReference("city", CategoryBins(("Kyiv", "Łódź"), ("Bern", "true")), (50, 40, 10, 0, 3))
    score = FeatureReference("prediction", NumericBins((0.5,)), (400, 600, 0, 0))
    label = FeatureReference("prediction", CategoryBins(("spam", "ham")), (10, 90, 0, 0))
    # Each of these comes with one of the topics alone: the other's records do not lack it.
    slot = FeatureReference("slot", NumericBins((3.0,)), (10, 10, 0, 0), topics=("impressions",))
    device = FeatureReference("device", CategoryBins(("app", "web")), (10, 10, 0, 1), topics=("inferences",))
    of_every_version = Reference("home", None, (age, city, score, slot, device), 1, "test")
    of_one = Reference("home", "v2", (city,), 1, "test")
    return of_every_version, of_one, Reference("search", "", (label, age), 1, "test")


def features(rng: random.Random, drifted: bool) -> str:
    """JSON texts, now and then odd ones."""
    if rng.random() < 0.15:
        return rng.choice(["null", "{}", '{"other": 1}', '{"age": "old", "city": 7}', '{"age": 1e999, "city": null}'])
    city = rng.choices(["Kyiv", "Łódź", "Bern", "Oslo", "true"], [9, 4, 1 + 20 * drifted, 1, 1])[0]
    body = {"age": rng.choice([15, 20, 25.5, 40, 80, None]), "city": rng.choice([city, city, city == "true"])}
    body |= {"slot": rng.randrange(6)} if rng.random() < 0.5 else {"device": rng.choice(["app", "web", "tv"])}
    return json.dumps(body, ensure_ascii=rng.random() < 0.5)


def random_event(rng: random.Random, topic: str, time: int) -> Event | Inference:
    user, item, model = f"u{rng.randrange(5)}", f"i{rng.randrange(3)}", rng.choice(MODELS)
    if topic == "clicks":
        return Click(user, item, time)
    drifted = time > T0 + MINUTES // 2 * MINUTE
    if topic == "impressions":
        return Impression(user, item, time, model, features(rng, drifted))
    prediction = rng.choice([None, 0.25, 0.5, 1, "spam", "ham", "eggs"])
    latency = rng.choice([None, 0, 0.5, rng.lognormvariate(4, 1), float(rng.randrange(5_000))])
    status = rng.choice([None, "ok", "ok", "error", "timeout"])
    return Inference(time, model, latency, status, prediction, features(rng, drifted))


@dataclass
class Recording:
    """Events in order of arrival, and lines between them that are none."""

    arrivals: list[AnyArrival]
    broken: int = 0

    def lines(self, rng: random.Random) -> list[Line | BrokenLine]:
        lines: list[Line | BrokenLine] = []
        for number, line in enumerate(lines_of(self.arrivals)):
            if rng.random() < 0.02:
                text = rng.choice([b"no json", b"{}", b'{"model_id":"home","event_time":%d,"latency_ms":-1}' % T0])
                lines.append(Line("inferences", 3, 10**6 + number, line.timestamp, None, text))
                self.broken += 1
            lines.append(line)
        return lines


def recording(rng: random.Random, *, late: bool) -> Recording:
    """Every topic of every partition speaks each few seconds: what follows from silence has tests of its own."""
    speakers = [(t, p) for t, n in (("impressions", 2), ("clicks", 2), ("inferences", 3)) for p in range(n)]
    clock, arrivals = T0, []
    while clock < T0 + MINUTES * MINUTE:
        rng.shuffle(speakers)
        for topic, partition in speakers:
            delay = rng.choice([rng.randrange(4_000)] * 6 + [rng.randrange(2 * MINUTE), rng.randrange(25 * MINUTE)])
            time = clock - (delay if late and clock > T0 + MINUTE else rng.randrange(4_000))
            arrivals.append((clock, partition, random_event(rng, topic, time)))
        clock += rng.randrange(2_000, 13_000)
    return Recording(arrivals)


def told(
    lines: Sequence[Line | BrokenLine], *, provisional: bool = False, rules: tuple[Rule, ...] = ()
) -> tuple[Output, Totals]:
    return asyncio.run(_told(lines, provisional, rules))


async def _told(
    lines: Sequence[Line | BrokenLine], provisional: bool, rules: tuple[Rule, ...]
) -> tuple[Output, Totals]:
    drift = DriftConfig(references=references(), policy=POLICY)
    everything = Output()
    async with replaying(replace(load_config(None, {}), drift=drift, rules=rules), provisional=provisional) as replay:
        outputs = [await replay.feed(chunk) for chunk in cut(clocked(lines, FAR_AHEAD))]
        assert sum(bool(output.windows) for output in outputs) > 10, "windows become final all along"
        for output in [*outputs, await replay.finish()]:
            everything.windows += output.windows
            everything.alerts += output.alerts
            everything.dead_letters += output.dead_letters
        return everything, replay.totals


def order(row: Row) -> tuple[Any, ...]:
    """The contract's."""
    part = row.get("feature", "")
    return row["window_end"], row["model_id"], row["model_version"], row["kind"], part, row.get("method", "")


def fields(row: Row) -> Row:
    common = ("kind", "model_id", "model_version", "window_start", "window_end", "final", "feature", "method")
    return {name: value for name, value in row.items() if name not in common}


def accepted(arrivals: list[AnyArrival]) -> tuple[dict[Key, tuple[int, int]], list[Event | Inference], int]:
    """Counts of the join, all events that are not late, and how many are."""
    joins: dict[int, ArrivalOracle] = defaultdict(lambda: ArrivalOracle(clock=arrivals[0][0]))
    served: dict[int, Arrivals[Inference]] = defaultdict(lambda: Arrivals(sides=(Inference,), clock=arrivals[0][0]))
    for clock, partition, event in arrivals:
        if isinstance(event, Inference):
            served[partition].arrive(event, clock)
        else:
            joins[partition].arrive(event, clock)
    counts: Counter[Key] = Counter()
    clicks: Counter[Key] = Counter()
    for oracle in joins.values():
        for key, (shown, clicked) in oracle.end().items():
            counts[key] += shown
            clicks[key] += clicked
    oracles: list[Arrivals[Event] | Arrivals[Inference]] = [*joins.values(), *served.values()]
    events = [event for oracle in oracles for event in oracle.accepted]
    late = sum(len(oracle.late) for oracle in oracles)
    return {key: (shown, clicks[key]) for key, shown in counts.items()}, events, late


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_every_kind_equal_the_oracle_in_their_order(seed: int) -> None:
    rng = random.Random(seed)
    recorded = recording(rng, late=True)
    output, totals = told(recorded.lines(rng))
    counts, events, late = accepted(recorded.arrivals)

    rows = [json.loads(row) for row in output.windows]
    keys = [order(row) for row in rows]
    assert all(one < other for one, other in pairwise(keys))
    assert all(row["final"] and row["window_end"] == row["window_start"] + MINUTE for row in rows)
    assert final_counts(output.windows) == counts

    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row["kind"]].append(row)
    inferences = [event for event in events if isinstance(event, Inference)]
    served = {((r["model_id"], r["model_version"]), r["window_start"]): fields(r) for r in by_kind["serving"]}
    assert served == serving_rows(inferences)
    drifted = {
        ((r["model_id"], r["model_version"]), r["window_start"], r["feature"], r["method"]): fields(r)
        for r in by_kind["drift"]
    }
    assert drifted == drift_rows(feature_counts(events, references()), references(), POLICY)

    # Or this would say little.
    assert {row["level"] for row in by_kind["drift"]} >= {"none", "severe"}
    assert {row["method"] for row in by_kind["drift"]} == {"psi", "ks", "kl", "js"}
    assert len(served) > 100
    assert late > 20
    assert (totals.events, totals.late, totals.dead) == (
        len(recorded.arrivals) + recorded.broken,
        late,
        late + recorded.broken,
    )
    assert totals.rows == len(rows)


def test_provisional_rows_lead_up_to_the_final_ones() -> None:
    rng = random.Random(100)
    output, _ = told(recording(rng, late=True).lines(rng), provisional=True)
    rows = [json.loads(row) for row in output.windows]
    assert [order(row) for row in rows] == sorted(order(row) for row in rows)
    by_key: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        by_key[order(row)].append(row)
    provisional = Counter[str]()
    for told_rows in by_key.values():
        assert [row["final"] for row in told_rows] == [False] * (len(told_rows) - 1) + [True]
        size = {"ctr": "impressions", "serving": "requests", "drift": "n"}[told_rows[0]["kind"]]
        sizes = [row[size] for row in told_rows]
        assert sizes == sorted(sizes)
        provisional[told_rows[0]["kind"]] += len(told_rows) - 1
    assert min(provisional[kind] for kind in ("ctr", "serving", "drift")) > 100


def test_any_split_over_partitions_gives_the_same_rows() -> None:
    rng = random.Random(200)
    arrivals = recording(rng, late=False).arrivals
    outputs = []
    for partitions in (1, 4):
        of_user = {f"u{n}": rng.randrange(partitions) for n in range(5)}
        split = [
            (clock, rng.randrange(partitions) if isinstance(event, Inference) else of_user[event.user], event)
            for clock, _, event in arrivals
        ]
        output, totals = told(lines_of(split))
        assert totals.dead == 0
        outputs.append(output.windows)
    assert outputs[0] == outputs[1]
    assert final_counts(outputs[0]) == count([event for *_, event in arrivals if not isinstance(event, Inference)])


def test_inferences_change_nothing_in_what_is_said_of_the_join() -> None:
    rng = random.Random(300)
    low = parse_rule({"name": "low", "expr": "ctr < 50%", "for": "1m", "min_impressions": 1})
    lines = recording(rng, late=True).lines(rng)
    without, _ = told([line for line in lines if isinstance(line, Line) and line.topic != "inferences"], rules=(low,))
    output, _ = told(lines, rules=(low,))
    # Only why it may be so is learned from them.
    with_them, without_them = (
        [{**orjson.loads(alert), "causes": []} for alert in each.alerts] for each in (output, without)
    )
    assert with_them == without_them
    assert len(output.alerts) > 3
    assert final_counts(output.windows) == final_counts(without.windows)


@pytest.mark.parametrize("topics", [("impressions", "clicks"), ("inferences",)])
def test_rows_stay_in_order_where_all_of_some_topics_arrived_at_once(topics: tuple[str, ...]) -> None:
    # As when a day was sent again: nobody can know yet that the other topics are silent.
    rng = random.Random(400)
    arrivals = [(T0 + n // 100, p, e) for n, (_, p, e) in enumerate(recording(rng, late=False).arrivals)]
    lines = [line for line in lines_of(arrivals) if line.topic in topics]
    output = asyncio.run(_told_in_parts(lines, 100))
    keys = [order(json.loads(row)) for row in output]
    assert all(one < other for one, other in pairwise(keys))
    assert len({key[0] for key in keys if key[3] == "drift"}) > MINUTES


async def _told_in_parts(lines: Sequence[Line], size: int) -> list[bytes]:
    drift = DriftConfig(references=references(), policy=POLICY)
    rows: list[bytes] = []
    async with replaying(replace(load_config(None, {}), drift=drift)) as replay:
        for begin in range(0, len(lines), size):
            rows += (await replay.feed([(line.timestamp or 0, line) for line in lines[begin : begin + size]])).windows
        return rows + (await replay.finish()).windows
