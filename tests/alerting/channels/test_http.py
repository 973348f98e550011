from __future__ import annotations

import gzip
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from alerting.channels.base import DeliveryFailed
from alerting.channels.http import HttpPoster, HttpRefused, json_object
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Answer, Receiver, drip, echo, hang, reset, status, told

Make = Callable[..., HttpPoster]
SECRET = "s3cr3t-key"


@pytest.fixture
async def poster(receiver: Receiver) -> AsyncIterator[Make]:
    opened: list[HttpPoster] = []

    def make(url: str = receiver.url, **options: Any) -> HttpPoster:
        opened.append(HttpPoster("ops", url, **options))
        return opened[-1]

    yield make
    for made in opened:
        await made.close()


async def failure_of(poster: HttpPoster, **options: Any) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await poster.post(b"{}", **options)
    return caught.value


async def test_the_request_that_the_other_side_sees(receiver: Receiver, poster: Make) -> None:
    ops = poster(receiver.url + "?team=recsys")
    await ops.post(b'{"a":1}', headers={"X-Part": "1"}, query={"sign": "a+b/c="})
    (request,) = receiver.received
    assert (request.method, request.path) == ("POST", "/hook?team=recsys&sign=a%2Bb/c%3D")
    assert request.body == b'{"a":1}'
    assert (request.headers["Content-Type"], request.headers["X-Part"]) == ("application/json", "1")
    assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("code", [200, 201, 202, 204])
async def test_any_2xx_is_an_answer(receiver: Receiver, poster: Make, code: int) -> None:
    receiver.answer(status(code, "" if code == 204 else "ok"))
    assert await poster().post(b"{}") == (code, b"" if code == 204 else b"ok")


@pytest.mark.parametrize(
    ("answer", "retryable", "reason"),
    [
        (status(500, "boom"), True, "HTTP 500: boom"),
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
    receiver: Receiver, poster: Make, answer: Answer, retryable: bool, reason: str
) -> None:
    receiver.answer(answer)
    failure = await failure_of(poster(timeout_s=0.2))
    assert failure.retryable is retryable
    assert failure.throttled is (reason == "HTTP 429")
    assert failure.reason.startswith(reason)
    assert len(receiver.received) == 1


async def test_nobody_listens(poster: Make, unused_tcp_port: int) -> None:
    failure = await failure_of(poster(f"http://127.0.0.1:{unused_tcp_port}/robot-token-77"))
    assert failure.retryable
    assert "robot-token-77" not in failure.reason


async def test_a_connection_that_is_not_made_in_time_is_worth_another_try(poster: Make) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        failure = await failure_of(poster(f"http://127.0.0.1:{full.getsockname()[1]}/", timeout_s=0.2))
    assert (failure.reason, failure.retryable) == ("no answer within 0.2 s", True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Fri, 01 May 2026 10:00:30 GMT", "Date": "Fri, 01 May 2026 10:00:00 GMT"}, 30.0),
        ({"Retry-After": "Fri, 01 May 2026 09:00:00 GMT", "Date": "Fri, 01 May 2026 10:00:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 01 May 2026 10:00:30 GMT", "Date": "today"}, 25.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
    ],
)
async def test_how_long_the_other_side_asks_to_wait(
    receiver: Receiver, poster: Make, headers: dict[str, str], wait: float | None
) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers=headers)

    receiver.answer(busy)
    ten_and_five_seconds = 1_777_629_605.0
    assert (await failure_of(poster(now=lambda: ten_and_five_seconds))).retry_after_s == wait


async def test_an_endless_body_takes_no_longer_than_the_timeout(receiver: Receiver, poster: Make) -> None:
    receiver.answer(drip(200), drip(400))
    assert await poster(timeout_s=0.2).post(b"{}") == (200, b"x")
    failure = await failure_of(poster(timeout_s=0.2))
    assert (failure.reason, failure.retryable) == ("HTTP 400: x", False)


async def test_of_a_huge_body_a_part_is_read_and_less_is_shown(receiver: Receiver, poster: Make) -> None:
    receiver.answer(status(200, "x" * 1_000_000), status(400, "<html>\x1b[2J\n" + "x" * 1_000_000))
    assert len((await poster().post(b"{}")).body) == 16 * 1024
    failure = await failure_of(poster())
    assert len(failure.reason) < 250
    assert failure.reason.isprintable()


async def test_a_refusal_hands_over_its_answer(receiver: Receiver, poster: Make) -> None:
    receiver.answer(told({"code": 11232}, 400))
    failure = await failure_of(poster())
    assert isinstance(failure, HttpRefused)
    assert (failure.answer.status, json_object(failure.answer)) == (400, {"code": 11232})


