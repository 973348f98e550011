"""Everything that goes wrong with a record on its way, from a seed; what becomes of it is for `tests.judge` to say."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

DAY = 86_400_000
MIB = 1024 * 1024

Body = dict[str, Any]
Mutation = Callable[[random.Random, Body, int], bytes | None]
"""(randomness, a good event, the wall clock in ms) -> a record."""

FIELDS = (
    *("user_id", "item_id", "model_id", "event_time", "model_version", "event_id", "request_id", "features"),
    *("latency_ms", "status", "prediction"),
)
OTHER_TYPES: tuple[Any, ...] = (1, -1.5, True, False, [], ["a"], {}, {"a": 1}, "x", "", None, 10**30, 0)
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "nan", "01", "+1", "1.", ".5", "0x10", "1_000", "1e", "--1", "1e999")
NO_JSON = (b"", b" ", b"\0", b"{", b"}", b"{}", b"[]", b"null", b"true", b"0", b'"text"', b"undefined", b"<xml/>")
NO_TIMES: tuple[Any, ...] = (
    *("yesterday", "", "2026-05-01", "2026-05-01T10:00:00", "10:00:00Z", "2026-05-01T24:00:00Z"),
    *("2026-02-30T10:00:00Z", "2026-05-01T10:00:60Z", "2026-05-01T10:00:00.Z", "2026-05-01T10:00:00+24:00"),
    *(
        "2026-W18-5T10:00:00Z",
        "20260501T100000Z",
        "2026-05-01T10:00:00 Z",
        "1777629600000",
        "\uff12026-05-01T10:00:00Z",
    ),
    *(True, [], {}, 1.5, 1e300, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"),
)


def encode(body: Body) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def with_text(body: Body, text: str) -> bytes:
    """The event with more members, which need not be JSON."""
    return encode(body)[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}"


def truncated(rng: random.Random, body: Body, _: int) -> bytes:
    data = encode(body)
    return data[: rng.randrange(len(data))]


def flipped_byte(rng: random.Random, body: Body, _: int) -> bytes:
    data = bytearray(encode(body))
    data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def inserted_or_lost_bytes(rng: random.Random, body: Body, _: int) -> bytes:
    data = encode(body)
    at = rng.randrange(len(data))
    if rng.random() < 0.5:
        return data[:at] + data[at + rng.randrange(1, 4) :]
    return data[:at] + rng.choice([b"{", b"}", b'"', b",", b":", b"\\", b"\n", b"\xff", b"\0", b"]", b"1"]) + data[at:]


def glued_to_another(rng: random.Random, body: Body, _: int) -> bytes:
    return (
        encode(body)
        + rng.choice([b"", b",", b"\n", b" ", b"\0", b"]", b"}", b"//"])
        + rng.choice([encode(body), b"{}", b"1", b"", b"x"])
    )


def half_of_two(rng: random.Random, body: Body, _: int) -> bytes:
    """One of two pieces that would be a good event if they were glued together."""
    data = encode(body)
    at = rng.randrange(1, len(data))
    return data[:at] if rng.random() < 0.5 else data[at:]


def other_type(rng: random.Random, body: Body, _: int) -> bytes:
    return encode({**body, rng.choice(FIELDS): rng.choice(OTHER_TYPES)})


def missing_field(rng: random.Random, body: Body, _: int) -> bytes:
    gone = rng.choice(list(body))
    return encode({name: value for name, value in body.items() if name != gone})


def other_name(rng: random.Random, body: Body, _: int) -> bytes:
    chosen = rng.choice(list(body))
    return encode({name.upper() if name == chosen else name: value for name, value in body.items()})


def no_number(rng: random.Random, body: Body, _: int) -> bytes:
    number = rng.choice(NO_NUMBERS)
    return with_text(
        {name: value for name, value in body.items() if name != "features"},
        rng.choice(
            ['"features":{"a":%s}', '"other":%s', '"other":[1,{"b":%s}]', '"event_time":%s']
            + (['"latency_ms":%s', '"prediction":%s'] if "user_id" not in body else [])
        )
        % number,
    )


def odd_features(rng: random.Random, body: Body, _: int) -> bytes:
    leaf = rng.choice([1, "x", None, True, "{", "[", "}{", {}, [], {"b": 1}, [1], 10**25])
    return encode({**body, "features": rng.choice([{"a": leaf}, {"a": 1, "b": leaf}, leaf, [leaf], {}])})


def huge(rng: random.Random, body: Body, _: int) -> bytes:
    size = MIB + rng.choice([-1, 0, 1, 2, 100_000])
    bare = len(encode({**body, "padding": ""}))
    return encode({**body, "padding": "x" * (size - bare)})


def deep(rng: random.Random, body: Body, _: int) -> bytes:
    levels = rng.choice([3, 50, 50, 20_000])
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    name = rng.choice(["other", "features", "user_id", "event_time", "@timestamp"])
    rest = {known: value for known, value in body.items() if known != name}
    return with_text(rest, f'"{name}":' + opening * levels + "1" + closing * levels)


def other_encoding(rng: random.Random, body: Body, _: int) -> bytes:
    accented = json.dumps({**body, rng.choice(["item_id", "other"]): "café 中文"}, ensure_ascii=False)
    way = rng.randrange(6)
    if way == 0:
        return accented.encode("latin-1", "replace")
    if way == 1:
        return accented.encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "gb18030", "utf-7"]))
    if way == 2:
        return accented.encode("utf-8-sig")
    if way == 3:
        return gzip.compress(accented.encode())
    if way == 4:
        return accented.encode()  # which is right
    return accented.encode().replace("é".encode(), rng.choice([b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80"]))


def half_character(rng: random.Random, body: Body, _: int) -> bytes:
    name = rng.choice(["other", "user_id", "event_id", "features"])
    rest = {known: value for known, value in body.items() if known != name}
    text = rng.choice([r"\ud83d", r"\ude00", r"a\ud83db", r"\ud83d\ude00", r"\\ud83d", r"\uD83D", r"\ud83"])
    return with_text(rest, f'"{name}":' + (f'{{"a":"{text}"}}' if name == "features" else f'"{text}"'))


def nulls(rng: random.Random, body: Body, _: int) -> bytes | None:
    way = rng.randrange(4)
    if way == 0:
        return None
    if way == 1:
        return encode(dict.fromkeys(body))
    if way == 2:
        return encode({**body, rng.choice(FIELDS): None})
    return encode(body).replace(b",", b",\0", 1)


def no_event_at_all(rng: random.Random, body: Body, _: int) -> bytes:
    return rng.choice([*NO_JSON, b"[" + encode(body) + b"]", encode(body).replace(b'"', b"'"), rng.randbytes(40)])


def far_future(rng: random.Random, body: Body, now_ms: int) -> bytes:
    return encode({**body, "event_time": now_ms + 2 * DAY + rng.choice([0, DAY, 10**12, 10**17, 10**40])})


def far_past(rng: random.Random, body: Body, _: int) -> bytes:
    time = body["event_time"]
    return encode({**body, "event_time": rng.choice([0, -1, -time, time // 1000, 946_684_799_999, -(10**19)])})


def years_ago(rng: random.Random, body: Body, _: int) -> bytes:
    """Good, and late wherever a day has passed since."""
    return encode({**body, "event_time": rng.choice([946_684_800_000, body["event_time"] - 400 * DAY])})


def time_as_text(rng: random.Random, body: Body, _: int) -> bytes:
    """The same time in other words, which is right."""
    rest = {name: value for name, value in body.items() if name != "event_time"}
    zone = rng.choice([UTC, timezone(timedelta(hours=8)), timezone(timedelta(hours=-3, minutes=-30))])
    text = datetime.fromtimestamp(body["event_time"] / 1000, zone).isoformat(timespec="milliseconds")
    name = rng.choice(["event_time", "@timestamp"])
    text = rng.choice([text, text.replace("+00:00", "Z"), text.replace("T", " ").replace("+00:00", "z")])
    return encode({**rest, name: rng.choice([text, float(body["event_time"])])})


def no_time(rng: random.Random, body: Body, _: int) -> bytes:
    rest = {name: value for name, value in body.items() if name != "event_time"}
    return encode({**rest, rng.choice(["event_time", "@timestamp"]): rng.choice(NO_TIMES)})


def odd_logstash_time(rng: random.Random, body: Body, _: int) -> bytes:
    """`@timestamp` is not read where there is an event time."""
    return encode({**body, "@timestamp": rng.choice([*NO_TIMES, *OTHER_TYPES])})


MUTATIONS: tuple[Mutation, ...] = (
    *(truncated, flipped_byte, inserted_or_lost_bytes, glued_to_another, half_of_two, other_type, missing_field),
    *(other_name, no_number, odd_features, deep, other_encoding, half_character, nulls, no_event_at_all),
    *(far_future, far_past, years_ago, time_as_text, no_time, odd_logstash_time),
)
"""All but `huge`, of which a few are enough."""


def event(rng: random.Random, kind: str, time: int) -> Body:
    """A good event of the topic `impressions`, `clicks` or `inferences`, with some of the optional fields."""
    body: Body = {"event_time": time}
    if kind == "inferences":
        body["latency_ms"] = rng.choice([0, -0.0, 12, 80.25, 10**30, None])
        body["status"] = rng.choice(["ok", "error", "timeout", None])
        body["prediction"] = rng.choice([1, 0.5, -(10**30), "spam", "", None])
    else:
        body |= {"user_id": f"u{rng.randrange(500)}", "item_id": f"i{rng.randrange(20)}"}
    if rng.random() < 0.5:
        body["event_id"] = f"e{rng.randrange(10**9)}"
    if kind != "clicks":
        body["model_id"] = rng.choice(["home", "search"])
        if rng.random() < 0.8:
            body["model_version"] = rng.choice(["v1", "v2"])
        if rng.random() < 0.7:
            body["features"] = {"gender": rng.choice("mf"), "age": rng.randrange(18, 90), "new": rng.random() < 0.2}
        if rng.random() < 0.3:
            body |= {"position": rng.randrange(10), "request_id": f"r{rng.randrange(1000)}"}
    return body
