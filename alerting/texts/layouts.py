"""How a message is laid out in each locale: templates, one source for plain text and Markdown alike.

`bold`, `quote`, `link` and `escape` do what the format has for it. All of what a layout takes is made in
`alerting/texts/rendering.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import urlsplit

from alerting.message import LOCALES, Locale
from alerting.texts.phrases import WORDS, Words
from alerting.texts.template_filters import FILTERS, Filter, escape_markdown, to_text
from alerting.texts.templates import Template, compile_template

Format = Literal["text", "markdown"]

#: Far above what 20 alerts come to, each of them bounded: at the end stands how to acknowledge, and no cut may take it.
_LONGEST: Final = 65_536
_TITLE_NAMES: Final = ("severity", "stage", "group", "total", "about", "model", "what", "rule", "firing", "over")
_LINE_NAMES: Final = ("severity", "status", "model", "what", "id")
_BODY_NAMES: Final = (
    *("stage", "group", "counts", "about", "alerts", "more", "step", "round", "unacknowledged", "lasted", "resolved"),
    *(
        "acknowledged_by",
        "comment",
        "closed",
        "stands_in_for",
        "summary",
        "measured",
        "condition",
        "numbers",
        "time",
    ),
    *("model", "rule", "expression", "labels", "causes", "owner", "runbook", "ids", "links"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One locale in one format."""

    title: Template
    body: Template
    digest_title: Template
    digest_line: Template
    digest_end: Template


_EN: Final = {
    "title": """\
[{{ severity }}] {{ stage }}: {% if group %}{{ total }} alerts{% if about %}: {{ about }}{% endif %}\
{% elif what %}{{ model }}: {{ what }} ({{ rule }}){% else %}{{ model }}: {{ rule }}{% endif %}""",
    "body": """\
{% if group %}
{{ counts|bold }}{% if about %} ({{ about|escape }}){% endif %}

{% for alert in alerts %}
- {{ alert.severity|bold }} {{ alert.status }}: {{ alert.summary|escape }} ({{ alert.id|escape }})
{% endfor %}
{% if more %}
and {{ more }} more
{% endif %}
{% else %}
{{ summary|bold }}
{% endif %}
{% if stage == "escalation" %}
Why: escalation, step {{ step }}{% if round > 1 %}, round {{ round }}{% endif %}\
{% if unacknowledged %}: nobody has acknowledged for {{ unacknowledged }}{% endif +%}
{% elif closed == "stale" %}
Why: nothing has been heard of it for so long that it is taken for over
{% elif closed == "rule_removed" %}
Why: the rule has gone or changed
{% elif closed == "version_gone" %}
Why: another version has taken the place of this one
{% elif closed == "given_up" %}
Why: there have been no rows of it for two days
{% elif stage == "repeat" %}
Why: still firing{% if lasted %} after {{ lasted }}{% endif +%}
{% endif %}
{% if acknowledged_by %}
Acknowledged by: {{ acknowledged_by|escape }}{% if comment %}: {{ comment|escape }}{% endif +%}
{% endif %}
{% if stands_in_for %}
Sent here as it could not be sent to: {{ stands_in_for|escape }}
{% endif %}
{% if not group %}
{% if measured %}
Metric: {{ measured|escape }}{% if condition %}, {{ condition }}{% endif +%}
{% endif %}
{% if numbers %}
Numbers: {{ numbers|escape }}
{% endif %}
Time: {{ time }}
{% if lasted %}
{{ "Lasted" if resolved else "Has lasted" }}: {{ lasted }}
{% endif %}
Model: {{ model|escape }}
Rule: {{ rule|escape }}{% if expression %}: {{ expression|escape }}{% endif +%}
{% if labels %}
Labels: {{ labels|escape }}
{% endif %}
{% endif %}
{% if causes %}
Likely causes:
{% for cause in causes %}
{{ cause|quote }}
{% endfor %}
{% endif %}
{% if owner %}
Owner: {{ owner|escape }}
{% endif %}
{% if runbook %}
Runbook: {{ runbook|link(runbook) }}
{% endif %}
{% if ids %}
Acknowledge: tidemark alerts ack {% if group %}ID, with an id from above{% else %}{{ ids|escape }}{% endif +%}
{% endif %}
{% for link in links %}
{{ link.url|link(link.title) }}
{% endfor %}
""",
    "digest_title": """\
[{{ severity }}] {{ stage }}: {% if firing %}{{ firing }} firing{% endif %}{% if firing and over %}, {% endif %}\
{% if over %}{{ over }} acknowledged or resolved{% endif %}""",
    "digest_line": """\
- {{ severity|bold }} {{ status }}: {{ model|escape }} · {{ what|escape }} · {{ id|escape }}
""",
    "digest_end": """\
Acknowledge: tidemark alerts ack ID
""",
}

