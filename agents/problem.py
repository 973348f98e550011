"""What holds for every request: errors are RFC 9457 problem details, and the API may want a token."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware

from alerting.signed_links import hide_tokens

log = logging.getLogger("tidemark.web")

API: Final = "/api/"
"""Below it a token is asked for, where there is one; probes, metrics and signed links are elsewhere."""


class Problem(Exception):
    """What went wrong with a request: raised by a handler, answered as problem JSON."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        closes: bool = False,
        members: Mapping[str, object] | None = None,
    ) -> None:
        """`closes`: nothing more can be read from the connection; `members`: what a program reads beside the detail."""
        super().__init__(detail)
        self.closes = closes
        self.status = status
        self.title = title
        self.detail = detail
        self.members = members or {}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as problem details."""
    try:
        return await handler(request)
    except Problem as problem:
        headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
        answer = _answer(request, problem.status, problem.title, problem.detail, headers, problem.members)
        if problem.closes:
            answer.force_close()
        return answer
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _answer(request, error.status, error.reason, headers=headers)
    except Exception:
        log.exception("%s %s failed", request.method, hide_tokens(request.path))
        return _answer(request, 500, "Internal Server Error")


async def expectation(request: web.Request) -> web.Response | None:
    """Answer the header Expect: aiohttp's own refusal comes before every middleware, and is no problem."""
    expected = request.headers.get("Expect", "")
    if expected.lower() != "100-continue":
        return _answer(request, 417, "Expectation Failed", "expected no header Expect, or 100-continue")
    if request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Of the answer itself nothing has been written yet.
        request.writer.output_size = 0
    return None


def bearer(token: str) -> Middleware:
    """Let requests to the API pass only with this token; an empty one lets all of them pass."""
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if token and request.path.startswith(API) and not hmac.compare_digest(given, expected):
            raise Problem(401, "no token", "expected the header Authorization: Bearer with the token of this worker")
        return await handler(request)

    return check


def _answer(
    request: web.Request,
    status: int,
    title: str,
    detail: str = "",
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> web.Response:
    body: dict[str, object] = {
        **(members or {}),
        "type": "about:blank",
        "title": title,
        "status": status,
        "instance": request.path,
    }
    if detail:
        body["detail"] = detail
    return web.Response(
        body=orjson.dumps(body), status=status, headers=headers, content_type="application/problem+json"
    )
