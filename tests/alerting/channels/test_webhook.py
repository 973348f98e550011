from __future__ import annotations

import gzip
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from alerting.alert import Alert
from alerting.channels.base import DeliveryFailed
from alerting.channels.webhook import WebhookChannel
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Answer, Receiver, drip, hang, reset, status
from tests.alerting.samples import an_alert

SECRET = "s3cr3t-key"


@pytest.fixture
async def webhook(receiver: Receiver) -> AsyncIterator[Callable[..., WebhookChannel]]:
    opened: list[WebhookChannel] = []

    def build(url: str = receiver.url, **options: Any) -> WebhookChannel:
        opened.append(WebhookChannel(url, **options))
        return opened[-1]

    yield build
    for channel in opened:
        await channel.close()


async def failure_of(channel: WebhookChannel, alert: Alert | None = None) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await channel.send(alert or an_alert())
    return caught.value


async def test_the_request_that_a_receiver_sees(receiver: Receiver, webhook: Callable[..., WebhookChannel]) -> None:
    await webhook(receiver.url + "?team=recsys", secret=SECRET).send(an_alert())
    (request,) = receiver.received
    assert (request.method, request.path) == ("POST", "/hook?team=recsys")
    assert Alert.from_json(request.body) == an_alert()
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "00000000000000a1:firing"
    expected = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Tidemark-Signature"] == f"sha256={expected}"


async def test_without_a_secret_nothing_is_signed(receiver: Receiver, webhook: Callable[..., WebhookChannel]) -> None:
    await webhook().send(an_alert())
    assert "X-Tidemark-Signature" not in receiver.received[0].headers


@pytest.mark.parametrize("code", [200, 201, 202, 204])
async def test_any_2xx_is_delivered(receiver: Receiver, webhook: Callable[..., WebhookChannel], code: int) -> None:
    receiver.answer(code)
    await webhook().send(an_alert())


@pytest.mark.parametrize(
    ("answer", "retryable", "reason"),
    [
        (status(500), True, "HTTP 500"),
        (status(503), True, "HTTP 503"),
        (status(408), True, "HTTP 408"),
        (status(429), True, "HTTP 429"),
        (status(400, "no such channel\n"), False, "HTTP 400: no such channel"),
        (status(401), False, "HTTP 401"),
        (status(404), False, "HTTP 404"),
        (status(302, Location="/elsewhere"), False, "HTTP 302, and redirects are not followed"),
        (hang, True, "no answer within 0.2 s"),
        (reset, True, ""),
    ],
)
async def test_what_is_worth_another_try(
    receiver: Receiver, webhook: Callable[..., WebhookChannel], answer: Answer, retryable: bool, reason: str
) -> None:
    receiver.answer(answer)
    failure = await failure_of(webhook(timeout_s=0.2))
    assert failure.retryable is retryable
    assert failure.reason.startswith(reason)
    assert len(receiver.received) == 1


async def test_nobody_listens(webhook: Callable[..., WebhookChannel], unused_tcp_port: int) -> None:
    failure = await failure_of(webhook(f"http://127.0.0.1:{unused_tcp_port}/"))
    assert failure.retryable


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Fri, 01 May 2026 10:00:30 GMT", "Date": "Fri, 01 May 2026 10:00:00 GMT"}, 30.0),
        ({"Retry-After": "Fri, 01 May 2026 09:00:00 GMT", "Date": "Fri, 01 May 2026 10:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
    ],
)
async def test_how_long_a_receiver_asks_to_wait(
    receiver: Receiver, webhook: Callable[..., WebhookChannel], headers: dict[str, str], wait: float | None
) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers=headers)

    receiver.answer(busy)
    assert (await failure_of(webhook())).retry_after_s == wait


async def test_an_accepting_answer_with_an_endless_body_is_still_accepting(
    receiver: Receiver, webhook: Callable[..., WebhookChannel]
) -> None:
    receiver.answer(drip(200))
    await webhook(timeout_s=0.2).send(an_alert())


async def test_a_refusing_answer_with_an_endless_body_is_known_by_its_status(
    receiver: Receiver, webhook: Callable[..., WebhookChannel]
) -> None:
    receiver.answer(drip(400))
    failure = await failure_of(webhook(timeout_s=0.2))
    assert (failure.reason, failure.retryable) == ("HTTP 400: x", False)


async def test_a_huge_error_page_is_cut(receiver: Receiver, webhook: Callable[..., WebhookChannel]) -> None:
    receiver.answer(status(400, "<html>\x1b[2J\n" + "x" * 1_000_000))
    failure = await failure_of(webhook())
    assert len(failure.reason) < 250
    assert failure.reason.isprintable()


async def test_a_compressed_answer_is_not_unpacked(receiver: Receiver, webhook: Callable[..., WebhookChannel]) -> None:
    """A kilobyte on the wire can be a gigabyte in memory; nobody asked for compression."""

    async def compressed(request: web.Request) -> web.StreamResponse:
        body = gzip.compress(b"words " * 100)
        return web.Response(status=400, body=body, headers={"Content-Encoding": "gzip"})

    receiver.answer(compressed)
    failure = await failure_of(webhook())
    assert receiver.received[0].headers["Accept-Encoding"] == "identity"
    assert "words words" not in failure.reason


async def test_credentials_in_the_url_are_sent_as_basic_auth_and_never_shown(
    receiver: Receiver, webhook: Callable[..., WebhookChannel]
) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        told = f"{request.headers['Authorization']} {request.path_qs} {SECRET} hunter2"
        return web.Response(status=400, text=told)

    receiver.answer(echo)
    url = receiver.url.replace("http://", "http://bob:hunter2@") + "?key=token-77"
    channel = webhook(url, secret=SECRET)
    failure = await failure_of(channel)
    assert receiver.received[0].headers["Authorization"] == "Basic Ym9iOmh1bnRlcjI="
    shown = f"{channel!r} {channel} {failure!r} {failure.reason}"
    for hidden in ("hunter2", "bob", "token-77", SECRET, "Ym9iOmh1bnRlcjI="):
        assert hidden not in shown
    assert "127.0.0.1" in repr(channel)


async def test_a_closed_channel_opens_again_when_it_is_used(
    receiver: Receiver, webhook: Callable[..., WebhookChannel]
) -> None:
    channel = webhook()
    await channel.send(an_alert())
    await channel.close()
    await channel.send(an_alert())
    assert len(receiver.received) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://pw-1@example.com/"},
        {"url": "alerts.example.com/pw-1"},
        {"url": "http://[pw-1/"},
        {"url": "http://example.com:pw-1/"},
        {"url": ""},
        {"url": "http://example.com/", "secret": ""},
        {"url": "http://example.com/", "timeout_s": 0},
    ],
)
def test_settings_that_cannot_work_are_refused_without_repeating_them(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^channel ops: expected ") as refusal:
        WebhookChannel(**options, name="ops")
    assert "pw-1" not in str(refusal.value)
