"""The pages behind the links in messages: one button, which acknowledges or silences one alert.

Opening the link changes nothing: mail scanners and chat previews open every link that they see.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Final

from aiohttp import web

from agents.alerts_api import AlertsApi, silence_of
from agents.problem import Problem
from alerting.alert import printable
from alerting.notification import Link, Notification
from alerting.signed_links import PATH, Claim, LinkSigner
from tables.errors import InputError

SILENCE_MINUTES: Final = 60

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
}
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem}}
body{{color:#1a1a1a;background:#fff}}
button{{font:inherit;padding:.6rem 1.2rem;border:0;border-radius:.4rem;background:#0b5cad;color:#fff;cursor:pointer}}
@media(prefers-color-scheme:dark){{body{{color:#eee;background:#16181c}}}}</style>
<h1>{title}</h1><p>{text}</p>{form}</html>
"""
_FORM: Final = '<form method="post"><button autofocus>{button}</button></form>'


class LinkPages:
    """GET and POST /a/{token}."""

    def __init__(self, api: AlertsApi, signer: Callable[[], LinkSigner], now_ms: Callable[[], int]) -> None:
        self._api = api
        self._signer = signer
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        """To be served."""
        path = PATH + "{token}"
        # Without HEAD: what only looks whether there is something need not be told.
        return [web.get(path, self._ask, allow_head=False), web.post(path, self._act)]

    def links(self, notification: Notification) -> list[Link]:
        """To act on the first alert of a notification: who looks after it looks at its group."""
        if notification.stage not in ("firing", "repeat", "escalation"):
            return []
        signer, alert_id = self._signer(), notification.alerts[0].alert_id
        return [
            Link(title="acknowledge", url=signer.ack_url(alert_id, notification.channel)),
            Link(title="silence", url=signer.silence_url(alert_id, SILENCE_MINUTES, notification.channel)),
        ]

    async def _ask(self, request: web.Request) -> web.Response:
        claim = self._claim(request)
        incident = await self._api.incident(claim.alert_id)
        if incident is None:
            return _page("This alert is over", "Nothing is left to be done about it.")
        summary = printable(incident.alert.summary, 500)
        if claim.action == "silence":
            return _page("Silence this alert?", summary, f"Silence for {claim.minutes} minutes")
        if incident.status == "acknowledged":
            return _page("Somebody looks after it already", summary)
        return _page("Acknowledge this alert?", summary, "Acknowledge: I look after it")

    async def _act(self, request: web.Request) -> web.Response:
        claim = self._claim(request)
        by = f"link on {claim.by}" if claim.by else "link"
        if claim.action == "acknowledge":
            incident = await self._api.acknowledge(claim.alert_id, by)
            return _page("Acknowledged", printable(incident.alert.summary, 500))
        known = await self._api.incident(claim.alert_id)
        if known is None:
            raise Problem(404, "no such alert", "this alert is over")
        labels = {
            "rule": known.alert.rule,
            "model_id": known.alert.model_id,
            "model_version": known.alert.model_version,
        }
        matchers = [f"{name}={_quoted(value)}" for name, value in labels.items() if value]
        silence = silence_of({"matchers": matchers, "duration": claim.minutes * 60, "created_by": by}, self._now_ms())
        await self._api.silence(silence)
        return _page("Silenced", f"{printable(known.alert.summary, 500)}: quiet for {claim.minutes} minutes.")

    def _claim(self, request: web.Request) -> Claim:
        try:
            return self._signer().verify(request.match_info["token"])
        except InputError as error:
            raise Problem(403, "link not valid", str(error)) from error


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _page(title: str, text: str, button: str = "") -> web.Response:
    form = _FORM.format(button=html.escape(button)) if button else ""
    body = _PAGE.format(title=html.escape(title), text=html.escape(text), form=form)
    return web.Response(text=body, content_type="text/html", headers=_HEADERS)
