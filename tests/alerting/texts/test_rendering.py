from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import pytest

from alerting.alert import SEVERITIES
from alerting.message import LOCALES, Locale
from alerting.notification import STAGES, Link
from alerting.rules.expressions import Comparison
from alerting.rules.metrics import METRICS
from alerting.rules.reading import LEVELS
from alerting.texts.layouts import is_web
from alerting.texts.phrases import WORDS, ZH, joined_han, say_duration
from alerting.texts.rendering import render, render_digest
from alerting.texts.template_filters import zone_of
from tables.errors import ConfigError
from tests.alerting.notes import CAUSE, CTR, DRIFT, HOSTILE, LATENCY, LINKS, OVER, RELATED, SQL, a_note, many
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, an_alert


def test_an_alert_in_english() -> None:
    message = render(a_note(), locale="en", links=LINKS)
    assert message.title == "[Major] Firing: recommender-home v3: CTR 4.1 %, below 5 % (ctr-low)"
    assert message.markdown == (
        "**CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min**\n"
        "Metric: CTR 4.1 %, below 5 %\n"
        "Numbers: 10,000 shown, 412 clicked\n"
        "Time: 2026-05-01 10:02–10:03 UTC\n"
        "Has lasted: 2 min\n"
        "Model: recommender-home v3\n"
        "Rule: ctr-low: ctr \\< 5%\n"
        "Labels: team=recsys\n"
        "Likely causes:\n"
        "> new\\_user true 20 % -\\> 50 %, PSI 0.40 \\(severe\\)\n"
        "Owner: recsys\n"
        "Runbook: [https://wiki.example.com/ctr-low](https://wiki.example.com/ctr-low)\n"
        "Acknowledge: tidemark alerts ack 00000000000000a1\n"
        "[Acknowledge](https://tidemark.example.com/a/xyz)\n"
        "[Silence for 1 h](https://tidemark.example.com/a/abc)\n"
    )
    assert message.text == (
        "CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min\n"
        "Metric: CTR 4.1 %, below 5 %\n"
        "Numbers: 10,000 shown, 412 clicked\n"
        "Time: 2026-05-01 10:02–10:03 UTC\n"
        "Has lasted: 2 min\n"
        "Model: recommender-home v3\n"
        "Rule: ctr-low: ctr < 5%\n"
        "Labels: team=recsys\n"
        "Likely causes:\n"
        "- new_user true 20 % -> 50 %, PSI 0.40 (severe)\n"
        "Owner: recsys\n"
        "Runbook: https://wiki.example.com/ctr-low\n"
        "Acknowledge: tidemark alerts ack 00000000000000a1\n"
        "Acknowledge: https://tidemark.example.com/a/xyz\n"
        "Silence for 1 h: https://tidemark.example.com/a/abc\n"
    )


def test_an_alert_in_chinese_and_in_the_time_of_those_who_read_it() -> None:
    message = render(a_note(), locale="zh", links=LINKS, time_zone="Asia/Shanghai")
    assert message.title == "【重要】触发：recommender-home v3：点击率 4.1%，低于 5%（ctr-low）"
    assert message.text == (
        "recommender-home v3 的点击率为 4.1%，低于 5%，已持续 2 分钟"
        "（展示 10,000，点击 412，2026-05-01 18:02–18:03 UTC+8）\n"
        "指标：点击率 4.1%，低于 5%\n"
        "数据：展示 10,000，点击 412\n"
        "时间：2026-05-01 18:02–18:03 UTC+8\n"
        "已持续：2 分钟\n"
        "模型：recommender-home v3\n"
        "规则：ctr-low：ctr < 5%\n"
        "标签：team=recsys\n"
        "可能原因：\n"
        "- new_user true 占比由 20% 升至 50%，PSI 0.40（严重）\n"
        "负责人：recsys\n"
        "处理手册：https://wiki.example.com/ctr-low\n"
        "确认告警：tidemark alerts ack 00000000000000a1\n"
        "确认告警：https://tidemark.example.com/a/xyz\n"
        "静默 1 小时：https://tidemark.example.com/a/abc\n"
    )
    assert [link.title for link in message.links] == ["确认告警", "静默 1 小时"]


