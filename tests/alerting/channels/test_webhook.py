"""The webhook: our own JSON with Alertmanager's beside it. What it shares with others is in test_http and
test_conformance."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from alerting.alert import Alert
from alerting.channels.webhook import WebhookChannel
from alerting.message import Message
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Receiver
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, an_alert, message_of

SECRET = "s3cr3t-key"
RELATED = {"owner": "ann", "runbook": "https://wiki.example.com/ctr", "clicks": 412}


@pytest.fixture
async def webhook(receiver: Receiver) -> AsyncIterator[Callable[..., WebhookChannel]]:
    opened: list[WebhookChannel] = []

    def build(url: str = receiver.url, **options: Any) -> WebhookChannel:
        opened.append(WebhookChannel(url, **options))
        return opened[-1]

    yield build
    for channel in opened:
        await channel.close()


async def told(channel: WebhookChannel, message: Message) -> None:
    for parcel in channel.prepare(message):
        await channel.send(parcel)


def bodies_of(channel: WebhookChannel, message: Message) -> list[dict[str, Any]]:
    return [orjson.loads(parcel.body) for parcel in channel.prepare(message)]


async def test_the_request_that_a_receiver_sees(receiver: Receiver, webhook: Callable[..., WebhookChannel]) -> None:
    channel = webhook(receiver.url + "?team=recsys", secret=SECRET)
    await told(channel, message_of())
    (request,) = receiver.received
    assert (request.method, request.path) == ("POST", "/hook?team=recsys")
    assert Alert.from_json(request.body) == an_alert()
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == channel.prepare(message_of())[0].key
    expected = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Tidemark-Signature"] == f"sha256={expected}"


async def test_without_a_secret_nothing_is_signed(receiver: Receiver, webhook: Callable[..., WebhookChannel]) -> None:
    await told(webhook(), message_of())
    assert "X-Tidemark-Signature" not in receiver.received[0].headers


def test_every_alert_of_a_message_has_a_request_and_a_key_of_its_own(webhook: Callable[..., WebhookChannel]) -> None:
    one, two = an_alert(alert_id="1"), an_alert(alert_id="2", status="acknowledged")
    channel = webhook()
    bodies = bodies_of(channel, message_of(one, two))
    assert [(body["alert_id"], body["status"]) for body in bodies] == [("1", "firing"), ("2", "acknowledged")]
    keys = [parcel.key for message in (message_of(one, two),) * 2 for parcel in channel.prepare(message)]
    assert keys[:2] == keys[2:] and len(set(keys)) == 2
    repeated = channel.prepare(message_of(one, two, stage="repeat", key="another"))
    assert not {parcel.key for parcel in repeated} & set(keys)


def test_the_alerts_own_fields_are_all_there_and_what_stage_it_is_in(webhook: Callable[..., WebhookChannel]) -> None:
    (body,) = bodies_of(webhook(), message_of(stage="escalation", step=2, round=1))
    assert orjson.loads(an_alert().to_json()).items() <= body.items()
    assert (body["stage"], body["step"], body["round"]) == ("escalation", 2, 1)


def test_a_receiver_of_alertmanagers_webhooks_finds_what_it_looks_for(webhook: Callable[..., WebhookChannel]) -> None:
    alert = an_alert(related=RELATED, causes=({"text": "PSI of gender 0.21"}, {"text": "new users 50 %"}))
    channel = webhook(external_url="https://tidemark.example.com")
    labels = {
        "alertname": "ctr-low",
        "severity": "major",
        "model_id": "recommender-home",
        "model_version": "3",
        "team": "recsys",
    }
    annotations = {
        "summary": "CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min",
        "status": "firing",
        "alert_id": "00000000000000a1",
        "value": "0.0412",
        "threshold": "0.05",
        "causes": "PSI of gender 0.21; new users 50 %",
        "owner": "ann",
        "runbook_url": "https://wiki.example.com/ctr",
    }
    expected = {
        "version": "4",
        "groupKey": "/:ctr-low",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "recsys",
        "groupLabels": {"alertname": "ctr-low"},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "https://tidemark.example.com",
        "alerts": [
            {
                "status": "firing",
                "labels": labels,
                "annotations": annotations,
                "startsAt": "2026-05-01T10:00:00.000Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "https://tidemark.example.com",
                "fingerprint": "00000000000000f1",
            }
        ],
    }
    (body,) = bodies_of(channel, message_of(alert))
    assert expected.items() <= body.items()
    (pure,) = bodies_of(webhook(format="alertmanager", external_url="https://tidemark.example.com"), message_of(alert))
    assert pure == expected


def test_in_alertmanagers_form_a_message_is_one_request(webhook: Callable[..., WebhookChannel]) -> None:
    home = an_alert(alert_id="1", status="acknowledged")
    search = an_alert(
        alert_id="2", model_id="search", status="resolved", resolved_at=TEN_O_CLOCK + 9 * MINUTE, summary="over"
    )
    channel = webhook(format="alertmanager")
    (body,) = bodies_of(channel, message_of(home, search))
    # It knows no acknowledgement.
    assert body["status"] == "firing"
    assert [(one["status"], one["endsAt"]) for one in body["alerts"]] == [
        ("firing", "0001-01-01T00:00:00Z"),
        ("resolved", "2026-05-01T10:09:00.000Z"),
    ]
    assert body["commonLabels"] == {
        "alertname": "ctr-low",
        "severity": "major",
        "model_version": "3",
        "team": "recsys",
    }
    assert body["commonAnnotations"] == {"value": "0.0412", "threshold": "0.05"}
    (over,) = bodies_of(channel, message_of(search))
    assert over["status"] == "resolved"


def test_labels_get_names_that_alertmanager_takes(webhook: Callable[..., WebhookChannel]) -> None:
    alert = an_alert(labels={"a-b": "1", "9lives": "2", "severity": "mine", "empty": "", "团队": "3"}, model_version="")
    (body,) = bodies_of(webhook(), message_of(alert))
    labels = body["alerts"][0]["labels"]
    assert labels.pop("__") == "3"
    assert labels == {
        "a_b": "1",
        "_9lives": "2",
        "severity": "major",
        "alertname": "ctr-low",
        "model_id": "recommender-home",
    }
    # Ours keep theirs.
    assert body["labels"]["a-b"] == "1"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://pw-1@example.com/"},
        {"url": ""},
        {"url": "http://example.com/", "secret": ""},
        {"url": "http://example.com/", "timeout_s": 0},
    ],
)
def test_settings_that_cannot_work_are_refused_without_repeating_them(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^channel ops: expected ") as refusal:
        WebhookChannel(**options, name="ops")
    assert "pw-1" not in str(refusal.value)
