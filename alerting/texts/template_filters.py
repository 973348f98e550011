"""What templates can do to a value with `|`: each filter is bounded in time and in what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from alerting.durations import say_duration
from tables.errors import ConfigError

#: A value is plain data: text, a number, true, false, nothing, or a list or mapping of these.
Filter: TypeAlias = Callable[..., Any]

#: Characters of one text, wherever it comes from.
LONGEST_TEXT: Final = 8192
_MOST_DECIMALS: Final = 12
_ESCAPED: Final = str.maketrans({char: f"\\{char}" for char in "\\`*_[]()<>#"})


def escape_markdown(text: str) -> str:
    """`text` with a backslash before all that the Markdown of a chat tool could take for more than text."""
    return text.translate(_ESCAPED)


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """A time zone by its IANA name, such as `Asia/Shanghai`; the first call for a name reads a file, save for UTC.

    Raises ConfigError for a zone that there is not.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ConfigError(f"expected a time zone such as Asia/Shanghai, got {name!r}") from None


def say_offset(at: datetime) -> str:
    """`UTC`, `UTC+8`, `UTC+5:30`: what every reader understands, unlike CST."""
    offset = at.utcoffset() or timedelta()
    minutes = abs(offset) // timedelta(minutes=1)
    if not minutes:
        return "UTC"
    clock = f"{minutes // 60}:{minutes % 60:02}" if minutes % 60 else str(minutes // 60)
    return f"UTC{'-' if offset < timedelta() else '+'}{clock}"


def in_zone(time_ms: float, zone: str) -> datetime:
    """A time in milliseconds since the epoch, as clocks in `zone` show it."""
    return datetime.fromtimestamp(time_ms / 1000, zone_of(zone))


def to_text(value: object) -> str:
    """A value as it stands in a text: nothing for None, numbers as short as they go."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return _join(value)
    if isinstance(value, Mapping):
        return _join([f"{key}={to_text(item)}" for key, item in value.items()])
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)[:LONGEST_TEXT]


def _number(value: float | None, decimals: int = 0) -> str:
    return "" if value is None else f"{_finite(value):,.{_decimals(decimals)}f}"


def _percent(value: float | None, decimals: int = 1) -> str:
    return "" if value is None else f"{_finite(value) * 100:,.{_decimals(decimals)}f} %"


def _duration(value: float | None) -> str:
    return "" if value is None else say_duration(round(_finite(value)))


def _time(value: float | None, zone: str = "UTC") -> str:
    if value is None:
        return ""
    at = in_zone(_finite(value), zone)
    return f"{at:%Y-%m-%d %H:%M} {say_offset(at)}"


def _truncate(value: object, length: int = 80) -> str:
    text = to_text(value)
    length = max(1, _whole(length))
    return text if len(text) <= length else text[: length - 1] + "…"


def _join(value: object, separator: str = ", ") -> str:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    text = ""
    for number, item in enumerate(value):
        if len(text) > LONGEST_TEXT:
            break
        text += (to_text(separator) if number else "") + to_text(item)
    return text[:LONGEST_TEXT]


def _default(value: object, other: object) -> object:
    return other if value is None or value == "" else value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    if abs(value) > 1e18:
        raise ValueError(f"expected a number up to 1e18, got {value:.3g}")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {type(value).__name__}")
    return value


def _decimals(value: object) -> int:
    return min(max(_whole(value), 0), _MOST_DECIMALS)


FILTERS: Final[Mapping[str, Filter]] = MappingProxyType(
    {
        "percent": _percent,
        "number": _number,
        "duration": _duration,
        "time": _time,
        "upper": lambda value: to_text(value).upper(),
        "lower": lambda value: to_text(value).lower(),
        "default": _default,
        "truncate": _truncate,
        "join": _join,
        "escape": lambda value: escape_markdown(to_text(value)),
    }
)


def plain(value: object, depth: int = 4, most: int = 100) -> Any:
    """`value` as plain data, so that a template reaches no object of ours; lists and mappings are cut to `most`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, Mapping):
        if not depth:
            return {}
        return {str(key): plain(item, depth - 1, most) for key, item in islice(value.items(), most)}
    if isinstance(value, list | tuple):
        return [plain(item, depth - 1, most) for item in value[:most]] if depth else []
    return str(type(value).__name__)
