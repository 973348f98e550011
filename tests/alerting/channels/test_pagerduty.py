"""PagerDuty's Events API v2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from alerting.channels.base import DeliveryFailed
from alerting.channels.pagerduty import ENQUEUE_URL, PagerDutyChannel
from alerting.notification import Link
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Receiver, status
from tests.alerting.samples import an_alert, message_of

KEY = "routing-key-0123456789"
TAKEN = status(202, '{"status": "success", "message": "Event processed", "dedup_key": "x"}')


@pytest.fixture
async def pagerduty(receiver: Receiver) -> AsyncIterator[PagerDutyChannel]:
    channel = PagerDutyChannel(KEY, url=receiver.url, external_url="https://tm.example")
    yield channel
    await channel.close()


def events_of(channel: PagerDutyChannel, *args: Any, **changes: Any) -> list[dict[str, Any]]:
    return [orjson.loads(parcel.body) for parcel in channel.prepare(message_of(*args, **changes))]


async def test_the_event(receiver: Receiver, pagerduty: PagerDutyChannel) -> None:
    receiver.answer(TAKEN)
    alert = an_alert(
        causes=({"text": "PSI of gender 0.21", "psi": 0.21},),
        related={"impressions": 10_000, "clicks": 412, "runbook": "https://wiki.example.com/ctr"},
    )
    ack = Link(title="Acknowledge", url="https://tm.example/a/token")
    (parcel,) = pagerduty.prepare(message_of(alert, text="CTR is low\nModel: home\n", links=(ack,)))
    await pagerduty.send(parcel)
    assert orjson.loads(receiver.received[0].body) == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": "00000000000000f1",
        "client": "tidemark",
        "client_url": "https://tm.example",
        "links": [
            {"href": "https://tm.example/a/token", "text": "Acknowledge"},
            {"href": "https://wiki.example.com/ctr", "text": "runbook"},
        ],
        "payload": {
            "summary": "CTR is low",
            "source": "recommender-home 3",
            "severity": "error",
            "timestamp": "2026-05-01T10:00:00.000Z",
            "component": "recommender-home",
            "group": "recsys",
            "class": "ctr-low",
            "custom_details": {
                "alert_id": "00000000000000a1",
                "severity": "major",
                "summary": "CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min",
                "value": 0.0412,
                "threshold": 0.05,
                "causes": ["PSI of gender 0.21"],
                "labels": {"team": "recsys"},
                "related": {"impressions": 10_000, "clicks": 412, "runbook": "https://wiki.example.com/ctr"},
            },
        },
    }


def test_one_incident_is_triggered_acknowledged_and_resolved(pagerduty: PagerDutyChannel) -> None:
    told = [
        an_alert(),
        an_alert(status="acknowledged"),
        # Whoever watches may have begun anew meanwhile: another incident of the same condition.
        an_alert(status="resolved", resolved_at=1_777_630_000_000, alert_id="00000000000000a2"),
    ]
    events = [event for alert in told for event in events_of(pagerduty, alert)]
    assert [event["event_action"] for event in events] == ["trigger", "acknowledge", "resolve"]
    assert {event["dedup_key"] for event in events} == {"00000000000000f1"}


def test_each_alert_of_a_group_is_an_event_with_its_own_words_and_urgency(pagerduty: PagerDutyChannel) -> None:
    group = [
        an_alert(alert_id=severity, severity=severity, summary=f"it is {severity}")
        for severity in ("critical", "major", "minor")
    ]
    events = events_of(pagerduty, *group)
    assert [(event["payload"]["severity"], event["payload"]["summary"]) for event in events] == [
        ("critical", "it is critical"),
        ("error", "it is major"),
        ("warning", "it is minor"),
    ]
    assert len({parcel.key for parcel in pagerduty.prepare(message_of(*group))}) == 3


def test_the_vendors_limits_are_kept_and_what_is_left_out_is_said(pagerduty: PagerDutyChannel) -> None:
    big = an_alert(related={"numbers": "字" * 200_000}, model_id="m" * 400_000)
    (parcel,) = pagerduty.prepare(message_of(big, text="字" * 2000))
    assert len(parcel.body) <= 512_000
    event = orjson.loads(parcel.body)
    assert event["payload"]["custom_details"]["details"].startswith("left out: with them the event has 6")
    assert len(event["payload"]["summary"]) == 1024
    # A little smaller, and all of it is there.
    (parcel,) = pagerduty.prepare(message_of(an_alert(related={"numbers": "字" * 160_000})))
    assert 480_000 < len(parcel.body) <= 512_000
    assert len(orjson.loads(parcel.body)["payload"]["custom_details"]["related"]["numbers"]) == 160_000


@pytest.mark.parametrize(
    ("code", "body", "retryable", "said"),
    [
        (202, '{"status": "invalid event", "message": "no", "errors": ["bad key"]}', False, "invalid event: no"),
        (202, "<html>", True, "HTTP 202, but the answer is not a JSON object"),
        (400, f'{{"status": "invalid event", "errors": ["{KEY}"]}}', False, "HTTP 400: "),
        (429, "", True, "HTTP 429"),
        (500, "", True, "HTTP 500"),
    ],
)
async def test_what_it_refuses(
    receiver: Receiver, pagerduty: PagerDutyChannel, code: int, body: str, retryable: bool, said: str
) -> None:
    receiver.answer(status(code, body))
    with pytest.raises(DeliveryFailed) as failure:
        await pagerduty.send(pagerduty.prepare(message_of())[0])
    assert failure.value.retryable is retryable
    assert failure.value.reason.startswith(said)
    assert failure.value.throttled is (code == 429)
    assert KEY not in failure.value.reason


def test_a_runbook_that_is_no_url_is_no_link(pagerduty: PagerDutyChannel) -> None:
    (event,) = events_of(pagerduty, an_alert(related={"runbook": "javascript:alert(1)"}))
    assert event["links"] == []


def test_the_key_is_a_secret(pagerduty: PagerDutyChannel) -> None:
    assert KEY not in f"{pagerduty!r} {pagerduty.prepare(message_of())!r}"
    assert repr(PagerDutyChannel(KEY)).count(ENQUEUE_URL.removesuffix("/v2/enqueue")) == 1
    with pytest.raises(ConfigError, match="channel pd: expected a routing key, got an empty one"):
        PagerDutyChannel("", name="pd")