async def test_a_compressed_answer_is_not_unpacked(receiver: Receiver, poster: Make) -> None:
    """A kilobyte on the wire can be a gigabyte in memory; nobody asked for compression."""

    async def compressed(request: web.Request) -> web.StreamResponse:
        body = gzip.compress(b"words " * 100)
        return web.Response(status=400, body=body, headers={"Content-Encoding": "gzip"})

    receiver.answer(compressed)
    assert "words words" not in (await failure_of(poster())).reason


async def test_a_cookie_is_not_sent_back(receiver: Receiver, poster: Make) -> None:
    receiver.answer(status(200, Set_Cookie="session=1"))
    ops = poster()
    await ops.post(b"{}")
    await ops.post(b"{}")
    assert "Cookie" not in receiver.received[1].headers


async def test_what_is_secret_is_hidden_however_the_other_side_spells_it(receiver: Receiver, poster: Make) -> None:
    receiver.answer(echo, status(400, f"{SECRET} hunter2 Ym9iOmh1bnRlcjI= t/k+n%3D77 t%2Fk%2Bn%253D77 query-of-now"))
    url = receiver.url.replace("http://", "http://bob:hunter2@") + "/path-token-77?key=t/k%2Bn%253D77"
    ops = poster(url, secrets=[SECRET, b"another-secret"])
    for _ in range(2):
        failure = await failure_of(ops, headers={"X-Secret": SECRET}, query={"sign": "query-of-now"})
        shown = f"{failure!r} {failure.reason} {ops.origin}"
        assert failure.reason.startswith("HTTP 400: ")
        for hidden in ("hunter2", "bob", "path-token-77", "t/k", "n%3D77", SECRET, "Ym9iOmh1bnRlcjI=", "query-of-now"):
            assert hidden not in shown
    assert receiver.received[0].headers["Authorization"] == "Basic Ym9iOmh1bnRlcjI="


async def test_a_secret_within_json_is_hidden(receiver: Receiver, poster: Make) -> None:
    secret = 'say "friend" 密钥'
    receiver.answer(told({"said": secret}, 400))
    assert (await failure_of(poster(secrets=[secret]))).reason == 'HTTP 400: {"said": "***"}'


async def test_links_that_are_quoted_back_are_cut_to_their_host(receiver: Receiver, poster: Make) -> None:
    said = '{"said": "see https://tidemark.example.com/a/bG9uZw-token_77?by=ann, or <http://x.example/y>"}'
    receiver.answer(status(400, said))
    reason = (await failure_of(poster())).reason
    assert reason == 'HTTP 400: {"said": "see https://tidemark.example.com/*** or <http://x.example/***>"}'
    # As JSON may have it, as a query has it, and without the host.
    receiver.answer(
        status(400, r'{"said": "https:\/\/t.example\/a\/bG9uZw-token_77x", "to": "%2Fa%2FbG9uZw-token_77x"}')
    )
    assert (await failure_of(poster())).reason == r'HTTP 400: {"said": "https:\/\/t.example/***", "to": "%2Fa%2F***"}'
    receiver.answer(status(400, "u=https%3A%2F%2Ft.example%2Fa%2Fshort&x=1 /a/bG9uZw-token_77x"))
    assert (await failure_of(poster())).reason == "HTTP 400: u=https%3A%2F%2Ft.example/*** /a/***"


async def test_a_closed_one_opens_again_when_it_is_used(receiver: Receiver, poster: Make) -> None:
    ops = poster()
    await ops.post(b"{}")
    await ops.close()
    await ops.close()
    await ops.post(b"{}")
    assert len(receiver.received) == 2


@pytest.mark.parametrize("body", ["", "ok", "[1]", "null", "<html>", "[" * 10_000, '{"code": 0'])
async def test_a_2xx_answer_that_is_no_json_object_says_nothing(receiver: Receiver, poster: Make, body: str) -> None:
    receiver.answer(status(200, body))
    answer = await poster().post(b"{}")
    with pytest.raises(DeliveryFailed, match=r"^HTTP 200, but the answer is not a JSON object$") as caught:
        json_object(answer)
    assert caught.value.retryable


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://pw-1@example.com/"},
        {"url": "alerts.example.com/pw-1"},
        {"url": "http://[pw-1/"},
        {"url": "http://example.com:pw-1/"},
        {"url": ""},
        {"url": "http://example.com/", "secrets": [""]},
        {"url": "http://example.com/", "secrets": [b""]},
        {"url": "http://example.com/", "timeout_s": 0},
        {"url": "http://example.com/", "timeout_s": float("nan")},
    ],
)
def test_settings_that_cannot_work_are_refused_without_repeating_them(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^channel ops: expected ") as refusal:
        HttpPoster("ops", **options)
    assert "pw-1" not in str(refusal.value)
