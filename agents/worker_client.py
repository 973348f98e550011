"""Asks a running worker's HTTP API, and takes nothing for an answer that no worker of ours gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import aiohttp
import msgspec
import orjson

from alerting.alert import LATEST_MS, printable
from tables.errors import ConfigError, RunError

WEB_TOKEN_VARIABLE: Final = "TIDEMARK_WEB_TOKEN"
TIMEOUT_S: Final = 15.0
CONNECT_S: Final = 5.0
"""Until then nobody has heard what was asked for."""

Time = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)]
T = TypeVar("T")


class AlertAnswer(msgspec.Struct, frozen=True):
    """What is shown of an alert."""

    alert_id: str
    severity: str
    status: str
    summary: str
    fired_at: Time
    acknowledged_by: str = ""
    comment: str = ""


class AlertsAnswer(msgspec.Struct, frozen=True):
    """GET /api/v1/alerts."""

    alerts: list[AlertAnswer]


class SilenceAnswer(msgspec.Struct, frozen=True):
    """What is shown of a silence."""

    id: str
    matchers: list[str]
    starts_at: Time
    ends_at: Time
    created_by: str
    comment: str = ""


class SilencesAnswer(msgspec.Struct, frozen=True):
    """GET /api/v1/silences."""

    silences: list[SilenceAnswer]


async def ask(
    method: str,
    url: str,
    answers: type[T],
    *,
    params: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> tuple[T, Any]:
    """The answer, and the same as plain data; `type(None)` for one without a body (204).

    Raises ConfigError (it refuses what was asked for), RunError (it does not answer, or is no worker).
    """
    token = os.environ.get(WEB_TOKEN_VARIABLE, "")
    if not token.isprintable():
        raise ConfigError(f"{WEB_TOKEN_VARIABLE}: expected printable characters, got others (a line end?)")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_S)) as session,
            session.request(method, url, params=params, json=body, headers=headers) as response,
        ):
            data = await response.read()
    except aiohttp.InvalidURL as error:
        raise ConfigError(f"--url: expected http://HOST:PORT, which {url} does not begin with") from error
    except aiohttp.ClientError as error:
        raise _unreachable(url, error) from error
    except TimeoutError as error:
        look = "silences" if "/silences" in url else "list"
        changes = "" if method == "GET" else f"; it may still be carried out: look with tidemark alerts {look}"
        raise RunError(f"{url} did not answer within {TIMEOUT_S:g} s{changes}") from error
    except OSError as error:
        raise _unreachable(url, error) from error
    try:
        found = orjson.loads(data) if data.strip() else None
        if response.status < 400:
            if (response.status == 204) != (found is None):
                raise ValueError(f"HTTP {response.status}")
            return msgspec.convert(found, answers), found
    except ValueError as error:
        raise RunError(f"{url} is no tidemark worker: {printable(str(error))}") from error
    detail = found.get("detail") or found.get("title") if isinstance(found, dict) else None
    refusal = printable(str(detail or f"HTTP {response.status}"), 400)
    raise ConfigError(refusal) if response.status == 400 else RunError(refusal)


def _unreachable(url: str, error: Exception) -> RunError:
    said = getattr(error, "strerror", None) or type(error).__name__
    return RunError(f"no worker answers at {url}: {said}; is one running, or is --url wrong?")
