"""The pages behind the links in messages: one button, which acknowledges or silences the alerts of the message.

Opening the link changes nothing: mail scanners and chat previews open every link that they see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from agents.alerts_api import AlertsApi
from agents.link_html import WORDS, PageWords, locale_of, page
from agents.problem import Problem
from alerting.alert import Alert, printable
from alerting.desk.desk import IncidentView
from alerting.desk.matchers import Matcher
from alerting.desk.routing import labels_of
from alerting.desk.silences import Silence
from alerting.message import Locale
from alerting.notification import Link, Notification, key_of
from alerting.signed_links import PATH, Claim, LinkSigner
from alerting.texts.rendering import MOST_ALERTS
from tables.errors import ConfigError, InputError

SILENCE_MINUTES: Final = 60


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
        return [web.get(path, self._get, allow_head=False), web.post(path, self._post)]

    def links(self, notification: Notification) -> list[Link]:
        """To act on what fires of the alerts that a message of this notification shows."""
        firing = tuple(one.alert_id for one in notification.alerts[:MOST_ALERTS] if one.status == "firing")
        if notification.stage not in ("firing", "repeat", "escalation") or not firing:
            return []
        signer = self._signer()
        return [
            Link(title="acknowledge", url=signer.ack_url(firing, notification.channel)),
            Link(title="silence", url=signer.silence_url(firing, SILENCE_MINUTES, notification.channel)),
        ]

    async def _get(self, request: web.Request) -> web.Response:
        return await _for_people(request, self._ask)

    async def _post(self, request: web.Request) -> web.Response:
        return await _for_people(request, self._act)

    async def _ask(self, request: web.Request, locale: Locale) -> web.Response:
        claim, words = self._claim(request), WORDS[locale]
        found = await self._open(claim)
        if not found:
            return page(locale, *words.over)
        if claim.action == "silence":
            return page(
                locale,
                _counted(words.ask_silence, found),
                lines=_summaries(found),
                button=words.silence.format(minutes=claim.minutes),
            )
        firing = [each for each in found if each.status == "firing"]
        if not firing:
            return page(locale, _counted(words.acked_before, found), lines=_summaries(found))
        return page(locale, _counted(words.ask_ack, firing), lines=_summaries(firing), button=words.ack)

    async def _act(self, request: web.Request, locale: Locale) -> web.Response:
        claim, words = self._claim(request), WORDS[locale]
        found = await self._open(claim)
        if not found:
            title, text = words.over
            return page(locale, title, text, status=404)
        if claim.action == "acknowledge":
            acked = await self._api.acknowledge([each.alert.alert_id for each in found], claim.who)
            return page(locale, _counted(words.acked, acked), lines=_summaries(acked))
        silences = await self._api.silence(self._silences(claim, request.match_info["token"], found))
        until = datetime.fromtimestamp(min(each.ends_at for each in silences) / 1000, UTC)
        said = words.silenced_until.format(time=f"{until:%Y-%m-%d %H:%M}")
        return page(locale, words.silenced, said, _summaries(found))

    async def _open(self, claim: Claim) -> list[IncidentView]:
        return [each for each in await self._api.incidents(claim.alert_ids) if each.status != "resolved"]

    def _silences(self, claim: Claim, token: str, found: Sequence[IncidentView]) -> list[Silence]:
        """One for each rule, model, version and labels."""
        now = self._now_ms()
        try:
            matchers = dict.fromkeys(_matchers_of(each.alert) for each in found)
            return [
                Silence(
                    # The same whenever the button is pressed: a link that somebody finds later makes no second one.
                    id=key_of(token, *each)[:16],
                    matchers=each,
                    starts_at=now,
                    ends_at=now + claim.minutes * 60_000,
                    created_by=claim.who,
                    created_at=now,
                )
                for each in matchers
            ]
        except ConfigError as error:
            raise Problem(400, "cannot be silenced", str(error)) from error

    def _claim(self, request: web.Request) -> Claim:
        try:
            return self._signer().verify(request.match_info["token"])
        except InputError as error:
            raise Problem(403, "link not valid", str(error)) from error


def _matchers_of(alert: Alert) -> tuple[Matcher, ...]:
    """What fits this alert and others of the same rule, model, version and labels; an empty version too."""
    labels = labels_of(alert)
    names = dict.fromkeys(("rule", "model_id", "model_version", *sorted(alert.labels)))
    return tuple(Matcher(name, "=", labels[name]) for name in names)


def _counted(titles: tuple[str, str], found: Sequence[IncidentView]) -> str:
    return titles[len(found) > 1].format(n=len(found))


def _summaries(found: Sequence[IncidentView]) -> list[str]:
    return [printable(each.alert.summary, 500) for each in found]


async def _for_people(
    request: web.Request, answer: Callable[[web.Request, Locale], Awaitable[web.Response]]
) -> web.Response:
    """The answer; what is wrong is a page too, as who opens a link is no program."""
    locale = locale_of(request)
    try:
        return await answer(request, locale)
    except Problem as problem:
        words: PageWords = WORDS[locale]
        title, text = words.problems.get(problem.status, (problem.title.capitalize(), problem.detail))
        return page(locale, title, text, status=problem.status)
