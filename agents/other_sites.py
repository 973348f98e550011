"""Keeps pages of other sites from acting through the browser of somebody who can reach this port."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from agents.problem import Problem


class OtherSites:
    """Tells requests that a browser sends for a page of another site; programs send none of these headers."""

    def __init__(self, web_host: str, base_url: str) -> None:
        """`web_host`: where the worker listens; `base_url`: where people reach it, perhaps empty."""
        self._names = {web_host.lower(), urlsplit(base_url).hostname or web_host.lower()}
        self._is_local = _is_loopback(web_host)

    def refuse(self, request: web.Request) -> None:
        """Raise Problem for a request that is to change something and comes from elsewhere."""
        origin = request.headers.get("Origin")
        if request.headers.get("Sec-Fetch-Site", "").lower() in ("cross-site", "same-site"):
            raise Problem(403, "another site", "this request comes from a page of another site")
        if origin is None:
            return
        if origin.partition("://")[2].lower() != request.host.lower():
            raise Problem(403, "another site", "this request comes from a page of another site")
        # Any name can be made to mean 127.0.0.1; a worker that others reach has names of which we do not know.
        if self._is_local and not self._is_ours(request.host):
            raise Problem(
                403, "another site", "this name is not one of this worker: expected localhost or links.base_url"
            )

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
