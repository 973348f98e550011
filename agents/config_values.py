"""How one value of the configuration is read, whether it stands in the file, the environment or an option.

Each function takes what was found and gives the typed value, or raises ValueError that says what was
expected; whoever calls adds the place and what was found.
"""

import math
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from agents.config_file import Converter
from alerting.durations import parse_duration, say_duration
from tables.errors import ConfigError
from tables.redis_url import parse_store_url

_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|kB|KB|MB|GB)?")
_SIZE_UNITS = {
    None: 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_TOPIC_CHARACTERS = re.compile(r"[A-Za-z0-9._-]*")
_GROUP = re.compile(r"[A-Za-z0-9._-]+")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/@,\[\]]+)(?::(?P<port>\d{1,5}))?")

KAFKA_PORT = 9092

IN_MEMORY = "memory://"


def text(value: object) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text")
    return value.strip()


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, none of them empty."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError("expected a list of texts")
    return tuple(value)


def positive(value: object) -> float:
    """A number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("expected a number above 0")
    return float(value)


def group(value: object) -> str:
    """A Kafka consumer group, which is the namespace in Redis too."""
    if not isinstance(value, str) or not _GROUP.fullmatch(value) or len(value) > 100:
        raise ValueError("expected 1 to 100 letters, digits, dots, dashes and underscores")
    return value


def topic_prefix(value: object) -> str:
    """What is put before every topic name; may be empty."""
    if not isinstance(value, str) or not _TOPIC_CHARACTERS.fullmatch(value) or len(value) > 200:
        raise ValueError("expected at most 200 letters, digits, dots, dashes and underscores")
    return value


def integer(least: int, most: int) -> Converter[int]:
    """A whole number within bounds, both included, also as text: the environment has nothing else."""

    def convert(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return value

    return convert


def port(value: object) -> int:
    """A TCP port."""
    try:
        return integer(1, 65535)(value)
    except ValueError:
        raise ValueError("expected a port from 1 to 65535") from None


def choice(*names: str, fold: Callable[[str], str] = str.lower) -> Converter[str]:
    """One of a few words, in any case of letters."""

    def convert(value: object) -> str:
        if isinstance(value, str) and fold(value.strip()) in names:
            return fold(value.strip())
        raise ValueError(f"expected {' or '.join((', '.join(names[:-1]), names[-1]) if names[1:] else names)}")

    return convert


def duration_between(least_ms: int, most_ms: int) -> Converter[int]:
    """A duration such as 90s or 1h30m, or whole seconds, in milliseconds; both bounds included."""

    def convert(value: object) -> int:
        try:
            milliseconds = parse_duration(value)
        except ConfigError:
            raise ValueError("expected a duration such as 90s or 2m") from None
        if not least_ms <= milliseconds <= most_ms:
            raise ValueError(f"expected a duration from {_said(least_ms)} to {_said(most_ms)}")
        return milliseconds

    return convert


def whole_minutes(least_ms: int, most_ms: int) -> Converter[int]:
    """A duration of whole minutes, in milliseconds; both bounds included."""
    duration = duration_between(least_ms, most_ms)

    def convert(value: object) -> int:
        milliseconds = duration(value)
        if milliseconds % 60_000:
            raise ValueError("expected whole minutes such as 10m")
        return milliseconds

    return convert


def _said(milliseconds: int) -> str:
    return say_duration(milliseconds).replace(" ", "").replace("min", "m")


def size_bytes(value: object) -> int:
    """A size: bytes as a number, or with a unit such as 4MiB."""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool):
        raise ValueError("expected a size such as 512KiB or 4MiB")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def size_between(least: int, most: int) -> Converter[int]:
    """A size within bounds (bytes, both included)."""

    def convert(value: object) -> int:
        size = size_bytes(value)
        if not least <= size <= most:
            raise ValueError(f"expected a size from {least} to {most} bytes")
        return size

    return convert


def broker_url(value: object) -> str:
    """`kafka://host:port,host:port` or `memory://`, in one spelling: one scheme, each host with its port.

    `kafka://a:1,kafka://b:2` is accepted as well; 9092 is the port where none is given.
    """
    expected = "expected kafka://host:port,... or memory://"
    if not isinstance(value, str):
        raise ValueError(expected)
    given = value.strip()
    if given == IN_MEMORY:
        return IN_MEMORY
    if not given.startswith("kafka://"):
        raise ValueError(expected)
    nodes = []
    for part in given.removeprefix("kafka://").rstrip("/").split(","):
        match = _HOST_AND_PORT.fullmatch(part.strip().removeprefix("kafka://").rstrip("/"))
        if match is None:
            if "@" in part:
                raise ValueError("expected no user or password in the broker's address (see kafka.security)")
            raise ValueError(expected)
        nodes.append(f"{match['host']}:{port(match['port'] or KAFKA_PORT)}")
    return "kafka://" + ",".join(nodes)


def store_url(value: object) -> str:
    """The URL of a Redis server, cluster or sentinel set."""
    if not isinstance(value, str):
        raise ValueError("expected redis://host:port/number")
    parse_store_url(value.strip())
    return value.strip()


def store_url_without_password(value: object) -> str:
    """As `store_url`, for the configuration file, which holds no secrets."""
    url = store_url(value)
    if urlsplit(url).password:
        raise ValueError("expected no password in this file: set TIDEMARK_STORE to the whole URL instead")
    return url


def http_url(value: object) -> str:
    """The address of a webhook."""
    expected = "expected http://... or https://..."
    if not isinstance(value, str):
        raise ValueError(expected)
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(expected)
    return value.strip()
