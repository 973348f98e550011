"""The alerts agent: hands what stands in `tidemark.alerts` to the notifier."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from agents.config import ChannelConfig
from agents.metrics import Metrics
from agents.transports.batch import Section
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
    """The agent's body: a batch is acknowledged when all of its alerts were delivered or given up.

    The next ones are submitted meanwhile: a channel that is tried again must not hold up the others.
    """
    submitted: list[Any] = []
    arrived = asyncio.Event()

    async def acknowledge() -> None:
        while True:
            await arrived.wait()
            arrived.clear()
            events = submitted.copy()
            submitted.clear()
            while not await notifier.drain(timeout_s=60.0):
                log.warning("alerts are waiting for their channels: %s", notifier.waiting())
            for event in events:
                event.ack()

    acknowledging = asyncio.create_task(acknowledge(), name="acknowledge alerts")
    try:
        async for event in stream.noack().events():
            for section in event.value.sections:
                await _submit(section, notifier)
            submitted.append(event)
            arrived.set()
    finally:
        acknowledging.cancel()


async def _submit(section: Section, notifier: Notifier) -> None:
    for offset, value in zip(section.offsets, section.values, strict=True):
        try:
            alert = Alert.from_json(value or b"")
        except InputError as error:
            log.warning("%s offset %s is no alert: %s", section.topic, offset, error)
        else:
            await notifier.submit(alert)
