"""The Faust app that carries tidemark's agents: what they share, and in which order it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import faust
from faust.app.base import BootStrategy

from agents.alerting_parts import AlertingParts, CurrentPolicy
from agents.config import Config, KafkaConfig, WebConfig
from agents.custodian import Custodian
from agents.health import Health
from agents.inference_state import InferenceState
from agents.input_agent import InputAgent
from agents.join_state import JoinState
from agents.kafka_admin import prepare_topics
from agents.metrics import Metrics
from agents.policy_watch import PolicyWatch
from agents.publisher import Publisher
from agents.reference_watch import ReferenceWatch
from agents.sql_judge import SqlJudge
from agents.transports.consumer import BatchConsumer, Layout
from agents.transports.no_tables import NoTables
from agents.web import WebServer
from agents.windows_state import WindowsState
from tables.checkpoint import CheckpointStore
from tables.errors import BrokerUnavailable

log = logging.getLogger("tidemark.app")

TURN_S = 0.1
REFERENCES_MS = 20_000
POLICY_MS = 2_000
ALERTS_MS = 500
NOTIFY_ON_THE_WAY_DOWN_S = 5.0


class NoWeb(BootStrategy):
    """Faust's own web server stays off, also where `faust worker` switches it on: ours listens on that port."""

    enable_web = False


