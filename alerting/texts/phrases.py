"""The words of each locale: what texts call severities, stages, metrics, comparisons and durations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Final

from alerting.message import Locale
from alerting.rules.expressions import Comparison, Direction
from alerting.rules.metrics import METRICS
from alerting.rules.reading import LEVELS
from alerting.signed_links import BY_LINK


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Of one locale. What is a format takes its parts by name."""

    severity: Mapping[str, str]
    stage: Mapping[str, str]
    """Of a notification, and of a digest."""
    status: Mapping[str, str]
    metric: Mapping[str, str]
    """By the name in METRICS."""
    comparison: Mapping[Comparison, str]
    level: Mapping[str, str]
    durations: Mapping[str, str]
    """What follows a count of days, hours, minutes, seconds, milliseconds."""
    units: Mapping[str, str]
    """What follows a value, by what follows it in METRICS."""
    change: Mapping[Direction, str]
    """A metric that is compared with what it was before: `metric`, `before`."""
    changed: str
    """`before`, `now`, `reference_n`, `n`."""
    of_feature: str
    """`metric`, `feature`."""
    counts: Mapping[str, str]
    """A number of an alert, by its name in `related`: `n`."""
    count_of_one: Mapping[str, str]
    other_number: str
    """`name`, `n`."""
    distance: str
    """`method`, `value`, `level`, `n`, `reference`."""
    share_moved: str
    """A cause: `what`, `before`, `after`, `direction`."""
    share_direction: tuple[str, str]
    """Down, up."""
    cause_score: str
    """`psi`, `level`."""
    horizon: str
    """`horizon`, `end`."""
    link_titles: Mapping[str, str]
    """By the word that the title begins with, in small letters."""
    by_link: str
    """Who acknowledged through a link: `channel`."""
    link: str
    """A link in plain text: `title`, `url`."""
    separator: str
    count: str
    """Of alerts: `n`, `status`."""
    threshold: str
    """A threshold that comes without a comparison: `threshold`."""
    no_longer: str
    """`condition`."""
    no_data: str
    """`metric`."""


EN: Final = Words(
    severity={"critical": "Critical", "major": "Major", "minor": "Minor"},
    stage={
        "firing": "Firing",
        "repeat": "Still firing",
        "escalation": "Escalation",
        "acknowledged": "Acknowledged",
        "resolved": "Resolved",
        "digest": "Digest",
    },
    status={"firing": "firing", "acknowledged": "acknowledged", "resolved": "resolved"},
    metric={name: metric.title for name, metric in METRICS.items()},
    comparison={"<": "below", "<=": "at or below", ">": "above", ">=": "at or above"},
    level={level: level for level in LEVELS},
    durations={"d": "d", "h": "h", "m": "min", "s": "s", "ms": "ms"},
    units={},
    change={"drop": "{metric} drop against {before} before", "rise": "{metric} rise against {before} before"},
    changed="{before} before, {now} now, n {reference_n} and {n}",
    of_feature="{metric} of {feature}",
    counts={
        "impressions": "{n} shown",
        "clicks": "{n} clicked",
        "requests": "{n} requests",
        "errors": "{n} errors",
    },
    count_of_one={"requests": "{n} request", "errors": "{n} error"},
    other_number="{name} {n}",
    distance="{method} {value} ({level}; n {n}, reference {reference})",
    share_moved="{what} {before} -> {after}",
    share_direction=("down", "up"),
    cause_score=", PSI {psi} ({level})",
    horizon="{horizon} to {end}",
    link_titles={},
    by_link=BY_LINK + "{channel}",
    link="{title}: {url}",
    separator=", ",
    count="{n} {status}",
    threshold="threshold {threshold}",
    no_longer="no longer {condition}",
    no_data="no data of {metric}",
)

