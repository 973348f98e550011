from __future__ import annotations

import json

import pytest

from alerting.alert import Severity
from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.wecom import WeComChannel
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Answer, Receiver, status, told
from tests.alerting.samples import an_alert, message_of

KEY = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"


async def test_the_request_that_the_robot_sees(receiver: Receiver) -> None:
    receiver.otherwise = told({"errcode": 0, "errmsg": "ok"})
    channel = WeComChannel(KEY, base_url=receiver.base_url + "/", mentions={"ann": "ann.li"})
    markdown = "**CTR** of home\\_v3\n> gender\n[Ack](https://x.example/a)\n"
    message = message_of(title="[major] firing", markdown=markdown, mentions=("ann", "bo<b"))
    for parcel in channel.prepare(message):
        await channel.send(parcel)
    await channel.close()
    (request,) = receiver.received
    assert request.path == f"/cgi-bin/webhook/send?key={KEY}"
    assert request.headers["Idempotency-Key"] == f"{message.key}:1"
    assert json.loads(request.body) == {
        "msgtype": "markdown",
        "markdown": {
            "content": '**<font color="warning">[major] firing</font>**\n<@ann.li> @bo\uff1cb\n'
            "**CTR** of home_v3\n> gender\n[Ack](https://x.example/a)"
        },
    }


@pytest.mark.parametrize(("severity", "colour"), [("critical", "warning"), ("major", "warning"), ("minor", "comment")])
def test_the_title_has_the_colour_of_the_severity(severity: Severity, colour: str) -> None:
    message = message_of(an_alert(severity=severity))
    (parcel,) = WeComChannel(KEY).prepare(message)
    assert f'<font color="{colour}">' in parcel.body["markdown"]["content"]


def test_what_is_over_is_green() -> None:
    (parcel,) = WeComChannel(KEY).prepare(message_of(an_alert(status="resolved", resolved_at=1_777_630_000_000)))
    assert '<font color="info">' in parcel.body["markdown"]["content"]


@pytest.mark.parametrize(
    ("answer", "retryable", "throttled", "wait_s", "reason"),
    [
        (
            told({"errcode": 45009, "errmsg": "api freq out of limit"}),
            True,
            True,
            60.0,
            "errcode 45009: too many messages",
        ),
        (told({"errcode": -1, "errmsg": "system busy"}), True, False, None, "errcode -1: system busy"),
        (told({"errcode": 93000, "errmsg": f"bad key {KEY}"}), False, False, None, "errcode 93000: bad key ***"),
        (told({"errcode": 40058}), False, False, None, "errcode 40058:"),
        (told({"errmsg": "?"}), True, False, None, "HTTP 200, but the answer has no errcode"),
        (told({"errcode": "0"}), True, False, None, "HTTP 200, but the answer has no errcode"),
        (status(200, "<html>log in</html>"), True, False, None, "HTTP 200, but the answer is not a JSON object"),
        (told({"errcode": 45009}, 403), True, True, 60.0, "errcode 45009: too many messages"),
        (told({"errcode": 93000}, 403), False, False, None, 'HTTP 403: {"errcode": 93000}'),
    ],
)
async def test_what_the_body_says_counts(
    receiver: Receiver, answer: Answer, retryable: bool, throttled: bool, wait_s: float | None, reason: str
) -> None:
    receiver.answer(answer)
    channel = WeComChannel(KEY, base_url=receiver.base_url)
    with pytest.raises(DeliveryFailed) as caught:
        await channel.send(channel.prepare(message_of())[0])
    await channel.close()
    failure = caught.value
    assert (failure.retryable, failure.throttled, failure.retry_after_s) == (retryable, throttled, wait_s)
    assert failure.reason == reason


def test_twenty_a_minute_unless_the_configuration_says_less() -> None:
    assert WeComChannel(KEY).budgets == (Budget(20, 60_000),)
    assert WeComChannel(KEY, budgets=[Budget(5, 60_000)]).budgets == (Budget(5, 60_000),)


@pytest.mark.parametrize("key", ["", f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={KEY}", f"{KEY}&x=1"])
def test_a_key_that_is_none_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^channel wecom: expected the robot's key alone, got something else$"):
        WeComChannel(key)


def test_an_id_that_would_be_mark_up_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^channel wecom: expected a user id to mention ann, got 'a>b'$"):
        WeComChannel(KEY, mentions={"ann": "a>b"})
