"""How the single keys of a rule are read; each reader raises ConfigError, which begins with `where`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from alerting.alert import SEVERITIES, Severity
from alerting.durations import parse_duration
from tables.errors import ConfigError

if TYPE_CHECKING:
    from alerting.sql.query import SqlQuery
    from alerting.texts.templates import Template

_MINUTE_MS: Final = 60_000
_LONGEST_LOOKBACK_MS: Final = 6 * 60 * _MINUTE_MS
_LONGEST_SILENCE_MS: Final = 24 * 60 * _MINUTE_MS
_NAME_LIMIT: Final = 100
_GLOBS_LIMIT: Final = 100
_LABELS_LIMIT: Final = 30
_LABEL_LIMIT: Final = 1_000
#: What tells incidents of one rule and model apart.
RESERVED_LABELS: Final = frozenset({"feature", "no_data"})
_MINIMUM_LIMIT: Final = 10**12


def parse_name(value: object, where: str) -> str:
    """A short line without spaces around it."""
    text = parse_text(value, where)
    if not text or text != text.strip() or not text.isprintable() or len(text) > _NAME_LIMIT:
        raise ConfigError(f"{where}: expected 1 to {_NAME_LIMIT} printable characters, got {value!r}")
    return text


def parse_text(value: object, where: str) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected text (put it in quotes), got {value!r}")
    return value


def parse_globs(value: object, where: str) -> tuple[str, ...]:
    """One glob, or a list of them."""
    if not isinstance(value, list):
        return (_parse_glob(value, where),)
    if not 1 <= len(value) <= _GLOBS_LIMIT:
        raise ConfigError(f"{where}: expected 1 to {_GLOBS_LIMIT} globs, got {len(value)}")
    return tuple(_parse_glob(glob, f"{where}[{place}]") for place, glob in enumerate(value))


def _parse_glob(value: object, where: str) -> str:
    if not parse_text(value, where):
        raise ConfigError(f'{where}: expected a glob such as "*" or "recommender-*", got nothing')
    return cast(str, value)


def parse_minimum(value: object, where: str) -> int:
    """A number of rows."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MINIMUM_LIMIT:
        raise ConfigError(f"{where}: expected a whole number from 0 to {_MINIMUM_LIMIT:,}, got {value!r}")
    return value


def parse_per(value: object, where: str) -> bool:
    """Whether a rule judges the versions of a model together."""
    if value not in ("version", "model"):
        raise ConfigError(f"{where}: expected version or model, got {value!r}")
    return value == "model"


def parse_severity(value: object, where: str) -> Severity:
    """One of SEVERITIES."""
    if value not in SEVERITIES:
        raise ConfigError(f"{where}: expected {', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}, got {value!r}")
    return value


def parse_labels(value: object, where: str) -> tuple[tuple[str, str], ...]:
    """Names and texts, sorted."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping of names to texts, got {value!r}")
    if len(value) > _LABELS_LIMIT:
        raise ConfigError(f"{where}: expected at most {_LABELS_LIMIT} labels, got {len(value)}")
    for key, text in value.items():
        if not isinstance(key, str):
            raise ConfigError(f"{where}: expected a text as name (put it in quotes), got {key!r}")
        if key in RESERVED_LABELS:
            raise ConfigError(f"{where}.{key}: expected another name: alerts have this label by themselves")
        if max(len(key), len(parse_text(text, f"{where}.{key}"))) > _LABEL_LIMIT:
            raise ConfigError(f"{where}: expected labels of at most {_LABEL_LIMIT:,} characters, got a longer one")
    return tuple(sorted(value.items()))


def parse_no_data(value: object, where: str) -> int:
    """Milliseconds of silence; rows come once a minute."""
    silence_ms = parse_duration(value, where)
    if not _MINUTE_MS <= silence_ms <= _LONGEST_SILENCE_MS:
        raise ConfigError(f"{where}: expected 1m to 1d, got {value!r}")
    return silence_ms


def parse_lookback(value: object, where: str) -> int:
    """Milliseconds of whole minutes that a query sees."""
    lookback_ms = parse_duration(value, where)
    if not _MINUTE_MS <= lookback_ms <= _LONGEST_LOOKBACK_MS or lookback_ms % _MINUTE_MS:
        raise ConfigError(f"{where}: expected whole minutes from 1m to 6h, got {value!r}")
    return lookback_ms


def parse_template(source: str, where: str) -> Template:
    """What writes the sentence that an alert carries."""
    # Most rules have none, and go without the template engine.
    from alerting.texts.templates import compile_template

    return compile_template(source, where)


def parse_query(value: object, where: str) -> SqlQuery:
    """One SELECT over the window tables."""
    # As above, and the engine is a great deal heavier.
    from alerting.sql.query import parse_sql

    return parse_sql(parse_text(value, where), where)