def test_what_a_message_is_beside_its_words() -> None:
    message = render(a_note(stage="repeat"), locale="en", links=LINKS)
    assert (message.key, message.stage, message.severity, message.locale) == ("k1", "repeat", "major", "en")
    assert message.notifications == (a_note(stage="repeat"),)
    assert [(link.title, link.url) for link in message.links] == [
        ("Acknowledge", LINKS[0].url),
        ("Silence for 1 h", LINKS[1].url),
    ]


def test_an_escalation_says_why_it_comes() -> None:
    note = a_note(stage="escalation", step=2, round=1, fallback_of=("dingtalk-ops",))
    english = render(note, locale="en").text
    assert "Why: escalation, step 2, round 2: nobody has acknowledged for 10 min\n" in english
    assert "Has lasted: 14 min\n" in english
    assert "Sent here as it could not be sent to: dingtalk-ops\n" in english
    chinese = render(note, locale="zh").text
    assert "原因：升级第 2 步（第 2 轮），已 10 分钟无人确认\n" in chinese
    assert "以下渠道发送失败，改由此处发送：dingtalk-ops\n" in chinese


def test_clocks_that_have_nothing_to_do_with_each_other_are_not_compared() -> None:
    note = a_note(stage="escalation", step=1, at=TEN_O_CLOCK - 1)
    assert "Why: escalation, step 1\n" in render(note, locale="en").text


def test_a_repeat_says_for_how_long_it_has_been_so() -> None:
    note = a_note(stage="repeat", at=TEN_O_CLOCK + 4 * 60 * MINUTE)
    assert render(note, locale="en").title.startswith("[Major] Still firing: ")
    assert "Why: still firing after 4 h\n" in render(note, locale="en").text
    assert render(note, locale="zh").title.startswith("【重要】持续触发：")
    assert "原因：仍未恢复，已持续 4 小时\n" in render(note, locale="zh").text


def test_the_end_says_how_long_it_lasted_and_asks_for_nothing() -> None:
    note = a_note(replace(OVER, related=RELATED | {"for_ms": 6 * MINUTE}), stage="resolved")
    english, chinese = (render(note, locale=locale) for locale in LOCALES)
    assert english.title == "[Major] Resolved: recommender-home v3: CTR 8.0 % (ctr-low)"
    assert "Metric: CTR 8.0 %, no longer below 5 %\n" in english.text
    assert "Lasted: 6 min\n" in english.text
    assert "alerts ack" not in english.text
    assert chinese.title == "【重要】已恢复：recommender-home v3：点击率 8.0%（ctr-low）"
    assert chinese.text.startswith("recommender-home v3 的点击率为 8.0%，已不再低于 5%，历时 6 分钟（")
    assert "历时：6 分钟\n" in chinese.text
    assert "alerts ack" not in chinese.text


def test_who_acknowledged() -> None:
    alert = replace(
        CTR,
        status="acknowledged",
        related=RELATED | {"acknowledged_by": "li.wei", "acknowledged_comment": "rolled back"},
    )
    note = a_note(alert, stage="acknowledged")
    assert render(note, locale="en").title.startswith("[Major] Acknowledged: ")
    assert "Acknowledged by: li.wei: rolled back\n" in render(note, locale="en").text
    assert "确认人：li.wei：rolled back\n" in render(note, locale="zh").text
    pressed = replace(alert, related=RELATED | {"acknowledged_by": "link on wecom-ops"})
    note = a_note(pressed, stage="acknowledged")
    assert "Acknowledged by: link on wecom-ops\n" in render(note, locale="en").text
    assert "确认人：wecom-ops 中的链接\n" in render(note, locale="zh").text