_ZH: Final = {
    "title": """\
【{{ severity }}】{{ stage }}：{% if group %}{{ total }} 条告警{% if about %}：{{ about }}{% endif %}\
{% elif what %}{{ model }}：{{ what }}（{{ rule }}）{% else %}{{ model }}：{{ rule }}{% endif %}""",
    "body": """\
{% if group %}
{{ counts|bold }}{% if about %}（{{ about|escape }}）{% endif %}

{% for alert in alerts %}
- {{ alert.severity|bold }} {{ alert.status }}：{{ alert.summary|escape }}（{{ alert.id|escape }}）
{% endfor %}
{% if more %}
另有 {{ more }} 条
{% endif %}
{% else %}
{{ summary|bold }}
{% endif %}
{% if stage == "escalation" %}
原因：升级第 {{ step }} 步{% if round > 1 %}（第 {{ round }} 轮）{% endif %}\
{% if unacknowledged %}，已 {{ unacknowledged }}无人确认{% endif +%}
{% elif closed == "stale" %}
原因：长时间没有消息，视为已结束
{% elif closed == "rule_removed" %}
原因：规则已删除或更改
{% elif closed == "version_gone" %}
原因：该版本已被其他版本取代
{% elif closed == "given_up" %}
原因：两天没有数据
{% elif stage == "repeat" %}
原因：仍未恢复{% if lasted %}，已持续 {{ lasted }}{% endif +%}
{% endif %}
{% if acknowledged_by %}
确认人：{{ acknowledged_by|escape }}{% if comment %}：{{ comment|escape }}{% endif +%}
{% endif %}
{% if stands_in_for %}
以下渠道发送失败，改由此处发送：{{ stands_in_for|escape }}
{% endif %}
{% if not group %}
{% if measured %}
指标：{{ measured|escape }}{% if condition %}，{{ condition }}{% endif +%}
{% endif %}
{% if numbers %}
数据：{{ numbers|escape }}
{% endif %}
时间：{{ time }}
{% if lasted %}
{{ "历时" if resolved else "已持续" }}：{{ lasted }}
{% endif %}
模型：{{ model|escape }}
规则：{{ rule|escape }}{% if expression %}：{{ expression|escape }}{% endif +%}
{% if labels %}
标签：{{ labels|escape }}
{% endif %}
{% endif %}
{% if causes %}
可能原因：
{% for cause in causes %}
{{ cause|quote }}
{% endfor %}
{% endif %}
{% if owner %}
负责人：{{ owner|escape }}
{% endif %}
{% if runbook %}
处理手册：{{ runbook|link(runbook) }}
{% endif %}
{% if ids %}
确认告警：tidemark alerts ack {% if group %}编号（见上）{% else %}{{ ids|escape }}{% endif +%}
{% endif %}
{% for link in links %}
{{ link.url|link(link.title) }}
{% endfor %}
""",
    "digest_title": """\
【{{ severity }}】{{ stage }}：{% if firing %}{{ firing }} 条触发中{% endif %}{% if firing and over %}，{% endif %}\
{% if over %}{{ over }} 条已确认或已恢复{% endif %}""",
    "digest_line": """\
- {{ severity|bold }} {{ status }}：{{ model|escape }} · {{ what|escape }} · {{ id|escape }}
""",
    "digest_end": """\
确认告警：tidemark alerts ack 编号
""",
}

#: What would end the address in `[text](url)`, or let it be taken for something else.
_IN_ADDRESS: Final = str.maketrans({char: f"%{ord(char):02X}" for char in ' ()<>"\\`*'})


def is_web(url: str) -> bool:
    """Whether an address may be made a link: nothing but http and https, which run nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()


def _markdown_link(url: object, title: object) -> str:
    address, said = to_text(url), escape_markdown(to_text(title))
    return f"[{said}]({address.translate(_IN_ADDRESS)})" if is_web(address) else said


def _text_link(words: Words, url: object, title: object) -> str:
    address, said = to_text(url), to_text(title)
    return address if said == address else words.link.format(title=said, url=address) if is_web(address) else said


_STYLES: Final[Mapping[Format, Mapping[str, Filter]]] = {
    "markdown": {
        "bold": lambda value: f"**{escape_markdown(to_text(value))}**",
        "quote": lambda value: f"> {escape_markdown(to_text(value))}",
        "link": _markdown_link,
    },
    "text": {"bold": to_text, "quote": lambda value: f"- {to_text(value)}", "escape": to_text},
}


def _layout(locale: Locale, form: Format) -> Layout:
    sources = {"en": _EN, "zh": _ZH}[locale]
    words = WORDS[locale]
    filters = {**FILTERS, "link": lambda url, title: _text_link(words, url, title), **_STYLES[form]}

    def compiled(name: str, names: tuple[str, ...]) -> Template:
        return compile_template(sources[name], f"{name} in {locale}", names, filters, longest=_LONGEST)

    return Layout(
        title=compiled("title", _TITLE_NAMES),
        body=compiled("body", _BODY_NAMES),
        digest_title=compiled("digest_title", _TITLE_NAMES),
        digest_line=compiled("digest_line", _LINE_NAMES),
        digest_end=compiled("digest_end", ()),
    )


_FORMATS: Final[tuple[Format, ...]] = ("text", "markdown")
LAYOUTS: Final[Mapping[tuple[Locale, Format], Layout]] = MappingProxyType(
    {(locale, form): _layout(locale, form) for locale in LOCALES for form in _FORMATS}
)
