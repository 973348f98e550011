"""The worker's HTTP server: probes, metrics, and what other modules add."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterable

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from agents import metric_protobuf
from agents.config import WebConfig
from agents.health import Health
from agents.metrics import Metrics
from agents.problem import bearer, expectation, problems
from tables.errors import RunError

log = logging.getLogger("tidemark.web")

PORTS_TRIED = 100


class WebServer:
    """Serves /livez, /readyz, /metrics, and the routes that it is given."""

    def __init__(
        self, config: WebConfig, metrics: Metrics, health: Health, routes: Iterable[web.RouteDef] = ()
    ) -> None:
        self._routes = list(routes)
        self._config = config
        self._metrics = metrics
        self._health = health
        self._runner: web.AppRunner | None = None
        self.port = config.port

    async def start(self) -> None:
        """Listen. Where nobody asked for the port and it is taken, the next free one is used.

        Raises RunError where the port was asked for and is taken.
        """
        listener = self._listen()
        self.port = listener.getsockname()[1]
        app = web.Application(middlewares=[problems, bearer(self._config.token)])
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._show_metrics)
        app.add_routes(
            web.RouteDef(each.method, each.path, each.handler, {**each.kwargs, "expect_handler": expectation})
            for each in self._routes
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        log.info("listening on http://%s:%s", self._config.host, self.port)

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _listen(self) -> socket.socket:
        config = self._config
        tries = 1 if config.port_was_asked else PORTS_TRIED
        for port in range(config.port, min(config.port + tries, 65_536)):
            try:
                return socket.create_server((config.host, port))
            except OSError as error:
                refusal = error
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    break
        # asyncio's wording goes on with the address again.
        reason = (refusal.strerror or str(refusal)).partition(" (")[0]
        if refusal.errno not in (errno.EADDRINUSE, errno.EACCES):
            hint = "choose an address of this machine with --web-host"
        else:
            hint = "choose another one with --web-port" if config.port_was_asked else "all ports above it are taken too"
        raise RunError(f"cannot listen on {config.host}:{config.port}: {reason}; {hint}")

    async def _livez(self, _: web.Request) -> web.Response:
        return _verdict(self._health.why_not_live())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _verdict(self._health.why_not_ready())

    async def _show_metrics(self, request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        protobuf = (metric_protobuf.encode, metric_protobuf.CONTENT_TYPE)
        encode, content_type = protobuf if metric_protobuf.is_preferred(accept) else choose_encoder(accept)
        return web.Response(body=self._metrics.exposition(encode), headers={"Content-Type": content_type})


def _verdict(reasons: list[str]) -> web.Response:
    body = {"status": "unavailable" if reasons else "ok", "reasons": reasons}
    return web.Response(body=orjson.dumps(body), status=503 if reasons else 200, content_type="application/json")
