"""The contract's section 1 word for word: is a record good, and if not, why not.

Written with the standard library alone, so that it shares nothing with what it judges. Where the contract leaves
something open, what was decided stands here:

- `null` is the same as missing, for required fields too;
- ids, `model_version`, `event_id` and `request_id` are strings; `position` may be anything, for no type is promised;
- a number without a fraction is an integer, however it is written (`1.7e12`), as JSON knows only numbers;
- `@timestamp` is looked at only where there is no `event_time`, and else is an unknown field;
- unknown fields may hold anything that is JSON, though not nested deeper than a parser goes;
- half a surrogate pair (as a text has that was cut within an emoji) is no character: an id with one cannot be read,
  in a field that nobody reads it does no harm;
- a time beyond 64 bits is no time at all, a latency or prediction beyond what a float holds is no number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple

from tests.oracle import Click, E, Event, Impression, Inference

MIB = 1024 * 1024
YEAR_2000 = 946_684_800_000
DAY = 86_400_000
DEEPEST = 500

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Verdict(NamedTuple, Generic[E]):
    """The event, or why there is none: one of a few words."""

    event: E | None
    fault: str = ""


class _Unusable(Exception):
    """The fault, as one word."""


def judge(kind: str, value: bytes | None, now_ms: int) -> Verdict[Event]:
    """Judge one record of the topic `impressions` or `clicks`."""
    return _judge(lambda body: _event(kind, body), value, now_ms)


def judge_inference(value: bytes | None, now_ms: int) -> Verdict[Inference]:
    """Judge one record of the topic `inferences`."""
    return _judge(_inference, value, now_ms)


def _judge(read: Callable[[dict[str, Any]], E], value: bytes | None, now_ms: int) -> Verdict[E]:
    if value is None:
        return Verdict(None, "empty")
    if len(value) > MIB:
        return Verdict(None, "too_large")
    try:
        text = value.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        return Verdict(None, "not_utf8")
    try:
        body = json.loads(text, parse_constant=_no_number, parse_int=_whole)
    except (ValueError, RecursionError):
        return Verdict(None, "not_json")
    if _depth(text) > DEEPEST:
        return Verdict(None, "not_json")
    try:
        if not isinstance(body, dict):
            raise _Unusable("invalid_field")
        event = read(body)
    except _Unusable as error:
        return Verdict(None, str(error))
    if not YEAR_2000 <= event.time <= now_ms + DAY:
        return Verdict(None, "time_out_of_range")
    return Verdict(event)


def _event(kind: str, body: dict[str, Any]) -> Event:
    user, item = _text(body, "user_id"), _text(body, "item_id")
    time = _time(body)
    if kind == "clicks":
        return Click(user, item, time)
    return Impression(user, item, time, _model(body), _features(body))


def _inference(body: dict[str, Any]) -> Inference:
    time, model, features = _time(body), _model(body), _features(body)
    latency, status, prediction = body.get("latency_ms"), body.get("status"), body.get("prediction")
    if isinstance(prediction, str):
        _text(body, "prediction")
    elif prediction is not None:
        prediction = _number(prediction)
    if status is not None and _text(body, "status") not in ("ok", "error", "timeout"):
        raise _Unusable("invalid_field")
    if latency is not None and _number(latency) < 0:
        raise _Unusable("invalid_field")
    return Inference(time, model, latency, status, prediction, features)


def _time(body: dict[str, Any]) -> int:
    _optional_text(body, "event_id")
    time = body.get("event_time")
    return _milliseconds(body.get("@timestamp") if time is None else time)


def _model(body: dict[str, Any]) -> tuple[str, str]:
    _optional_text(body, "request_id")
    return _text(body, "model_id"), _optional_text(body, "model_version")


def _features(body: dict[str, Any]) -> str:
    features = body.get("features")
    if features is None:
        return "null"
    if not isinstance(features, dict) or any(isinstance(feature, dict | list) for feature in features.values()):
        raise _Unusable("invalid_field")
    return json.dumps(features)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise _Unusable("invalid_field")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _Unusable("invalid_field")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise _Unusable("not_json")
    return value


def _optional_text(body: dict[str, Any], name: str) -> str:
    return "" if body.get(name) is None else _text(body, name)


def _milliseconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Unusable("invalid_field")
    if isinstance(value, str):
        return _from_text(value)
    if not -(2.0**63) <= value < 2.0**63 or value != int(value):
        raise _Unusable("invalid_field")
    return int(value)


def _from_text(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise _Unusable("invalid_field")
    year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise _Unusable("invalid_field") from None
    shift = timedelta(0)
    if found[9]:
        if int(found[10]) > 23 or int(found[11]) > 59:
            raise _Unusable("invalid_field")
        shift = timedelta(hours=int(found[10]), minutes=int(found[11])) * (1 if found[9] == "+" else -1)
    since = (local - _EPOCH) - shift
    return (since.days * 86_400 + since.seconds) * 1000 + int((found[7] or "").ljust(3, "0")[:3] or 0)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _whole(digits: str) -> int | float:
    # Python refuses to read thousands of digits, which are a number all the same.
    return int(digits) if len(digits) < 400 else float(digits)


def _depth(text: str) -> int:
    depth = deepest = 0
    inside, escaped = False, False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest
