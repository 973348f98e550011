"""What the configuration says of one channel, as a value. Secrets never show in a `repr`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from alerting.alert import Severity
from alerting.channels.alertmanager import DEFAULT_RESOLVE_AFTER_S
from alerting.channels.base import Budget
from alerting.channels.email import Tls
from alerting.channels.webhook import Format
from alerting.message import Locale

CHANNEL_TYPES: Final = (
    "terminal",
    "webhook",
    "alertmanager",
    "wecom",
    "dingtalk",
    "feishu",
    "slack",
    "pagerduty",
    "email",
)

DEFAULT_RESOLVE_AFTER_MS: Final = int(DEFAULT_RESOLVE_AFTER_S * 1000)
NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailConfig:
    """What only e-mail needs to know."""

    host: str
    port: int | None
    """None: the usual one for `tls`."""
    tls: Tls
    sender: str
    recipients: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    cafile: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """One way on which alerts leave."""

    type: str
    name: str
    min_severity: Severity | None = None
    """What is less urgent never gets through, whatever the routes say; None: the routes say all."""
    locale: Locale = "en"
    time_zone: str = "UTC"
    """In which messages tell times."""
    fallback: str = ""
    """The channel that takes over what this one cannot deliver; empty for none."""
    rate: Budget | None = None
    """A limit besides that of the other side."""
    timeout_ms: int = 0
    """For one attempt; 0: what the type of channel has by default."""
    url: str = field(default="", repr=False)
    """May carry a token, thus not in the `repr`."""
    secret: str | None = field(default=None, repr=False)
    """Signs what is sent; None for unsigned."""
    routing_key: str = field(default="", repr=False)
    """Of PagerDuty."""
    mentions: Mapping[str, str] = field(default_factory=lambda: NO_NAMES)
    """Names of people -> what the chat tool knows them by."""
    format: Format = "tidemark"
    """Of a webhook's bodies."""
    resolve_after_ms: int = DEFAULT_RESOLVE_AFTER_MS
    """Of an Alertmanager: when it takes for resolved what nobody has renewed."""
    email: EmailConfig | None = None


#: Where the configuration names no channels; an empty list means none.
DEFAULT_CHANNELS: Final = (ChannelConfig(type="terminal", name="terminal"),)
