"""The whole product in one process: embedded broker, embedded Redis, a simulated shop, and something to look at."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, TextIO

from agents.app import create_app
from agents.board import SETTLE_MS, Board
from agents.channel_config import DEFAULT_CHANNELS
from agents.config import Config
from agents.config_sections import DriftConfig
from agents.custodian import Custodian
from agents.live_view import Progress, draw, minute_lines, worst_lines
from agents.recordings import Line
from agents.screen import Screen, stream_into
from agents.signals import stopping_on_signals
from agents.simulation.day_before import references_of_day_before
from agents.simulation.days import endless_slices
from agents.simulation.scenarios import scenario_named
from agents.tidemark_app import TidemarkApp
from agents.transports.memory_broker import MemoryBroker, Record
from tables.drift_policy import DriftPolicy
from tables.embedded_redis import EmbeddedRedis
from tables.errors import RunError
from tables.join_policy import WINDOW_MS
from tables.redis_store import RedisStore
from tables.redis_url import parse_store_url

SCENARIO = "may-day"
MINUTES = 30
PARTITIONS = 4
SLICE_MS = 1000
"""Event time that is fed at once."""

HORIZON_MS = 300_000
"""Half of the promotion: after an hour, as by default, it would be over before it showed."""
MOST_WAITING = 20_000
"""Records that may wait in the broker: a machine that is too slow for the speed asked for gets a slower shop."""
KEPT_RECORDS = 20_000
REFRESH_S = 0.25
TOLD_WITHIN_S = 1.5
"""From an event to the row that counts it: two agents, each with an interval of its own."""

STOP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What can be asked of a demo; `seconds` None: until it is interrupted."""

    seconds: float | None
    speed: float
    rate: float
    seed: int


