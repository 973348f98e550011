"""The receivers: one HTTP server on loopback, a path for each webhook of each scenario and system."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from benchmarks.alertmanager.judging import Heard, heard_from


class Inbox:
    """What the webhooks of one scenario got from one system."""

    def __init__(self, url: str, outages: Mapping[str, tuple[float, float]]) -> None:
        """`url` is what the name of a webhook is appended to."""
        self.url = url
        self.heard: list[Heard] = []
        self._outages = outages
        self._began = time.monotonic()

    def begin(self) -> None:
        """Now is second 0."""
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def take(self, hook: str, body: bytes) -> int:
        """The status with which to answer."""
        now = self.now
        since, until = self._outages.get(hook, (0.0, 0.0))
        if since <= now < until:
            return 503
        self.heard.append(heard_from(hook, now, orjson.loads(body)))
        return 200


class Webhooks:
    """All inboxes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._inboxes: dict[str, Inbox] = {}

    def inbox(self, outages: Mapping[str, tuple[float, float]]) -> Inbox:
        """A new one."""
        number = str(len(self._inboxes))
        self._inboxes[number] = Inbox(f"{self.url}/{number}/", outages)
        return self._inboxes[number]

    async def handle(self, request: web.Request) -> web.Response:
        inbox = self._inboxes[request.match_info["number"]]
        return web.Response(status=inbox.take(request.match_info["hook"], await request.read()))


@asynccontextmanager
async def webhooks() -> AsyncIterator[Webhooks]:
    """A server that runs."""
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    found = Webhooks("")
    app.router.add_post("/{number}/{hook}", found.handle)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        found.url = f"http://{host}:{port}"
        yield found
    finally:
        await runner.cleanup()
