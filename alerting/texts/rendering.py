"""What people read: notifications, one by one or several together, in the words of a locale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from alerting.alert import SEVERITIES, Alert, printable
from alerting.message import Locale, Message
from alerting.notification import Link, Notification, key_of
from alerting.texts.figures import (
    cause_text,
    condition_text,
    expression_of,
    is_no_data,
    lasted_ms,
    metric_text,
    model_text,
    numbers_text,
    value_text,
    window_text,
)
from alerting.texts.layouts import LAYOUTS, is_web
from alerting.texts.phrases import (
    WORDS,
    ZH,
    Words,
    joined_han,
    say_duration,
    say_link,
    say_person,
    side_by_side,
)
from alerting.texts.splitting import cut_bytes
from alerting.texts.template_filters import zone_of

MOST_ALERTS: Final = 20
"""Of a group, that have a line each."""
_MOST_CAUSES: Final = 5
_MOST_LINKS: Final = 5
_LONGEST_TITLE: Final = 240
_LONGEST_WAIT_MS: Final = 366 * 86_400_000
#: Of the summary where it stands alone, and where it is one of many.
_SUMMARY: Final = 1000
_SUMMARY_IN_LIST: Final = 240
_FIELD: Final = 300


class _Lines(NamedTuple):
    """One alert in a digest."""

    text: str
    markdown: str


def render(
    notification: Notification, *, locale: Locale, links: Sequence[Link] = (), time_zone: str = "UTC"
) -> Message:
    """One notification in words; the same always gives the same bytes.

    Raises ConfigError for a time zone that there is not; `zone_of` reads a zone's file beforehand.
    """
    zone_of(time_zone)
    words = WORDS[locale]
    shown = tuple(
        replace(link, title=say_link(printable(link.title, 80), words)) for link in links if is_web(link.url)
    )[:_MOST_LINKS]
    context = _context(notification, shown, words, time_zone)
    return Message(
        key=notification.key,
        stage=notification.stage,
        severity=notification.severity,
        locale=locale,
        title=cut_bytes(LAYOUTS[locale, "text"].title.render(_title_context(notification, words)), _LONGEST_TITLE),
        text=LAYOUTS[locale, "text"].body.render(context),
        markdown=LAYOUTS[locale, "markdown"].body.render(context),
        notifications=(notification,),
        links=shown,
    )


def render_digest(notifications: Sequence[Notification], *, locale: Locale, limit_bytes: int) -> tuple[Message, int]:
    """As many notifications from the front as fit into `limit_bytes` of title and Markdown, one line an alert, and how
    many these are.

    One at least is taken: a channel splits what is still too long. Of an alert that comes more than once the last
    state counts. Raises ValueError where there are no notifications.
    """
    if not notifications:
        raise ValueError("expected at least one notification for a digest")
    words = WORDS[locale]
    layout = LAYOUTS[locale, "text"]
    ends = layout.digest_end.render({})
    alerts: dict[str, Alert] = {}
    lines: dict[str, _Lines] = {}
    size, taken = _LONGEST_TITLE + len(ends.encode()), 0
    for notification in notifications:
        fresh = {alert.alert_id: _lines(alert, locale) for alert in notification.alerts}
        grown = size + sum(_size(line) - _size(lines.get(name)) for name, line in fresh.items())
        if taken and grown > limit_bytes:
            break
        size, taken = grown, taken + 1
        lines |= fresh
        alerts |= {alert.alert_id: alert for alert in notification.alerts}
    covered = tuple(notifications[:taken])
    severity = min((notification.severity for notification in covered), key=SEVERITIES.index)
    firing = sum(alert.status == "firing" for alert in alerts.values())
    title = layout.digest_title.render(
        {
            "severity": words.severity[severity],
            "stage": words.stage["digest"],
            "firing": firing,
            "over": len(alerts) - firing,
        }
    )
    end = ends if firing else ""
    message = Message(
        key=key_of(*(notification.key for notification in covered)),
        stage="digest",
        severity=severity,
        locale=locale,
        title=cut_bytes(title, _LONGEST_TITLE),
        text="".join(line.text for line in lines.values()) + end,
        markdown="".join(line.markdown for line in lines.values()) + end,
        notifications=covered,
    )
    return message, taken


def summary_of(alert: Alert, locale: Locale, time_zone: str = "UTC") -> str:
    """What happened, in one line: in English the alert's own, which a rule may have written."""
    words = WORDS[locale]
    if words is not ZH or alert.related.get("summary_is_custom") is True:
        return printable(alert.summary, _SUMMARY)
    return _chinese_summary(alert, time_zone) or printable(alert.summary, _SUMMARY)


