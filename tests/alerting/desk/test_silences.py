from __future__ import annotations

from typing import Any

import orjson
import pytest

from alerting.desk.matchers import parse_matchers
from alerting.desk.silences import Silence
from tables.errors import ConfigError

DAY_MS = 86_400_000


def silence(**changes: Any) -> Silence:
    values: dict[str, Any] = {
        "id": "s1",
        "matchers": parse_matchers('model_id=~"rec-.*", severity!="critical"'),
        "starts_at": 1_000,
        "ends_at": 5_000,
        "created_by": "alice",
        "comment": "promotion",
        "created_at": 500,
    }
    return Silence(**values | changes)


def test_it_holds_for_its_time_and_its_labels() -> None:
    labels = {"model_id": "rec-home", "severity": "major"}
    assert [silence().silences(labels, now) for now in (999, 1_000, 4_999, 5_000)] == [False, True, True, False]
    assert not silence().silences(labels | {"severity": "critical"}, 2_000)
    assert not silence().silences({"model_id": "search"}, 2_000)


def test_plain_data_and_back() -> None:
    data = silence().to_json()
    assert data["matchers"] == ['model_id=~"rec-.*"', 'severity!="critical"']
    assert (data["starts_at"], data["ends_at"]) == (1_000, 5_000)
    assert Silence.from_json(orjson.loads(orjson.dumps(data)) | {"later": 1}) == silence()
    del data["comment"]
    assert Silence.from_json(data) == silence(comment="")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ends_at": 1_000}, "^ends_at: expected a time after starts_at"),
        ({"ends_at": 1_001 + 366 * DAY_MS}, "^ends_at: expected a time after starts_at by at most 366 days"),
        ({"starts_at": -1, "ends_at": 5}, "^starts_at: expected milliseconds since the epoch, up to the year 9999"),
        ({"starts_at": 2**62, "ends_at": 2**62 + 1}, "^starts_at: expected milliseconds since the epoch, up to"),
        ({"starts_at": 2**64 - 1, "ends_at": 2**64 + 9}, "^starts_at: expected milliseconds since the epoch, up to"),
        ({"starts_at": 253_402_300_798_999, "ends_at": 253_402_300_799_001}, "^ends_at: expected milliseconds"),
        ({"id": ""}, "^id: expected 1 to 100"),
        ({"created_by": "x" * 101}, "^created_by: expected 1 to 100"),
        ({"comment": "x" * 1_001}, "^comment: expected at most 1000"),
        ({"matchers": ()}, "^matchers: expected 1 to 100"),
        # Somebody who writes this silences everything and does not know.
        ({"matchers": parse_matchers('model_id=~".*", owner=""')}, "^matchers: .* silence for everything"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        silence(**changes)


def test_it_may_be_as_long_as_a_year() -> None:
    assert silence(ends_at=1_000 + 366 * DAY_MS).is_active(366 * DAY_MS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"starts_at": None}, "^starts_at: expected milliseconds .* got nothing"),
        ({"ends_at": "tomorrow"}, "^ends_at: expected milliseconds .* got str"),
        ({"ends_at": True}, "^ends_at: expected milliseconds"),
        ({"created_by": 5}, "^created_by: expected text, got int"),
        ({"matchers": 'a="b"'}, "^matchers: expected a list of texts"),
        ({"matchers": [5]}, "^matchers: expected a list of texts"),
        ({"matchers": ["a"] * 101}, "^matchers: expected 1 to 100 matchers, got 101"),
        ({"matchers": ["a"]}, "expected a matcher such as"),
    ],
)
def test_what_somebody_sent_is_checked(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        Silence.from_json(silence().to_json() | changes)
