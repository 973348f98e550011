"""How the pages behind signed links look, in the language that the reader's browser asks for."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from alerting.message import Locale

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
}
_PAGE: Final = """<!doctype html>
<html lang="{locale}"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem}}
body{{color:#1a1a1a;background:#fff}}
button{{font:inherit;padding:.6rem 1.2rem;border:0;border-radius:.4rem;background:#0b5cad;color:#fff;cursor:pointer}}
@media(prefers-color-scheme:dark){{body{{color:#eee;background:#16181c}}}}</style>
<h1>{title}</h1>{text}{form}</html>
"""
_FORM: Final = '<form method="post"><button autofocus>{button}</button></form>'


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWords:
    """Of one locale. Where it is about several alerts, `n` of them, the second of two is taken."""

    ask_ack: tuple[str, str]
    ack: str
    acked: tuple[str, str]
    acked_before: tuple[str, str]
    ask_silence: tuple[str, str]
    silence: str
    """`minutes`."""
    silenced: str
    silenced_until: str
    """`time`."""
    over: tuple[str, str]
    problems: Mapping[int, tuple[str, str]]
    """Title and text by HTTP status; for others those of the problem stand."""


_EN: Final = PageWords(
    ask_ack=("Acknowledge this alert?", "Acknowledge these {n} alerts?"),
    ack="Acknowledge: I look after it",
    acked=("Acknowledged", "{n} alerts acknowledged"),
    acked_before=("Somebody looks after it already", "Somebody looks after all {n} already"),
    ask_silence=("Silence this alert?", "Silence these {n} alerts?"),
    silence="Silence for {minutes} minutes",
    silenced="Silenced",
    silenced_until="Quiet until {time} UTC:",
    over=("This alert is over", "Nothing is left to be done about it."),
    problems={
        403: ("This link does not hold", "It has expired, or it is not as it was sent. A newer message has a new one."),
        503: ("No answer just now", "Nothing has been changed. Try again in a minute."),
        504: ("Not confirmed yet", "It may still be carried out. Look again in a moment."),
    },
)
_ZH: Final = PageWords(
    ask_ack=("确认这条告警？", "确认这 {n} 条告警？"),
    ack="确认：由我处理",
    acked=("已确认", "已确认 {n} 条告警"),
    acked_before=("已有人在处理", "这 {n} 条告警均已有人在处理"),
    ask_silence=("静默这条告警？", "静默这 {n} 条告警？"),
    silence="静默 {minutes} 分钟",
    silenced="已静默",
    silenced_until="静默至 {time} UTC：",
    over=("告警已结束", "无需再处理。"),
    problems={
        400: ("无法静默", "这条告警的标签过长或无法匹配。"),
        403: ("链接无效", "链接已过期，或与发送时不一致。请使用更新的消息中的链接。"),
        409: ("静默过多", "请先结束一些静默。"),
        503: ("暂时无法处理", "未做任何更改，请稍后再试。"),
        504: ("尚未生效", "操作仍可能生效，请稍后再看。"),
    },
)
WORDS: Final[Mapping[Locale, PageWords]] = {"en": _EN, "zh": _ZH}


def locale_of(request: web.Request) -> Locale:
    """English, or Chinese where `Accept-Language` prefers that."""
    weights: dict[str, float] = {}
    for part in request.headers.get("Accept-Language", "")[:1000].split(","):
        language, _, weight = part.partition(";")
        name = language.strip().lower().partition("-")[0]
        try:
            weights.setdefault(name, float(weight.strip().removeprefix("q=") or 1))
        except ValueError:
            continue
    return "zh" if weights.get("zh", 0) > weights.get("en", 0) else "en"


def page(
    locale: Locale, title: str, text: str = "", lines: Sequence[str] = (), *, button: str = "", status: int = 200
) -> web.Response:
    """A page with a title, a sentence, lines such as the summaries of alerts, and perhaps a button."""
    body = f"<p>{html.escape(text)}</p>" if text else ""
    if len(lines) == 1:
        body += f"<p>{html.escape(lines[0])}</p>"
    elif lines:
        body += f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
    form = _FORM.format(button=html.escape(button)) if button else ""
    shown = _PAGE.format(locale=locale, title=html.escape(title), text=body, form=form)
    headers = {**_HEADERS, "Content-Language": locale, "Vary": "Accept-Language"}
    return web.Response(text=shown, content_type="text/html", status=status, headers=headers)
