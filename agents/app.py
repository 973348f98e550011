"""The app: which agents there are, and how they are put together.

`create_app` makes a Faust app; the broker's URL decides whether it runs on Kafka or on the embedded broker.
`faust -A agents.app worker` finds `app` here, made from the environment.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TextIO, TypeVar

from faust.types import TP

from agents.alerting_parts import make_alerting
from agents.alerts_state import AlertsState
from agents.config import Config, load_config
from agents.custodian import Custodian
from agents.feature_decoding import IMPRESSIONS, INFERENCES
from agents.feature_intake import FeatureIntake
from agents.inference_state import InferenceSetting, InferenceState, InferenceTopics
from agents.input_agent import InputAgent
from agents.input_state import InputState
from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.open_alerts import read_open_alerts
from agents.reference_watch import ReferenceWatch
from agents.rule_judge import Tap
from agents.schema import BatchSchema
from agents.sql_judge import SqlJudge
from agents.tidemark_app import TidemarkApp
from agents.windows_state import WindowsSetting, WindowsState
from alerting.sql.engine import SqlEngine
from tables.checkpoint import CheckpointStore
from tables.redis_store import RedisStore
from tables.redis_url import parse_store_url
from tables.reference import ReferenceBook

StateT = TypeVar("StateT", bound=InputState[Any])


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def create_app(
    config: Config,
    *,
    store: CheckpointStore | None = None,
    live: bool = True,
    notify: bool = True,
    now_ms: Callable[[], int] = wall_clock_ms,
    rng: random.Random | None = None,
    provisional: bool = True,
    terminal: TextIO | None = None,
    tap: Tap | None = None,
) -> TidemarkApp:
    """An app that is ready to start.

    `live=False`: no timers and no web server; the caller drives time and checkpoints (a replay). `provisional`: whether
    rows of windows that are not final are told. `terminal`: where channels of that type write, by default standard
    error. `tap`: see `agents.rule_judge.JudgeSetting`.
    """
    redis = store or RedisStore(parse_store_url(config.store), config.group)
    app = TidemarkApp(config, redis, live=live, now_ms=now_ms)
    topics = config.topics
    rng = rng or random.Random()

    def custodian(
        agent: str,
        inputs: tuple[str, ...],
        make_state: Callable[[int], Any],
        recall: Callable[[Any], Awaitable[None]] | None = None,
    ) -> Custodian[Any]:
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
            on_crash=app.fail,
            recall=recall,
        )

    def join_sources() -> int:
        return app.partitions_of(topics.impressions) if live else app.join_agent.speaking

    def inference_sources() -> int:
        return app.partitions_of(topics.inferences) if live else app.inference_agent.speaking

    def targets() -> int:
        return app.partitions_of(topics.partials)

    references = ReferenceBook(config.drift.references)
    join_setting = JoinSetting(
        policy=config.join,
        topics=JoinTopics(topics.impressions, topics.clicks, topics.partials, topics.dead_letters),
        hash_key=config.privacy.hash_key,
        now_ms=now_ms,
        metrics=app.metrics,
        sources=join_sources,
        targets=targets,
        intake=FeatureIntake(references if config.drift.from_impressions else None, IMPRESSIONS),
    )
    inference_setting = InferenceSetting(
        policy=config.join,
        topics=InferenceTopics(topics.inferences, topics.partials, topics.dead_letters),
        now_ms=now_ms,
        metrics=app.metrics,
        sources=inference_sources,
        targets=targets,
        intake=FeatureIntake(references if config.drift.from_inferences else None, INFERENCES),
    )
    windows_setting = WindowsSetting(
        policy=config.join,
        rules=lambda: app.rules,
        partials=topics.partials,
        windows=topics.windows,
        alerts=topics.alerts,
        dead_letters=topics.dead_letters,
        metrics=app.metrics,
        provisional=lambda: provisional,
        references=references,
        drift_policy=config.drift.policy_of,
        tap=tap,
        waits=not live,
        targets=targets,
    )

    def make_join_state(partition: int) -> JoinState:
        return JoinState(partition, join_setting, app.join_agent.clock_ms)

    def make_inference_state(partition: int) -> InferenceState:
        return InferenceState(partition, inference_setting, app.inference_agent.clock_ms)

    def agent_of(custodian: Custodian[StateT], sources: Callable[[], int]) -> InputAgent[StateT]:
        return InputAgent(custodian, lambda: app.batch_consumer, redis, sources, app.metrics, app.health)

    join: Custodian[JoinState] = custodian("join", (topics.impressions, topics.clicks), make_join_state)
    inferences: Custodian[InferenceState] = custodian("inferences", (topics.inferences,), make_inference_state)
    app.join_agent = agent_of(join, join_sources)
    app.inference_agent = agent_of(inferences, inference_sources)

    async def recall(state: WindowsState) -> None:
        since_ms = now_ms() - app.policy.policy.stale_after_ms
        state.recall(await read_open_alerts(config, app.partitions_of(topics.alerts), since_ms))

    app.windows = custodian(
        "windows",
        (topics.partials,),
        lambda p: WindowsState(p, windows_setting),
        recall if notify and not config.in_memory else None,
    )

    app.sql = SqlJudge(SqlEngine(), lambda: app.windows.held.values())

    def alerts_custodian(make_state: Callable[[int], AlertsState]) -> Custodian[AlertsState]:
        return custodian("alerts", (topics.alerts, topics.commands), make_state)

    if live and store is None:
        app.references = ReferenceWatch(
            config, references, lambda: [day for held in app.windows.held.values() for day in held.state.take_days()]
        )

    custodians: list[Custodian[Any]] = [join, inferences, app.windows]

    async def assigned(_app: Any, partitions: set[TP], **_: Any) -> None:
        app.health.assigned = True
        for owner in custodians:
            owner.assigned(partitions)

    async def revoked(_app: Any, _partitions: set[TP], **_: Any) -> None:
        app.health.assigned = False
        for owner in custodians:
            owner.revoked()

    _connect(app.on_partitions_assigned, assigned)
    _connect(app.on_partitions_revoked, revoked)

    @app.agent(app.topic(topics.impressions, topics.clicks, schema=BatchSchema()), name="join")
    async def join_agent(stream: Any) -> None:
        await app.join_agent.run(stream)

    @app.agent(app.topic(topics.inferences, schema=BatchSchema()), name="inferences")
    async def inference_agent(stream: Any) -> None:
        await app.inference_agent.run(stream)

    @app.agent(app.topic(topics.partials, schema=BatchSchema()), name="windows")
    async def windows_agent(stream: Any) -> None:
        async for event in stream.noack().events():
            app.windows.take(event.message)
            app.sql.wake()

    if notify:
        app.alerting = make_alerting(
            config,
            app.policy,
            store=redis,
            publisher=app.publisher,
            metrics=app.metrics,
            partitions=lambda: app.partitions_of(topics.alerts),
            base_url=lambda: app.base_url,
            consumer=lambda: app.batch_consumer,
            make_custodian=alerts_custodian,
            now_ms=now_ms,
            rng=rng,
            terminal=terminal or sys.stderr,
        )
        agent = app.alerting.agent
        custodians.append(agent.custodian)

        @app.agent(app.topic(topics.alerts, topics.commands, schema=BatchSchema()), name="alerts")
        async def alerts_agent(stream: Any) -> None:
            await agent.run(stream)

        async def close_notifier(_app: Any, **_: Any) -> None:
            await agent.notifier.close()

        _connect(app.on_before_shutdown, close_notifier)

    return app


def _connect(signal: Any, handler: Callable[..., Any]) -> None:
    # The signals' types know nothing of the arguments that Faust sends along.
    signal.connect(handler)


def __getattr__(name: str) -> Any:
    # Made only when asked for: importing this module must not read the environment.
    if name == "app":
        config = load_config(None, os.environ)
        config.check_links()
        globals()["app"] = create_app(config)
        return globals()["app"]
    raise AttributeError(name)