def _chinese_summary(alert: Alert, zone: str) -> str:
    """The sentence of `alerting/rules/summary.py`; empty where the alert lacks a part of it."""
    is_over, lasted = alert.status == "resolved", say_duration(lasted_ms(alert), ZH)
    metric = metric_text(alert, ZH)
    subject = joined_han(model_text(alert), "的", metric or f"规则 {printable(alert.rule)}")
    if is_no_data(alert):
        # Where the rule has gone or nobody has heard of it any more, nothing has come back.
        back = not (alert.related.get("closed_as") or alert.related.get("resolved_because"))
        over = f"数据已恢复，中断 {lasted}" if back else f"缺数据的告警结束，历时 {lasted}"
        return joined_han(subject, *((over,) if is_over else ("已", lasted, "没有数据")))
    value, condition = value_text(alert, ZH), condition_text(alert, ZH)
    if not value:
        return joined_han(subject, f"的告警结束，历时 {lasted}") if is_over else ""
    spent = f"历时 {lasted}" if is_over else f"已持续 {lasted}"
    said = ZH.separator.join(
        part for part in (joined_han(subject, "为" if metric else "的值为", value), condition, spent) if part
    )
    numbers = ZH.separator.join(part for part in (numbers_text(alert, ZH), window_text(alert, zone, ZH)) if part)
    return f"{said}（{numbers}）"


def _title_context(notification: Notification, words: Words) -> dict[str, Any]:
    alert = notification.alerts[0]
    return {
        "severity": words.severity[notification.severity],
        "stage": words.stage[notification.stage],
        "group": len(notification.alerts) > 1,
        "total": len(notification.alerts),
        "about": _about(notification),
        "model": model_text(alert),
        "what": _what(alert, words),
        "rule": printable(alert.rule),
    }


def _context(notification: Notification, links: Sequence[Link], words: Words, zone: str) -> dict[str, Any]:
    alert, alerts = notification.alerts[0], notification.alerts
    locale: Locale = "zh" if words is ZH else "en"
    causes = dict.fromkeys(cause_text(cause, words) for one in alerts for cause in one.causes)
    owners = dict.fromkeys(printable(str(one.related.get("owner") or "")) for one in alerts)
    runbooks = {str(one.related.get("runbook") or "") for one in alerts}
    asks = notification.stage in ("firing", "repeat", "escalation")
    waiting = [one.alert_id for one in alerts if one.status == "firing"] if asks else []
    return {
        "stage": notification.stage,
        "group": len(alerts) > 1,
        "counts": _counts(alerts, words),
        "about": _about(notification),
        "alerts": [
            {
                "severity": words.severity[one.severity],
                "status": words.status[one.status],
                "summary": printable(summary_of(one, locale, zone), _SUMMARY_IN_LIST),
                "id": printable(one.alert_id, 32),
            }
            for one in alerts[:MOST_ALERTS]
        ],
        "more": max(0, len(alerts) - MOST_ALERTS),
        "step": notification.step,
        "round": notification.round + 1,
        "unacknowledged": _unacknowledged(notification, words),
        "lasted": _lasted(notification, words),
        "resolved": alert.status == "resolved",
        "acknowledged_by": printable(say_person(str(alert.related.get("acknowledged_by") or ""), words)),
        "comment": printable(str(alert.related.get("acknowledged_comment") or "")),
        "closed": str(alert.related.get("closed_as") or alert.related.get("resolved_because") or ""),
        "stands_in_for": printable(words.separator.join(notification.fallback_of), _FIELD),
        "summary": summary_of(alert, locale, zone),
        "measured": _measured(alert, words),
        "condition": condition_text(alert, words),
        "numbers": printable(numbers_text(alert, words), 2 * _FIELD),
        "time": window_text(alert, zone, words),
        "model": model_text(alert),
        "rule": printable(alert.rule),
        "expression": printable(str(alert.related.get("expression") or ""), _FIELD) if expression_of(alert) else "",
        "labels": printable(", ".join(f"{name}={text}" for name, text in sorted(alert.labels.items())), _FIELD),
        "causes": [cause for cause in causes if cause][:_MOST_CAUSES],
        "owner": printable(words.separator.join(owner for owner in owners if owner), _FIELD),
        # Of a group the one that fits all.
        "runbook": printable(runbooks.pop(), _SUMMARY) if len(runbooks) == 1 else "",
        "ids": printable(waiting[0], 32) if waiting else "",
        "links": [{"title": link.title, "url": link.url} for link in links],
    }


