"""The incoming events as msgspec types, and the reading of many records of one type at once.

Records are decoded one by one: joining them into one JSON array is no faster, and would let a broken record swallow
its neighbours. Only the checks that every record passes are made for a whole batch at a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.event_time import parse_event_time

MAX_RECORD_BYTES = 1024 * 1024
EARLIEST_MS = 946_684_800_000
"""2000-01-01T00:00:00Z"""
LATEST_AHEAD_MS = 86_400_000

_NO_TIME = -1

_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF_CHARACTER = re.compile(rb"\\\\|(" + _HIGH + rb"(?!" + _LOW + rb")|(?<!" + _HIGH + rb")" + _LOW + rb")")
"""Half of a surrogate pair, as it remains where a text was cut within an emoji."""
_STAND_IN = "\ufdd0"
"""No character either, but one that can be decoded."""


NO_FEATURES = msgspec.Raw(b"{}")


class Event(msgspec.Struct, gc=False):
    """What every event carries; `at` is Logstash's time, as text, read where `event_time` is missing."""

    event_time: int | float | str | None = None
    at: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="@timestamp")
    event_id: str | None = None


class ModelEvent(Event, gc=False, kw_only=True):
    """What a model did."""

    model_id: str
    model_version: str | None = None
    request_id: str | None = None
    features: msgspec.Raw = NO_FEATURES
    """Kept as text: most events' features are never looked at."""


class Impression(ModelEvent, gc=False, kw_only=True):
    """An item that a model showed to a user."""

    user_id: str
    item_id: str


class Click(Event, gc=False, kw_only=True):
    """A user's click on an item."""

    user_id: str
    item_id: str


class Inference(ModelEvent, gc=False, kw_only=True):
    """A request to a model, and how it was answered."""

    latency_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    status: Literal["ok", "error", "timeout"] | None = None
    """`ok` where it is not said."""
    prediction: int | float | str | None = None


EventT = TypeVar("EventT", bound=Event)
ModelEventT = TypeVar("ModelEventT", bound=ModelEvent)

_features = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_time = msgspec.json.Decoder(int | float | str | None)
_any = msgspec.json.Decoder(msgspec.Raw)


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
            row = rows[len(events) + failed]
            event = _without_half_characters(decoder, values[row])
            if event is not None:
                events.append(event)
                continue
            failures.append(len(events) + failed)
            failed += 1
            found.bad.append((row, _reason(error, values[row])))
        else:
            break
    for place in reversed(failures):
        del rows[place]
    found.rows = rows
    _read_times(found, now_ms)
    return found


def drop_bad_features(found: Decoded[ModelEventT]) -> None:
    """Reject events whose features are not an object of scalars."""
    text = b"\n".join([b"", *(event.features for event in found.events)])
    octets = np.frombuffer(text, np.uint8)
    opened = octets == ord("{")
    objects = np.count_nonzero(opened[1:] & (octets[:-1] == ord("\n")))
    # Nearly always true, and then no value can be an object or an array.
    if objects == np.count_nonzero(opened) == len(found.events) and b"[" not in text:
        return
    bad = {}
    for place, event in enumerate(found.events):
        try:
            features = _features.decode(event.features) or {}
        except msgspec.MsgspecError as error:
            bad[place] = f"invalid_field: {error} - at `$.features`"
            continue
        # Not decoded: a number may be larger than Python takes, and still be a number.
        nested = [name for name, value in features.items() if bytes(memoryview(value)[:1]) in (b"{", b"[")]
        if nested:
            bad[place] = "invalid_field: Expected a number, string, bool or null - at `$.features[...]`"
    _reject(found, bad)


def replace_half_characters(value: bytes) -> bytes:
    """JSON in which half of a surrogate pair has become one character that stands in no text of ours."""
    return _HALF_CHARACTER.sub(lambda half: _STAND_IN.encode() if half[1] else half[0], value)


def _without_half_characters(decoder: msgspec.json.Decoder[EventT], value: bytes | None) -> EventT | None:
    """The event of a record whose only fault are half characters in fields that nobody reads; else None."""
    if not value or not _HALF_CHARACTER.search(value):
        return None
    try:
        event = decoder.decode(replace_half_characters(value))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    texts = (getattr(event, name) for name in event.__struct_fields__)
    return None if any(type(text) is str and _STAND_IN in text for text in texts) else event


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


def _reason(error: Exception, value: bytes | None) -> str:
    if isinstance(error, msgspec.ValidationError):
        # Said at the first wrong type, however broken the rest of the record is.
        try:
            _any.decode(value or b"")
        except (msgspec.MsgspecError, ValueError, RecursionError) as broken:
            error = broken
        else:
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
            try:
                value = _time.decode(event.at) if event.event_time is None else event.event_time
                if value is None:
                    raise ValueError("missing")
                times[place] = parse_event_time(value)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
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
