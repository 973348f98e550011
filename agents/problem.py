"""Errors of the HTTP API, as RFC 9457 problem details."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

log = logging.getLogger("tidemark.web")


class Problem(Exception):
    """What went wrong with a request: raised by a handler, answered as problem JSON."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as problem details."""
    try:
        return await handler(request)
    except Problem as problem:
        return _answer(request, problem.status, problem.title, problem.detail)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _answer(request, error.status, error.reason, headers=headers)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _answer(request, 500, "Internal Server Error")


def _answer(
    request: web.Request, status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "instance": request.path}
    if detail:
        body["detail"] = detail
    return web.Response(
        body=orjson.dumps(body), status=status, headers=headers, content_type="application/problem+json"
    )
