"""The worker's HTTP server, asked over HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from agents import metric_protobuf
from agents.config import WebConfig
from agents.health import Health
from agents.metrics import Metrics
from agents.problem import problems
from agents.web import WebServer
from tables.errors import RunError

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on, with a free one above it."""
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def health() -> Health:
    return Health(assigned=True)


@pytest.fixture
async def server(health: Health) -> AsyncIterator[WebServer]:
    server = WebServer(WebConfig(host=HOST, port=0, port_was_asked=True), Metrics(), health)
    await server.start()
    yield server
    await server.stop()


async def ask(server: WebServer, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, str, Any, Any]:
    """Status, content type, body and headers."""
    async with (
        aiohttp.ClientSession(headers={"Accept": accept}) as session,
        session.request(method, f"http://{HOST}:{server.port}{path}") as answer,
    ):
        body = await answer.text(errors="replace")
        if answer.content_type.endswith("json"):
            body = orjson.loads(body)
        return answer.status, answer.content_type, body, answer.headers


async def test_the_probes_say_why_not(server: WebServer, health: Health) -> None:
    assert (await ask(server, "/livez"))[:3] == (200, "application/json", {"status": "ok", "reasons": []})
    assert (await ask(server, "/readyz"))[:3] == (200, "application/json", {"status": "ok", "reasons": []})

    health.store_error, health.restoring["join"] = "does not answer", {1}
    health.monotonic = lambda: 1e12
    reasons = ["store: does not answer", "join: restoring partitions 1"]
    assert (await ask(server, "/readyz"))[:3] == (
        503,
        "application/json",
        {"status": "unavailable", "reasons": reasons},
    )
    status, _, body, _ = await ask(server, "/livez")
    assert (status, body["status"]) == (503, "unavailable")
    assert body["reasons"][0].startswith("the main loop has not turned for ")


async def test_metrics_can_be_scraped(server: WebServer) -> None:
    server._metrics.events.labels("impressions").inc(3)
    status, content_type, text, headers = await ask(server, "/metrics")
    assert (status, content_type) == (200, "text/plain")
    assert "version=0.0.4" in headers["Content-Type"]
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert found["tidemark_events_consumed"].samples[0].value == 3


async def test_a_scraper_gets_the_form_that_it_asks_for(server: WebServer) -> None:
    server._metrics.events.labels("impressions").inc(3)
    _, content_type, text, _ = await ask(server, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert content_type == "application/openmetrics-text"
    assert text.endswith("# EOF\n")

    status, _, _, headers = await ask(server, "/metrics", accept=metric_protobuf.CONTENT_TYPE)
    assert (status, headers["Content-Type"]) == (200, metric_protobuf.CONTENT_TYPE)


async def test_errors_are_problems(server: WebServer) -> None:
    status, content_type, body, _ = await ask(server, "/nowhere")
    assert (status, content_type) == (404, "application/problem+json")
    assert body == {"type": "about:blank", "title": "Not Found", "status": 404, "instance": "/nowhere"}

    status, content_type, body, headers = await ask(server, "/metrics", "DELETE")
    assert (status, content_type, body["title"]) == (405, "application/problem+json", "Method Not Allowed")
    assert set(headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


async def test_an_error_of_ours_is_a_problem_and_tells_no_secret(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("password s3cret")

    monkeypatch.setattr(server._metrics, "exposition", fail)
    status, content_type, body, _ = await ask(server, "/metrics")
    assert (status, content_type, body["status"]) == (500, "application/problem+json", 500)
    assert "s3cret" not in str(body)


async def test_an_error_behind_a_signed_link_does_not_log_the_link(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("of ours")

    server = WebServer(
        WebConfig(host=HOST, port=0, port_was_asked=True), Metrics(), health, [web.get("/a/{token}", fail)]
    )
    await server.start()
    try:
        status, *_ = await ask(server, "/a/WyJhY2tub3dsZWRnZSIs")
    finally:
        await server.stop()
    assert status == 500
    assert "GET /a/*** failed" in caplog.text and "WyJhY2" not in caplog.text


async def test_a_redirection_is_no_problem() -> None:
    async def moved(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    with pytest.raises(web.HTTPFound):
        await problems(make_mocked_request("GET", "/"), moved)


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error(taken: int, health: Health) -> None:
    server = WebServer(WebConfig(host=HOST, port=taken, port_was_asked=True), Metrics(), health)
    with pytest.raises(RunError, match=rf"cannot listen on {HOST}:{taken}: .*; choose another one with --web-port"):
        await server.start()
    await server.stop()


async def test_where_nobody_asked_the_next_free_one_is_taken(taken: int, health: Health) -> None:
    server = WebServer(WebConfig(host=HOST, port=taken), Metrics(), health)
    await server.start()
    assert taken < server.port < taken + 100
    assert (await ask(server, "/livez"))[0] == 200
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(server, "/livez")


async def test_a_host_that_is_not_ours_is_an_error_in_one_line(health: Health) -> None:
    for asked in (True, False):
        server = WebServer(WebConfig(host="192.0.2.1", port=6066, port_was_asked=asked), Metrics(), health)
        with pytest.raises(RunError, match=r"cannot listen on 192\.0\.2\.1:6066") as caught:
            await server.start()
        assert "ports above it" not in str(caught.value)
        assert str(caught.value).endswith("; choose an address of this machine with --web-host")


async def test_a_server_can_be_started_again_on_its_port(health: Health) -> None:
    first = WebServer(WebConfig(host=HOST, port=0, port_was_asked=True), Metrics(), health)
    await first.start()
    assert (await ask(first, "/livez"))[0] == 200
    await first.stop()
    await first.stop()
    second = WebServer(WebConfig(host=HOST, port=first.port, port_was_asked=True), Metrics(), health)
    await second.start()
    await second.stop()


async def test_with_a_token_the_api_is_for_those_who_have_it(health: Health) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    config = WebConfig(host=HOST, port=0, port_was_asked=True, token="0123456789abcdef")
    assert "0123456789" not in repr(config)
    server = WebServer(config, Metrics(), health, [web.get("/api/v1/hello", hello), web.get("/a/token", hello)])
    await server.start()
    try:
        status, kind, problem, headers = await ask(server, "/api/v1/hello")
        assert (status, kind, headers["WWW-Authenticate"]) == (401, "application/problem+json", "Bearer")
        assert problem["title"] == "no token"
        url = f"http://{HOST}:{server.port}/api/v1/hello"
        async with aiohttp.ClientSession() as session:
            for given, expected in (("0123456789abcdef", 200), ("0123456789abcdeg", 401), ("", 401), ("\xe9", 401)):
                async with session.get(url, headers={"Authorization": f"Bearer {given}"}) as answer:
                    assert answer.status == expected
        # Links carry their own right, and probes know nothing.
        assert (await ask(server, "/a/token"))[0] == (await ask(server, "/livez"))[0] == 200
    finally:
        await server.stop()