@pytest.mark.parametrize(
    ("noted", "english", "chinese"),
    [
        (
            {"closed_as": "stale"},
            "nothing has been heard of it for so long that it is taken for over",
            "长时间没有消息，视为已结束",
        ),
        ({"resolved_because": "rule_removed"}, "the rule has gone or changed", "规则已删除或更改"),
        (
            {"resolved_because": "version_gone"},
            "another version has taken the place of this one",
            "该版本已被其他版本取代",
        ),
        ({"resolved_because": "given_up"}, "there have been no rows of it for two days", "两天没有数据"),
    ],
)
def test_an_end_that_is_no_recovery_says_so(noted: dict[str, str], english: str, chinese: str) -> None:
    note = a_note(replace(OVER, value=None, related=RELATED | noted), stage="resolved")
    assert f"Why: {english}\n" in render(note, locale="en").text
    assert f"原因：{chinese}\n" in render(note, locale="zh").text


def test_a_group_is_a_list_that_ends_somewhere() -> None:
    message = render(a_note(*many(57)), locale="en")
    assert message.title == "[Major] Firing: 57 alerts: model_id=recommender-home"
    assert message.text.startswith(
        "57 firing (model_id=recommender-home)\n"
        "- Major firing: CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min (0000000000000000)\n"
    )
    assert message.text.count("- Major firing") == 20
    assert "and 37 more\n" in message.text
    assert "Acknowledge: tidemark alerts ack ID, with an id from above\n" in message.text
    chinese = render(a_note(*many(57)), locale="zh")
    assert chinese.title == "【重要】触发：57 条告警：model_id=recommender-home"
    assert chinese.text.startswith("57 条触发中（model_id=recommender-home）\n- 重要 触发中：recommender-home v3 的")
    assert "另有 37 条\n" in chinese.text


def test_a_group_names_its_causes_owners_and_common_runbook_once() -> None:
    fraud = replace(CTR, alert_id="b2", severity="critical", related=RELATED | {"owner": "risk"})
    text = render(a_note(CTR, fraud, OVER), locale="en").text
    assert text.startswith("2 firing, 1 resolved (")
    assert text.count("new_user") == 1
    assert "Owner: recsys, risk\n" in text
    assert text.count("Runbook: ") == 1
    other = replace(fraud, related=RELATED | {"runbook": "https://wiki.example.com/other"})
    assert "Runbook: " not in render(a_note(CTR, other), locale="en").text


def test_a_cause_without_parts_is_told_in_its_own_words() -> None:
    alert = replace(CTR, causes=({"kind": "version", "text": "version 4 began at 09:58"},))
    for locale in LOCALES:
        assert "- version 4 began at 09:58\n" in render(a_note(alert), locale=locale).text


def test_both_locales_have_words_for_everything() -> None:
    for words in WORDS.values():
        assert set(words.metric) == set(METRICS)
        assert set(words.severity) == set(SEVERITIES)
        assert set(words.stage) == {*STAGES, "digest"}
        assert set(words.status) == {"firing", "acknowledged", "resolved"}
        assert set(words.level) == set(LEVELS)
        assert set(words.comparison) == set(get_args(Comparison))


def test_chinese_durations_and_spaces() -> None:
    assert say_duration(93_784_005, ZH) == "1 天 2 小时 3 分钟 4 秒 5 毫秒"
    assert say_duration(0, ZH) == "0 秒"
    assert joined_han("home v3", "的", "点击率") == "home v3 的点击率"


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("count", [1, 3])
def test_what_came_from_events_is_text_and_nothing_else(locale: Locale, count: int) -> None:
    alert = an_alert(
        model_id=HOSTILE,
        model_version=HOSTILE,
        rule=HOSTILE,
        labels={HOSTILE: HOSTILE, "feature": HOSTILE},
        summary=HOSTILE,
        causes=({"text": HOSTILE}, CAUSE | {"feature": HOSTILE, "bin": HOSTILE, "level": HOSTILE}),
        related=RELATED | {"owner": HOSTILE, "runbook": "javascript:alert(1)", "numbers": {HOSTILE: 3}},
    )
    alerts = tuple(replace(alert, alert_id=str(number)) for number in range(count))
    links = (*LINKS, Link(title=HOSTILE, url="javascript:alert(1)"), Link(title="[x", url="http://x/) [y](http://z"))
    for message in (
        render(a_note(*alerts, group_labels={"model_id": HOSTILE}), locale=locale, links=links),
        render_digest([a_note(*alerts)], locale=locale, limit_bytes=4096)[0],
    ):
        assert message.title.isprintable()
        for body in (message.text, message.markdown):
            assert body.replace("\n", "").isprintable()
        bare = re.sub(r"\\.", "", message.markdown)
        # Ours: bold at the beginning of lines, quotes, and addresses that were given as links.
        assert bare.count("](") == len(message.links)
        assert all(line.startswith("> ") for line in bare.splitlines() if ">" in line)
        assert not set("`<#_") & set(bare)
        assert bare.count("**") == 2 * sum(bool(re.match(r"(- )?\*\*", line)) for line in bare.splitlines())
        assert "(https://evil" not in bare
        assert "(javascript:" not in bare


