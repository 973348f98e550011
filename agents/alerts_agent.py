"""The alerts agent: hands what stands in `tidemark.alerts` to the notifier."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from agents.config import ChannelConfig
from agents.metrics import Metrics
from alerting.alert import Alert
from alerting.channels.base import Channel
from alerting.channels.terminal import TerminalChannel
from alerting.channels.webhook import WebhookChannel
from alerting.notifier import Notifier
from tables.errors import InputError

log = logging.getLogger("tidemark.alerts")


def make_channel(config: ChannelConfig, terminal: TextIO = sys.stderr) -> Channel:
    """The channel that a configuration describes."""
    if config.type == "terminal":
        return TerminalChannel(terminal, name=config.name)
    return WebhookChannel(config.url, name=config.name, secret=config.secret)


def make_notifier(configs: Sequence[ChannelConfig], metrics: Metrics, terminal: TextIO = sys.stderr) -> Notifier:
    """A notifier over all configured channels; what cannot be delivered is logged and counted."""

    def dead(alert: Alert, channel: str, reason: str) -> None:
        log.error("alert %s (%s) was not delivered to %s: %s", alert.alert_id, alert.status, channel, reason)

    return Notifier(
        [make_channel(config, terminal) for config in configs],
        min_severity_of={config.name: config.min_severity for config in configs},
        on_outcome=lambda channel, outcome: metrics.notifications.labels(channel, outcome).inc(),
        on_dead=dead,
    )


async def run_alerts(stream: Any, notifier: Notifier) -> None:
    """The agent's body: a batch is acknowledged when all of its alerts were delivered or given up."""
    async for batch in stream:
        for section in batch.sections:
            for offset, value in zip(section.offsets, section.values, strict=True):
                try:
                    alert = Alert.from_json(value or b"")
                except InputError as error:
                    log.warning("%s offset %s is no alert: %s", section.topic, offset, error)
                else:
                    await notifier.submit(alert)
        await notifier.drain(timeout_s=5.0)
