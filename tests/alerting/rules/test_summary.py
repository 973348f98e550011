from __future__ import annotations

from dataclasses import replace

import pytest

from alerting.rules.reading import Reading
from alerting.rules.rule import parse_rule
from alerting.rules.summary import firing_summary, resolved_summary
from tests.alerting.samples import drifted, minute, served

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


@pytest.mark.parametrize(
    ("expr", "reading", "text"),
    [
        (
            "p95(latency) > 500ms",
            served(2, p95=612.4, requests=12_300),
            "P95 latency of ranker v3 is 612 ms, above 500 ms for 2 min (12,300 requests, 10:02-10:03 UTC)",
        ),
        (
            "max(latency) > 2s",
            served(2, p95=500.1, requests=101, errors=1),
            "Maximum latency of ranker v3 is 2,000.4 ms, above 2,000 ms for 2 min (101 requests, 10:02-10:03 UTC)",
        ),
        (
            "error_rate > 5%",
            served(2, requests=12_300, errors=640),
            "Error rate of ranker v3 is 5.2 %, above 5 % for 2 min (12,300 requests, 640 errors, 10:02-10:03 UTC)",
        ),
        (
            "availability < 99.9%",
            served(2, requests=100_000, errors=101),
            "Availability of ranker v3 is 99.899 %, below 99.9 % for 2 min"
            " (100,000 requests, 101 errors, 10:02-10:03 UTC)",
        ),
        (
            "availability < 99.99%",
            served(2, requests=2000, errors=1),
            "Availability of ranker v3 is 99.95 %, below 99.99 % for 2 min (2,000 requests, 1 error, 10:02-10:03 UTC)",
        ),
        (
            "errors > 1000",
            served(2, requests=40_000, errors=1200),
            "Error count of ranker v3 is 1,200, above 1,000 for 2 min (40,000 requests, 1,200 errors, 10:02-10:03 UTC)",
        ),
        (
            "requests < 10",
            served(2, requests=1),
            "Request count of ranker v3 is 1, below 10 for 2 min (1 request, 10:02-10:03 UTC)",
        ),
        (
            "qps > 500",
            served(2, requests=36_725),
            "QPS of ranker v3 is 612.1, above 500 for 2 min (36,725 requests, 10:02-10:03 UTC)",
        ),
        (
            "psi(gender) >= 0.15",
            drifted(2, 0.2131, level="severe"),
            "PSI of gender of recommender-home v3 is 0.21, at or above 0.15 for 2 min"
            " (n 5,753, reference 86,000, level severe, 1 h to 10:03 UTC)",
        ),
        (
            "ks(*) > 0.15",
            drifted(2, 0.2, feature="price", ks=0.1504, level="minor"),
            "KS of price of recommender-home v3 is 0.1504, above 0.15 for 2 min"
            " (n 5,700, reference 85,000, level minor, 1 h to 10:03 UTC)",
        ),
        (
            "drift(price) >= minor",
            drifted(2, 0.2, feature="price", ks=0.3, level="severe"),
            "Drift of price of recommender-home v3 is severe, at or above minor for 2 min"
            " (KS 0.30, n 5,700, reference 85,000, 1 h to 10:03 UTC)",
        ),
    ],
)
def test_every_kind_in_its_own_units(expr: str, reading: Reading, text: str) -> None:
    assert said(reading, expr) == text


def test_an_availability_that_is_not_whole_is_not_told_as_whole() -> None:
    rule = parse_rule({"name": "r", "expr": "availability < 99%"})
    assert resolved_summary(rule, served(2, requests=2000, errors=1), 0.9995, 60_000).startswith(
        "Availability of ranker v3 is 99.95 %, no longer below 99 % after 1 min"
    )


def test_drift_that_is_over() -> None:
    rule = parse_rule({"name": "r", "expr": "drift(*) >= minor"})
    assert resolved_summary(rule, drifted(9, 0.03), 0, 480_000) == (
        "Drift of gender of recommender-home v3 is none, no longer at or above minor after 8 min"
        " (PSI 0.03, n 5,753, reference 86,000, 1 h to 10:10 UTC)"
    )


def test_a_feature_that_is_named_like_an_attack_stays_on_its_line() -> None:
    text = said(drifted(0, 0.3, feature="gender\n\x1b]0;pwned\x07" + "x" * 5000), "psi(*) > 0.2")
    assert text.isprintable()
    assert len(text) < 300
