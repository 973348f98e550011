"""What a request to the API holds: its body, and keys that somebody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from agents.problem import Problem
from alerting.alert import printable

BODY_BYTES: Final = 64 * 1024


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body; an empty one where there is no body. Raises Problem."""
    data = bytearray()
    try:
        async for part in request.content.iter_any():
            data += part
            if len(data) > BODY_BYTES:
                raise Problem(413, "too large", f"expected at most {BODY_BYTES} bytes")
    except web.RequestPayloadError as error:
        # Or the server looks for the rest, and takes what it finds for an error of ours.
        request.content.feed_eof()
        said = "expected a body as Content-Encoding and its length say"
        raise Problem(400, "not readable", said, closes=True) from error
    try:
        body = orjson.loads(data) if data.strip() else {}
    except orjson.JSONDecodeError as error:
        raise Problem(400, "not JSON", f"expected a JSON object: {error}") from error
    if not isinstance(body, dict):
        raise Problem(400, "not an object", "expected a JSON object")
    return body


def text_of(body: Mapping[str, Any], name: str, default: str) -> str:
    """A field that is text, or absent. Raises Problem."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > 500:
        raise Problem(400, f"bad {name}", f"{name}: expected text of at most 500 characters")
    return value or default


def check_keys(given: Iterable[str], known: tuple[str, ...], where: str) -> None:
    """Refuse a key that nobody reads: mistyped, it would be left out without a word. Raises Problem."""
    for name in given:
        if name not in known:
            raise Problem(
                400, f"unknown key in the {where}", f"{printable(name, 40)}: expected nothing but {', '.join(known)}"
            )
