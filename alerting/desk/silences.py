"""Silences: nobody is told of alerts that fit some matchers, for a time, as somebody decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from alerting.alert import LATEST_MS
from alerting.desk.matchers import MOST_MATCHERS, Matcher, match_all, parse_matcher
from alerting.durations import LONGEST_MS
from tables.errors import ConfigError

LONGEST_COMMENT: Final = 1_000
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Times are milliseconds since the epoch; it holds from `starts_at` until just before `ends_at`.

    Raises ConfigError, which names the field.
    """

    id: str
    matchers: tuple[Matcher, ...]
    starts_at: int
    ends_at: int
    created_by: str
    comment: str = ""
    created_at: int

    def __post_init__(self) -> None:
        for name in ("id", "created_by"):
            if not 1 <= len(getattr(self, name)) <= _LONGEST_NAME:
                raise ConfigError(f"{name}: expected 1 to {_LONGEST_NAME} characters, got {len(getattr(self, name))}")
        if len(self.comment) > LONGEST_COMMENT:
            raise ConfigError(f"comment: expected at most {LONGEST_COMMENT} characters, got {len(self.comment)}")
        if not 1 <= len(self.matchers) <= MOST_MATCHERS:
            raise ConfigError(f"matchers: expected 1 to {MOST_MATCHERS} matchers, got {len(self.matchers)}")
        if match_all(self.matchers, {}):
            raise ConfigError(
                "matchers: expected one at least that an empty label does not fit, got a silence for everything"
            )
        for name in ("starts_at", "ends_at", "created_at"):
            if not 0 <= getattr(self, name) <= LATEST_MS:
                raise ConfigError(f"{name}: expected milliseconds since the epoch, up to the year 9999")
        if not 0 < self.ends_at - self.starts_at <= LONGEST_MS:
            raise ConfigError(
                f"ends_at: expected a time after starts_at by at most 366 days, got {self.ends_at - self.starts_at} ms"
            )

    def is_active(self, now: int) -> bool:
        """Whether it holds at this time."""
        return self.starts_at <= now < self.ends_at

    def silences(self, labels: Mapping[str, str], now: int) -> bool:
        """Whether nobody is to be told of an alert with these labels now."""
        return self.is_active(now) and match_all(self.matchers, labels)

    def to_json(self) -> dict[str, Any]:
        """As plain data; the matchers as texts."""
        return {
            "id": self.id,
            "matchers": [str(matcher) for matcher in self.matchers],
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "created_by": self.created_by,
            "comment": self.comment,
            "created_at": self.created_at,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Silence:
        """Read what `to_json` gave, or what somebody sent; unknown fields are ignored.

        Raises ConfigError, which names the field that is missing or mistyped.
        """
        matchers = data.get("matchers")
        if not isinstance(matchers, list) or not all(isinstance(matcher, str) for matcher in matchers):
            raise ConfigError("""matchers: expected a list of texts such as "severity=\\"major\\"\"""")
        if len(matchers) > MOST_MATCHERS:
            raise ConfigError(f"matchers: expected 1 to {MOST_MATCHERS} matchers, got {len(matchers)}")
        return cls(
            id=_text(data, "id"),
            matchers=tuple(parse_matcher(matcher) for matcher in matchers),
            starts_at=_milliseconds(data, "starts_at"),
            ends_at=_milliseconds(data, "ends_at"),
            created_by=_text(data, "created_by"),
            comment=_text({"comment": "", **data}, "comment"),
            created_at=_milliseconds(data, "created_at"),
        )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{name}: expected text, got {_kind(value)}")
    return value


def _milliseconds(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name}: expected milliseconds since the epoch as a whole number, got {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
