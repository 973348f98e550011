"""The app: which agents there are, what they share, and in which order they start and stop.

`create_app` makes a Faust app; the broker's URL decides whether it runs on Kafka or on the embedded broker.
`faust -A agents.app worker` finds `app` here, made from the environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

import faust
from faust.types import TP

from agents.alerts_agent import make_notifier, run_alerts
from agents.config import Config, KafkaConfig, load_config
from agents.custodian import Custodian
from agents.health import Health
from agents.join_agent import JoinAgent
from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.kafka_admin import connect
from agents.metrics import Metrics
from agents.publisher import Publisher
from agents.schema import BatchSchema
from agents.transports.consumer import BatchConsumer, Layout
from agents.web import WebServer
from agents.windows_state import WindowsSetting, WindowsState
from tables.checkpoint import CheckpointStore
from tables.errors import BrokerUnavailable
from tables.redis_store import RedisStore
from tables.redis_url import parse_store_url

log = logging.getLogger("tidemark.app")

TURN_S = 0.1


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class TidemarkApp(faust.App):
    """A Faust app with tidemark's agents in it."""

    def __init__(self, config: Config, store: CheckpointStore, *, live: bool, now_ms: Callable[[], int]) -> None:
        self.config = config
        self.store = store
        self.metrics = Metrics()
        self.health = Health()
        self.live = live
        topics = config.topics
        self.tidemark_layout = Layout(
            groups=(frozenset((topics.impressions, topics.clicks)),),
            held=frozenset((topics.impressions, topics.clicks, topics.partials)),
        )
        super().__init__(
            config.group,
            broker=config.broker,
            store="memory://",
            autodiscover=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            table_standby_replicas=0,
            web_enabled=False,
            stream_buffer_maxsize=8,
            stream_wait_empty=True,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=config.kafka.max_fetch_bytes,
            broker_commit_interval=1.0,
            broker_session_timeout=config.kafka.session_timeout_ms / 1000,
            broker_heartbeat_interval=config.kafka.heartbeat_interval_ms / 1000,
            broker_request_timeout=max(30.0, config.kafka.session_timeout_ms / 1000),
            broker_rebalance_timeout=max(60.0, config.kafka.session_timeout_ms / 1000),
            producer_request_timeout=30.0,
            **_credentials(config.kafka),
        )
        self.now_ms = now_ms
        self.publisher = Publisher(self)
        self.join_agent: JoinAgent
        self.windows: Custodian[WindowsState]
        self.http: WebServer | None = None
        self._loops: list[asyncio.Task[None]] = []

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""

    @property
    def batch_consumer(self) -> BatchConsumer:
        """The consumer, as what it is."""
        consumer = self.consumer
        assert isinstance(consumer, BatchConsumer)
        return consumer

    def partitions_of(self, topic: str) -> int:
        """Number of partitions of a topic that this worker reads; known once partitions are assigned."""
        count = self.consumer.topic_partitions(topic)
        if not count:
            # A guess would make windows final before all their partitions have spoken.
            raise BrokerUnavailable(f"the broker does not say how many partitions {topic} has")
        return count

    async def on_start(self) -> None:
        await self.store.open()
        await super().on_start()
        self.batch_consumer.before_drain = self._checkpoint_all
        if self.live:
            self.http = WebServer(self.config.web, self.metrics, self.health)
            await self.http.start()
            intervals = self.config.timing
            self._loops = [
                asyncio.create_task(self._turn(), name="turn"),
                asyncio.create_task(self._every(intervals.checkpoint_interval_ms, self._join_round), name="join"),
                asyncio.create_task(
                    self._every(intervals.emit_interval_ms, self.windows.checkpoint_all), name="windows"
                ),
            ]

    async def on_stop(self) -> None:
        self.health.stopping = True
        for task in self._loops:
            task.cancel()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        if self.http is not None:
            await self.http.stop()
        await self.store.close()

    async def _checkpoint_all(self) -> None:
        await self.join_agent.custodian.checkpoint_all()
        await self.windows.checkpoint_all()

    async def _join_round(self) -> None:
        await self.join_agent.tick()
        await self.join_agent.custodian.checkpoint_all()

    async def _every(self, interval_ms: int, work: Callable[[], Any]) -> None:
        """Do `work` twice an interval, so that two agents in a row still keep it."""
        try:
            while True:
                await asyncio.sleep(interval_ms / 2000)
                await work()
        except Exception as error:
            log.exception("the worker cannot go on")
            await self.crash(error)

    async def _turn(self) -> None:
        while True:
            self.health.turn()
            await asyncio.sleep(TURN_S)


