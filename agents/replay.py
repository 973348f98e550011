"""Running recorded events through the agents, in lockstep, so that the same recording always gives the same answers.

The agents are the same as on Kafka; what differs is who drives them: events are appended in chunks, and after each
chunk everything is applied, checkpointed and merged before the next one. Chunks end where the recording's clock has
moved on, so rules see the windows as they would have at the time.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec
from faust.types import TP

from agents.app import TidemarkApp, create_app, wall_clock_ms
from agents.config import Config
from agents.event_time import parse_event_time
from agents.recordings import Line
from agents.transports.memory import MemoryBroker, Record
from tables.memory_store import MemoryStore

CHUNK_RECORDS = 20_000
CHUNK_MS = 30_000
PARTITIONS = 256
"""Partitions of an input topic in a replay; a recording of more has them folded."""

_names = itertools.count()


class _Times(msgspec.Struct):
    event_time: int | float | str | None = None
    at: int | float | str | None = msgspec.field(default=None, name="@timestamp")


_times = msgspec.json.Decoder(_Times)


def clocked(lines: Iterable[Line]) -> Iterator[tuple[int, Line]]:
    """Each line with the arrival clock: its timestamp, or else its event time; never going back."""
    clock = 0
    for line in lines:
        at = line.timestamp if line.timestamp is not None and line.timestamp > 0 else _event_time(line.value)
        clock = max(clock, at)
        yield clock, line


def chunks(lines: Iterable[tuple[int, Line]]) -> Iterator[list[tuple[int, Line]]]:
    """Cut where the clock enters the next half minute, and after so many records."""
    chunk: list[tuple[int, Line]] = []
    end = 0
    for clock, line in lines:
        if chunk and (clock >= end or len(chunk) >= CHUNK_RECORDS):
            yield chunk
            chunk = []
        if not chunk:
            end = clock // CHUNK_MS * CHUNK_MS + CHUNK_MS
        chunk.append((clock, line))
    if chunk:
        yield chunk


def _event_time(value: bytes | None) -> int:
    try:
        times = _times.decode(value or b"")
        return parse_event_time(times.at if times.event_time is None else times.event_time)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 0


@dataclass(slots=True)
class Output:
    """What came out of a replay, as it comes; each list is emptied by whoever reads it."""

    windows: list[bytes] = field(default_factory=list)
    alerts: list[bytes] = field(default_factory=list)
    dead_letters: list[bytes] = field(default_factory=list)


class Replay:
    """A running app that is fed by hand."""

    def __init__(self, app: TidemarkApp, broker: MemoryBroker) -> None:
        self.app = app
        self.output = Output()
        self._broker = broker
        self._appended = 0
        topics = app.config.topics
        self._joined = frozenset((topics.impressions, topics.clicks))
        for topic, sink in (
            (topics.windows, self.output.windows),
            (topics.alerts, self.output.alerts),
            (topics.dead_letters, self.output.dead_letters),
        ):
            broker.tap(topic, _into(sink))

    async def feed(self, chunk: Iterable[tuple[int, Line]]) -> None:
        """Append a chunk and wait until the agents have done everything that follows from it."""
        for clock, line in chunk:
            self._broker.append(line.topic, line.key, line.value, line.partition % PARTITIONS, clock)
            self._appended += line.topic in self._joined
        await self._until(lambda: self.app.join_agent.custodian.applied == self._appended)
        self.app.join_agent.tick_replay()
        await self._settle()

    async def finish(self) -> None:
        """The input has ended: every open window becomes final."""
        self.app.join_agent.finish()
        await self._settle()

    async def _settle(self) -> None:
        await self.app.join_agent.checkpoint_replay()
        partials = TP(self.app.config.topics.partials, 0)
        await self._until(lambda: self.app.windows.applied == self._broker.end_offset(partials))
        await self.app.windows.checkpoint_all()
        await self.app.batch_consumer.commit()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            if self.app.should_stop or self.app.crashed:
                raise RuntimeError("the app stopped in the middle of a replay") from self.app.crash_reason
            await asyncio.sleep(0)


def _into(sink: list[bytes]) -> Callable[[TP, Record], None]:
    return lambda _, record: sink.append(record.value or b"")


@asynccontextmanager
async def replaying(config: Config, start_clock_ms: int) -> AsyncIterator[Replay]:
    """An app on an embedded broker of its own, ready to be fed; nobody is notified."""
    name = f"replay-{next(_names)}"
    broker = MemoryBroker.of(name)
    broker.carries_clock = True
    topics = config.topics
    for topic in topics.inputs:
        broker.create_topic(topic, PARTITIONS)
    for topic in topics.outputs:
        broker.create_topic(topic, 1)
    app = create_app(
        replace(config, broker=f"memory://{name}"),
        store=MemoryStore(),
        live=False,
        notify=False,
        now_ms=lambda: max(wall_clock_ms(), start_clock_ms),
        start_clock_ms=start_clock_ms,
    )
    try:
        await app.start()
        replay = Replay(app, broker)
        held = app.join_agent.custodian.held
        await replay._until(lambda: len(held) == PARTITIONS and len(app.windows.held) == 1)
        yield replay
    finally:
        await app.stop()
        MemoryBroker.forget(name)