class TidemarkApp(faust.App):
    """A Faust app with tidemark's agents in it."""

    BootStrategy = NoWeb

    def __init__(self, config: Config, store: CheckpointStore, *, live: bool, now_ms: Callable[[], int]) -> None:
        self.config = config
        self.store = store
        self.metrics = Metrics()
        self.health = Health()
        self.live = live
        topics = config.topics
        self.tidemark_layout = Layout(
            groups=(frozenset((topics.impressions, topics.clicks)), frozenset((topics.alerts, topics.commands))),
            held=frozenset(
                (
                    *(topics.impressions, topics.clicks, topics.inferences, topics.partials),
                    *(topics.alerts, topics.commands),
                )
            ),
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
            web_port=config.web.port,
            TableManager=NoTables,
            stream_buffer_maxsize=8,
            stream_wait_empty=True,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=config.kafka.max_fetch_bytes,
            consumer_group_instance_id=config.kafka.instance_id,
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
        self.join_agent: InputAgent[JoinState]
        self.inference_agent: InputAgent[InferenceState]
        self.windows: Custodian[WindowsState]
        self.sql: SqlJudge
        self.alerting: AlertingParts | None = None
        """None: nobody is told of alerts, as in a replay."""
        self.rules = config.rules
        """Those that hold now."""
        self.policy = CurrentPolicy(config.alerting_policy)
        self.references: ReferenceWatch | None = None
        self.http: WebServer | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._partitions: dict[str, int] = {}
        self._prepared = False
        self.failure: BaseException | None = None
        """What the worker failed for; Faust's `crash_reason` is whatever went wrong last on the way down."""
        self.drained = False
        """Set on the way down, when the last checkpoint of every partition has been written."""

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
        # An answer that came while the broker restarted may lack the topic: what was known goes on to hold.
        count = self.consumer.topic_partitions(topic) or self._partitions.get(topic)
        if not count:
            # A guess would make windows final before all their partitions have spoken.
            raise BrokerUnavailable(f"the broker does not say how many partitions {topic} has")
        self._partitions[topic] = count
        return count

    async def prepare(self) -> None:
        """Do what can fail for a reason outside: take the web port, reach the store, create the missing topics.

        Raises RunError. Starting does it too, where it has not been done before.
        """
        if self._prepared:
            return
        if self.live:
            routes = [] if self.alerting is None else self.alerting.routes
            self.http = WebServer(self._web_config(), self.metrics, self.health, routes)
            await self.http.start()
        await self.store.open()
        if self.references is not None:
            await self.references.open()
        if self.live and (created := await prepare_topics(self.config)):
            log.info("created topics: %s", ", ".join(created))
        self._prepared = True

    async def release(self) -> None:
        """Give back what `prepare` has taken."""
        if self.http is not None:
            await self.http.stop()
        if self.references is not None:
            await self.references.close()
        await self.store.close()

    async def on_start(self) -> None:
        await self.prepare()
        await super().on_start()
        if self.live:
            await self.sql.start(prepare=any(rule.query is not None for rule in self.rules))
            self.batch_consumer.before_drain = self._drain
            intervals = self.config.timing
            policy = PolicyWatch(self.config, self._adopt, self.metrics)
            self._loops = [
                asyncio.create_task(self._turn(), name="turn"),
                *(
                    asyncio.create_task(self._every(intervals.checkpoint_interval_ms, agent.round), name=name)
                    for name, agent in (("join", self.join_agent), ("inferences", self.inference_agent))
                ),
                asyncio.create_task(
                    self._every(intervals.emit_interval_ms, self.windows.checkpoint_all), name="windows"
                ),
                asyncio.create_task(self._every(REFERENCES_MS, self._look_at_references), name="references"),
                asyncio.create_task(self._every(POLICY_MS, policy.turn), name="policy"),
            ]
            if self.alerting is not None:
                work = self._every(ALERTS_MS, self.alerting.agent.round)
                self._loops.append(asyncio.create_task(work, name="alerts"))

    async def on_stop(self) -> None:
        # The rounds end by themselves: one that is cancelled loses the changes that it has taken out of a state.
        self.health.stopping = True
        self.drained = True
        await super().on_stop()
        for task in self._loops:
            task.cancel()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        await self.sql.close()
        await self.release()

    def _web_config(self) -> WebConfig:
        # `faust worker --web-port` sets it here.
        port = self.conf.web_port
        if port == self.config.web.port:
            return self.config.web
        return replace(self.config.web, port=port, port_was_asked=True)

    async def _drain(self) -> None:
        self.drained = False
        await self.join_agent.custodian.checkpoint_all()
        await self.inference_agent.custodian.checkpoint_all()
        await self.windows.checkpoint_all()
        if self.alerting is not None:
            # What is on its way is finished, and noted; the rest is said by whoever takes over.
            await self.alerting.agent.round(at_once=True)
            await self.alerting.agent.notifier.settle(NOTIFY_ON_THE_WAY_DOWN_S)
            await self.alerting.agent.custodian.checkpoint_all()
        self.drained = True

    def _adopt(self, config: Config) -> None:
        """Judge and tell by other rules from now on."""
        self.rules = config.rules
        for held in self.windows.held.values():
            held.state.replace_rules()
        self.policy.policy = config.alerting_policy
        if self.alerting is not None:
            self.alerting.agent.replace_policy(self.policy.policy)

    @property
    def base_url(self) -> str:
        """Where the HTTP server is reached from this machine; once it listens."""
        host = self.config.web.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        port = self.config.web.port if self.http is None else self.http.port
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def _look_at_references(self) -> None:
        if self.references is not None:
            await self.references.turn()

    async def _every(self, interval_ms: int, work: Callable[[], Any]) -> None:
        """Do `work` twice an interval, so that two agents in a row still keep it."""
        try:
            while not self.health.stopping:
                await asyncio.sleep(interval_ms / 2000)
                try:
                    await work()
                except BrokerUnavailable as error:
                    log.warning("%s; trying again", error)
        except Exception as error:
            log.exception("the worker cannot go on")
            await self.fail(error)

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        # Faust would start the agent anew, behind the batch that it failed on.
        await self.fail(exc)

    async def fail(self, error: BaseException) -> None:
        """Crash, and write nothing more: what failed may have left a state half changed."""
        self.failure = self.failure or error
        for custodian in (self.join_agent.custodian, self.inference_agent.custodian, self.windows):
            custodian.revoked()
        if self.alerting is not None:
            self.alerting.agent.revoked()
        await self.crash(error)

    async def _turn(self) -> None:
        while True:
            self.health.turn()
            await asyncio.sleep(TURN_S)


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