def _lines(alert: Alert, locale: Locale) -> _Lines:
    words = WORDS[locale]
    context = {
        "severity": words.severity[alert.severity],
        "status": words.status[alert.status],
        "model": model_text(alert),
        "what": _against(alert, words),
        "id": printable(alert.alert_id, 32),
    }
    return _Lines(
        text=LAYOUTS[locale, "text"].digest_line.render(context),
        markdown=LAYOUTS[locale, "markdown"].digest_line.render(context),
    )


def _what(alert: Alert, words: Words) -> str:
    """E.g. `CTR 4.1 %, below 5 %`; once it is over, without the condition, which holds no longer."""
    value, metric = value_text(alert, words), metric_text(alert, words)
    if is_no_data(alert):
        return words.no_data.format(metric=metric or printable(alert.rule))
    if not value:
        return ""
    condition = "" if alert.status == "resolved" else condition_text(alert, words)
    return words.separator.join(part for part in (side_by_side(words, metric, value), condition) if part)


def _against(alert: Alert, words: Words) -> str:
    """E.g. `CTR 4.1 %, below 5 %`, whether it is so still or no longer; the summary where there is no value."""
    if not (measured := _measured(alert, words)):
        return _what(alert, words) or printable(alert.summary, 120)
    return words.separator.join(part for part in (measured, condition_text(alert, words)) if part)


def _measured(alert: Alert, words: Words) -> str:
    """E.g. `CTR 4.1 %`, of a query `many-errors 120`; empty where there is no value."""
    value = value_text(alert, words)
    return side_by_side(words, metric_text(alert, words) or printable(alert.rule), value) if value else ""


def _counts(alerts: Sequence[Alert], words: Words) -> str:
    """E.g. `3 firing, 2 resolved`."""
    found = Counter[str](alert.status for alert in alerts)
    return words.separator.join(
        words.count.format(n=found[status], status=said) for status, said in words.status.items() if found[status]
    )


def _about(notification: Notification) -> str:
    """What the alerts of a group have in common."""
    common = ", ".join(f"{name}={text}" for name, text in sorted(notification.group_labels.items()) if text)
    return printable(common, 120)


def _unacknowledged(notification: Notification, words: Words) -> str:
    fired = [alert.fired_at for alert in notification.alerts if alert.status == "firing"]
    return _said(notification.at - min(fired), words) if fired else ""


def _lasted(notification: Notification, words: Words) -> str:
    if notification.stage in ("repeat", "escalation"):
        # What the alert says is of the moment when it fired.
        return _said(notification.at - min(alert.started_at for alert in notification.alerts), words)
    return say_duration(lasted_ms(notification.alerts[0]), words)


def _said(milliseconds: int, words: Words) -> str:
    """In whole minutes; nothing where the clocks of the events and ours have nothing to do with each other."""
    minutes = milliseconds // 60_000
    return say_duration(minutes * 60_000, words) if 0 < minutes * 60_000 <= _LONGEST_WAIT_MS else ""


def _size(lines: _Lines | None) -> int:
    return 0 if lines is None else len(lines.markdown.encode())
