"""Matchers as Prometheus Alertmanager writes them: `severity="critical"`, `model_id=~"rec-.*"`.

Regular expressions are RE2's, as there: its time is linear in the text, so no pattern can hang a worker. Python's own
engine backtracks, which takes exponential time on some patterns as short as `(a|a)*b`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, cast, get_args

import re2

from alerting.alert import printable
from tables.errors import ConfigError

Operator = Literal["=", "!=", "=~", "!~"]

OPERATORS: Final[tuple[Operator, ...]] = get_args(Operator)
LONGEST_VALUE: Final = 1_000
"""Characters of a matcher's value."""
LONGEST_LABEL: Final = 4_096
"""Characters of a label that a regular expression looks at; the rest is left out."""
MOST_MATCHERS: Final = 100

_MOST_MEMORY: Final = 1 << 20
"""Of one compiled expression, bytes."""

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_MATCHER: Final = re.compile(rf"\s*({_NAME.pattern})\s*(=~|=|!=|!~)\s*(.*?)\s*", re.DOTALL)
_EXPECTED: Final = """a matcher such as severity="critical" or model_id=~"rec-.*\""""
#: What is not in it stands for itself, but for the bar between alternatives.
_SPECIAL: Final = frozenset(r"\.+*?()[]{}^$")
_ESCAPES: Final = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label. A regular expression has to fit the whole label; a label that is missing is empty.

    Raises ConfigError for a name, operator or pattern that is none.
    """

    name: str
    op: Operator
    value: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"expected a label such as severity, got {_shown(self.name)}")
        if self.op not in OPERATORS:
            raise ConfigError(f"expected one of {' '.join(OPERATORS)}, got {_shown(self.op)}")
        if len(self.value) > LONGEST_VALUE:
            raise ConfigError(f"expected a value of at most {LONGEST_VALUE} characters, got {len(self.value)}")
        if self.op in ("=~", "!~"):
            _check_pattern(self.value)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil it."""
        label = labels.get(self.name, "")
        fits = _fits(self.value, label[:LONGEST_LABEL]) if self.op in ("=~", "!~") else label == self.value
        return fits != self.op.startswith("!")

    def __str__(self) -> str:
        """As `parse_matcher` reads it."""
        value = self.value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        return f'{self.name}{self.op}"{value}"'


def parse_matcher(text: str) -> Matcher:
    r"""One matcher: a label, one of = != =~ !~, and a value, best in double quotes.

    `\"`, `\\` and `\n` in the value stand for a quote, a backslash and a line end; before anything else a backslash is
    itself. Raises ConfigError.
    """
    match = _MATCHER.fullmatch(text)
    if match is None:
        raise ConfigError(f"expected {_EXPECTED}, got {_shown(text)}")
    name, op, raw = match.groups()
    if not raw:
        raise ConfigError(f'expected a value after {name}{op} (for an empty one write {name}{op}""), got nothing')
    return Matcher(name, cast(Operator, op), _unquoted(raw))


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Matchers between commas, within braces or not, as in `{severity="major", model_id!~"test-.*"}`.

    Raises ConfigError.
    """
    parts = _split(text.strip().removeprefix("{").removesuffix("}"))
    if not parts[-1].strip():
        parts.pop()
    if len(parts) > MOST_MATCHERS:
        raise ConfigError(f"expected at most {MOST_MATCHERS} matchers, got {len(parts)}")
    return tuple(parse_matcher(part) for part in parts)


def match_all(matchers: tuple[Matcher, ...], labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil every matcher; true where there is none."""
    return all(matcher.matches(labels) for matcher in matchers)


def _split(text: str) -> list[str]:
    parts, start, quoted, escaped = [], 0, False, False
    for place, char in enumerate(text):
        if char == "," and not quoted:
            parts.append(text[start:place])
            start = place + 1
        quoted ^= char == '"' and not escaped
        escaped = char == "\\" and not escaped
    return [*parts, text[start:]]


def _unquoted(raw: str) -> str:
    quoted = raw.startswith('"')
    rest = raw[1:] if quoted else raw
    value, place = [], 0
    while place < len(rest):
        char = rest[place]
        if char == '"':
            break
        if char == "\\" and rest[place + 1 : place + 2] in ("n", '"', "\\"):
            place += 1
            char = _ESCAPES[rest[place]]
        value.append(char)
        place += 1
    # A quote at the beginning needs one at the end, and no other may be open.
    if rest[place:] != ('"' if quoted else ""):
        raise ConfigError(f'expected quotes around the whole value, and \\" for those within, got {_shown(raw)}')
    return "".join(value)


def _check_pattern(pattern: str) -> None:
    if _alternatives(pattern) is not None:
        return
    try:
        _search(pattern, "")
    except ValueError as error:
        raise ConfigError(f"expected a regular expression (RE2), got {_shown(pattern)}: {error}") from None


def _fits(pattern: str, label: str) -> bool:
    alternatives = _alternatives(pattern)
    return label in alternatives if alternatives is not None else _search(pattern, label)


@lru_cache(maxsize=1_000)
def _alternatives(pattern: str) -> frozenset[str] | None:
    """What a pattern such as `major|minor` fits, which needs no engine; None for all others."""
    return None if _SPECIAL & set(pattern) else frozenset(pattern.split("|"))


def _search(pattern: str, label: str) -> bool:
    """Whether the pattern fits the whole label; ValueError says why it is no pattern."""
    # Lone surrogates cannot be handed over.
    return _compiled(pattern).fullmatch(label.encode("utf-8", "replace")) is not None


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    # Ids may hold line ends, which a dot has to fit.
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    try:
        return re2.compile(pattern.encode("utf-8", "replace"), options)
    except re2.error as error:
        said = error.args[0]
        raise ValueError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None


def _shown(text: str) -> str:
    return repr(printable(text, 100))
