from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.dingtalk import DingTalkChannel, signature
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Answer, Receiver, status, told
from tests.alerting.samples import message_of

TOKEN = "0123456789abcdef0123456789abcdef"
SECRET = "SECtest"
NOW_S = 1_700_000_000.0


def test_the_signature_is_that_of_the_vendor() -> None:
    assert quote(signature(SECRET, 1_700_000_000_000), safe="") == "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g%3D"


async def test_the_request_that_the_robot_sees(receiver: Receiver) -> None:
    receiver.otherwise = told({"errcode": 0, "errmsg": "ok"})
    mentions = {"ann": "+86-13800000000", "bob": "manager4220"}
    channel = DingTalkChannel(TOKEN, secret=SECRET, base_url=receiver.base_url, mentions=mentions, now=lambda: NOW_S)
    message = message_of(
        title="[major] firing", markdown="**CTR** of home\\_v3\n> gender\n", mentions=("ann", "bob", "cho")
    )
    for parcel in channel.prepare(message):
        await channel.send(parcel)
    await channel.close()
    (request,) = receiver.received
    assert request.path == (
        f"/robot/send?access_token={TOKEN}&timestamp=1700000000000&sign=aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g%3D"
    )
    assert request.headers["Idempotency-Key"] == f"{message.key}:1"
    assert json.loads(request.body) == {
        "msgtype": "markdown",
        "markdown": {
            "title": "[major] firing",
            "text": "#### [major] firing\n\n@+86-13800000000 @manager4220 @cho  \n**CTR** of home_v3  \n> gender",
        },
        "at": {"atMobiles": ["+86-13800000000"], "atUserIds": ["manager4220"], "isAtAll": False},
    }


async def test_each_attempt_is_signed_anew_and_in_letters_that_a_url_takes(receiver: Receiver) -> None:
    receiver.otherwise = told({"errcode": 0})
    times = iter(range(1_700_000_000, 1_700_000_040))
    channel = DingTalkChannel(TOKEN, secret=SECRET, base_url=receiver.base_url, now=lambda: next(times))
    (parcel,) = channel.prepare(message_of())
    for _ in range(40):
        await channel.send(parcel)
    await channel.close()
    queries = [parse_qs(urlsplit(request.path).query, strict_parsing=True) for request in receiver.received]
    stamps = [int(query["timestamp"][0]) for query in queries]
    assert stamps == [1_700_000_000_000 + 1000 * second for second in range(40)]
    assert [query["sign"] for query in queries] == [[signature(SECRET, stamp)] for stamp in stamps]
    assert any("+" in query["sign"][0] for query in queries)
    assert all(len(base64.b64decode(query["sign"][0])) == 32 for query in queries)


async def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    receiver.otherwise = told({"errcode": 0})
    channel = DingTalkChannel(TOKEN, base_url=receiver.base_url)
    await channel.send(channel.prepare(message_of())[0])
    await channel.close()
    assert receiver.received[0].path == f"/robot/send?access_token={TOKEN}"


async def test_of_a_long_message_only_the_first_part_calls_people() -> None:
    channel = DingTalkChannel(TOKEN, mentions={"ann": "ann"})
    parcels = channel.prepare(message_of(mentions=("ann",), markdown="点击率 4.1 %\n" * 3000))
    assert [parcel.body["at"]["atUserIds"] for parcel in parcels] == [["ann"], [], []]
    assert [parcel.body["markdown"]["text"].count("@ann") for parcel in parcels] == [1, 0, 0]


@pytest.mark.parametrize(
    ("answer", "retryable", "throttled", "wait_s", "reason"),
    [
        (told({"errcode": 130101}), True, True, 600.0, "errcode 130101: too many messages"),
        (told({"errcode": 410100}), True, True, 600.0, "errcode 410100: too many messages"),
        (told({"errcode": -1, "errmsg": "系统繁忙"}), True, False, None, "errcode -1: 系统繁忙"),
        (told({"errcode": 310000, "errmsg": "sign not match"}), False, False, None, "errcode 310000: sign not match"),
        (told({"errcode": 300005, "errmsg": f"token {TOKEN}"}), False, False, None, "errcode 300005: token ***"),
        (told({"errcode": 7, "errmsg": "?"}), False, False, None, "errcode 7: ?"),
        (status(200, "ok"), True, False, None, "HTTP 200, but the answer is not a JSON object"),
    ],
)
async def test_what_the_body_says_counts(
    receiver: Receiver, answer: Answer, retryable: bool, throttled: bool, wait_s: float | None, reason: str
) -> None:
    receiver.answer(answer)
    channel = DingTalkChannel(TOKEN, base_url=receiver.base_url)
    with pytest.raises(DeliveryFailed) as caught:
        await channel.send(channel.prepare(message_of())[0])
    await channel.close()
    failure = caught.value
    assert (failure.retryable, failure.throttled, failure.retry_after_s) == (retryable, throttled, wait_s)
    assert failure.reason == reason


async def test_a_signature_that_is_quoted_back_is_not_shown(receiver: Receiver) -> None:
    sign = signature(SECRET, 1_700_000_000_000)
    receiver.answer(told({"errcode": 310000, "errmsg": f"sign {sign} of {quote(sign, safe='')} does not match"}))
    channel = DingTalkChannel(TOKEN, secret=SECRET, base_url=receiver.base_url, now=lambda: NOW_S)
    with pytest.raises(DeliveryFailed) as caught:
        await channel.send(channel.prepare(message_of())[0])
    await channel.close()
    assert caught.value.reason == "errcode 310000: sign *** of *** does not match"


def test_twenty_a_minute() -> None:
    assert DingTalkChannel(TOKEN).budgets == (Budget(20, 60_000),)


@pytest.mark.parametrize("options", [{"token": "https://oapi.dingtalk.com/robot/send"}, {"token": "t", "secret": ""}])
def test_settings_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^channel dingtalk: expected "):
        DingTalkChannel(**options)