def create_app(
    config: Config,
    *,
    store: CheckpointStore | None = None,
    live: bool = True,
    notify: bool = True,
    now_ms: Callable[[], int] = wall_clock_ms,
    rng: random.Random | None = None,
    start_clock_ms: int = 0,
) -> TidemarkApp:
    """An app that is ready to start.

    `live=False`: no timers and no web server; the caller drives time and checkpoints (a replay). `start_clock_ms` is
    then where the arrival clock starts.
    """
    redis = store or RedisStore(parse_store_url(config.store), config.group)
    app = TidemarkApp(config, redis, live=live, now_ms=now_ms)
    topics = config.topics
    rng = rng or random.Random()

    def custodian(agent: str, inputs: tuple[str, ...], make_state: Callable[[int], Any]) -> Custodian[Any]:
        return Custodian(
            agent,
            inputs,
            make_state,
            consumer=lambda: app.batch_consumer,
            store=redis,
            publisher=app.publisher,
            metrics=app.metrics,
            health=app.health,
            now_ms=now_ms,
            rng=rng,
            on_crash=app.crash,
        )

    def sources() -> int:
        if live:
            return app.partitions_of(topics.impressions)
        return sum(held.state.has_data for held in join.held.values())

    join_setting = JoinSetting(
        policy=config.join,
        topics=JoinTopics(topics.impressions, topics.clicks, topics.partials, topics.dead_letters),
        hash_key=config.privacy.hash_key,
        now_ms=now_ms,
        metrics=app.metrics,
        sources=sources,
        targets=lambda: app.partitions_of(topics.partials),
    )
    windows_setting = WindowsSetting(
        policy=config.join,
        rules=config.rules,
        partials=topics.partials,
        windows=topics.windows,
        alerts=topics.alerts,
        dead_letters=topics.dead_letters,
        metrics=app.metrics,
    )

    def make_join_state(partition: int) -> JoinState:
        return JoinState(partition, join_setting, app.join_agent.clock_ms if live else start_clock_ms)

    join: Custodian[JoinState] = custodian("join", (topics.impressions, topics.clicks), make_join_state)
    app.join_agent = JoinAgent(join, lambda: app.batch_consumer, redis, sources, app.metrics, app.health)
    app.windows = custodian("windows", (topics.partials,), lambda p: WindowsState(p, windows_setting))

    async def assigned(_app: Any, partitions: set[TP], **_: Any) -> None:
        app.health.assigned = True
        join.assigned(partitions)
        app.windows.assigned(partitions)

    async def revoked(_app: Any, _partitions: set[TP], **_: Any) -> None:
        app.health.assigned = False
        join.revoked()
        app.windows.revoked()

    _connect(app.on_partitions_assigned, assigned)
    _connect(app.on_partitions_revoked, revoked)

    @app.agent(app.topic(topics.impressions, topics.clicks, schema=BatchSchema()), name="join")
    async def join_agent(stream: Any) -> None:
        await app.join_agent.run(stream)

    @app.agent(app.topic(topics.partials, schema=BatchSchema()), name="windows")
    async def windows_agent(stream: Any) -> None:
        async for event in stream.noack().events():
            app.windows.take(event.message)

    if notify:
        notifier = make_notifier(config.channels, app.metrics)

        @app.agent(app.topic(topics.alerts, schema=BatchSchema()), name="alerts")
        async def alerts_agent(stream: Any) -> None:
            await run_alerts(stream, notifier)

        async def close_notifier(_app: Any, **_: Any) -> None:
            await notifier.drain(timeout_s=5.0)
            await notifier.close()

        _connect(app.on_before_shutdown, close_notifier)

    return app


def _connect(signal: Any, handler: Callable[..., Any]) -> None:
    # The signals' types know nothing of the arguments that Faust sends along.
    signal.connect(handler)


async def prepare_topics(config: Config) -> list[str]:
    """Create the topics that are missing; their names. Raises BrokerUnavailable."""
    if config.in_memory:
        return []
    async with connect(config) as admin:
        return await admin.create_missing()


def _credentials(kafka: KafkaConfig) -> dict[str, Any]:
    security = kafka.security
    context = ssl.create_default_context(cafile=security.cafile or None) if security.uses_tls else None
    if security.uses_sasl:
        credentials = faust.SASLCredentials(
            username=security.username,
            password=security.password,
            mechanism=security.mechanism,
            ssl_context=context,
        )
        return {"broker_credentials": credentials}
    return {"ssl_context": context, "broker_credentials": faust.SSLCredentials(context)} if context else {}


def __getattr__(name: str) -> Any:
    # Made only when asked for: importing this module must not read the environment.
    if name == "app":
        globals()["app"] = create_app(load_config(None, os.environ))
        return globals()["app"]
    raise AttributeError(name)
