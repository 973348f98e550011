"""Alerts and readings for tests: a plain one each, of which a test states only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alerting.alert import Alert
from alerting.reading import Reading

MINUTE = 60_000
TEN_O_CLOCK = 1_777_629_600_000  # 2026-05-01 10:00 UTC

_ALERT = Alert(
    alert_id="00000000000000a1",
    fingerprint="00000000000000f1",
    rule="ctr-low",
    severity="major",
    status="firing",
    model_id="recommender-home",
    model_version="3",
    labels={"team": "recsys"},
    value=0.0412,
    threshold=0.05,
    started_at=TEN_O_CLOCK,
    fired_at=TEN_O_CLOCK + 4 * MINUTE,
    resolved_at=None,
    summary="CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min",
    causes=(),
    related={"impressions": 10_000, "clicks": 412},
)


def an_alert(**changes: Any) -> Alert:
    return replace(_ALERT, **changes)


def minute(
    number: int, clicks: int, impressions: int = 1000, model_id: str = "home", model_version: str = "3"
) -> Reading:
    """The window that begins `number` minutes after ten o'clock."""
    start = TEN_O_CLOCK + number * MINUTE
    return Reading(
        model_id=model_id,
        model_version=model_version,
        window_start=start,
        window_end=start + MINUTE,
        impressions=impressions,
        clicks=clicks,
    )
