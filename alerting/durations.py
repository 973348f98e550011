"""Durations as people write them in rules ("2m", "1h30m") and as summaries say them ("2 min")."""

from __future__ import annotations

import re
from typing import Final

from tables.errors import ConfigError

_MS_OF: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_SAID_AS: Final = {"d": "d", "h": "h", "m": "min", "s": "s", "ms": "ms"}
_WRITTEN: Final = re.compile(
    # Python reads no number of thousands of digits.
    r"(?:(?P<d>[0-9]{1,9})d)?(?:(?P<h>[0-9]{1,9})h)?(?:(?P<m>[0-9]{1,9})m(?!s))?"
    r"(?:(?P<s>[0-9]{1,9})s)?(?:(?P<ms>[0-9]{1,9})ms)?"
)
_EXPECTED: Final = 'a duration such as "90s", "2m" or "1h30m", or whole seconds'

#: Longer than any rule looks back; a slip of the keyboard ("1000d") is found at start, not by silence.
LONGEST_MS: Final = 366 * _MS_OF["d"]


def parse_duration(value: object, where: str = "duration") -> int:
    """Milliseconds of "90s", "2m", "1h30m", "250ms" or a whole number of seconds.

    Raises ConfigError, which begins with `where`, for anything else, for negative ones and beyond 366 days.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        milliseconds = value * 1000
    elif isinstance(value, str) and value.strip() and (match := _WRITTEN.fullmatch(value.strip())):
        milliseconds = sum(int(count) * _MS_OF[unit] for unit, count in match.groupdict().items() if count)
    else:
        raise ConfigError(f"{where}: expected {_EXPECTED}, got {value!r}")
    if not 0 <= milliseconds <= LONGEST_MS:
        raise ConfigError(f"{where}: expected {_EXPECTED}, from 0 to 366 days, got {value!r}")
    return milliseconds


def say_duration(milliseconds: int) -> str:
    """The duration in words for people: 120000 gives "2 min", 5400000 gives "1 h 30 min"."""
    said = []
    for unit, size in _MS_OF.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            said.append(f"{count} {_SAID_AS[unit]}")
    return " ".join(said) or "0 s"
