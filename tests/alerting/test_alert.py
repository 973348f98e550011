from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.alert import LATEST_MS, Alert, Severity, alert_id_of, fingerprint_of, printable
from tables.errors import InputError
from tests.alerting.samples import an_alert

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
alerts = st.builds(
    an_alert,
    severity=st.sampled_from(["critical", "major", "minor"]),
    status=st.sampled_from(["firing", "acknowledged", "resolved"]),
    model_id=texts,
    labels=st.dictionaries(texts, texts, max_size=4),
    value=st.none() | numbers,
    threshold=st.none() | numbers,
    resolved_at=st.none() | st.integers(0, LATEST_MS),
    summary=texts,
    causes=st.lists(st.dictionaries(texts, json_values, max_size=2), max_size=2).map(tuple),
    related=st.dictionaries(texts, json_values, max_size=4),
)


def backwards(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return dict(reversed(list(mapping.items())))


def test_the_fields_of_the_contract_in_its_order() -> None:
    assert list(orjson.loads(an_alert().to_json())) == [
        "alert_id",
        "fingerprint",
        "rule",
        "severity",
        "status",
        "model_id",
        "model_version",
        "labels",
        "value",
        "threshold",
        "started_at",
        "fired_at",
        "resolved_at",
        "summary",
        "causes",
        "related",
    ]


@given(alerts)
def test_an_alert_comes_back_from_its_json_as_it_was(alert: Alert) -> None:
    assert Alert.from_json(alert.to_json()) == alert


@given(alerts)
def test_equal_alerts_give_equal_bytes(alert: Alert) -> None:
    other = an_alert(
        **{name: getattr(alert, name) for name in Alert.__slots__}
        | {
            "labels": backwards(alert.labels),
            "related": backwards(alert.related),
            "causes": tuple(backwards(cause) for cause in alert.causes),
        }
    )
    assert other == alert
    assert other.to_json() == alert.to_json()


def test_a_whole_number_and_its_float_are_one_value() -> None:
    assert an_alert(value=0, threshold=1).to_json() == an_alert(value=0.0, threshold=1.0).to_json()


def test_a_newer_writers_field_is_ignored() -> None:
    data = orjson.dumps(orjson.loads(an_alert().to_json()) | {"escalation": 2})
    assert Alert.from_json(data) == an_alert()


def with_text(**changes: str) -> bytes:
    """An alert in which these fields are what stands there."""
    fields = {**orjson.loads(an_alert().to_json()), **{name: orjson.Fragment(text) for name, text in changes.items()}}
    return orjson.dumps(fields)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{}", b'{"alert_id": 1}', b"\xff", an_alert().to_json()[:-1]),
        # What could be read, but never be written into a checkpoint: it would end one worker after the other.
        with_text(related='{"requests": 1180591620717411303424}'),
        with_text(related='{"a": ' + "[" * 300 + "]" * 300 + "}"),
        with_text(related='{"a": ' + "[" * 5000 + "]" * 5000 + "}"),
        with_text(started_at="18446744073709551616"),
        with_text(fired_at="4611686018427387904"),
        with_text(resolved_at="-1"),
        with_text(summary='"' + "x" * (1 << 20) + '"'),
    ],
)
def test_what_is_no_alert_is_an_input_error(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^not an alert: "):
        Alert.from_json(data)


def test_ids_never_change_between_releases() -> None:
    """Receivers deduplicate by them, across restarts and upgrades."""
    fingerprint = fingerprint_of("ctr-low", "home", "3", {"team": "recsys"})
    assert fingerprint == "38f68026c8cbd8ad"
    assert alert_id_of(fingerprint, 1_777_629_600_000) == "e4f5d5e6a7dd7927"


def test_the_order_of_labels_is_not_part_of_the_fingerprint() -> None:
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert fingerprint_of("r", "m", "1", one) == fingerprint_of("r", "m", "1", two)


def test_neighbouring_fields_do_not_run_into_each_other() -> None:
    assert fingerprint_of("r", "ab", "c", {}) != fingerprint_of("r", "a", "bc", {})


@pytest.mark.parametrize(
    ("least", "wanted"),
    [("critical", ["critical"]), ("major", ["critical", "major"]), ("minor", ["critical", "major", "minor"])],
)
def test_the_order_of_severities(least: Severity, wanted: list[Severity]) -> None:
    severities: list[Severity] = ["critical", "major", "minor"]
    assert [severity for severity in severities if an_alert(severity=severity).is_at_least(least)] == wanted


@given(st.text(), st.integers(1, 50))
def test_whatever_an_id_holds_it_prints_as_one_harmless_line(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    if text.isprintable() and len(text) <= limit:
        assert shown == text


def test_an_escape_sequence_does_not_reach_the_terminal() -> None:
    assert printable("home\x1b[2J\u202e") == "home�[2J�"
