"""What the API and the pages behind links answer when something is not as usual; the usual is in test_alerting."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agents import alerts_api
from agents.desk_view import DeskView
from alerting.signed_links import LinkSigner
from tables.errors import StoreError, StoreUnavailable
from tests.agents.alerting_world import World, an_alert, eventually, over, world
from tests.alerting.notes import HOSTILE

pytestmark = pytest.mark.allow_blocking  # aiohttp's and Faust's own, while they start


def signer(here: World, later_ms: int = 0) -> LinkSigner:
    config = here.config
    return LinkSigner(here.url, config.privacy.link_secret, config.links.ttl_ms, lambda: here.app.now_ms() + later_ms)


async def listed(here: World, alert_id: str) -> bool:
    _, answer = await here.ask("GET", "/api/v1/alerts")
    return alert_id in [each["alert_id"] for each in answer["alerts"]]


@pytest.mark.parametrize("error", [StoreUnavailable("store: no answer"), StoreError("of another version")])
async def test_while_the_store_is_away_nothing_is_known_and_that_is_said(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    async def away(_: DeskView) -> list[object]:
        raise error

    async with world(tmp_path, redis_url) as here:
        monkeypatch.setattr(DeskView, "_desks", away)
        path = urlsplit(signer(here).ack_url("a1", "ops")).path
        for method, asked in (
            ("GET", "/api/v1/alerts"),
            ("GET", "/api/v1/silences"),
            ("POST", "/api/v1/alerts/a1/ack"),
            ("DELETE", "/api/v1/silences/s1"),
            ("GET", path),
            ("POST", path),
        ):
            async with here.http.request(method, here.url + asked) as answer:
                problem = await answer.json(content_type="application/problem+json")
            assert (answer.status, problem["status"], problem["title"]) == (503, 503, "store unavailable"), asked
            assert problem["detail"] == str(error)


async def test_what_nobody_has_carried_out_yet_is_not_confirmed(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_api, "SEEN_WITHIN_S", 0.3)
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        assert here.app.alerting is not None
        # It lives on, and writes nothing down any more.
        monkeypatch.setattr(here.app.alerting.agent.custodian, "take", lambda message: None)
        status, problem = await here.ask("POST", f"/api/v1/alerts/{alert.alert_id}/ack")
        assert (status, problem["title"]) == (504, "not confirmed yet")
        status, problem = await here.ask("POST", "/api/v1/silences", json={"matchers": ['x="1"']})
        assert status == 504
        assert problem["detail"].startswith("written down, but no worker has carried it out within 0.3 s")


async def test_who_comes_second_is_told_who_was_first(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        ack = f"/api/v1/alerts/{alert.alert_id}/ack"
        status, first = await here.ask("POST", ack, json={"by": "alice", "comment": "rolling back"})
        assert (status, first["acknowledged_by"], first["comment"]) == (200, "alice", "rolling back")
        status, second = await here.ask("POST", ack, json={"by": "bob"})
        assert (status, second["acknowledged_by"]) == (200, "alice")
        status, page = await here.ask("GET", urlsplit(signer(here).ack_url(alert.alert_id, "ops")).path)
        assert status == 200
        assert "Somebody looks after it already" in page and "<form" not in page


async def test_a_body_that_is_too_large_or_comes_in_parts(tmp_path: Path, redis_url: str) -> None:
    async def slowly(*parts: bytes) -> AsyncIterator[bytes]:
        for part in parts:
            yield part
            await asyncio.sleep(0.05)

    async with world(tmp_path, redis_url) as here:
        for data in (b" " * (alerts_api.BODY_BYTES + 1), slowly(*[b" " * 40_000] * 2)):
            status, problem = await here.ask("POST", "/api/v1/silences", data=data)
            assert (status, problem["title"]) == (413, "too large")
        parts = slowly(b'{"matchers": ["mod', b'el_id=\\"home\\""]', b', "created_by": "ann"}')
        status, silence = await here.ask("POST", "/api/v1/silences", data=parts)
        assert (status, silence["created_by"]) == (201, "ann")


@pytest.mark.parametrize("starts_at", [-1, 2**62, 2**64 - 1])
async def test_a_silence_at_a_time_that_no_date_has_is_refused_and_nothing_comes_of_it(
    tmp_path: Path, redis_url: str, starts_at: int
) -> None:
    async with world(tmp_path, redis_url) as here:
        body = {"matchers": ['x="1"'], "starts_at": starts_at, "duration": "1h"}
        status, problem = await here.ask("POST", "/api/v1/silences", json=body)
        assert (status, problem["title"]) == (400, "bad silence")
        assert problem["detail"].startswith("starts_at: expected milliseconds since the epoch")
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: listed(here, alert.alert_id))
        assert (await here.ask("GET", "/api/v1/silences"))[1] == {"silences": []}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"by": 7}, "by: expected text of at most 500 characters"),
        ({"comment": "x" * 501}, "comment: expected text of at most 500 characters"),
    ],
)
async def test_what_is_said_of_oneself_is_text(
    tmp_path: Path, redis_url: str, body: dict[str, object], said: str
) -> None:
    async with world(tmp_path, redis_url) as here:
        status, problem = await here.ask("POST", "/api/v1/alerts/a1/ack", json=body)
        assert (status, problem["detail"]) == (400, said)


async def test_a_link_that_has_expired_or_is_forged_does_nothing(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        old = urlsplit(signer(here, -here.config.links.ttl_ms).ack_url(alert.alert_id, "ops")).path
        forged = LinkSigner(here.url, "another secret of 32 characters!", 60_000, here.app.now_ms)
        for path in (old, urlsplit(forged.ack_url(alert.alert_id, "ops")).path, "/a/x", "/a/..."):
            for method in ("GET", "POST"):
                status, problem = await here.ask(method, path)
                assert (status, problem["title"]) == (403, "link not valid"), path
        (known,) = (await here.ask("GET", "/api/v1/alerts"))[1]["alerts"]
        assert known["status"] == "firing"


async def test_what_an_event_says_is_text_on_the_page(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = replace(an_alert(), summary=f'{HOSTILE} " onload="x <img src=x onerror=alert(1)>')
        here.put(alert)
        await eventually(lambda: listed(here, alert.alert_id))
        for url in (signer(here).ack_url(alert.alert_id, "ops"), signer(here).silence_url(alert.alert_id, 60, "ops")):
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
        for url in (links.ack_url(alert.alert_id, "ops"), links.silence_url(alert.alert_id, 60, "ops")):
            path = urlsplit(url).path
            status, page = await here.ask("GET", path)
            assert (status, "This alert is over" in page, "<form" in page) == (200, True, False)
            assert (await here.ask("POST", path))[0] == 404
