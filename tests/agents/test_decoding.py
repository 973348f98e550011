"""From raw records to columns: what is taken, what is refused and why, and that no neighbour suffers."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.decoding import BadRecord, JoinDecoder, JoinInput
from agents.transports.batch import Batch, Section
from tables.models import ModelIndex
from tests.judge import judge
from tests.mutations import MUTATIONS, event, huge
from tests.oracle import Click, Impression

T0 = 1_777_629_600_000
NOW = T0 + 3_600_000
DAY = 86_400_000
KEY = bytes(range(16))
GOOD = {"user_id": "u1", "item_id": "i1", "event_time": T0, "model_id": "home"}

Value = bytes | None


def record(**changes: Any) -> bytes:
    """The good impression with other or more fields; `...` leaves one out."""
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}).encode()


def with_text(text: str) -> bytes:
    """The good impression with one more member, which need not be JSON."""
    return record()[:-1] + b", " + text.encode() + b"}"


def decode(
    *values: Value, topic: str = "impressions", models: ModelIndex | None = None, now_ms: int = NOW, key: bytes = KEY
) -> JoinInput:
    section = Section(topic, range(100, 100 + len(values)), values, 100 + len(values))
    return JoinDecoder("clicks", key).decode(
        Batch(3, (section,)), ModelIndex(100) if models is None else models, now_ms
    )


def reason(value: Value, topic: str = "impressions") -> str:
    """Why a record is refused, which must not trouble its good neighbours."""
    good = record(event_time=T0 + 1)
    found = decode(good, value, good, topic=topic)
    assert found.rows.tolist() == [0, 2]
    assert found.events.time.tolist() == [T0 + 1] * 2
    [bad] = found.bad
    assert (bad.topic, bad.partition, bad.offset, bad.value) == (topic, 3, 101, value)
    return bad.reason


# -- good records


def test_the_columns_of_impressions_and_clicks() -> None:
    models = ModelIndex(100)
    shown = decode(record(model_version="v2"), record(model_id="search"), record(event_time=T0 + 5), models=models)
    assert [models.name(number) for number in shown.events.model.tolist()] == [
        ("home", "v2"),
        ("search", ""),
        ("home", ""),
    ]
    assert shown.events.time.tolist() == [T0, T0, T0 + 5]
    assert not shown.events.is_click.any()
    assert shown.offsets().tolist() == [100, 101, 102]

    clicked = decode(record(model_id=..., user_id="u2"), record(), topic="clicks")
    assert clicked.events.is_click.all()
    assert clicked.events.model.tolist() == [-1, -1]
    assert clicked.events.pair[1] == shown.events.pair[0] != clicked.events.pair[0]


@pytest.mark.parametrize(
    "value",
    [
        record(event_time=float(T0)),
        record(event_time=...)[:-1] + b',"event_time":1.7776296e12}',
        record(event_time="2026-05-01T10:00:00Z"),
        record(event_time="2026-05-01t18:00:00.0009+08:00"),
        record(event_time=..., **{"@timestamp": "2026-05-01T10:00:00.000Z"}),
        record(event_time=None, **{"@timestamp": T0}),
        record(**{"@timestamp": "yesterday"}),
        record(**{"@timestamp": {"not": "read"}}),
        record(model_version=None, event_id=None, request_id=None, features=None),
        record(features={}),
        record(features={"a": 1, "b": -2.5e-3, "c": "x", "d": True, "e": None, "f": "{[", "": ""}),
        record(position="anything", other={"nested": [1, {"deep": None}]}),
        with_text('"features": {"a": 1e999, "b": ' + "9" * 5000 + "}"),
        with_text('"other": ' + "9" * 5000),
        with_text('"query": "cut within an emoji \\ud83d"'),
        with_text('"features": {"query": "\\ude00"}'),
        with_text('"other": ' + "[" * 100 + "]" * 100),
        b" \t\r\n" + record() + b"\n",
        record() + b" " * (1024 * 1024 - len(record())),
        json.dumps({**GOOD, "other": "中文 😀"}, ensure_ascii=False).encode(),
    ],
)
def test_good_records(value: bytes) -> None:
    assert len(value) <= 1024 * 1024
    for neighbours in ((), (record(),), (record(features=None),), (None, b"{")):
        found = decode(value, *neighbours)
        assert found.rows[0] == 0
        assert (found.events.time[0], found.events.pair[0]) == (T0, decode(record()).events.pair[0])


@pytest.mark.parametrize("time", [946_684_800_000, NOW + DAY])
def test_both_ends_of_the_plausible_times_are_inclusive(time: int) -> None:
    assert decode(record(event_time=time)).events.time.tolist() == [time]


def test_ids_may_be_any_text() -> None:
    for text in ("", " ", "\0", "😀", "a" * 10_000, "\uffff"):
        assert not decode(record(user_id=text, item_id=text, model_id=text)).bad


# -- bad records


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "empty: the record has no value"),
        (b"", "not_json: Input data was truncated"),
        (record()[:-1], "not_json: Input data was truncated"),
        (record() + b"\0", "not_json: "),
        (record() * 2, "not_json: "),
        (record() + b"," + record(), "not_json: "),
        (b"[" + record() + b"]", "invalid_field: Expected `object`, got `array`"),
        (b"null", "invalid_field: Expected `object`, got `null`"),
        (with_text('"other": NaN'), "not_json: "),
        (with_text('"features": {"a": NaN}'), "not_json: "),
        (with_text('"features": {"a": -Infinity}'), "not_json: "),
        (with_text('"other": 01'), "not_json: "),
        (with_text('"other": "' + "\n" + '"'), "not_json: "),
        (with_text('"other": ' + "[" * 20_000 + "]" * 20_000), "not_json: nested too deeply"),
        (with_text('"features": ' + '{"a":' * 20_000 + "1" + "}" * 20_000), "not_json: nested too deeply"),
        (b"\xef\xbb\xbf" + record(), "not_json: "),
        (record().decode().encode("utf-16"), "not_utf8: byte 0"),
        (record(other="é").replace(b"\\u00e9", b"\xe9"), "not_utf8: byte 94"),
        (record(other="é").replace(b"\\u00e9", b"\xed\xa0\x80"), "not_utf8: byte 94"),
        (record(features={"é": 1}).replace(b"\\u00e9", b"\xff"), "not_utf8: byte 98"),
        (b"x" * (1024 * 1024 + 1), "too_large: 1048577 bytes, at most 1048576"),
        (record(user_id=1)[:-1], "not_json: Input data was truncated"),
        (record(user_id=...), "invalid_field: Object missing required field `user_id`"),
        (record(user_id=None), "invalid_field: Expected `str`, got `null` - at `$.user_id`"),
        (record(item_id=17), "invalid_field: Expected `str`, got `int` - at `$.item_id`"),
        (record(event_id=17), "invalid_field: Expected `str | null`, got `int` - at `$.event_id`"),
        (record(request_id=[]), "invalid_field: Expected `str | null`, got `array` - at `$.request_id`"),
        (record(model_version=2), "invalid_field: Expected `str | null`, got `int` - at `$.model_version`"),
        (record(features=[]), "invalid_field: Expected `object | null`, got `array` - at `$.features`"),
        (record(features="{}"), "invalid_field: Expected `object | null`, got `str` - at `$.features`"),
        (record(features={"a": {}}), "invalid_field: Expected a number, string, bool or null - at `$.features[...]`"),
        (record(features={"a": 1, "b": []}), "invalid_field: Expected a number, string, bool or null"),
        (with_text('"user_id": "\\ud83d"'), "not_json: "),
        (record(event_time=...), "invalid_field: event_time: missing"),
        (record(event_time=None, **{"@timestamp": None}), "invalid_field: event_time: missing"),
        (record(event_time=True), "invalid_field: Expected `int | float | str | null`, got `bool` - at `$.event_time`"),
        (record(event_time=T0 + 0.5), "invalid_field: event_time: expected whole milliseconds since the epoch"),
        (record(event_time="1777629600000"), "invalid_field: event_time: expected RFC 3339 text"),
        (record(event_time="2026-05-01T10:00:00"), "invalid_field: event_time: expected RFC 3339 text"),
        (record(event_time=..., **{"@timestamp": {}}), "invalid_field: event_time: "),
        (record(event_time="yesterday", **{"@timestamp": T0}), "invalid_field: event_time: "),
        (record(event_time=10**30), "invalid_field: event_time: out of range"),
        (record(event_time=946_684_799_999), "time_out_of_range: 946684799999"),
        (record(event_time=NOW + DAY + 1), f"time_out_of_range: {NOW + DAY + 1}"),
        (record(event_time=T0 // 1000), f"time_out_of_range: {T0 // 1000}"),
        (record(event_time=-(2**63)), f"time_out_of_range: {-(2**63)}"),
        (record(event_time="9999-12-31T23:59:59Z"), "time_out_of_range: 253402300799000"),
    ],
)
def test_bad_records(value: Value, expected: str) -> None:
    assert reason(value).startswith(expected)


def test_a_click_needs_no_model_but_its_ids() -> None:
    assert reason(record(item_id=...), "clicks") == "invalid_field: Object missing required field `item_id`"
    assert not decode(record(model_id=..., features=[{}]), topic="clicks").bad  # nobody reads them there


def test_two_halves_do_not_become_an_event_by_being_neighbours() -> None:
    for at in range(1, len(record()) - 1):
        found = decode(record()[:at], record()[at:])
        assert len(found.events) == 0
        assert [bad.offset for bad in found.bad] == [100, 101]


def test_bad_records_only() -> None:
    found = decode(None, b"{", record(event_time=0))
    assert (len(found.events), len(found.bad), found.offsets().tolist()) == (0, 3, [])
    assert len(decode().events) == 0


# -- any mixture


@st.composite
def sections(draw: st.DrawFn) -> tuple[str, list[Value]]:
    kind = draw(st.sampled_from(["impressions", "clicks"]))
    rng = random.Random(draw(st.integers(0, 2**32)))
    values: list[Value] = []
    for mutated in draw(st.lists(st.booleans(), max_size=12)):
        body = event(rng, kind, T0 + rng.randrange(10**6))
        values.append(rng.choice(MUTATIONS)(rng, body, NOW) if mutated else json.dumps(body).encode())
    return kind, values


def by_offset(found: JoinInput, names: ModelIndex) -> dict[int, Any]:
    events = found.events
    columns = (events.pair.tolist(), events.time.tolist(), events.is_click.tolist(), events.model.tolist())
    rows = zip(found.offsets().tolist(), *columns, strict=True)
    return {offset: (*rest, None if model < 0 else names.name(model)) for offset, *rest, model in rows}


@given(sections())
def test_a_batch_is_decoded_as_its_records_are_one_by_one(section: tuple[str, list[Value]]) -> None:
    topic, values = section
    models = ModelIndex(100)
    together = decode(*values, topic=topic, models=models)
    expected: dict[int, Any] = {}
    bad: list[BadRecord] = []
    for offset, value in enumerate(values, 100):
        names = ModelIndex(100)
        one = JoinDecoder("clicks", KEY).decode(Batch(3, (Section(topic, [offset], [value], offset + 1),)), names, NOW)
        expected |= by_offset(one, names)
        bad += one.bad
    assert by_offset(together, models) == expected
    assert sorted(together.bad, key=lambda found: found.offset) == bad


@given(sections())
def test_the_judge_says_the_same(section: tuple[str, list[Value]]) -> None:
    topic, values = section
    found = decode(*values, topic=topic)
    faults = {bad.offset: bad.reason.partition(":")[0] for bad in found.bad}
    for offset, value in enumerate(values, 100):
        verdict = judge(topic, value, NOW)
        assert faults.get(offset, "") == verdict.fault, (value, verdict)
        if verdict.event is not None:
            [row] = np.flatnonzero(found.offsets() == offset).tolist()
            assert found.events.time[row] == verdict.event.time
            same = Click(*verdict.event[:3])
            expected = decode(
                json.dumps({"user_id": same.user, "item_id": same.item, "event_time": T0}).encode(), topic="clicks"
            )
            assert found.events.pair[row] == expected.events.pair[0]


@pytest.mark.parametrize("seed", range(8))
def test_the_judge_says_the_same_of_huge_records(seed: int) -> None:
    value = huge(random.Random(seed), dict(GOOD), NOW)
    fault = "too_large" if len(value) > 1024 * 1024 else ""
    assert judge("impressions", value, NOW).fault == fault
    assert [bad.reason.partition(":")[0] for bad in decode(value).bad] == [fault] * bool(fault)


# -- the order of arrival


def test_topics_are_put_into_the_order_of_arrival_where_the_broker_knows_it() -> None:
    def section(topic: str, arrivals: list[int], values: Sequence[Value]) -> Section:
        clock = np.array(arrivals, np.int64) * 10
        return Section(topic, range(len(values)), values, len(values), np.array(arrivals, np.int64), clock)

    clicks = section("clicks", [1, 4, 6], [record(event_time=T0 + 1), b"{", record(event_time=T0 + 6)])
    shown = section("impressions", [0, 2, 3], [record(event_time=T0 + n) for n in (0, 2, 3)])

    found = JoinDecoder("clicks", KEY).decode(Batch(0, (clicks, shown)), ModelIndex(9), NOW)

    assert found.events.time.tolist() == [T0, T0 + 1, T0 + 2, T0 + 3, T0 + 6]
    assert found.clock is not None
    assert found.clock.tolist() == [0, 10, 20, 30, 60]
    assert [(found.as_bad(k, "late").topic, found.offset(k)) for k in range(5)] == [
        ("impressions", 0),
        ("clicks", 0),
        ("impressions", 1),
        ("impressions", 2),
        ("clicks", 2),
    ]
    assert found.offsets().tolist() == [0, 0, 1, 2, 2]


def test_without_it_sections_come_one_after_the_other() -> None:
    parts = tuple(Section(topic, [7], [record(event_time=T0 + 1)], 8) for topic in ("clicks", "impressions"))
    found = JoinDecoder("clicks", KEY).decode(Batch(0, parts), ModelIndex(9), NOW)
    assert (found.clock, found.events.is_click.tolist()) == (None, [True, False])


# -- ids


def pair(user: str, item: str, key: bytes = KEY) -> int:
    return int(decode(record(user_id=user, item_id=item), key=key).events.pair[0])


def test_ids_are_hashed_with_the_key() -> None:
    assert pair("u", "i") == pair("u", "i") != pair("u", "i", key=bytes(16))
    assert pair("u", "i") != pair("i", "u")
    with pytest.raises(ValueError, match="hash key of 16 bytes, got 15"):
        JoinDecoder("clicks", bytes(15))


def test_ids_are_kept_apart() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("a:b", "c"), ("a", "b:c"), ("1:a", "b"), ("1", ":ab")]
    assert len({pair(user, item) for user, item in pairs}) == len(pairs)


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), unique=True, max_size=20))
def test_different_pairs_have_different_hashes(pairs: list[tuple[str, str]]) -> None:
    found = decode(*(record(user_id=user, item_id=item) for user, item in pairs))
    assert len(set(found.events.pair.tolist())) == len(pairs)


def test_no_id_comes_out() -> None:
    secret = record(user_id="alice-4711", item_id="pregnancy-test")
    found = decode(secret, record(user_id="alice-4711", item_id="pregnancy-test", features={"a": 1}), secret)
    columns = pickle.dumps((found.events, found.rows, found.sections, found.clock, found.bad))
    assert b"alice" not in columns
    assert b"pregnancy" not in columns


def test_impression_and_click_of_the_judge_are_those_of_the_oracle() -> None:
    assert judge("impressions", record(), NOW).event == Impression("u1", "i1", T0, ("home", ""))
    assert judge("clicks", record(), NOW).event == Click("u1", "i1", T0)
