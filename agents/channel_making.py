"""From what the configuration says of channels to channels that send."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TextIO
from urllib.parse import parse_qs, urlsplit

from agents.channel_config import ChannelConfig
from alerting.channels import dingtalk, feishu, slack, wecom
from alerting.channels.alertmanager import AlertmanagerChannel
from alerting.channels.base import Budget, Channel
from alerting.channels.email import EmailChannel
from alerting.channels.pagerduty import ENQUEUE_URL, PagerDutyChannel
from alerting.channels.terminal import TerminalChannel
from alerting.channels.webhook import WebhookChannel
from alerting.durations import say_duration
from tables.errors import ConfigError

_VENDORS_BUDGETS: Final[dict[str, Sequence[Budget]]] = {
    "wecom": wecom.BUDGETS,
    "dingtalk": dingtalk.BUDGETS,
    "feishu": feishu.BUDGETS,
    "slack": slack.BUDGETS,
}


def make_channels(
    configs: Iterable[ChannelConfig],
    terminal: TextIO | None = None,
    now: Callable[[], float] = time.time,
    external_url: str = "",
) -> dict[str, Channel]:
    """Channels by name, as `make_channel` makes them."""
    return {config.name: make_channel(config, terminal, now, external_url) for config in configs}


def make_channel(
    config: ChannelConfig,
    terminal: TextIO | None = None,
    now: Callable[[], float] = time.time,
    external_url: str = "",
) -> Channel:
    """The channel that a configuration describes; it opens no connection before it sends.

    :param terminal: where channels of that type write; by default standard error.
    :param now: seconds since the epoch; dates signatures and mails.
    :param external_url: where people find this tidemark, for those who read alerts elsewhere.
    :raises ConfigError: something in it cannot be; the message begins with "channel NAME: ".
    """
    options: dict[str, Any] = {"name": config.name, "budgets": _budgets_of(config)}
    if config.type == "terminal":
        return TerminalChannel(terminal or sys.stderr, **options)
    options["now"] = now
    if config.timeout_ms:
        options["timeout_s"] = config.timeout_ms / 1000
    match config.type:
        case "webhook":
            return WebhookChannel(
                config.url, secret=config.secret, format=config.format, external_url=external_url, **options
            )
        case "alertmanager":
            resolve_after_s = config.resolve_after_ms / 1000
            return AlertmanagerChannel(
                config.url, resolve_after_s=resolve_after_s, external_url=external_url, **options
            )
        case "pagerduty":
            url = config.url or ENQUEUE_URL
            return PagerDutyChannel(config.routing_key, url=url, external_url=external_url, **options)
        case "email":
            return _email(config, options)
    options["mentions"] = config.mentions
    match config.type:
        case "wecom":
            key, options["base_url"] = _robot(config, "/cgi-bin/webhook/send", "key")
            return wecom.WeComChannel(key, **options)
        case "dingtalk":
            token, options["base_url"] = _robot(config, "/robot/send", "access_token")
            return dingtalk.DingTalkChannel(token, secret=config.secret, **options)
        case "feishu":
            hook, options["base_url"] = _robot(config, "/open-apis/bot/v2/hook/")
            return feishu.FeishuChannel(hook, secret=config.secret, **options)
        case "slack":
            return slack.SlackChannel(config.url, **options)
    raise ConfigError(f"channel {config.name}: there is no type {config.type}")


def _budgets_of(config: ChannelConfig) -> tuple[Budget, ...]:
    """The other side's and, where it is said, our own: both hold."""
    vendors = tuple(_VENDORS_BUDGETS.get(config.type, ()))
    if config.rate is None:
        return vendors
    for vendor in vendors:
        # What the vendor lets through in so long a time at most: a limit above it would never be met.
        if config.rate.parcels > vendor.parcels * math.ceil(config.rate.per_ms / vendor.per_ms):
            most = f"{vendor.parcels} in {say_duration(vendor.per_ms)}"
            got = f"{config.rate.parcels} in {say_duration(config.rate.per_ms)}"
            raise ConfigError(f"channel {config.name}: rate: {config.type} takes no more than {most}, got {got}")
    return (*vendors, config.rate)


def _email(config: ChannelConfig, options: dict[str, Any]) -> EmailChannel:
    email = config.email
    if email is None:
        raise ConfigError(f"channel {config.name}: expected host, from and to, got nothing")
    return EmailChannel(
        email.host,
        port=email.port,
        tls=email.tls,
        sender=email.sender,
        recipients=email.recipients,
        username=email.username,
        password=email.password,
        cafile=email.cafile,
        **options,
    )


def _robot(config: ChannelConfig, path: str, parameter: str = "") -> tuple[str, str]:
    """The token in a robot's URL as its service shows it, in a parameter or at the end of the path, and what stands
    before `path`: a proxy has a base of its own."""
    base, found, rest = config.url.partition(path)
    token = parse_qs(urlsplit(config.url).query).get(parameter, [""])[0] if parameter else rest
    if not found or not token:
        shown = f"{path}?{parameter}=..." if parameter else f"{path}..."
        raise ConfigError(f"channel {config.name}: url: expected the robot's URL, https://...{shown}")
    return token, base
