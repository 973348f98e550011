from __future__ import annotations

from dataclasses import replace

import pytest

from alerting.alert import Alert
from alerting.rules.reading import Reading
from alerting.rules.rule import parse_rule
from alerting.rules.summary import firing_summary, resolved_summary
from alerting.texts.figures import condition_text, value_text
from alerting.texts.phrases import EN
from alerting.texts.rendering import render, summary_of
from tests.alerting.notes import CTR, DAYS, DRIFT, DROP, LATENCY, LEVEL, NO_DATA, RELATED, SQL, a_note
from tests.alerting.samples import TEN_O_CLOCK, an_alert, drifted, minute, served


@pytest.mark.parametrize(
    ("alert", "lines"),
    [
        (
            DRIFT,
            "Metric: PSI of gender 0.41, at or above 0.2\n"
            "Numbers: PSI 0.41 (severe; n 5,753, reference 86,000), KS 0.10 (none; n 5,700, reference 85,000)\n"
            "Time: 1 h to 2026-05-01 10:01 UTC\n",
        ),
        (
            LATENCY,
            "Metric: P95 latency 612 ms, above 500 ms\n"
            "Numbers: 12,300 requests, 1 error, P50 200 ms, P95 612 ms, P99 900 ms\n"
            "Time: 2026-05-01 10:00:00–10:00:30 UTC\n",
        ),
        (
            DROP,
            "Metric: CTR drop against 1 d before 12.3 %, above 10 %\n"
            "Numbers: 8.00 % before, 7.01 % now, n 120,000 and 118,000\n",
        ),
        (SQL, "Metric: many-errors 120, threshold 100\nNumbers: calls 4,000, share 0.25\n"),
        (NO_DATA, "Time: 2026-05-01 10:04 UTC\nHas lasted: 5 min\n"),
        (LEVEL, "Metric: Drift of gender severe, at or above minor\n"),
        (DAYS, "Time: 2026-05-01 10:02–2026-05-02 10:00 UTC\n"),
        (replace(CTR, value=0.04996), "Metric: CTR 4.996 %, below 5 %\n"),
    ],
)
def test_every_kind_of_alert_in_english(alert: Alert, lines: str) -> None:
    assert lines in render(a_note(alert), locale="en").text


@pytest.mark.parametrize(
    ("alert", "sentence"),
    [
        (
            DRIFT,
            "recommender-home v3 的特征 gender 的 PSI 为 0.41，不低于 0.2，已持续 1 分钟（PSI 0.41（严重；样本 5,753，"
            "参考 86,000），KS 0.10（无；样本 5,700，参考 85,000），截至 2026-05-01 10:01 UTC 的 1 小时）",
        ),
        (
            LATENCY,
            "recommender-home v3 的 P95 延迟为 612 毫秒，高于 500 毫秒，已持续 5 分钟（请求 12,300，错误 1，"
            "P50 200 毫秒，P95 612 毫秒，P99 900 毫秒，2026-05-01 10:00:00–10:00:30 UTC）",
        ),
        (
            DROP,
            "recommender-home v3 的点击率较 1 天前的降幅为 12.3%，高于 10%，已持续 2 分钟"
            "（此前 8.00%，现在 7.01%，样本 120,000 与 118,000，2026-05-01 10:02–10:03 UTC）",
        ),
        (
            SQL,
            "recommender-home v3 的规则 many-errors 的值为 120，阈值 100，已持续 1 分钟"
            "（calls 4,000，share 0.25，2026-05-01 10:02–10:03 UTC）",
        ),
        (NO_DATA, "recommender-home v3 的点击率已 5 分钟没有数据"),
        (
            replace(NO_DATA, status="resolved", resolved_at=TEN_O_CLOCK),
            "recommender-home v3 的点击率数据已恢复，中断 5 分钟",
        ),
        (
            replace(
                NO_DATA,
                status="resolved",
                resolved_at=TEN_O_CLOCK,
                related=dict(NO_DATA.related) | {"resolved_because": "rule_removed"},
            ),
            "recommender-home v3 的点击率缺数据的告警结束，历时 5 分钟",
        ),
        (
            LEVEL,
            "recommender-home v3 的特征 gender 的漂移程度为严重，不低于轻微，已持续 1 分钟（PSI 0.41（严重；"
            "样本 5,753，参考 86,000），KS 0.10（无；样本 5,700，参考 85,000），截至 2026-05-01 10:01 UTC 的 1 小时）",
        ),
        (
            replace(SQL, status="resolved", value=None, threshold=None, resolved_at=TEN_O_CLOCK),
            "recommender-home v3 的规则 many-errors 的告警结束，历时 1 分钟",
        ),
        (replace(CTR, summary="home is down", related=RELATED | {"summary_is_custom": True}), "home is down"),
        (an_alert(value=None, related={}), "CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min"),
    ],
)
def test_every_kind_of_alert_in_a_chinese_sentence(alert: Alert, sentence: str) -> None:
    assert summary_of(alert, "zh") == sentence


def test_a_level_in_chinese_has_no_blanks_within() -> None:
    message = render(a_note(LEVEL), locale="zh")
    assert "指标：特征 gender 的漂移程度严重，不低于轻微\n" in message.text
    assert "特征 gender 的漂移程度严重，不低于轻微（" in message.title


@pytest.mark.parametrize(
    ("expr", "reading"),
    [
        ("ctr < 5%", minute(0, 41)),
        ("ctr < 5%", minute(0, 49_960, 1_000_000)),
        ("clicks < 50", minute(0, 12)),
        ("impressions <= 2000", minute(0, 12, 1234)),
        ("error_rate > 5%", served(0, errors=51)),
        ("availability < 99.9%", served(0, errors=2)),
        ("qps > 1.5", served(0)),
        ("p95(latency) > 500ms", served(0, p95=612.4)),
        ("max(latency) >= 1s", served(0, p95=612.4)),
        ("psi(*) >= 0.2", drifted(0, 0.413)),
        ("drift(gender) >= minor", drifted(0, 0.4, level="severe")),
    ],
)
def test_figures_are_the_same_as_in_the_sentence_of_the_rule(expr: str, reading: Reading) -> None:
    rule = parse_rule({"name": "r", "expr": expr})
    value = rule.value_of(reading)
    assert value is not None
    alert = an_alert(value=value, threshold=rule.threshold, related={"expression": expr})
    assert f" is {value_text(alert, EN)}, {condition_text(alert, EN)} for " in firing_summary(rule, reading, value, 0)


def test_the_end_is_the_same_as_in_the_sentence_of_the_rule() -> None:
    rule = parse_rule({"name": "r", "expr": "ctr < 5%"})
    over = an_alert(value=0.0512, related={"expression": "ctr < 5%"})
    said = resolved_summary(rule, minute(0, 512, 10_000), 0.0512, 0)
    assert f" is {value_text(over, EN)}, {condition_text(over, EN)} after " in said
