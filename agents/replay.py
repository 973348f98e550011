"""Running recorded events through the agents, in lockstep, so that the same recording always gives the same answers.

The agents are the same as on Kafka; what differs is who drives them: events are appended in chunks, and after each
chunk everything is applied, checkpointed and merged before the next one. Chunks end where the recording's clock has
moved on, so rules see the windows as they would have at the time.
"""

from __future__ import annotations

import asyncio
import itertools
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from faust.types import TP

from agents.app import create_app, wall_clock_ms
from agents.config import Config, KafkaConfig
from agents.dead_letters import VALUE_BYTES
from agents.input_agent import InputAgent
from agents.recordings import BrokenLine, Line
from agents.replay_input import Chunk
from agents.rule_judge import Tap
from agents.tidemark_app import TidemarkApp
from agents.transports.memory_broker import MemoryBroker, Record
from tables.errors import RunError
from tables.memory_store import MemoryStore

PARTITIONS = 256
"""Partitions of an input topic in a replay; a recording of more has them folded."""

KEPT_RECORDS = 50_000
"""Of a topic that nobody reads (any more); more than a chunk, so that inputs are trimmed between chunks only."""

_names = itertools.count()


@dataclass(slots=True)
class Output:
    """What has become certain in one step of a replay; over all steps each list is in the order it belongs in."""

    windows: list[bytes] = field(default_factory=list)
    """Rows of windows that have become final, by window end, model, version, kind, feature or metric, method."""
    alerts: list[bytes] = field(default_factory=list)
    """By event time."""
    dead_letters: list[bytes] = field(default_factory=list)
    """In the order of the lines that they are about."""


@dataclass(slots=True)
class Totals:
    """How much went in and came out."""

    events: int = 0
    """Records of the topics that tidemark reads."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Topic -> records of it, which nobody reads."""
    late: int = 0
    dead: int = 0
    """Dead letters, those of late events among them."""
    rows: int = 0
    alerts: int = 0


class Replay:
    """A running app that is fed by hand; made by `replaying`."""

    def __init__(self, app: TidemarkApp, broker: MemoryBroker) -> None:
        self.app = app
        self.totals = Totals()
        self.clock_ms = 0
        """How far the recording's clock has come."""
        self._broker = broker
        topics = app.config.topics
        self._inputs = frozenset((topics.impressions, topics.clicks, topics.inferences))
        self._agents: tuple[InputAgent[Any], ...] = (app.join_agent, app.inference_agent)
        self._input_clock_ms = 0
        self._rows: list[tuple[Any, bytes]] = []
        self._alerts: list[bytes] = []
        self._dead: list[bytes] = []
        for topic, sink in (
            (topics.windows, self._hold_row),
            (topics.alerts, self._alerts.append),
            (topics.dead_letters, self._dead.append),
        ):
            broker.tap(topic, _into(sink))

    async def ready(self) -> None:
        """Return when every partition is there to be fed."""
        held = [agent.custodian.held for agent in self._agents]
        await self._until(lambda: {len(h) for h in held} == {PARTITIONS} and len(self.app.windows.held) == 1)

    async def feed(self, chunk: Chunk) -> Output:
        """Append a chunk and wait until the agents have done everything that follows from it."""
        totals, append = self.totals, self._broker.append
        if not self.clock_ms and chunk[-1][0]:
            for agent in self._agents:
                agent.begin_replay(next(clock for clock, _ in chunk if clock))
        letters: list[tuple[int, bytes]] = []
        origins: defaultdict[TP, list[int]] = defaultdict(list)
        before = totals.events
        for place, (clock, item) in enumerate(chunk):
            if isinstance(item, BrokenLine):
                letters.append((place, _letter_of(item)))
            elif item.topic in self._inputs:
                partition = item.partition % PARTITIONS
                append(item.topic, item.key, item.value, partition, clock)
                origins[TP(item.topic, partition)].append(place)
                totals.events += 1
                self._input_clock_ms = clock
            else:
                totals.ignored[item.topic] += 1
        self.clock_ms = chunk[-1][0]
        if totals.events > before:
            await self._until(lambda: sum(agent.custodian.applied for agent in self._agents) == totals.events)
            for agent in self._agents:
                agent.tick_replay(self._input_clock_ms)
            await self._settle()
        letters += self._take_letters(chunk, origins)
        return self._output([letter for _, letter in sorted(letters)], until=self._final_until())

    async def finish(self) -> Output:
        """The input has ended: every open window becomes final."""
        for agent in self._agents:
            agent.finish()
        await self._settle()
        return self._output([], until=None)

    async def _settle(self) -> None:
        for agent in self._agents:
            await agent.checkpoint_replay()
        partials = TP(self.app.config.topics.partials, 0)
        await self._until(lambda: self.app.windows.applied == self._broker.end_offset(partials))
        await self.app.sql.ask_all()
        await self.app.windows.checkpoint_all()
        await self.app.batch_consumer.commit()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            if self.app.should_stop or self.app.crashed:
                raise RunError(f"the replay crashed: {self.app.crash_reason!r}") from self.app.crash_reason
            await asyncio.sleep(0)

    def _final_until(self) -> int:
        """Windows that end at or before it are final."""
        return self.app.windows.held[0].state.final_until

    def _hold_row(self, row: bytes) -> None:
        read = orjson.loads(row)
        part = read.get("feature") or read.get("metric") or ""
        order = (
            read["window_end"],
            read["model_id"],
            read["model_version"],
            read["kind"],
            part,
            read.get("method", ""),
        )
        self._rows.append((order, row))

    def _take_letters(self, chunk: Chunk, origins: dict[TP, list[int]]) -> list[tuple[int, bytes]]:
        """The dead letters of a chunk, about the lines as they are numbered in the recording."""
        letters = []
        for data in self._dead:
            letter = orjson.loads(data)
            tp = TP(letter["topic"], letter["partition"])
            places = origins[tp]
            place = places[letter["offset"] - self._broker.end_offset(tp) + len(places)]
            line = chunk[place][1]
            assert isinstance(line, Line)
            letter["partition"], letter["offset"] = line.partition, line.offset
            self.totals.late += letter["reason"] == "late"
            letters.append((place, orjson.dumps(letter)))
        self._dead.clear()
        return letters

    def _output(self, letters: list[bytes], until: int | None) -> Output:
        due = sorted((held for held in self._rows if until is None or held[0][0] <= until), key=_by_order)
        if due:
            self._rows = [] if until is None else [held for held in self._rows if held[0][0] > until]
        alerts = sorted(self._alerts, key=_event_time_of)
        self._alerts.clear()
        output = Output([row for _, row in due], alerts, letters)
        self.totals.rows += len(output.windows)
        self.totals.alerts += len(alerts)
        self.totals.dead += len(letters)
        return output


