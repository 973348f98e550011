from __future__ import annotations

import json
from typing import Any

import pytest

from alerting.alert import Severity, Status
from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.feishu import FeishuChannel, signature
from alerting.notification import Link
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Answer, Receiver, status, told
from tests.alerting.samples import an_alert, message_of

HOOK = "01234567-89ab-cdef-0123-456789abcdef"
SECRET = "SECtest"
NOW_S = 1_700_000_000.9
ACK = Link(title="Acknowledge", url="https://x.example/a/1")
RUNBOOK = Link(title="Runbook", url="https://x.example/runbook")


def test_the_signature_is_that_of_the_vendor() -> None:
    assert signature(SECRET, 1_700_000_000) == "G7XpBpG8NgG02fJOAhX6FRAObIljmFoxVReo8I62pEk="


async def test_the_request_that_the_robot_sees(receiver: Receiver) -> None:
    receiver.otherwise = told({"code": 0, "msg": "success"})
    channel = FeishuChannel(
        HOOK, secret=SECRET, base_url=receiver.base_url, mentions={"ann": "ou_18eac8"}, now=lambda: NOW_S
    )
    message = message_of(
        title="[major] firing",
        markdown=f"**CTR** of home\\_v3\n> gender\nSee [the wiki]({RUNBOOK.url})\n[{ACK.title}]({ACK.url})\n",
        links=(ACK,),
        mentions=("ann",),
    )
    for parcel in channel.prepare(message):
        await channel.send(parcel)
    await channel.close()
    (request,) = receiver.received
    assert request.path == f"/open-apis/bot/v2/hook/{HOOK}"
    assert request.headers["Idempotency-Key"] == f"{message.key}:1"
    assert json.loads(request.body) == {
        "timestamp": "1700000000",
        "sign": "G7XpBpG8NgG02fJOAhX6FRAObIljmFoxVReo8I62pEk=",
        "msg_type": "interactive",
        "card": {
            "config": {"wide_screen_mode": True},
            "header": {"template": "orange", "title": {"tag": "plain_text", "content": "[major] firing"}},
            "elements": [
                {
                    "tag": "markdown",
                    "content": "<at id=ou_18eac8></at>\n**CTR** of home_v3\n│ gender\n"
                    "See [the wiki](https://x.example/runbook)",
                },
                {
                    "tag": "action",
                    "actions": [
                        {
                            "tag": "button",
                            "text": {"tag": "plain_text", "content": "Acknowledge"},
                            "url": "https://x.example/a/1",
                            "type": "default",
                        }
                    ],
                },
            ],
        },
    }


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_what_goes_over_the_wire_is_within_the_limit(receiver: Receiver, secret: str | None) -> None:
    receiver.otherwise = told({"code": 0})
    channel = FeishuChannel(HOOK, secret=secret, base_url=receiver.base_url)
    parcels = channel.prepare(message_of(markdown='"点\n' * 9000))
    for parcel in parcels:
        await channel.send(parcel)
    await channel.close()
    sizes = [len(request.body) for request in receiver.received]
    assert len(sizes) == 4
    assert all(19_880 < size <= 20_000 for size in sizes[:-1])
    assert ["sign" in json.loads(request.body) for request in receiver.received] == [secret is not None] * 4


def test_the_last_part_has_the_buttons() -> None:
    parcels = FeishuChannel(HOOK).prepare(message_of(markdown="点击率\n" * 5000, links=(ACK, RUNBOOK)))
    assert [len(parcel.body["card"]["elements"]) for parcel in parcels] == [1, 1, 2]
    assert [button["url"] for button in parcels[-1].body["card"]["elements"][1]["actions"]] == [ACK.url, RUNBOOK.url]


@pytest.mark.parametrize(
    ("severity", "alert_status", "colour"),
    [
        ("critical", "firing", "red"),
        ("major", "firing", "orange"),
        ("minor", "firing", "yellow"),
        ("critical", "acknowledged", "blue"),
        ("critical", "resolved", "green"),
    ],
)
def test_the_card_has_the_colour_of_severity_and_status(severity: Severity, alert_status: Status, colour: str) -> None:
    over = 1_777_630_000_000 if alert_status == "resolved" else None
    message = message_of(an_alert(severity=severity, status=alert_status, resolved_at=over))
    (parcel,) = FeishuChannel(HOOK).prepare(message)
    assert parcel.body["card"]["header"]["template"] == colour


@pytest.mark.parametrize(
    ("answer", "retryable", "throttled", "wait_s", "reason"),
    [
        (told({"code": 9499, "msg": "too many request"}), True, True, 10.0, "code 9499: too many messages"),
        (told({"code": 11232}), True, True, 60.0, "code 11232: too many messages"),
        (told({"code": 11232}, 400), True, True, 60.0, "code 11232: too many messages"),
        (told({"code": 19021, "msg": "sign match fail"}), False, False, None, "code 19021: sign match fail"),
        (told({"code": 19021, "msg": "sign match fail"}, 400), False, False, None, "HTTP 400: "),
        (told({"code": 19001, "msg": f"no hook {HOOK}"}), False, False, None, "code 19001: no hook ***"),
        (told({"msg": "success"}), True, False, None, "HTTP 200, but the answer has no code"),
        (status(200, ""), True, False, None, "HTTP 200, but the answer is not a JSON object"),
    ],
)
async def test_what_the_body_says_counts(
    receiver: Receiver, answer: Answer, retryable: bool, throttled: bool, wait_s: float | None, reason: str
) -> None:
    receiver.answer(answer)
    channel = FeishuChannel(HOOK, base_url=receiver.base_url)
    with pytest.raises(DeliveryFailed) as caught:
        await channel.send(channel.prepare(message_of())[0])
    await channel.close()
    failure = caught.value
    assert (failure.retryable, failure.throttled, failure.retry_after_s) == (retryable, throttled, wait_s)
    assert failure.reason.startswith(reason)


def test_a_hundred_a_minute_and_five_a_second() -> None:
    assert FeishuChannel(HOOK).budgets == (Budget(100, 60_000), Budget(5, 1_000))


@pytest.mark.parametrize("options", [{"hook": "https://open.feishu.cn/x"}, {"hook": "h", "secret": ""}])
def test_settings_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^channel feishu: expected "):
        FeishuChannel(**options)
