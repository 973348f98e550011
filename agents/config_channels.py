"""The section `channels` of the configuration file: on which ways alerts leave.

Whatever is a secret, the URL of a chat tool's robot as well, is named as NAME_env (an environment variable) or
NAME_file (a file beside the configuration).
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from agents import config_values as values
from agents.channel_config import (
    CHANNEL_TYPES,
    DEFAULT_CHANNELS,
    DEFAULT_RESOLVE_AFTER_MS,
    NO_NAMES,
    ChannelConfig,
    EmailConfig,
)
from agents.channel_making import make_channel
from agents.config_file import Section
from agents.config_secrets import secret_of_variable, text_of_file
from alerting.alert import SEVERITIES, Severity
from alerting.channels.base import Budget
from alerting.channels.email import TLS, Tls, is_loopback
from alerting.channels.webhook import FORMATS, Format
from alerting.durations import parse_duration
from alerting.message import LOCALES, Locale
from alerting.texts.template_filters import zone_of
from tables.errors import ConfigError

__all__ = ["CHANNEL_TYPES", "DEFAULT_CHANNELS", "ChannelConfig", "EmailConfig", "read_channels"]

HOUR_MS = 3_600_000
#: The notifier gives up an attempt after so long, whatever the channel would wait.
_LONGEST_TIMEOUT_MS = 30_000

_CHAT_TOOLS = ("wecom", "dingtalk", "feishu", "slack")
_SIGNING = ("webhook", "dingtalk", "feishu")
_RATE = re.compile(r"(\d{1,6})\s*/\s*(\S+)")
_NO_TEXTS: tuple[str, ...] = ()


def read_channels(top: Section, folder: Path, env: Mapping[str, str]) -> tuple[ChannelConfig, ...]:
    """`channels`: the terminal alone where the key is absent.

    :param folder: what relative file names are relative to.
    """
    found = top.sections("channels")
    if "channels" not in top:
        return DEFAULT_CHANNELS
    channels: list[ChannelConfig] = []
    for section in found:
        channel = _read_channel(section, folder, env)
        if channel.name and any(channel.name == other.name for other in channels):
            section.mistake("name", f'the name "{channel.name}" is taken by another channel: give each its own')
        channels.append(channel)
    _check_fallbacks(found, channels)
    return tuple(channels)


def _read_channel(section: Section, folder: Path, env: Mapping[str, str]) -> ChannelConfig:
    kind = section.take("type", values.choice(*CHANNEL_TYPES), "")
    if "type" not in section:
        section.mistake("", f"expected a type: {', '.join(CHANNEL_TYPES[:-1])} or {CHANNEL_TYPES[-1]}")
    secret, email = None, None
    if kind in _SIGNING:
        secret = _secret(section, "secret", folder, env) or None
    if kind == "email":
        email = _read_email(section, folder, env)
    channel = ChannelConfig(
        type=kind,
        name=section.take("name", values.text, kind),
        min_severity=section.take("min_severity", _severity, None),
        locale=section.take("locale", _locale, "en"),
        time_zone=section.take("time_zone", _time_zone, "UTC"),
        fallback=section.take("fallback", values.text, ""),
        rate=section.take("rate", _rate, None),
        timeout_ms=0
        if kind == "terminal"
        else section.take("timeout", values.duration_between(100, _LONGEST_TIMEOUT_MS), 0),
        url=_read_url(section, kind, folder, env),
        secret=secret,
        routing_key=_secret(section, "routing_key", folder, env) if kind == "pagerduty" else "",
        mentions=section.take("mentions", _names, NO_NAMES) if kind in _CHAT_TOOLS else NO_NAMES,
        format=section.take("format", _format, "tidemark") if kind == "webhook" else "tidemark",
        resolve_after_ms=_read_resolve_after(section) if kind == "alertmanager" else DEFAULT_RESOLVE_AFTER_MS,
        email=email,
    )
    if not kind:
        return channel  # which keys it may have depends on the type
    section.finish()
    complete = _check_required(section, kind, channel)
    if complete:
        _try(section, channel)
    return channel


def _read_url(section: Section, kind: str, folder: Path, env: Mapping[str, str]) -> str:
    """The URL as it stands there, or, where it may hold a token, from elsewhere."""
    if kind in ("terminal", "email", ""):
        return ""
    if kind == "pagerduty":
        return section.take("url", values.http_url, "")
    said = "" if kind in _CHAT_TOOLS else section.take("url", values.http_url, "")
    hidden = _secret(section, "url", folder, env, refused=kind in _CHAT_TOOLS)
    name = "url_env" if "url_env" in section else "url_file"
    if said and hidden:
        section.mistake(name, f"expected either url or {name}, got both")
    if hidden:
        try:
            return values.http_url(hidden)
        except ValueError as error:
            # What was found is not shown: webhook URLs carry their token in the path.
            section.mistake(name, f"the {'variable' if name == 'url_env' else 'file'} holds something else: {error}")
    return said


def _read_email(section: Section, folder: Path, env: Mapping[str, str]) -> EmailConfig:
    host = section.take("host", values.text, "")
    cafile = section.take("cafile", values.text, "")
    return EmailConfig(
        host=host,
        port=section.take("port", values.port, None),
        # On this machine there is nobody between, and no certificate for it either.
        tls=section.take("tls", _tls, "none" if is_loopback(host) else "starttls"),
        sender=section.take("from", values.text, ""),
        recipients=section.take("to", _one_or_more, _NO_TEXTS),
        username=section.take("username", values.text, ""),
        password=_secret(section, "password", folder, env),
        cafile=str(folder / cafile) if cafile else "",
    )


def _read_resolve_after(section: Section) -> int:
    return section.take("resolve_after", values.duration_between(60_000, 168 * HOUR_MS), DEFAULT_RESOLVE_AFTER_MS)


def _check_required(section: Section, kind: str, channel: ChannelConfig) -> bool:
    """Whether all is there without which it cannot be tried; a field that is there and wrong has been noted."""
    if kind == "email":
        missing = [name for name in ("host", "from", "to") if name not in section]
        if missing:
            section.mistake("", f"an email needs {', '.join(missing)} too")
        return bool(channel.email and channel.email.host and channel.email.sender and channel.email.recipients)
    if kind == "pagerduty":
        if not {"routing_key", "routing_key_env", "routing_key_file"} & section.keys():
            section.mistake("", "a pagerduty needs routing_key_env or routing_key_file")
        return bool(channel.routing_key)
    if kind == "terminal":
        return True
    if not {"url", "url_env", "url_file"} & section.keys():
        ways = "url_env or url_file" if kind in _CHAT_TOOLS else "url, url_env or url_file"
        section.mistake("", f"{'an' if kind == 'alertmanager' else 'a'} {kind} needs {ways}")
    return bool(channel.url)


def _try(section: Section, channel: ChannelConfig) -> None:
    """Make it once: what its own type refuses is then known with its line."""
    try:
        make_channel(channel)
    except ConfigError as error:
        said = str(error).removeprefix(f"channel {channel.name}: ")
        name, colon, rest = said.partition(": ")
        if name == "url" and "url" not in section:
            name = "url_env" if "url_env" in section else "url_file"
        if colon and name in section:
            section.mistake(name, rest)
        else:
            section.mistake("", said)


def _check_fallbacks(found: list[Section], channels: list[ChannelConfig]) -> None:
    next_of = {channel.name: channel.fallback for channel in channels}
    circling: set[str] = set()
    for section, channel in zip(found, channels, strict=True):
        if not channel.fallback:
            continue
        others = [name for name in next_of if name and name != channel.name]
        if channel.fallback not in others:
            near = get_close_matches(channel.fallback, others, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(others) or 'none'}"
            section.mistake("fallback", f'expected the name of another channel, got "{channel.fallback}"; {hint}')
            continue
        way = [channel.name]
        while (following := next_of.get(way[-1], "")) and following not in way:
            way.append(following)
        if following == channel.name and channel.name not in circling:
            circling.update(way)
            section.mistake("fallback", f"the fall-backs go round in a circle: {' -> '.join([*way, following])}")


def _secret(section: Section, name: str, folder: Path, env: Mapping[str, str], *, refused: bool = True) -> str:
    """A secret from the variable that NAME_env names or the file that NAME_file names; empty where there is neither.

    :param refused: whether NAME itself must not stand in the file.
    """
    variable_field, file_field = f"{name}_env", f"{name}_file"
    if refused:
        section.refuse({name: f"name an environment variable as {variable_field} or a file as {file_field}"})
    variable = secret_of_variable(section, variable_field, env)
    file = section.take(file_field, values.text, "")
    if variable_field not in section:
        return text_of_file(section, file_field, folder / file) if file else ""
    if file:
        section.mistake(file_field, f"expected either {variable_field} or {file_field}, got both")
    return variable


def _severity(value: object) -> Severity:
    for severity in SEVERITIES:
        if value == severity:
            return severity
    raise ValueError(f"expected {', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}")


def _locale(value: object) -> Locale:
    for locale in LOCALES:
        if value == locale:
            return locale
    raise ValueError("expected en or zh")


def _time_zone(value: object) -> str:
    if isinstance(value, str):
        try:
            zone_of(value)
        except ConfigError:
            pass
        else:
            return value
    raise ValueError("expected the name of a time zone, such as Asia/Shanghai")


def _format(value: object) -> Format:
    for form in FORMATS:
        if value == form:
            return form
    raise ValueError("expected tidemark or alertmanager")


def _tls(value: object) -> Tls:
    for tls in TLS:
        if value == tls:
            return tls
    raise ValueError("expected starttls, implicit or none")


def _rate(value: object) -> Budget:
    """A number of messages in a time, such as 20/1m."""
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if match is None:
            raise ConfigError("")
        return Budget(int(match[1]), parse_duration(match[2]))
    except ConfigError:
        raise ValueError("expected messages in a time such as 20/1m") from None


def _one_or_more(value: object) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else values.texts(value)
    if not found:
        raise ValueError("expected at least one address")
    return found


def _names(value: object) -> Mapping[str, str]:
    # Phone numbers look like numbers to YAML.
    if not isinstance(value, dict) or not all(
        isinstance(one, str | int) and str(one).strip() for one in value.values()
    ):
        raise ValueError("expected a mapping of names to what the chat tool knows them by")
    return {str(name): str(known).strip() for name, known in value.items()}
