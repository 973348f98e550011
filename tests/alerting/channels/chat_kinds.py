"""The chat channels as kinds for the conformance suite."""

from __future__ import annotations

import html
import re
from typing import Final

import orjson

from alerting.channels.base import Channel
from alerting.channels.dingtalk import DingTalkChannel
from alerting.channels.feishu import FeishuChannel
from alerting.channels.slack import SlackChannel
from alerting.channels.wecom import WeComChannel
from alerting.message import Parcel
from tests.alerting.channels.kind import NOWHERE, SECRET, TIMEOUT_S, TOKEN, UNLIKE_JSON, Expected, Kind, http_bench
from tests.alerting.channels.receiver import status, told

_MENTIONS: Final = {"ann": "ann-42"}


def _text_of_wecom(parcel: Parcel) -> str:
    content: str = parcel.body["markdown"]["content"]
    return content


def _text_of_dingtalk(parcel: Parcel) -> str:
    text: str = parcel.body["markdown"]["text"]
    return text


def _text_of_feishu(parcel: Parcel) -> str:
    text: str = parcel.body["card"]["elements"][0]["content"]
    return text


def _blocks_of_slack(parcel: Parcel) -> list[str]:
    return [block["text"]["text"] for block in parcel.body["blocks"]]


#: Targets of links, tags and mentions, bare URLs, headings and quotes, code, emphasis.
_LIVE: Final = re.compile(r"(?<=\]\()[^()]*(?=\))|<[\w/@!][^>]*>|(?<!\]\()\w+://\S+|^[>#]|`.*`|\*\w+\*", re.MULTILINE)
#: Targets of links and mentions, bare URLs, quotes, code, struck words.
_LIVE_IN_SLACK: Final = re.compile(r"(?<=<)[^<>|]*|(?<![<\w])\w+://\S+|^(?:&gt;|>)|`.*`|~\S+~", re.MULTILINE)


def _live_in_markdown(text: str) -> list[str]:
    own = re.sub(r"</?font[^<>]*>", "", text.split("\n", 1)[0]) + "\n" + text.partition("\n")[2]
    return _LIVE.findall(own)


def _wecom(base_url: str) -> Channel:
    return WeComChannel(TOKEN, base_url=base_url, mentions=_MENTIONS, timeout_s=TIMEOUT_S)


def _dingtalk(base_url: str) -> Channel:
    return DingTalkChannel(TOKEN, secret=SECRET, base_url=base_url, mentions=_MENTIONS, timeout_s=TIMEOUT_S)


def _feishu(base_url: str) -> Channel:
    return FeishuChannel(TOKEN, secret=SECRET, base_url=base_url, mentions=_MENTIONS, timeout_s=TIMEOUT_S)


def _slack(base_url: str) -> Channel:
    return SlackChannel(f"{base_url}/services/T000/B000/{TOKEN}", mentions=_MENTIONS, timeout_s=TIMEOUT_S)


CHAT_KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        name="wecom",
        make=lambda: _wecom(NOWHERE),
        bench=http_bench(
            _wecom,
            otherwise=told({"errcode": 0, "errmsg": "ok"}),
            scenarios={
                "busy_in_body": (told({"errcode": -1, "errmsg": "system busy"}), Expected(retryable=True)),
                "refused_in_body": (told({"errcode": 93000, "errmsg": "bad key"}), Expected(retryable=False)),
                "throttled_in_body": (told({"errcode": 45009}), Expected(True, throttled=True, wait_s=60.0)),
                "huge": UNLIKE_JSON,
            },
        ),
        read=lambda parcel: _text_of_wecom(parcel).partition("\n")[2],
        size=lambda parcel: len(_text_of_wecom(parcel).encode()),
        limit=4096,
        secrets=(TOKEN,),
        live=lambda parcel: _live_in_markdown(_text_of_wecom(parcel).replace("**", "", 2)),
    ),
    Kind(
        name="dingtalk",
        make=lambda: _dingtalk(NOWHERE),
        bench=http_bench(
            _dingtalk,
            otherwise=told({"errcode": 0, "errmsg": "ok"}),
            scenarios={
                "busy_in_body": (told({"errcode": -1, "errmsg": "system busy"}), Expected(retryable=True)),
                "refused_in_body": (told({"errcode": 310000, "errmsg": "sign not match"}), Expected(retryable=False)),
                "throttled_in_body": (told({"errcode": 130101}), Expected(True, throttled=True, wait_s=600.0)),
                "huge": UNLIKE_JSON,
            },
        ),
        read=lambda parcel: _text_of_dingtalk(parcel).partition("\n\n")[2],
        size=lambda parcel: len(orjson.dumps(parcel.body)),
        limit=20_000,
        secrets=(TOKEN, SECRET),
        live=lambda parcel: (
            _live_in_markdown(_text_of_dingtalk(parcel).removeprefix("#### "))
            + parcel.body["at"]["atMobiles"]
            + parcel.body["at"]["atUserIds"]
        ),
    ),
    Kind(
        name="feishu",
        make=lambda: _feishu(NOWHERE),
        bench=http_bench(
            _feishu,
            otherwise=told({"code": 0, "msg": "success", "data": {}}),
            scenarios={
                "refused_in_body": (told({"code": 19021, "msg": "sign match fail"}), Expected(retryable=False)),
                "throttled_in_body": (told({"code": 11232}), Expected(True, throttled=True, wait_s=60.0)),
                "huge": UNLIKE_JSON,
            },
        ),
        read=_text_of_feishu,
        size=lambda parcel: len(orjson.dumps(parcel.body)),
        limit=20_000,
        secrets=(TOKEN, SECRET),
        live=lambda parcel: _live_in_markdown(_text_of_feishu(parcel)),
    ),
    Kind(
        name="slack",
        make=lambda: _slack(NOWHERE),
        bench=http_bench(
            _slack,
            otherwise=status(200, "ok"),
            scenarios={
                "refused_in_body": (told({"ok": False, "error": "no_service"}), Expected(retryable=False)),
                "throttled_in_body": (told({"ok": False, "error": "ratelimited"}), Expected(True, throttled=True)),
            },
        ),
        read=lambda parcel: html.unescape("\n".join(_blocks_of_slack(parcel)[1:])),
        size=lambda parcel: max(len(text) for text in _blocks_of_slack(parcel)),
        limit=3000,
        secrets=(TOKEN, "/services/T000/B000"),
        live=lambda parcel: _LIVE_IN_SLACK.findall("\n".join(_blocks_of_slack(parcel))),
    ),
)
