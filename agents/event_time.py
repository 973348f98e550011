"""The event time of an incoming record: integer milliseconds since the epoch, or RFC 3339 text."""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# `datetime.fromisoformat` alone takes much more than RFC 3339 (bare dates, week dates, no offset).
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_INT64 = 2**63


def parse_event_time(value: object) -> int:
    """Return an event time as milliseconds since the epoch, UTC.

    Takes an integer, a float without a fraction (some JSON writers know no other number) or RFC 3339 text
    with an offset; what is finer than a millisecond is cut off, so that no event moves into the next window.
    Raises ValueError for anything else, leap seconds (":60") included. Whether the time is plausible is for
    the caller to judge.
    """
    # Not isinstance: a bool is an int, and `true` is no time.
    if type(value) is int:
        milliseconds = value
    elif type(value) is float:
        if not value.is_integer():  # also NaN and the infinities
            raise ValueError("expected whole milliseconds since the epoch")
        milliseconds = int(value)
    elif type(value) is str:
        milliseconds = _parse_text(value)
    else:
        raise ValueError("expected integer milliseconds since the epoch or RFC 3339 text")
    if not -_INT64 <= milliseconds < _INT64:
        raise ValueError("out of range")
    return milliseconds


def _parse_text(text: str) -> int:
    if _RFC_3339.fullmatch(text) is None:
        raise ValueError("expected RFC 3339 text with an offset, such as 2026-05-01T10:00:00.250Z")
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MILLISECOND
    except OverflowError as error:
        raise ValueError("out of range") from error