def test_only_web_addresses_become_links() -> None:
    links = (Link(title="x", url="javascript:alert(1)"), Link(title="y", url="https://a.example/(1) 2"))
    message = render(a_note(), locale="en", links=links)
    assert [link.title for link in message.links] == ["Y"]
    assert "[Y](https://a.example/%281%29%202)\n" in message.markdown
    assert not is_web("https://")
    assert not is_web("http://[::1")
    assert not is_web("https://a.example/\nx")


@pytest.mark.parametrize("locale", LOCALES)
def test_the_same_alert_gives_the_same_bytes_whatever_the_order_of_its_keys(locale: Locale) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(item) for key, item in reversed(value.items())}
        return value

    for alert in (CTR, DRIFT, LATENCY, SQL):
        alert = replace(alert, labels={"a": "1", "b": "2"} | dict(alert.labels))
        other = replace(
            alert,
            labels=turned(dict(alert.labels)),
            related=turned(dict(alert.related)),
            causes=tuple(turned(dict(cause)) for cause in alert.causes),
        )
        labels = {"model_id": "home", "rule": "r"}
        one = render(a_note(alert, group_labels=labels), locale=locale)
        two = render(a_note(other, group_labels=turned(labels)), locale=locale)
        assert (one.title, one.text, one.markdown) == (two.title, two.text, two.markdown)


def test_a_zone_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a time zone such as Asia/Shanghai, got 'Mars/Olympus'"):
        render(a_note(), locale="en", time_zone="Mars/Olympus")


async def test_the_event_loop_reads_no_files_for_utc() -> None:
    zone_of.cache_clear()
    assert "UTC\n" in render(a_note(), locale="en").text


def test_times_that_no_calendar_has_do_no_harm() -> None:
    alert = replace(CTR, fired_at=10**18, related={"window_start": "x", "window_end": -5, "for_ms": -1})
    assert f"Time: {10**18}\n" in render(a_note(alert), locale="en").text


@pytest.mark.parametrize("locale", LOCALES)
def test_a_long_group_full_of_marks_keeps_its_end(locale: Locale) -> None:
    summary = {"summary": "_(x)*" * 60, "related": RELATED | {"summary_is_custom": True}}
    message = render(a_note(*many(20, **summary)), locale=locale, links=LINKS)
    assert len(message.markdown) > 8192
    assert "tidemark alerts ack" in message.markdown and message.markdown.endswith("/a/abc)\n")


def test_the_greatest_message_keeps_its_end() -> None:
    alert = replace(
        CTR,
        model_id="中" * 1000,
        summary="告" * 2000,
        causes=tuple({"text": f"{number}{'因' * 500}"} for number in range(9)),
        labels={str(number): "签" * 100 for number in range(100)},
    )
    for alerts in ((alert,), tuple(replace(alert, alert_id=str(number)) for number in range(500))):
        message = render(a_note(*alerts, stage="escalation"), locale="en", links=LINKS)
        assert len(message.markdown) <= 8192
        assert message.markdown.endswith("/a/abc)\n")
        assert len(message.title.encode()) <= 240
