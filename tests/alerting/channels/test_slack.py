from __future__ import annotations

import json
from typing import Any

import pytest

from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.slack import SlackChannel
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Answer, Receiver, status, told
from tests.alerting.samples import message_of

URL = "https://hooks.slack.com/services/T000/B000/XXXXXXXXXXXXXXXX"


async def test_the_request_that_slack_sees(receiver: Receiver) -> None:
    receiver.otherwise = status(200, "ok")
    channel = SlackChannel(receiver.url + "/T000/B000/XXX", mentions={"ann": "U012AB3CD"})
    markdown = "**CTR** of a&b < 5 %\n> gender\n[Ack \\> 1](https://x.example/a?b=1&c=2)\n"
    message = message_of(title="[major] a<b", markdown=markdown, mentions=("ann", "<!here>"))
    for parcel in channel.prepare(message):
        await channel.send(parcel)
    await channel.close()
    (request,) = receiver.received
    assert request.path == "/hook/T000/B000/XXX"
    assert request.headers["Idempotency-Key"] == f"{message.key}:1"
    said = (
        "<@U012AB3CD> @\uff1c!here&gt;\n*CTR* of a&amp;b &lt; 5 %\n> gender\n"
        "<https://x.example/a?b=1&amp;c=2|Ack &gt; 1>"
    )
    title = "[major] a\uff1cb"
    assert json.loads(request.body) == {
        "text": title,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*{title}*", "verbatim": True}},
            {"type": "section", "text": {"type": "mrkdwn", "text": said, "verbatim": True}},
        ],
    }


def test_a_long_message_has_fifty_blocks_of_three_thousand_characters_a_parcel() -> None:
    parcels = SlackChannel(URL).prepare(message_of(title="T", markdown="a" * 99 + "\n" + "<" * 400_000))
    texts = [[block["text"]["text"] for block in parcel.body["blocks"]] for parcel in parcels]
    assert max(len(text) for blocks in texts for text in blocks) <= 3000
    count = len(parcels)
    assert [len(blocks) for blocks in texts][:-1] == [50] * (count - 1)
    assert [parcel.body["text"] for parcel in parcels] == [f"T ({number}/{count})" for number in range(1, count + 1)]
    assert sum(text.count("&lt;") for blocks in texts for text in blocks) == 400_000


def test_characters_are_counted_as_slack_does() -> None:
    (parcel,) = SlackChannel(URL).prepare(message_of(markdown="\N{FIRE}" * 1501))
    texts = [block["text"]["text"] for block in parcel.body["blocks"][1:]]
    assert len(texts) == 2
    assert all(len(text.encode("utf-16-le")) <= 2 * 3000 for text in texts)


def test_no_block_is_empty() -> None:
    (parcel,) = SlackChannel(URL).prepare(message_of(markdown="\n\n"))
    assert len(parcel.body["blocks"]) == 1


@pytest.mark.parametrize("answer", [status(200, "ok"), told({"ok": True}), status(204)])
async def test_what_means_delivered(receiver: Receiver, answer: Answer) -> None:
    receiver.answer(answer)
    channel = SlackChannel(receiver.url)
    await channel.send(channel.prepare(message_of())[0])
    await channel.close()


@pytest.mark.parametrize(
    ("answer", "retryable", "throttled", "reason"),
    [
        (status(400, "invalid_blocks"), False, False, "HTTP 400: invalid_blocks"),
        (status(403, "invalid_token"), False, False, "HTTP 403: invalid_token"),
        (status(404, "no_service"), False, False, "HTTP 404: no_service"),
        (status(429, "rate_limited"), True, True, "HTTP 429: rate_limited"),
        (told({"ok": False, "error": "rate_limited"}), True, True, "refused: rate_limited"),
        (told({"ok": False, "error": "invalid_auth"}), False, False, "refused: invalid_auth"),
    ],
)
async def test_what_does_not(receiver: Receiver, answer: Answer, retryable: bool, throttled: bool, reason: str) -> None:
    receiver.answer(answer)
    channel = SlackChannel(receiver.url)
    with pytest.raises(DeliveryFailed) as caught:
        await channel.send(channel.prepare(message_of())[0])
    await channel.close()
    assert (caught.value.retryable, caught.value.throttled, caught.value.reason) == (retryable, throttled, reason)


def test_one_a_second() -> None:
    assert SlackChannel(URL).budgets == (Budget(1, 1_000),)


@pytest.mark.parametrize("options", [{"url": "hooks.slack.com/services"}, {"url": URL, "mentions": {"ann": "<!here>"}}])
def test_settings_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^channel slack: expected "):
        SlackChannel(**options)
