"""From an incident that has begun to fire, or is over, to its alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from alerting.alert import Alert, alert_id_of, fingerprint_of, printable
from alerting.rules.decisions import Reason
from alerting.rules.incident_machine import Incident, Judgement, Key, Told
from alerting.rules.reading import SqlReading
from alerting.rules.rule import SQL, Rule
from alerting.rules.summary import (
    back_summary,
    firing_summary,
    given_up_summary,
    left_summary,
    no_data_summary,
    resolved_summary,
    sql_firing_summary,
    sql_resolved_summary,
)

Causes = tuple[Mapping[str, Any], ...]

LEFT: Final[Mapping[Reason, str]] = {
    Reason.RULE_REMOVED: "the rule has gone or changed",
    Reason.VERSION_GONE: "other versions have rows, this one has none any more",
    Reason.GIVEN_UP: "there have been no rows for 2 d",
}
_SUMMARY_LIMIT: Final = 1_000
_EXPRESSION_LIMIT: Final = 300


def told_of(rule: Rule, *, threshold: float | None) -> Told:
    """What is to be remembered of the rule as long as an incident fires."""
    expression = (
        rule.expression if rule.kind != "sql" else printable(" ".join(rule.expression.split()), _EXPRESSION_LIMIT)
    )
    return Told(rule.severity, rule.labels, rule.owner, rule.runbook, expression, rule.metric, threshold)


def threshold_of(found: Judgement) -> float | None:
    """What the value was compared with; a query may say it."""
    if found.rule.metric != SQL:
        return found.rule.threshold
    return found.reading.threshold if isinstance(found.reading, SqlReading) else None


def firing_alert(found: Judgement, incident: Incident, causes: Causes) -> Alert:
    """The condition has held for long enough."""
    alert = _alert(found.key, incident, resolved_at=None, value=found.value, summary="", related=_related(found))
    return _in_words(replace(alert, causes=causes), found, incident)


def resolved_alert(found: Judgement, incident: Incident) -> Alert:
    """The condition has not held for long enough."""
    resolved_at = found.window_end + found.rule.settle_ms
    alert = _alert(found.key, incident, resolved_at=resolved_at, value=found.value, summary="", related=_related(found))
    # A query that returns nothing says no threshold either: the one that was told goes on to hold.
    if found.reading is not None:
        alert = replace(alert, threshold=threshold_of(found))
    return _in_words(alert, found, incident)


def no_data_alert(key: Key, incident: Incident) -> Alert:
    """There have been no rows since `started_at`."""
    summary = no_data_summary(key, _metric(incident), incident.started_at, incident.breached_until)
    return _alert(key, incident, resolved_at=None, value=None, summary=summary, related=_between(incident))


def back_alert(key: Key, incident: Incident, settle_ms: int) -> Alert:
    """There are rows again; `breached_until` says since when."""
    summary = back_summary(key, _metric(incident), incident.started_at, incident.breached_until)
    resolved_at = incident.breached_until + settle_ms
    return _alert(key, incident, resolved_at=resolved_at, value=None, summary=summary, related=_between(incident))


def given_up_alert(key: Key, incident: Incident, settle_ms: int) -> Alert:
    """Nobody waits for rows any more."""
    summary = given_up_summary(key, _metric(incident), incident.breached_until - incident.started_at)
    resolved_at = incident.breached_until + settle_ms
    return _alert(key, incident, resolved_at=resolved_at, value=None, summary=summary, related=_between(incident))


def left_alert(key: Key, incident: Incident, because: Reason, at_ms: int) -> Alert:
    """The condition is no longer looked at, for a reason of LEFT; whether it still holds nobody knows."""
    assert incident.fired_at is not None
    summary = left_summary(key, LEFT[because], incident.breached_until - incident.started_at)
    related = _between(incident) | {"resolved_because": because.value}
    return _alert(
        key, incident, resolved_at=max(at_ms, incident.fired_at), value=None, summary=summary, related=related
    )


def _metric(incident: Incident) -> str:
    assert incident.told is not None
    return incident.told.metric


def _between(incident: Incident) -> dict[str, Any]:
    return {"window_start": incident.started_at, "window_end": incident.breached_until}


def _related(found: Judgement) -> dict[str, Any]:
    related: dict[str, Any] = {}
    if isinstance(found.reading, SqlReading):
        related["numbers"] = dict(found.reading.numbers)
    elif found.reading is not None:
        related |= found.reading.numbers()
    if found.rule.metric != SQL:
        related["comparison"] = found.rule.comparison
    if (change := found.rule.change) is not None and (changed := found.changed) is not None:
        related["change"] = {
            "current": changed.current.value,
            "n": changed.current.n,
            "reference": changed.reference.value,
            "reference_n": changed.reference.n,
            "vs_ms": change.vs_ms,
            "over_ms": change.over_ms,
        }
    return related | {"window_start": found.window_start, "window_end": found.window_end}


def _alert(
    key: Key,
    incident: Incident,
    *,
    resolved_at: int | None,
    value: float | None,
    summary: str,
    related: Mapping[str, Any],
) -> Alert:
    told = incident.told
    assert told is not None and incident.fired_at is not None  # only what fired is told, and when it is over
    labels = dict(told.labels)
    if key.feature:
        labels["feature"] = key.feature
    if key.silent:
        labels["no_data"] = "true"
    fingerprint = fingerprint_of(key.rule, key.model_id, key.model_version, labels)
    said = {"owner": told.owner, "runbook": told.runbook, "feature": key.feature}
    return Alert(
        alert_id=alert_id_of(fingerprint, incident.started_at),
        fingerprint=fingerprint,
        rule=key.rule,
        severity=told.severity,
        status="firing" if resolved_at is None else "resolved",
        model_id=key.model_id,
        model_version=key.model_version,
        labels=labels,
        value=value,
        threshold=told.threshold,
        started_at=incident.started_at,
        fired_at=incident.fired_at,
        resolved_at=resolved_at,
        summary=summary,
        causes=(),
        related={
            **related,
            **{name: text for name, text in said.items() if text},
            "expression": told.expression,
            "metric": told.metric,
            "for_ms": incident.breached_until - incident.started_at,
        },
    )


def _in_words(alert: Alert, found: Judgement, incident: Incident) -> Alert:
    """With the summary, in the rule's own words where it has some."""
    alert = replace(alert, summary=_sentence(found, incident, is_firing=alert.status == "firing"))
    if found.rule.template is None:
        return alert
    # Most rules have none, and go without the template engine.
    from alerting.texts.templates import context_of

    own = printable(" ".join(found.rule.template.render(context_of(alert)).split()), _SUMMARY_LIMIT)
    return replace(alert, summary=own, related={**alert.related, "summary_is_custom": True}) if own else alert


def _sentence(found: Judgement, incident: Incident, *, is_firing: bool) -> str:
    lasted_ms = incident.breached_until - incident.started_at
    if isinstance(found.reading, SqlReading):
        return sql_firing_summary(found.rule.name, found.reading, lasted_ms)
    if found.reading is None:
        return sql_resolved_summary(found.key, lasted_ms, found.window_start, found.window_end)
    assert found.value is not None  # it has been compared
    say = firing_summary if is_firing else resolved_summary
    return say(found.rule, found.reading, found.value, lasted_ms, found.changed)
