"""Alerts of every kind, as their rules make them, and notifications of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alerting.alert import Alert
from alerting.notification import Link, Notification
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, an_alert

RELATED = {
    "impressions": 10_000,
    "clicks": 412,
    "window_start": TEN_O_CLOCK + 2 * MINUTE,
    "window_end": TEN_O_CLOCK + 3 * MINUTE,
    "expression": "ctr < 5%",
    "metric": "ctr",
    "comparison": "<",
    "for_ms": 2 * MINUTE,
    "owner": "recsys",
    "runbook": "https://wiki.example.com/ctr-low",
}
CAUSE = {
    "kind": "drift",
    "text": "new_user true 20 % -> 50 %, PSI 0.40 (severe)",
    "feature": "new_user",
    "bin": "true",
    "psi": 0.4,
    "level": "severe",
    "reference_share": 0.2,
    "share": 0.5,
}
CTR = an_alert(related=RELATED, causes=(CAUSE,))
OVER = replace(CTR, status="resolved", value=0.08, resolved_at=TEN_O_CLOCK + 9 * MINUTE, causes=())
LINKS = (
    Link(title="acknowledge", url="https://tidemark.example.com/a/xyz"),
    Link(title="Silence for 1 h", url="https://tidemark.example.com/a/abc"),
)


def a_note(*alerts: Alert, **changes: Any) -> Notification:
    note = Notification(
        key="k1",
        channel="wecom-ops",
        stage="firing",
        alerts=alerts or (CTR,),
        group_key="/:home",
        group_labels={"model_id": "recommender-home"},
        receiver="recsys",
        at=TEN_O_CLOCK + 14 * MINUTE,
    )
    return replace(note, **changes)


def many(count: int, **changes: Any) -> tuple[Alert, ...]:
    return tuple(replace(CTR, alert_id=f"{number:016x}", causes=(), **changes) for number in range(count))


DRIFT = an_alert(
    rule="gender-drift",
    severity="minor",
    labels={"feature": "gender"},
    value=0.41,
    threshold=0.2,
    related={
        "feature": "gender",
        "horizon_s": 3600.0,
        "distances": {
            "ks": {"value": 0.1, "critical": 0.02, "level": "none", "n": 5700, "reference_n": 85_000},
            "psi": {"value": 0.41, "critical": 0.01, "level": "severe", "n": 5753, "reference_n": 86_000},
        },
        "expression": "psi(*) >= 0.2",
        "window_start": TEN_O_CLOCK,
        "window_end": TEN_O_CLOCK + MINUTE,
        "for_ms": MINUTE,
    },
)
LATENCY = an_alert(
    value=612.4,
    threshold=500.0,
    related={
        "requests": 12_300,
        "errors": 1,
        "latency_ms": {"p50": 200.0, "p95": 612.4, "p99": 900.0, "max": None, "count": 12_299},
        "expression": "p95(latency) > 500ms",
        "window_start": TEN_O_CLOCK,
        "window_end": TEN_O_CLOCK + 30_000,
        "for_ms": 5 * MINUTE,
    },
)
CHANGE = {"current": 0.0701, "n": 118_000, "reference": 0.08, "reference_n": 120_000, "vs_ms": 1, "over_ms": 1}
DROP = an_alert(
    value=0.1234, threshold=0.1, related=RELATED | {"expression": "drop(ctr, vs=1d) > 10%", "change": CHANGE}
)
SQL = an_alert(
    rule="many-errors",
    value=120.0,
    threshold=100.0,
    related={"metric": "sql", "numbers": {"share": 0.25, "calls": 4000}, "for_ms": MINUTE}
    | {name: RELATED[name] for name in ("window_start", "window_end")},
)
NO_DATA = an_alert(
    labels={"no_data": "true"}, value=None, threshold=None, related={"expression": "ctr < 5%", "for_ms": 5 * MINUTE}
)
LEVEL = replace(DRIFT, value=2.0, threshold=1.0, related=dict(DRIFT.related) | {"expression": "drift(gender) >= minor"})
DAYS = replace(CTR, related=RELATED | {"window_end": TEN_O_CLOCK + 24 * 60 * MINUTE})


HOSTILE = "**b** [x](https://evil.example) <script> `c` #h > q _i_ \\ \n\n# @all \x1b[31m \N{RIGHT-TO-LEFT OVERRIDE}"
