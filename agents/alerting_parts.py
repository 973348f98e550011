"""Puts together what tells people of alerts: desk, notifier, channels, and the HTTP API to answer with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from aiohttp import web

from agents.alerts_agent import AlertsAgent
from agents.alerts_api import AlertsApi
from agents.alerts_state import AlertsSetting, AlertsState
from agents.channel_making import make_channels
from agents.config import Config
from agents.custodian import Custodian
from agents.desk_view import DeskView
from agents.link_pages import LinkPages
from agents.metrics import Metrics
from agents.other_sites import OtherSites
from agents.publisher import Publisher
from agents.transports.consumer import BatchConsumer
from alerting.desk.policy import AlertingPolicy
from alerting.sending.notifier import LaneSettings, Notifier
from alerting.signed_links import LinkSigner
from tables.checkpoint import CheckpointStore
from tables.memory_ledger import MemoryLedger
from tables.redis_ledger import RedisLedger
from tables.redis_store import RedisStore
from tables.send_ledger import SendLedger


@dataclass(frozen=True, slots=True)
class AlertingParts:
    """The agent, and the routes that the worker's HTTP server takes over."""

    agent: AlertsAgent
    routes: list[web.RouteDef]


class CurrentPolicy:
    """The policy that holds now."""

    def __init__(self, policy: AlertingPolicy) -> None:
        self.policy = policy

    def __call__(self) -> AlertingPolicy:
        return self.policy


def make_alerting(
    config: Config,
    policy: CurrentPolicy,
    *,
    store: CheckpointStore,
    publisher: Publisher,
    metrics: Metrics,
    partitions: Callable[[], int],
    base_url: Callable[[], str],
    consumer: Callable[[], BatchConsumer],
    make_custodian: Callable[[Callable[[int], AlertsState]], Custodian[AlertsState]],
    now_ms: Callable[[], int],
    rng: random.Random,
    terminal: TextIO,
) -> AlertingParts:
    """`partitions`: of the alerts; `base_url`: where this worker's HTTP server is reached, once it listens."""
    topics = config.topics
    setting = AlertsSetting(policy, topics.alerts, topics.commands, topics.dead_letters, metrics, now_ms)

    def signer() -> LinkSigner:
        url = config.links.base_url or base_url()
        return LinkSigner(url, config.privacy.link_secret, config.links.ttl_ms, now_ms)

    view = DeskView(store, partitions, policy, now_ms)
    other_sites = OtherSites(config.web.host, config.links.base_url)
    api = AlertsApi(view, publisher, topics.commands, partitions, now_ms, other_sites)
    pages = LinkPages(api, signer, now_ms)
    ledger: SendLedger = (
        RedisLedger(store.connection, config.group) if isinstance(store, RedisStore) else MemoryLedger()
    )
    notifier = Notifier(
        make_channels(config.channels, terminal, external_url=config.links.base_url),
        ledger=ledger,
        settings={
            channel.name: LaneSettings(locale=channel.locale, time_zone=channel.time_zone, fallback=channel.fallback)
            for channel in config.channels
        },
        links=pages.links,
        rng=rng,
        on_outcome=lambda channel, outcome: metrics.notifications.labels(channel, outcome).inc(),
    )
    custodian = make_custodian(lambda partition: AlertsState(partition, setting))
    least = {channel.name: channel.min_severity for channel in config.channels if channel.min_severity is not None}
    agent = AlertsAgent(custodian, consumer, notifier, metrics, least)
    return AlertingParts(agent, [*api.routes(), *pages.routes()])
