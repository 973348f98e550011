"""A real HTTP server on the loopback interface that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came in, and the answers still to give; when those run out, `otherwise`: all is well."""

    url: str = ""
    """With the path `/hook`."""
    otherwise: Answer = field(default_factory=lambda: status(204))
    received: list[Received] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return self.url.removesuffix("/hook")

    def answer(self, *answers: Answer | int) -> None:
        self.answers += [status(given) if isinstance(given, int) else given for given in answers]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.received.append(Received(request.method, request.path_qs, dict(request.headers), body))
        return await (self.answers.pop(0) if self.answers else self.otherwise)(request)


def status(code: int, text: str = "", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=text or None, headers=named)

    return answer


def told(content: object, code: int = 200, **headers: str) -> Answer:
    """JSON, as services answer that tell their errors in the body."""
    return status(code, json.dumps(content), **headers)


async def echo(request: web.Request) -> web.StreamResponse:
    """A refusal that quotes all of the request."""
    quoted = f"{request.path_qs} {request.rel_url.human_repr()} {dict(request.headers)} {await request.text()}"
    return web.Response(status=400, text=quoted)


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def drip(code: int) -> Answer:
    """A status at once, then a body that never ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=code)
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return answer


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        receiver.url = f"http://{host}:{port}/hook"
        yield receiver
    finally:
        await runner.cleanup()
