"""The configuration: one YAML file, environment variables and options, checked once and then only read.

Precedence: command line, then environment, then file, then defaults. Secrets come from the environment or
from files of their own, never from the configuration file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from agents import config_values as values
from agents.channel_config import DEFAULT_CHANNELS, ChannelConfig
from agents.config_alerting import check_renewal, default_alerting, read_alerting
from agents.config_channels import read_channels
from agents.config_drift import read_drift
from agents.config_file import Mistakes, Section, Stamp, read_file, read_text, stamp_of
from agents.config_reading import (
    read_join,
    read_kafka,
    read_links,
    read_privacy,
    read_timing,
    read_topics,
)
from agents.config_sections import (
    DEFAULT_WEB_HOST,
    DEFAULT_WEB_PORT,
    DriftConfig,
    KafkaConfig,
    LinksConfig,
    PrivacyConfig,
    SecurityConfig,
    TimingConfig,
    TopicsConfig,
    WebConfig,
)
from agents.rules_file import read_rules, read_rules_file
from alerting.desk.policy import AlertingPolicy
from alerting.rules.rule import DEFAULT_RULES, Rule
from tables.errors import ConfigError
from tables.join_policy import JoinPolicy
from tables.redis_url import parse_store_url

__all__ = [
    "ChannelConfig",
    "Config",
    "DriftConfig",
    "KafkaConfig",
    "Overrides",
    "PrivacyConfig",
    "SecurityConfig",
    "TimingConfig",
    "TopicsConfig",
    "WebConfig",
    "find_mistakes",
    "load_config",
    "load_judgement",
]

DEFAULT_GROUP = "tidemark"
WEB_TOKEN_VARIABLE = "TIDEMARK_WEB_TOKEN"
LEAST_WEB_TOKEN = 16
DEFAULT_BROKER = "kafka://localhost:9092"
DEFAULT_STORE = "redis://localhost:6379/0"
CONNECTIONS = ("broker", "store", "channels", "alerting", "links", "privacy", "kafka", "web")
"""Keys of the file that say where to go, whom to tell, and with which secrets."""


class Overrides(TypedDict, total=False):
    """What the command line says; None is the same as not said."""

    broker: str | None
    store: str | None
    web_host: str | None
    web_port: str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a configuration was read from, so that it can be read again."""

    path: str | Path | None
    env: Mapping[str, str] = field(repr=False)
    """May hold secrets."""
    overrides: Overrides
    files: tuple[Path, ...]
    stamp: Stamp
    """Of the files, before they were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a worker or command is told from outside."""

    group: str = DEFAULT_GROUP
    """Kafka consumer group and namespace of the keys in Redis."""
    broker: str = DEFAULT_BROKER
    """`kafka://host:port,host:port` (each with its port) or `memory://`."""
    store: str = DEFAULT_STORE
    """Redis URL as given; may hold a password: show `redacted_store` instead."""
    topics: TopicsConfig = field(default_factory=TopicsConfig)
    join: JoinPolicy = field(default_factory=JoinPolicy)
    timing: TimingConfig = field(default_factory=TimingConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    web: WebConfig = field(default_factory=WebConfig)
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    rules: tuple[Rule, ...] = DEFAULT_RULES
    channels: tuple[ChannelConfig, ...] = DEFAULT_CHANNELS
    alerting: AlertingPolicy | None = None
    """None: the default for these channels; `alerting_policy` is what holds."""
    links: LinksConfig = field(default_factory=LinksConfig)
    origin: Origin | None = field(default=None, compare=False)
    """Where it was read from."""

    @property
    def alerting_policy(self) -> AlertingPolicy:
        """Who is told what, when."""
        return self.alerting or default_alerting(self.channels)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that rules and alerting come from."""
        return () if self.origin is None else self.origin.files

    def reload(self) -> Config:
        """What the same files, environment and options say now. Raises ConfigError."""
        assert self.origin is not None  # nobody asks where there are no files
        return load_config(self.origin.path, self.origin.env, self.origin.overrides)

    @property
    def in_memory(self) -> bool:
        """True for a broker inside the process."""
        return self.broker.startswith(values.IN_MEMORY)

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """Kafka nodes as host:port; none for `memory://`."""
        return () if self.in_memory else tuple(self.broker.removeprefix("kafka://").split(","))

    @property
    def redacted_store(self) -> str:
        """The store's URL without its password."""
        return parse_store_url(self.store).redacted

    def check_links(self) -> None:
        """Raises ConfigError where anybody could sign the links that a worker serves to others, or past its token."""
        if self.privacy.is_development_key and (self.web.token or self.links.base_url):
            name = WEB_TOKEN_VARIABLE if self.web.token else "links.base_url"
            raise ConfigError(
                f"{name}: expected a hash key too, as with the development key anybody can sign a link that "
                "acknowledges or silences: set TIDEMARK_HASH_KEY or privacy.hash_key_file"
            )

    def __repr__(self) -> str:
        # The generated one would show the password of the store.
        return f"Config(group={self.group!r}, broker={self.broker!r}, store={self.redacted_store!r})"


def load_config(path: str | Path | None, env: Mapping[str, str], overrides: Overrides | None = None) -> Config:
    """The configuration from a file (`path`, else TIDEMARK_CONFIG, else none), environment and options.

    :raises ConfigError: with the first mistake, and how many more there are.
    """
    return _complete(lambda mistakes: _read(path, env, overrides or {}, mistakes))


def load_judgement(path: str | Path | None) -> Config:
    """What a file says of how events are counted and judged: of a replay nobody is told, so it needs no secrets.

    :raises ConfigError: as `load_config`.
    """
    return _complete(lambda mistakes: _read(path, {}, {}, mistakes, leave=CONNECTIONS))


def find_mistakes(path: str | Path | None, env: Mapping[str, str], overrides: Overrides | None = None) -> list[str]:
    """All mistakes that `load_config` would find, one line each."""
    mistakes = Mistakes()
    try:
        _read(path, env, overrides or {}, mistakes)
    except ConfigError as error:
        mistakes.note(str(error))
    return mistakes.in_order()


def _complete(read: Callable[[Mistakes], Config]) -> Config:
    mistakes = Mistakes()
    config = read(mistakes)
    if not mistakes:
        return config
    found = mistakes.in_order()
    more = len(found) - 1
    raise ConfigError(found[0] + (f" (and {more} more, see tidemark check)" if more else ""))


def _read(
    path: str | Path | None,
    env: Mapping[str, str],
    overrides: Overrides,
    mistakes: Mistakes,
    *,
    leave: Collection[str] = (),
) -> Config:
    """`leave`: keys of the file that are not looked at."""
    path = path or env.get("TIDEMARK_CONFIG") or None
    stamp = stamp_of([Path(path)] if path else [])
    top = read_file(Path(path), mistakes) if path else read_text("", "defaults", mistakes)
    top.leave(leave)
    folder = Path(path).parent if path else Path()

    group = top.take("group", values.group, DEFAULT_GROUP)
    broker = top.take("broker", values.broker_url, DEFAULT_BROKER)
    store = top.take("store", values.store_url_without_password, DEFAULT_STORE)
    if said := env.get("TIDEMARK_BROKER"):
        broker = mistakes.convert("TIDEMARK_BROKER", said, values.broker_url, broker)
    if said := env.get("TIDEMARK_STORE"):
        store = mistakes.convert("TIDEMARK_STORE", said, values.store_url, store)
    if said := overrides.get("broker"):
        broker = mistakes.convert("--broker", said, values.broker_url, broker)
    if said := overrides.get("store"):
        store = mistakes.convert("--store", said, values.store_url, store)

    channels = read_channels(top, folder, env)
    alerting = read_alerting(top, channels) if "alerting" in top else None
    check_renewal(top, channels, alerting or default_alerting(channels))
    rules_file = top.take("rules_file", values.text, "")
    if rules_file and "rules" in top:
        top.mistake("rules_file", "expected either rules or rules_file, got both")
    files = [Path(path)] if path else []
    if rules_file:
        files.append(folder / rules_file)
        stamp += stamp_of(files[-1:])
    join = read_join(top.section("join"))
    config = Config(
        group=group,
        broker=broker,
        store=store,
        topics=read_topics(top.section("topics")),
        join=join,
        timing=read_timing(top.section("timing")),
        privacy=read_privacy(top.section("privacy"), folder, env, mistakes),
        web=_read_web(top.section("web"), env, overrides, mistakes),
        kafka=read_kafka(top.section("kafka"), folder, env),
        drift=read_drift(top.section("drift"), folder),
        rules=(
            read_rules_file(folder / rules_file, mistakes, join.attribution_ms)
            if rules_file
            else read_rules(top, join.attribution_ms)
        ),
        channels=channels,
        alerting=alerting,
        links=read_links(top.section("links")),
        origin=Origin(path=path, env=dict(env), overrides=overrides, files=tuple(files), stamp=stamp),
    )
    top.finish()
    return config


def _read_web(section: Section, env: Mapping[str, str], overrides: Overrides, mistakes: Mistakes) -> WebConfig:
    host = section.take("host", values.text, DEFAULT_WEB_HOST)
    asked = section.take("port", values.port, 0)
    section.refuse({"token": f"set {WEB_TOKEN_VARIABLE} instead"})
    section.finish()
    if said := env.get("TIDEMARK_WEB_PORT"):
        asked = mistakes.convert("TIDEMARK_WEB_PORT", said, values.port, asked)
    if (option := overrides.get("web_port")) is not None:
        asked = mistakes.convert("--web-port", option, values.port, asked)
    if option := overrides.get("web_host"):
        host = mistakes.convert("--web-host", option, values.text, host)
    token = env.get(WEB_TOKEN_VARIABLE, "")
    if token and (len(token) < LEAST_WEB_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        mistakes.note(f"{WEB_TOKEN_VARIABLE}: expected {LEAST_WEB_TOKEN} or more printable characters without blanks")
    return WebConfig(host=host, port=asked or DEFAULT_WEB_PORT, port_was_asked=bool(asked), token=token)
