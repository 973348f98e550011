"""The section `channels`: every type, where secrets come from, and how mistakes are told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from agents.config_channels import CHANNEL_TYPES, DEFAULT_CHANNELS, ChannelConfig, EmailConfig, read_channels
from agents.config_file import Mistakes, read_text
from alerting.channels.base import Budget

NOTHING: Mapping[str, str] = {}
ENV = {
    "HOOK": "https://ops.example.com/hunter2",
    "SIGN": "hunter2-sign",
    "WECOM": "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=hunter2-wecom",
    "DING": "https://oapi.dingtalk.com/robot/send?access_token=hunter2ding",
    "FEISHU": "https://open.feishu.cn/open-apis/bot/v2/hook/hunter2-feishu",
    "SLACK": "https://hooks.slack.com/services/T0/B0/hunter2slack",
    "PD": "hunter2-pagerduty",
    "SMTP": "hunter2-smtp",
}
FULL = """
channels:
  - type: terminal
  - {type: webhook, name: ops, url_env: HOOK, secret_env: SIGN, min_severity: critical, format: alertmanager}
  - {type: alertmanager, url: "http://am:9093", resolve_after: 6h}
  - {type: wecom, url_env: WECOM, locale: zh, mentions: {ann: ann_li}, rate: 10/1m, timeout: 5s}
  - {type: dingtalk, url_env: DING, secret_env: SIGN, mentions: {bob: 13800000000}, fallback: wecom}
  - {type: feishu, url_env: FEISHU, secret_env: SIGN}
  - {type: slack, url_env: SLACK}
  - {type: pagerduty, routing_key_env: PD, url: "https://events.eu.pagerduty.com/v2/enqueue"}
  - type: email
    host: mail.example.com
    from: tidemark <tidemark@example.com>
    to: [ann@example.com, bob@example.com]
    username: tidemark
    password_env: SMTP
