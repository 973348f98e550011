"""The incoming events as msgspec types, and the reading of many records of one type at once.

Records are decoded one by one: joining them into one JSON array is no faster, and would let a broken record swallow
its neighbours. Only the checks that every record passes are made for a whole batch at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.event_time import parse_event_time

MAX_RECORD_BYTES = 1024 * 1024
EARLIEST_MS = 946_684_800_000
"""2000-01-01T00:00:00Z"""
LATEST_AHEAD_MS = 86_400_000

_NO_TIME = -1

Scalar = int | float | str | bool | None


class Event(msgspec.Struct, gc=False):
    """What every event carries; `at` is Logstash's time, read where `event_time` is missing."""

    event_time: int | float | str | None = None
    at: int | float | str | None = msgspec.field(default=None, name="@timestamp")
    event_id: str | None = None


class Impression(Event, gc=False, kw_only=True):
    """An item that a model showed to a user."""

    user_id: str
    item_id: str
    model_id: str
    model_version: str | None = None
    request_id: str | None = None
    features: msgspec.Raw = msgspec.Raw(b"{}")
    """Kept as text: most events' features are never looked at."""


class Click(Event, gc=False, kw_only=True):
    """A user's click on an item."""

    user_id: str
    item_id: str


EventT = TypeVar("EventT", bound=Event)

_features = msgspec.json.Decoder(dict[str, Scalar] | None)


@dataclass(slots=True)
class Decoded(Generic[EventT]):
    """The usable records of a section, and why the others are not."""

    events: list[EventT] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Place of each event in the section."""
    times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Event times, ms."""
    bad: list[tuple[int, str]] = field(default_factory=list)
    """(place in the section, reason)."""


def decode_events(
    decoder: msgspec.json.Decoder[EventT], values: Sequence[bytes | None], now_ms: int
) -> Decoded[EventT]:
    """Decode a section's records; `now_ms` is the wall clock that event times may lie at most a day ahead of."""
    found: Decoded[EventT] = Decoded()
    found.bad = _unreadable(values)
    skipped = {row for row, _ in found.bad}
    rows = [row for row in range(len(values)) if row not in skipped] if skipped else list(range(len(values)))
    pending = iter([values[row] for row in rows] if skipped else values)
    events, failed = found.events, 0
    failures: list[int] = []
    while True:
        try:
            # On an error everything decoded before it has been appended, so the lengths tell which record it was.
            events.extend(map(decoder.decode, pending))  # type: ignore[arg-type]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            place = len(events) + failed
            failed += 1
            failures.append(place)
            found.bad.append((rows[place], _reason(error)))
        else:
            break
    for place in reversed(failures):
        del rows[place]
    found.rows = rows
    _read_times(found, now_ms)
    return found


def drop_bad_features(found: Decoded[Impression]) -> None:
    """Reject events whose features are not an object of scalars."""
    raw = [event.features for event in found.events]
    text = b"\n".join(raw)
    # Nearly always true, and then no value can be an object or an array.
    if text.count(b"{") == len(raw) and b"[" not in text and text.count(b"\n{") + text.startswith(b"{") == len(raw):
        return
    bad = {}
    for place, event in enumerate(found.events):
        try:
            _features.decode(event.features)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            bad[place] = _reason(error).replace("`$", "`$.features")
    _reject(found, bad)


def _unreadable(values: Sequence[bytes | None]) -> list[tuple[int, str]]:
    if None not in values:
        text = b"\n".join(values)  # type: ignore[arg-type]
        if len(text) <= MAX_RECORD_BYTES or max(map(len, values)) <= MAX_RECORD_BYTES:  # type: ignore[arg-type]
            try:
                text.decode()
            except UnicodeDecodeError:
                pass
            else:
                return []
    bad = []
    for row, value in enumerate(values):
        if value is None:
            bad.append((row, "empty: the record has no value"))
        elif len(value) > MAX_RECORD_BYTES:
            bad.append((row, f"too_large: {len(value)} bytes, at most {MAX_RECORD_BYTES}"))
        else:
            try:
                value.decode()
            except UnicodeDecodeError as error:
                bad.append((row, f"not_utf8: byte {error.start}"))
    return bad


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return f"invalid_field: {error}"
    if isinstance(error, RecursionError):
        return "not_json: nested too deeply"
    return f"not_json: {error}"


def _read_times(found: Decoded[EventT], now_ms: int) -> None:
    given = [event.event_time for event in found.events]
    bad: dict[int, str] = {}
    try:
        if set(map(type, given)) - {int}:
            raise OverflowError
        times = np.array(given, np.int64)
    except OverflowError:  # text, a float, missing, or beyond 64 bits
        times = np.full(len(given), _NO_TIME, np.int64)
        for place, event in enumerate(found.events):
            value = event.at if event.event_time is None else event.event_time
            try:
                if value is None:
                    raise ValueError("missing")
                times[place] = parse_event_time(value)
            except ValueError as error:
                bad[place] = f"invalid_field: event_time: {error}"
    outside = (times < EARLIEST_MS) | (times > now_ms + LATEST_AHEAD_MS)
    for place in np.flatnonzero(outside).tolist():
        bad.setdefault(place, f"time_out_of_range: {times[place]}")
    found.times = times
    _reject(found, bad)


def _reject(found: Decoded[EventT], bad: dict[int, str]) -> None:
    if not bad:
        return
    found.bad += [(found.rows[place], reason) for place, reason in bad.items()]
    keep = [place for place in range(len(found.events)) if place not in bad]
    found.events = [found.events[place] for place in keep]
    found.rows = [found.rows[place] for place in keep]
    found.times = found.times[keep]
