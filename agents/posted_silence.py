"""A silence as somebody posts it, over HTTP or in a terminal."""

from __future__ import annotations

import secrets
from typing import Any, Final

from alerting.alert import printable
from alerting.desk.silences import Silence
from alerting.durations import parse_duration
from tables.errors import ConfigError

FIELDS: Final = ("matchers", "starts_at", "ends_at", "duration", "created_by", "comment")
DEFAULT_SILENCE: Final = "1h"
NOBODY: Final = "unknown"


def silence_of(body: dict[str, Any], now_ms: int) -> Silence:
    """A silence as somebody posts it: `matchers`, and `ends_at` or a `duration`; the rest has defaults.

    Raises ConfigError, which names the field.
    """
    # A mistyped time would be left out without a word, and the silence begin now.
    if unknown := [name for name in body if name not in FIELDS]:
        raise ConfigError(f"{printable(unknown[0], 40)}: expected nothing but {', '.join(FIELDS)}")
    given = {name: value for name, value in body.items() if value is not None}
    if "ends_at" in given and "duration" in given:
        raise ConfigError("duration: expected ends_at or duration, got both")
    starts_at = given.setdefault("starts_at", now_ms)
    if "ends_at" not in given and isinstance(starts_at, int):
        duration = given.pop("duration", DEFAULT_SILENCE)
        if not (milliseconds := parse_duration(duration, "duration")):
            raise ConfigError(f"duration: expected some time, got {duration!r}")
        given["ends_at"] = starts_at + milliseconds
    given.setdefault("created_by", NOBODY)
    return Silence.from_json({**given, "id": secrets.token_hex(8), "created_at": now_ms})
