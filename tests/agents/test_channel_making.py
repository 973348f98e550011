"""From configuration to channels: each type is made, and sends where the configuration says."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from agents.channel_making import make_channel, make_channels
from agents.config_channels import CHANNEL_TYPES, ChannelConfig, read_channels
from agents.config_file import Mistakes, read_text
from alerting.channels.base import Budget, Channel, DeliveryFailed
from tables.errors import ConfigError
from tests.agents.test_config_channels import ENV, FULL
from tests.alerting.channels.receiver import Received, Receiver, hang, receiving, told
from tests.alerting.samples import TEN_O_CLOCK, message_of


def configured(text: str = FULL, env: Mapping[str, str] = ENV) -> dict[str, ChannelConfig]:
    return {channel.type: channel for channel in read_channels(read_text(text, "t.yaml", Mistakes()), Path(), env)}


async def request_of(config: ChannelConfig, receiver: Receiver, **options: Any) -> Received:
    """What the other side gets of a message."""
    channel = make_channel(config, io.StringIO(), lambda: TEN_O_CLOCK / 1000, **options)
    (parcel,) = channel.prepare(message_of())
    try:
        await channel.send(parcel)
    finally:
        await channel.close()
    return receiver.received[-1]


def test_every_type_is_made_under_its_name_and_shows_no_secret() -> None:
    made = make_channels(configured().values(), io.StringIO())
    assert list(made) == ["ops" if kind == "webhook" else kind for kind in CHANNEL_TYPES]
    assert all(channel.name == name for name, channel in made.items())
    assert "hunter2" not in f"{made}"


def test_a_rate_holds_beside_that_of_the_other_side() -> None:
    channels: dict[str, Channel] = make_channels(configured().values(), io.StringIO())
    assert channels["wecom"].budgets == (Budget(20, 60_000), Budget(10, 60_000))
    assert channels["dingtalk"].budgets == (Budget(20, 60_000),)
    assert channels["terminal"].budgets == ()
    assert make_channel(replace(configured()["feishu"], rate=Budget(4, 1_000))).budgets[-1] == Budget(4, 1_000)
    limited = replace(configured()["terminal"], rate=Budget(3, 1_000))
    assert make_channel(limited).budgets == (Budget(3, 1_000),)


@pytest.mark.parametrize(
    ("kind", "path", "answer"),
    [
        ("wecom", "/proxy/cgi-bin/webhook/send?key=abc", {"errcode": 0}),
        ("dingtalk", "/proxy/robot/send?access_token=abc", {"errcode": 0}),
        ("feishu", "/proxy/open-apis/bot/v2/hook/abc", {"code": 0}),
        ("slack", "/services/T0/B0/abc", None),
        ("webhook", "/hook?team=a", None),
        ("pagerduty", "/v2/enqueue", {"status": "success"}),
    ],
)
async def test_it_sends_where_the_configuration_says(kind: str, path: str, answer: dict[str, object] | None) -> None:
    async with receiving() as receiver:
        if answer is not None:
            receiver.otherwise = told(answer)
        request = await request_of(replace(configured()[kind], url=receiver.base_url + path), receiver)
    assert request.path.startswith(path)


async def test_what_is_signed_is_dated_by_the_clock_that_was_given() -> None:
    async with receiving() as receiver:
        receiver.otherwise = told({"errcode": 0})
        config = replace(configured()["dingtalk"], url=f"{receiver.base_url}/robot/send?access_token=abc")
        assert f"timestamp={TEN_O_CLOCK}" in (await request_of(config, receiver)).path


async def test_what_is_configured_reaches_the_channel() -> None:
    configs = configured()
    made = {
        kind: make_channel(config, io.StringIO(), lambda: TEN_O_CLOCK / 1000)
        for kind, config in configs.items()
        if kind != "terminal"
    }
    message = message_of(mentions=("ann", "bob"))
    parcels = {kind: channel.prepare(message)[0] for kind, channel in made.items()}
    webhook = parcels["webhook"]
    assert "alert_id" not in orjson.loads(webhook.body) and "X-Tidemark-Signature" in webhook.headers
    (pushed,) = orjson.loads(parcels["alertmanager"].body)
    assert pushed["endsAt"] == "2026-05-01T16:00:00.000Z"
    assert "<@ann_li>" in str(parcels["wecom"].body)
    assert "13800000000" in str(parcels["dingtalk"].body)
    assert "'mail.example.com:587'" in repr(made["email"])
    email = configs["email"].email
    assert email is not None
    assert "'mail.example.com:2525'" in repr(make_channel(replace(configs["email"], email=replace(email, port=2525))))


async def test_feishu_is_signed() -> None:
    async with receiving() as receiver:
        receiver.otherwise = told({"code": 0})
        config = replace(configured()["feishu"], url=f"{receiver.base_url}/open-apis/bot/v2/hook/abc")
        assert orjson.loads((await request_of(config, receiver)).body)["timestamp"] == str(TEN_O_CLOCK // 1000)


async def test_an_attempt_takes_no_longer_than_configured() -> None:
    async with receiving() as receiver:
        receiver.answer(hang)
        with pytest.raises(DeliveryFailed, match=r"^no answer within 0\.2 s$"):
            await request_of(replace(configured()["webhook"], url=receiver.url, timeout_ms=200), receiver)


async def test_others_are_told_where_this_tidemark_is() -> None:
    async with receiving() as receiver:
        config = replace(configured()["webhook"], url=receiver.url)
        request = await request_of(config, receiver, external_url="https://tm.example")
    assert orjson.loads(request.body)["externalURL"] == "https://tm.example"


async def test_the_terminal_is_the_one_that_was_given() -> None:
    stream = io.StringIO()
    channel = make_channel(configured()["terminal"], stream)
    await channel.send(channel.prepare(message_of())[0])
    await channel.close()
    assert "FIRING major" in stream.getvalue()


def test_what_cannot_be_made_is_said_without_secrets() -> None:
    for config in (ChannelConfig(type="pager", name="x"), ChannelConfig(type="email", name="x")):
        with pytest.raises(ConfigError, match=r"^channel x: "):
            make_channel(config)
    with pytest.raises(ConfigError, match=r"^channel wecom: url: expected the robot's URL") as refusal:
        make_channel(replace(configured()["wecom"], url="https://example.com/hunter2"))
    assert "hunter2" not in str(refusal.value)