ZH: Final = Words(
    severity={"critical": "严重", "major": "重要", "minor": "次要"},
    stage={
        "firing": "触发",
        "repeat": "持续触发",
        "escalation": "升级",
        "acknowledged": "已确认",
        "resolved": "已恢复",
        "digest": "汇总",
    },
    status={"firing": "触发中", "acknowledged": "已确认", "resolved": "已恢复"},
    metric={
        "ctr": "点击率",
        "impressions": "展示数",
        "clicks": "点击数",
        "error_rate": "错误率",
        "availability": "可用率",
        "errors": "错误数",
        "requests": "请求数",
        "qps": "每秒请求数",
        "p50": "P50 延迟",
        "p95": "P95 延迟",
        "p99": "P99 延迟",
        "max": "最大延迟",
        "psi": "PSI",
        "ks": "KS",
        "kl": "KL",
        "js": "JS",
        "drift": "漂移程度",
    },
    comparison={"<": "低于", "<=": "不高于", ">": "高于", ">=": "不低于"},
    level={"none": "无", "minor": "轻微", "severe": "严重"},
    durations={"d": "天", "h": "小时", "m": "分钟", "s": "秒", "ms": "毫秒"},
    units={" %": "%", " ms": " 毫秒"},
    change={"drop": "{metric}较{before}前的降幅", "rise": "{metric}较{before}前的升幅"},
    changed="此前 {before}，现在 {now}，样本 {reference_n} 与 {n}",
    of_feature="特征{feature}的{metric}",
    counts={
        "impressions": "展示 {n}",
        "clicks": "点击 {n}",
        "requests": "请求 {n}",
        "errors": "错误 {n}",
    },
    count_of_one={},
    other_number="{name} {n}",
    distance="{method} {value}（{level}；样本 {n}，参考 {reference}）",
    share_moved="{what} 占比由 {before} {direction} {after}",
    share_direction=("降至", "升至"),
    cause_score="，PSI {psi}（{level}）",
    horizon="截至 {end} 的 {horizon}",
    link_titles={
        "acknowledge": "确认告警",
        "silence": "静默",
        "dashboard": "监控看板",
        "report": "报告",
        "runbook": "处理手册",
        "console": "控制台",
    },
    by_link="{channel} 中的链接",
    link="{title}：{url}",
    separator="，",
    count="{n} 条{status}",
    threshold="阈值 {threshold}",
    no_longer="已不再{condition}",
    no_data="{metric}没有数据",
)

WORDS: Final[Mapping[Locale, Words]] = {"en": EN, "zh": ZH}

_MS_OF: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def joined_han(*parts: str) -> str:
    """Parts of a Chinese sentence: where Latin letters or digits meet Chinese ones, a space stands between them."""
    joined = ""
    for part in parts:
        meets = joined and part and joined[-1].isascii() != part[0].isascii()
        joined += f" {part}" if meets else part
    return joined


def filled(form: str, words: Words, **parts: str) -> str:
    """The form with its parts; in Chinese with the spaces of `joined_han` around them."""
    if words is not ZH:
        return form.format(**parts)
    return joined_han(
        *(piece for text, name, *_ in Formatter().parse(form) for piece in (text, parts.get(name or "", "")))
    )


def side_by_side(words: Words, *parts: str) -> str:
    """The parts with a space between them; two Chinese ones need none."""
    said = ""
    for part in filter(None, parts):
        is_han = words is ZH and said and not said[-1].isascii() and not part[0].isascii()
        said += part if is_han or not said else f" {part}"
    return said


def say_person(name: str, words: Words) -> str:
    """Who acknowledged; whoever pressed the button behind a link is known by the channel alone."""
    return words.by_link.format(channel=name.removeprefix(BY_LINK)) if name.startswith(BY_LINK) else name


def say_duration(milliseconds: int, words: Words) -> str:
    """The duration for people: 5400000 gives `1 h 30 min`, `1 小时 30 分钟`."""
    said = []
    for unit, size in _MS_OF.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            said.append(f"{count} {words.durations[unit]}")
    return " ".join(said) or f"0 {words.durations['s']}"


def say_link(title: str, words: Words) -> str:
    """The title of a link in the words of the locale: `silence for 1 h` gives `Silence for 1 h`, `静默 1 小时`."""
    first, _, rest = title.partition(" ")
    said = words.link_titles.get(first.lower())
    if said is None:
        return title[:1].upper() + title[1:]
    units = {"d": "d", "h": "h", "min": "m", "s": "s"}
    said_rest = [words.durations.get(units.get(word, ""), word) for word in rest.split() if word != "for"]
    return " ".join([said, *said_rest])