class Demo:
    """One demo; `run` it once."""

    def __init__(self, config: Config, options: DemoOptions, out: TextIO, *, pictures: bool = True) -> None:
        """Raises ConfigError for a rate or seed that makes no shop."""
        self._options = options
        scenario = scenario_named(SCENARIO)
        self._traffic = endless_slices(
            scenario, options.rate, options.seed, MINUTES, slice_ms=SLICE_MS, partitions=PARTITIONS
        )
        self._clock_ms, self._first = next(self._traffic)
        self._config = replace(
            config,
            drift=DriftConfig(
                references=references_of_day_before(scenario, options.rate, options.seed, self._clock_ms - SLICE_MS),
                policy=DriftPolicy(horizon_ms=HORIZON_MS),
                from_impressions=False,
            ),
            channels=DEFAULT_CHANNELS,
        )
        self._board = Board()
        self._screen = Screen(out)
        self._draws = pictures and self._screen.has_pictures
        self._events = 0
        self._fed_at = 0.0
        self._last_count = (0.0, 0)
        self._events_per_s = 0.0
        self._told_until: int | None = None
        self._watermarks: deque[tuple[float, int]] = deque()
        encoding = out.encoding or "utf-8"
        write = self._board.alert_texts.append if self._draws else self._write_alert
        self._alerts = stream_into(write, colour=self._draws, encoding=encoding)

    async def run(self) -> None:
        """Run until the time is over, or SIGINT or SIGTERM; leaves nothing behind.

        Raises RunError (no Redis can be started, the web port is taken, the app crashed), OSError (nobody reads).
        """
        stop = asyncio.Event()
        try:
            with stopping_on_signals(stop):
                async with AsyncExitStack() as resources:
                    redis = await resources.enter_async_context(EmbeddedRedis())
                    broker = self._make_broker()
                    resources.callback(MemoryBroker.forget, "demo")
                    app = create_app(
                        replace(self._config, broker="memory://demo", store=redis.url),
                        store=RedisStore(parse_store_url(redis.url), self._config.group),
                        now_ms=lambda: self._clock_ms,
                        terminal=self._alerts,
                    )
                    await self._run_app(app, broker, stop)
            for line in (*worst_lines(self._board), self._closing_words()):
                self._screen.line(line)
        finally:
            await asyncio.to_thread(self._screen.close)
        if self._screen.error is not None:
            raise self._screen.error

    def _make_broker(self) -> MemoryBroker:
        broker = MemoryBroker.of("demo")
        broker.keep_records = KEPT_RECORDS
        topics = self._config.topics
        for topic in (*topics.inputs, *topics.outputs):
            broker.create_topic(topic, PARTITIONS)
        broker.tap(topics.windows, _taking(self._board.take_row))
        broker.tap(topics.alerts, _taking(self._board.take_alert))
        return broker

    async def _run_app(self, app: TidemarkApp, broker: MemoryBroker, stop: asyncio.Event) -> None:
        tasks: list[asyncio.Task[object]] = []
        try:
            await app.prepare()
            self._say_hello(app)
            await app.start()
            tasks = [
                asyncio.create_task(self._feed(broker), name="feed"),
                asyncio.create_task(self._show(app), name="show"),
                asyncio.create_task(app.wait_until_stopped(), name="crash"),
                asyncio.create_task(stop.wait(), name="stop"),
            ]
            done, _ = await asyncio.wait(tasks, timeout=self._options.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait_for(app.stop(), STOP_S) if app.started else await app.release()
        self._refresh(app)
        if app.crash_reason is not None:
            raise RunError(f"the demo's worker crashed: {app.crash_reason!r}") from app.crash_reason

    async def _feed(self, broker: MemoryBroker) -> None:
        """Put the shop's events into the broker, as fast as the speed asks for."""
        step_s = SLICE_MS / 1000 / self._options.speed
        due = self._fed_at = time.monotonic()
        self._append(broker, self._first)
        for clock_ms, lines in self._traffic:
            due += step_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while broker.backlog() > MOST_WAITING:  # noqa: ASYNC110 - nobody says when it has been read
                await asyncio.sleep(0.02)
            # What could not be kept up with is not made up for.
            due = max(due, time.monotonic() - 1.0)
            self._clock_ms = clock_ms
            self._append(broker, lines)

    def _append(self, broker: MemoryBroker, lines: list[Line]) -> None:
        for line in lines:
            broker.append(line.topic, line.key, line.value, line.partition, line.timestamp)
        self._events += len(lines)

    async def _show(self, app: TidemarkApp) -> None:
        while self._screen.error is None:
            self._refresh(app)
            await asyncio.sleep(REFRESH_S)

    def _refresh(self, app: TidemarkApp) -> None:
        now, (counted_at, counted) = time.monotonic(), self._last_count
        if now - counted_at >= 1.0:
            self._events_per_s = (self._events - counted) / (now - counted_at) if counted_at else 0.0
            self._last_count = now, self._events
        custodians: tuple[Custodian[Any], ...] = (app.join_agent.custodian, app.inference_agent.custodian)
        watermark = min((held.state.watermark for each in custodians for held in each.held.values()), default=0)
        self._watermarks.append((now, watermark))
        while len(self._watermarks) > 1 and now - self._watermarks[1][0] > TOLD_WITHIN_S:
            self._watermarks.popleft()
        told = self._watermarks[0][1]
        if self._draws:
            progress = Progress(self._clock_ms, watermark, told, self._events, self._events_per_s, self._options.speed)
            picture = draw(
                self._board, progress, self._links(app), plain=self._screen.is_plain, width=self._screen.width
            )
            self._screen.picture(picture)
        else:
            self._tell_minutes(told)

    def _tell_minutes(self, told_ms: int) -> None:
        """Some lines for each minute whose clicks have come."""
        starts = sorted({start for minutes in self._board.minutes.values() for start in minutes})
        for start in starts:
            is_due = start + WINDOW_MS + SETTLE_MS <= told_ms
            if is_due and (self._told_until is None or start > self._told_until):
                self._told_until = start
                for line in minute_lines(self._board, start):
                    self._screen.line(line)

    def _say_hello(self, app: TidemarkApp) -> None:
        if not self._draws:
            self._screen.line(
                f"A simulated shop, {self._options.speed:g} times as fast as life. At 10:00 a promotion brings new "
                "users, and the home recommender's CTR falls from 8 % to 4 %; features are compared with those of "
                "the day before."
            )
            self._screen.line("  ".join(self._links(app)))

    def _links(self, app: TidemarkApp) -> list[str]:
        assert app.http is not None
        base = f"http://{self._config.web.host}:{app.http.port}"
        return [f"{base}/metrics", f"{base}/readyz"]

    def _write_alert(self, text: str) -> None:
        self._screen.line(text.rstrip("\n"))

    def _closing_words(self) -> str:
        board, seconds = self._board, time.monotonic() - self._fed_at
        return (
            f"{self._events:,} events in {seconds:.0f} s, {board.final_rows:,} windows are final; "
            f"alerts: {board.fired} fired, {board.resolved} resolved"
            + (f", {board.minor} minor ones recorded" if board.minor else "")
        )


def _taking(take: Callable[[bytes], None]) -> Callable[[object, Record], None]:
    return lambda _, record: take(record.value or b"")
