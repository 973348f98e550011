"""The pages behind signed links, when something is not as usual; the usual is in test_alerting."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agents.desk_view import DeskView
from alerting.signed_links import LinkSigner
from tables.errors import StoreUnavailable
from tests.agents.alerting_world import World, an_alert, eventually, over, world
from tests.alerting.notes import HOSTILE

pytestmark = pytest.mark.allow_blocking  # aiohttp's and Faust's own, while they start

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
#: Every alert of a rule in one message.
BY_RULE = {
    "alerting": {
        "receivers": {"team": ["ops"]},
        "route": {"notify": ["team"], "group_by": ["rule"], "group_wait": "1s"},
    }
}


def signer(here: World, later_ms: int = 0) -> LinkSigner:
    config = here.config
    return LinkSigner(here.url, config.privacy.link_secret, config.links.ttl_ms, lambda: here.app.now_ms() + later_ms)


async def known(here: World) -> list[dict[str, Any]]:
    return list((await here.ask("GET", "/api/v1/alerts"))[1]["alerts"])


async def silences(here: World) -> list[dict[str, Any]]:
    return list((await here.ask("GET", "/api/v1/silences"))[1]["silences"])


async def listed(here: World, alert_id: str) -> bool:
    return alert_id in [each["alert_id"] for each in await known(here)]


async def test_a_link_that_has_expired_or_is_forged_does_nothing_and_people_are_told(
    tmp_path: Path, redis_url: str
) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        old = urlsplit(signer(here, -here.config.links.ttl_ms).ack_url((alert.alert_id,), "ops")).path
        forged = LinkSigner(here.url, "another secret of 32 characters!", 60_000, here.app.now_ms)
        for path in (old, urlsplit(forged.ack_url((alert.alert_id,), "ops")).path, "/a/x", "/a/..."):
            for method in ("GET", "POST"):
                async with here.http.request(method, here.url + path) as answer:
                    page = await answer.text()
                assert (answer.status, answer.content_type) == (403, "text/html"), path
                assert "This link does not hold" in page and "<form" not in page
                assert answer.headers["Cache-Control"] == "no-store"
                status, page = await here.ask(method, path, headers=CHINESE)
                assert (status, "链接无效" in page, 'lang="zh"' in page) == (403, True, True)
        assert [each["status"] for each in await known(here)] == ["firing"]


async def test_while_the_store_is_away_people_are_told_to_come_again(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: DeskView) -> list[object]:
        raise StoreUnavailable("store: no answer")

    async with world(tmp_path, redis_url) as here:
        monkeypatch.setattr(DeskView, "_desks", away)
        path = urlsplit(signer(here).ack_url(("a1",), "ops")).path
        for method in ("GET", "POST"):
            status, page = await here.ask(method, path)
            assert (status, "Nothing has been changed. Try again" in page) == (503, True)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("zh", "确认这条告警？"),
        ("en;q=0.5, zh-Hans;q=0.7", "确认这条告警？"),
        ("en-GB, zh;q=0.9", "Acknowledge this alert?"),
        ("fr, *;q=0.1", "Acknowledge this alert?"),
        ("zh;q=odd, ;;,", "Acknowledge this alert?"),
    ],
)
async def test_a_page_speaks_the_language_of_the_browser(
    tmp_path: Path, redis_url: str, language: str, expected: str
) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: listed(here, alert.alert_id))
        path = urlsplit(signer(here).ack_url((alert.alert_id,), "ops")).path
        _, page = await here.ask("GET", path, headers={"Accept-Language": language})
        assert f"<h1>{expected}</h1>" in page


async def test_the_links_of_a_group_act_on_all_that_it_shows(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url, BY_RULE) as here:
        home, search, labelled = (
            an_alert("home"),
            an_alert("search"),
            replace(an_alert("detail"), model_version="", labels={"feature": "gender"}),
        )
        for alert in (home, search, labelled):
            here.put(alert)
        await eventually(lambda: len(here.told) == 3)
        names = (home.alert_id, search.alert_id, labelled.alert_id)

        path = urlsplit(signer(here).silence_url(names, 60, "ops")).path
        _, page = await here.ask("GET", path)
        assert "<h1>Silence these 3 alerts?</h1>" in page and page.count("<li>") == 3
        assert (await here.ask("POST", path))[0] == 200
        assert {tuple(each["matchers"]) for each in await silences(here)} == {
            ('rule="errors-high"', 'model_id="home"', 'model_version="v3"'),
            ('rule="errors-high"', 'model_id="search"', 'model_version="v3"'),
            ('rule="errors-high"', 'model_id="detail"', 'model_version=""', 'feature="gender"'),
        }

        path = urlsplit(signer(here).ack_url(names, "ops")).path
        assert (await here.ask("POST", f"/api/v1/alerts/{home.alert_id}/ack", json={"by": "ann", "comment": None}))[
            0
        ] == 200
        _, page = await here.ask("GET", path)
        assert "<h1>Acknowledge these 2 alerts?</h1>" in page and home.summary not in page
        assert (await here.ask("POST", path))[0] == 200
        assert {each["model_id"]: each["acknowledged_by"] for each in await known(here)} == {
            "home": "ann",
            "search": "link on ops",
            "detail": "link on ops",
        }
        _, page = await here.ask("GET", path)
        assert "Somebody looks after all 3 already" in page and "<form" not in page


async def test_a_link_that_is_pressed_again_is_the_same_silence(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: listed(here, alert.alert_id))
        path = urlsplit(signer(here).silence_url((alert.alert_id,), 60, "ops")).path
        first = await here.ask("POST", path)
        before = await silences(here)
        assert await here.ask("POST", path) == first
        assert first[0] == 200 and "Quiet until" in first[1]
        assert await silences(here) == before and len(before) == 1


async def test_what_cannot_be_silenced_is_said_and_long_names_are_cut(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        long, short = an_alert("m" * 1001), an_alert("home")
        here.put(long)
        here.put(short)
        await eventually(lambda: listed(here, short.alert_id))
        assert await listed(here, long.alert_id)
        status, page = await here.ask("POST", urlsplit(signer(here).silence_url((long.alert_id,), 60, "ops")).path)
        assert status == 400
        assert "Cannot be silenced" in page and "at most 1000 characters, got 1001" in page
        path = urlsplit(signer(here).silence_url((short.alert_id,), 60, "c" * 95)).path
        assert (await here.ask("POST", path))[0] == 200
        (silence,) = await silences(here)
        assert silence["created_by"] == "link on " + "c" * 92


async def test_what_an_event_says_is_text_on_the_page(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = replace(an_alert(), summary=f'{HOSTILE} " onload="x <img src=x onerror=alert(1)>')
        here.put(alert)
        await eventually(lambda: listed(here, alert.alert_id))
        for url in (
            signer(here).ack_url((alert.alert_id,), "ops"),
            signer(here).silence_url((alert.alert_id,), 60, "ops"),
        ):
            for method in ("GET", "POST"):
                async with here.http.request(method, here.url + urlsplit(url).path) as answer:
                    page = await answer.text()
                assert answer.status == 200
                assert "<img" not in page and "<script" not in page and 'onload="' not in page
                assert html.escape("<img src=x onerror=alert(1)>") in page
                assert not any(mark in page for mark in ("\x1b", "\N{RIGHT-TO-LEFT OVERRIDE}"))
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_a_link_to_an_alert_that_is_over(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        here.put(over(alert))

        async def is_over() -> bool:
            return not await listed(here, alert.alert_id)

        await eventually(lambda: len(here.published) == 2)
        await eventually(is_over)
        links = signer(here)
        for url in (links.ack_url((alert.alert_id,), "ops"), links.silence_url((alert.alert_id,), 60, "ops")):
            path = urlsplit(url).path
            status, page = await here.ask("GET", path)
            assert (status, "This alert is over" in page, "<form" in page) == (200, True, False)
            assert (await here.ask("POST", path))[0] == 404
