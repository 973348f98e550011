"""Alerts and readings for tests: a plain one each, of which a test states only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alerting.alert import Alert
from alerting.message import Locale, Message
from alerting.notification import Link, Notification, Stage, key_of
from alerting.rules.reading import CtrReading, DriftReading, ServingReading
from tables.distances import Distance
from tables.drift_policy import Level

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


def message_of(
    *alerts: Alert,
    stage: Stage | None = None,
    locale: Locale = "en",
    title: str | None = None,
    text: str | None = None,
    markdown: str | None = None,
    links: tuple[Link, ...] = (),
    **changes: Any,
) -> Message:
    """A message about these alerts (one plain one where none is given) with simple texts; `changes` are those of its
    notification."""
    told = alerts or (an_alert(),)
    about = stage or told[0].status
    note = replace(
        Notification(
            key=key_of(about, *(alert.alert_id for alert in told)),
            channel="ops",
            stage=about,
            alerts=told,
            group_key="/:ctr-low",
            group_labels={"rule": told[0].rule},
            receiver="recsys",
            at=told[0].resolved_at or told[0].fired_at,
        ),
        **changes,
    )
    said = "".join(f"{alert.summary}\nrule {alert.rule}, alert {alert.alert_id}\n" for alert in told)
    return Message(
        key=note.key,
        stage=about,
        severity=note.severity,
        locale=locale,
        title=f"{about.upper()} {note.severity}: {told[0].summary}" if title is None else title,
        text=said if text is None else text,
        markdown=said if markdown is None else markdown,
        notifications=(note,),
        links=links,
    )


def minute(
    number: int, clicks: int, impressions: int = 1000, model_id: str = "home", model_version: str = "3"
) -> CtrReading:
    """The window that begins `number` minutes after ten o'clock."""
    start = TEN_O_CLOCK + number * MINUTE
    return CtrReading(
        model_id=model_id,
        model_version=model_version,
        window_start=start,
        window_end=start + MINUTE,
        impressions=impressions,
        clicks=clicks,
    )


def served(number: int, p95: float | None = 200.0, requests: int = 1000, errors: int = 0) -> ServingReading:
    """The minute of a model whose other latencies follow from its P95; all requests that did not fail have one."""
    start = TEN_O_CLOCK + number * MINUTE
    shares = {"p50": 0.5, "p95": 1, "p99": 2, "max": 4}
    latencies = {name: None if p95 is None else p95 * share for name, share in shares.items()}
    return ServingReading(
        model_id="ranker",
        model_version="3",
        window_start=start,
        window_end=start + MINUTE,
        requests=requests,
        errors=errors,
        latency_ms=latencies | {"count": 0 if p95 is None else requests - errors},
    )


def drifted(
    number: int, psi: float, feature: str = "gender", n: int = 5753, ks: float | None = None, level: Level = "none"
) -> DriftReading:
    """The minute's look at one feature; `level` is that of KS where there is one, else that of PSI."""
    start = TEN_O_CLOCK + number * MINUTE
    found = [Distance("psi", psi, 0.01, n, 86_000, level if ks is None else "none")]
    if ks is not None:
        found.append(Distance("ks", ks, 0.02, n - 53, 85_000, level))
    return DriftReading(
        model_id="recommender-home",
        model_version="3",
        window_start=start,
        window_end=start + MINUTE,
        feature=feature,
        horizon_ms=60 * MINUTE,
        distances=tuple(found),
    )