def _by_order(held: tuple[Any, bytes]) -> Any:
    # Provisional rows of one window stay in the order in which they were told.
    return held[0]


def _event_time_of(data: bytes) -> tuple[int, bytes]:
    alert = orjson.loads(data)
    return alert["fired_at"] if alert["resolved_at"] is None else alert["resolved_at"], data


def _letter_of(broken: BrokenLine) -> bytes:
    return orjson.dumps(
        {
            "topic": None,
            "partition": None,
            "offset": broken.line_no,
            "reason": f"broken_line: {broken.reason}",
            "value": b64encode(broken.raw[:VALUE_BYTES]).decode(),
        }
    )


def _into(sink: Callable[[bytes], None]) -> Callable[[TP, Record], None]:
    return lambda _, record: sink(record.value or b"")


@asynccontextmanager
async def replaying(config: Config, *, provisional: bool = False, tap: Tap | None = None) -> AsyncIterator[Replay]:
    """An app on an embedded broker of its own, ready to be fed; nobody is notified.

    `tap`: see `agents.rule_judge.JudgeSetting`.
    """
    name = f"replay-{next(_names)}"
    broker = MemoryBroker.of(name)
    broker.carries_clock = True
    broker.keep_records = KEPT_RECORDS
    topics = config.topics
    for topic in (topics.impressions, topics.clicks, topics.inferences):
        broker.create_topic(topic, PARTITIONS)
    for topic in topics.outputs:
        broker.create_topic(topic, 1)
    replay: Replay
    app = create_app(
        # Certificates and the like are for where the recording was made.
        replace(config, broker=f"memory://{name}", kafka=KafkaConfig()),
        store=MemoryStore(),
        live=False,
        notify=False,
        now_ms=lambda: max(wall_clock_ms(), replay.clock_ms),
        provisional=provisional,
        tap=tap,
    )
    replay = Replay(app, broker)
    try:
        await app.start()
        await replay.ready()
        yield replay
    finally:
        await app.stop()
        MemoryBroker.forget(name)
