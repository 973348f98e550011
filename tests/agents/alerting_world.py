"""A worker on an embedded broker and a real Redis, a receiver beside it, and alerts put in by hand."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml
from aiohttp import web

from agents.app import create_app
from agents.config import Config, load_config
from agents.tidemark_app import TidemarkApp
from agents.transports.memory_broker import MemoryBroker
from alerting.alert import Alert, Severity, alert_id_of, fingerprint_of
from deploy.process import free_port
from tests.alerting import samples


@dataclass
class World:
    """What the stories use."""

    config: Config
    app: TidemarkApp
    told: list[dict[str, Any]]
    """Bodies that the receiver was sent."""
    http: aiohttp.ClientSession
    published: list[dict[str, Any]] = field(default_factory=list)
    """What stands on the topic of the alerts beside what was put there."""

    @property
    def url(self) -> str:
        return self.app.base_url

    def put(self, alert: Alert) -> None:
        """As the windows agent does."""
        self.broker.append(self.config.topics.alerts, alert.model_id.encode(), alert.to_json())

    def put_raw(self, topic: str, value: bytes) -> None:
        self.broker.append(topic, None, value)

    @property
    def broker(self) -> MemoryBroker:
        return MemoryBroker.of(self.config.broker.removeprefix("memory://"))

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and body of an answer of the worker."""
        async with self.http.request(method, self.url + path, **options) as answer:
            data = await answer.read()
            is_json = "json" in answer.content_type
            return answer.status, orjson.loads(data) if is_json and data else data.decode()


def an_alert(
    model: str = "home",
    *,
    severity: Severity = "critical",
    rule: str = "errors-high",
    started_at: int | None = None,
) -> Alert:
    """One that fires, with ids as the rules give them; it began this minute if nothing else is said."""
    started = time.time_ns() // 60_000_000_000 * 60_000 if started_at is None else started_at
    fingerprint = fingerprint_of(rule, model, "v3", {})
    return samples.an_alert(
        alert_id=alert_id_of(fingerprint, started),
        fingerprint=fingerprint,
        rule=rule,
        severity=severity,
        model_id=model,
        model_version="v3",
        labels={},
        value=0.2,
        started_at=started,
        fired_at=started + 120_000,
        summary=f"Error rate of {model} v3 is 20.0 %, above 5 % for 2 min",
        related={"requests": 1000, "errors": 200, "metric": "error_rate", "comparison": ">"},
    )


def over(alert: Alert) -> Alert:
    """The end of it."""
    return replace(alert, status="resolved", resolved_at=alert.fired_at + 60_000)


async def eventually(look: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until `look` gives something, or something to be awaited that does."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def world(folder: Path, redis_url: str, settings: Mapping[str, Any] | None = None) -> AsyncIterator[World]:
    """A running worker; `settings` as in its configuration file."""
    told: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        told.append(orjson.loads(await request.read()))
        return web.Response()

    receiver = web.Application()
    receiver.router.add_post("/hook", take)
    runner = web.AppRunner(receiver, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    file = folder / "tidemark.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "group": f"g{uuid.uuid4().hex[:8]}",
                "store": redis_url,
                "web": {"port": free_port()},
                "channels": [{"type": "webhook", "name": "ops", "url": f"http://127.0.0.1:{port}/hook"}],
                **(settings or {}),
            }
        )
    )
    config = load_config(file, {}, {"broker": "memory://"})
    config = replace(config, broker=f"memory://alerting-{uuid.uuid4().hex}")
    broker = MemoryBroker.of(config.broker.removeprefix("memory://"))
    for topic in (*config.topics.inputs, *config.topics.outputs):
        broker.create_topic(topic, 1)
    app = create_app(config)
    async with aiohttp.ClientSession() as http:
        here = World(config, app, told, http)
        broker.tap(config.topics.alerts, lambda _, record: here.published.append(orjson.loads(record.value or b"{}")))
        try:
            await app.start()
            await eventually(lambda: any(held.state.caught_up for held in desks(app)))
            yield here
        finally:
            await app.stop()
            await runner.cleanup()
            MemoryBroker.forget(config.broker.removeprefix("memory://"))


def desks(app: TidemarkApp) -> list[Any]:
    """What the worker holds of the alerts."""
    assert app.alerting is not None
    return list(app.alerting.agent.custodian.held.values())