"""


def read(text: str, env: Mapping[str, str] = NOTHING, folder: Path = Path()) -> tuple[ChannelConfig, ...]:
    mistakes = Mistakes()
    channels = read_channels(read_text(text, "t.yaml", mistakes), folder, env)
    assert mistakes.in_order() == []
    return channels


def mistakes_of(text: str, env: Mapping[str, str] = NOTHING, folder: Path = Path()) -> list[str]:
    mistakes = Mistakes()
    top = read_text(text, "t.yaml", mistakes)
    read_channels(top, folder, env)
    top.finish()
    return mistakes.in_order()


def test_where_nothing_is_said_the_terminal_alone() -> None:
    assert read("") == DEFAULT_CHANNELS
    assert [channel.type for channel in DEFAULT_CHANNELS] == ["terminal"]
    assert read("channels: []") == read("channels:") == ()


def test_every_type_is_read() -> None:
    channels = read(FULL, ENV)
    assert tuple(channel.type for channel in channels) == CHANNEL_TYPES
    terminal, webhook, alertmanager, wecom, dingtalk, feishu, slack, pagerduty, email = channels
    assert terminal == ChannelConfig(type="terminal", name="terminal")
    assert (webhook.name, webhook.min_severity, webhook.format) == ("ops", "critical", "alertmanager")
    assert (webhook.url, webhook.secret) == (ENV["HOOK"], "hunter2-sign")
    assert (alertmanager.url, alertmanager.resolve_after_ms) == ("http://am:9093", 6 * 3_600_000)
    assert (wecom.locale, wecom.rate, wecom.timeout_ms) == ("zh", Budget(10, 60_000), 5_000)
    assert (wecom.mentions, dingtalk.mentions) == ({"ann": "ann_li"}, {"bob": "13800000000"})
    assert (dingtalk.fallback, dingtalk.secret, feishu.url) == ("wecom", "hunter2-sign", ENV["FEISHU"])
    assert (slack.url, slack.min_severity, slack.locale) == (ENV["SLACK"], None, "en")
    assert (pagerduty.routing_key, pagerduty.url) == (ENV["PD"], "https://events.eu.pagerduty.com/v2/enqueue")
    assert email.email == EmailConfig(
        host="mail.example.com",
        port=None,
        tls="starttls",
        sender="tidemark <tidemark@example.com>",
        recipients=("ann@example.com", "bob@example.com"),
        username="tidemark",
        password="hunter2-smtp",
    )


def test_no_secret_shows() -> None:
    assert "hunter2" not in repr(read(FULL, ENV))


def test_secrets_may_stand_in_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://ops.example.com/hunter2\n")
    (tmp_path / "sign").write_text("hunter2\r\n")
    (webhook,) = read("channels: [{type: webhook, url_file: url, secret_file: sign}]", folder=tmp_path)
    assert (webhook.url, webhook.secret) == ("https://ops.example.com/hunter2", "hunter2")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, reason in (("empty", "is empty"), ("binary", "expected UTF-8 text"), ("none", "No such file")):
        text = f"channels: [{{type: webhook, url: 'http://h', secret_file: {name}}}]"
        (mistake,) = mistakes_of(text, folder=tmp_path)
        assert mistake.startswith("t.yaml:1: channels[0].secret_file: ") and reason in mistake


def test_e_mail_to_this_machine_needs_no_certificate_and_one_address_is_enough() -> None:
    text = "channels: [{type: email, host: localhost, port: 2525, from: a@b.example, to: c@d.example%s}]"
    (email,) = read(text % "")
    assert email.email == EmailConfig(
        host="localhost", port=2525, tls="none", sender="a@b.example", recipients=("c@d.example",)
    )
    (email,) = read(text % ", tls: implicit")
    assert email.email is not None and email.email.tls == "implicit"


TYPES = "terminal, webhook, alertmanager, wecom, dingtalk, feishu, slack, pagerduty or email"
ELSEWHERE = "a secret does not belong in this file: name an environment variable as {0}_env or a file as {0}_file"


def test_certificates_are_beside_the_configuration(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    text = "channels: [{type: email, host: mail, from: a@b.example, to: c@d.example, cafile: ca.pem}]"
    (channel,) = read(text, folder=tmp_path)
    assert channel.email is not None and channel.email.cafile == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("rate", ["20/1m", "5/1s", "40/2m", "25/90s"])
def test_a_rate_that_the_other_side_would_take_is_allowed(rate: str) -> None:
    assert read(f"channels: [{{type: wecom, url_env: WECOM, rate: {rate}}}]", ENV)[0].rate is not None


ONE_MISTAKE = [
    (
        "- name: x",
        f"channels[0]: expected a type: {TYPES}",
    ),
    (
        "- {type: pager, key: 1}",
        f'channels[0].type: expected {TYPES}, got "pager"',
    ),
    ("- type: webhook", "channels[0]: a webhook needs url, url_env or url_file"),
    ("- type: alertmanager", "channels[0]: an alertmanager needs url, url_env or url_file"),
    ("- type: wecom", "channels[0]: a wecom needs url_env or url_file"),
    ("- type: pagerduty", "channels[0]: a pagerduty needs routing_key_env or routing_key_file"),
    ("- {type: email, host: h}", "channels[0]: an email needs from, to too"),
    ("- {type: webhook, url: x}", 'channels[0].url: expected http://... or https://..., got "x"'),
    ("- {type: webhook, url_env: NONE}", "channels[0].url_env: the environment variable NONE is not set"),
    (
        "- {type: webhook, url_env: SIGN}",
        "channels[0].url_env: the variable holds something else: expected http://... or https://...",
    ),
    (
        "- {type: webhook, url: 'http://h', url_env: HOOK}",
        "channels[0].url_env: expected either url or url_env, got both",
    ),
    (
        "- {type: webhook, url_env: HOOK, url_file: f}",
        "channels[0].url_file: expected either url_env or url_file, got both",
    ),
    (
        "- {type: wecom, url: 'http://hunter2'}",
        f"channels[0].url: {ELSEWHERE.format('url')}",
    ),
    (
        "- {type: webhook, url: 'http://h', secret: hunter2}",
        f"channels[0].secret: {ELSEWHERE.format('secret')}",
    ),
    (
        "- {type: wecom, url_env: HOOK}",
        "channels[0].url_env: expected the robot's URL, https://.../cgi-bin/webhook/send?key=...",
    ),
    (
        "- {type: dingtalk, url_env: WECOM}",
        "channels[0].url_env: expected the robot's URL, https://.../robot/send?access_token=...",
    ),
    (
        "- {type: feishu, url_env: HOOK}",
        "channels[0].url_env: expected the robot's URL, https://.../open-apis/bot/v2/hook/...",
    ),
    ("- {type: terminal, min_severity: low}", 'channels[0].min_severity: expected critical, major or minor, got "low"'),
    ("- {type: terminal, locale: de}", 'channels[0].locale: expected en or zh, got "de"'),
    ("- {type: terminal, rate: 20}", "channels[0].rate: expected messages in a time such as 20/1m, got 20"),
    ("- {type: terminal, rate: 0/1m}", 'channels[0].rate: expected messages in a time such as 20/1m, got "0/1m"'),
    ("- {type: terminal, rate: 1/0s}", 'channels[0].rate: expected messages in a time such as 20/1m, got "1/0s"'),
    (
        "- {type: wecom, url_env: WECOM, rate: 21/1m}",
        "channels[0].rate: wecom takes no more than 20 in 1 min, got 21 in 1 min",
    ),
    (
        "- {type: feishu, url_env: FEISHU, rate: 6/1s}",
        "channels[0].rate: feishu takes no more than 5 in 1 s, got 6 in 1 s",
    ),
    (
        "- {type: slack, url_env: SLACK, timeout: 1ms}",
        'channels[0].timeout: expected a duration from 100ms to 30s, got "1ms"',
    ),
    (
        "- {type: webhook, url: 'http://h', format: v4}",
        'channels[0].format: expected tidemark or alertmanager, got "v4"',
    ),
    (
        "- {type: terminal, url: x}",
        "channels[0].url: unknown key; known are fallback, locale, min_severity, name, rate, time_zone, type",
    ),
    ("- {type: wecom, url_env: WECOM, mention: {a: b}}", "channels[0].mention: unknown key; did you mean mentions?"),
    (
        "- {type: wecom, url_env: WECOM, mentions: {a: [b]}}",
        "channels[0].mentions: expected a mapping of names to what the chat tool knows them by, got a mapping",
    ),
    (
        "- {type: email, host: mail, from: nobody, to: a@b.example}",
        "channels[0].from: expected an address such as ops@example.com, got 'nobody'",
    ),
    (
        "- {type: email, host: mail, from: a@b.example, to: ['c@d.example, e']}",
        "channels[0].to: expected an address such as ops@example.com, got 'c@d.example, e'",
    ),
    (
        "- {type: email, host: mail, from: a@b.example, to: []}",
        "channels[0].to: expected at least one address, got a list",
    ),
    (
        "- {type: email, host: mail, from: a@b.example, to: c@d.example, tls: ssl}",
        'channels[0].tls: expected starttls, implicit or none, got "ssl"',
    ),
    (
        "- {type: email, host: mail, from: a@b.example, to: c@d.example, username: u}",
        "channels[0]: expected a user and a password, or neither, got one of them",
    ),
    (
        "- {type: email, host: mail, from: a@b.example, to: c@d.example, username: u, password_env: SMTP, tls: none}",
        "channels[0]: expected tls starttls or implicit where there is a password, got none",
    ),
    (
        "- {type: email, host: mail, from: a@b.example, to: c@d.example, cafile: nowhere.pem}",
        'channels[0].cafile: expected certificates, got "nowhere.pem": No such file or directory',
    ),
    (
        "- {type: terminal, fallback: terminal}",
        'channels[0].fallback: expected the name of another channel, got "terminal"; there are none',
    ),
]


@pytest.mark.parametrize(("channel", "said"), ONE_MISTAKE)
def test_a_mistake_is_one_line_with_its_place(channel: str, said: str) -> None:
    (mistake,) = mistakes_of(f"channels:\n{channel}", ENV)
    assert mistake == f"t.yaml:2: {said}"
    assert "hunter2" not in mistake


def test_two_channels_of_one_name() -> None:
    (mistake,) = mistakes_of("channels:\n- type: terminal\n- type: terminal\n")
    assert mistake == ('t.yaml:3: channels[1].name: the name "terminal" is taken by another channel: give each its own')


def test_mistakes_do_not_make_others() -> None:
    assert len(mistakes_of("channels:\n- {type: pager, key: x}\n- {type: pager, key: x}\n")) == 2
    (mistake,) = mistakes_of("channels:\n- {type: wecom, url_env: NONE, rate: 99/1m}\n")
    assert "NONE" in mistake


def test_a_fallback_is_another_channel_that_exists() -> None:
    text = "channels:\n- {type: terminal, name: screen}\n- {type: webhook, url: 'http://h', fallback: %s}\n"
    assert mistakes_of(text % "screen") == []
    assert mistakes_of(text % "scren") == [
        't.yaml:3: channels[1].fallback: expected the name of another channel, got "scren"; did you mean screen?'
    ]


def test_fallbacks_do_not_go_round_in_a_circle() -> None:
    ways = {"a": "b", "b": "c", "c": "b", "d": "a"}
    lines = [f"- {{type: terminal, name: {name}, fallback: {following}}}" for name, following in ways.items()]
    assert mistakes_of("channels:\n" + "\n".join(lines)) == [
        "t.yaml:3: channels[1].fallback: the fall-backs go round in a circle: b -> c -> b"
    ]
