from __future__ import annotations

from dataclasses import replace

import pytest

from alerting.reading import Reading
from alerting.rules import parse_rule
from alerting.summary import firing_summary, resolved_summary
from tests.alerting.samples import minute

RULE = parse_rule({"name": "ctr-low", "expr": "ctr < 5%"})


def said(reading: Reading, expr: str = "ctr < 5%") -> str:
    rule = parse_rule({"name": "r", "expr": expr})
    value = rule.value_of(reading)
    assert value is not None
    return firing_summary(rule, reading, value, 120_000)


def test_a_firing_alert_in_one_line() -> None:
    assert said(minute(2, 412, 10_000, "recommender-home")) == (
        "CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min (10,000 shown, 412 clicked, 10:02-10:03 UTC)"
    )


def test_a_resolved_alert_in_one_line() -> None:
    reading = minute(7, 793, 10_000, "recommender-home")
    assert resolved_summary(RULE, reading, 0.0793, 300_000) == (
        "CTR of recommender-home v3 is 7.9 %, no longer below 5 % after 5 min"
        " (10,000 shown, 793 clicked, 10:07-10:08 UTC)"
    )


@pytest.mark.parametrize(
    ("version", "subject"),
    [
        ("3", "home v3"),
        ("v3", "home v3"),
        ("2026-05-01", "home v2026-05-01"),
        ("canary", "home canary"),
        ("", "home"),
    ],
)
def test_versions_as_people_say_them(version: str, subject: str) -> None:
    assert said(minute(0, 10, model_version=version)).startswith(f"CTR of {subject} is ")


@pytest.mark.parametrize(
    ("expr", "clicks", "words"),
    [
        ("ctr < 5%", 49_960, "is 4.996 %, below 5 % for"),
        ("ctr <= 5%", 50_000, "is 5.0 %, at or below 5 % for"),
        ("ctr > 12.5%", 125_010, "is 12.501 %, above 12.5 % for"),
        ("ctr >= 0.00012", 130, "is 0.013 %, at or above 0.012 % for"),
    ],
)
def test_as_many_digits_as_tell_the_value_from_the_threshold(expr: str, clicks: int, words: str) -> None:
    assert words in said(minute(0, clicks, 1_000_000), expr)


def test_short_windows_show_their_seconds() -> None:
    reading = replace(minute(0, 10), window_end=minute(0, 10).window_start + 30_000)
    assert said(reading).endswith("10:00:00-10:00:30 UTC)")


def test_a_model_that_is_named_like_an_attack_stays_on_its_line() -> None:
    text = said(minute(0, 10, model_id="home\n\x1b]0;pwned\x07" + "x" * 5000))
    assert text.isprintable()
    assert len(text) < 300
