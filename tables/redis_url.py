"""Which Redis a URL means, and a client for it.

redis://[user:password@]host[:port][/db]                        one server; rediss:// with TLS
unix://[user:password@]/path/to/redis.sock[?db=N]               one server, by its socket
redis+sentinel://[user:password@]host[:port],.../service[/db]   the master that the sentinels name
redis+cluster://[user:password@]host[:port],...                 a Cluster, found through any of its nodes

rediss+sentinel:// and rediss+cluster:// exist too. TLS verifies against the system's authorities, or those
that the environment variable SSL_CERT_FILE names. Special characters in a user or a password must be
percent-encoded. The sentinels themselves are asked without user and password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from tables.errors import ConfigError

CONNECT_TIMEOUT_S = 2.0
OPERATION_TIMEOUT_S = 5.0
HEALTH_CHECK_INTERVAL_S = 15
"""A connection that was idle for longer is pinged before it is used again."""

# Made once, here: it looks its version up on disk, and every connection without one would do that in the
# event loop.
_DRIVER = DriverInfo()

REDIS_PORT = 6379
SENTINEL_PORT = 26379

EXPECTED = (
    "expected redis://host:port/db, rediss://host:port/db, unix:///path, "
    "redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,host:port"
)

_URL = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<userinfo>[^/?]*)@)?(?P<hosts>[^/?@]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\s:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


class Kind(Enum):
    """How the store is reached."""

    STANDALONE = "standalone"
    UNIX = "unix"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, repr=False)
class StoreUrl:
    """A parsed store URL; shown, by `repr` as well, without its password."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    """Servers, sentinels or some nodes of the cluster; none for a socket."""
    path: str = ""
    """Of the socket."""
    service: str = ""
    """The name that the sentinels know the master by."""
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False

    @property
    def redacted(self) -> str:
        """The URL as it may be printed and logged: *** stands for the password."""
        text = f"{_scheme(self.kind, self.tls)}://"
        if self.username or self.password:
            # A user without a password is often a password in the wrong place.
            text += f"{self.username}:***@" if self.username and self.password else "***@"
        text += ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        match self.kind:
            case Kind.STANDALONE:
                return f"{text}/{self.db}"
            case Kind.UNIX:
                return f"{text}{self.path}" + (f"?db={self.db}" if self.db else "")
            case Kind.SENTINEL:
                return f"{text}/{self.service}/{self.db}"
            case Kind.CLUSTER:
                return text

    def __repr__(self) -> str:
        return f"StoreUrl({self.redacted!r})"


_SUFFIX = {Kind.STANDALONE: "", Kind.SENTINEL: "+sentinel", Kind.CLUSTER: "+cluster"}


def _scheme(kind: Kind, tls: bool) -> str:
    return "unix" if kind is Kind.UNIX else ("rediss" if tls else "redis") + _SUFFIX[kind]


_SCHEMES = {_scheme(kind, tls): (kind, tls) for kind in _SUFFIX for tls in (False, True)} | {"unix": (Kind.UNIX, False)}


def parse_store_url(url: str) -> StoreUrl:
    """Read a store URL. Raises ConfigError, without the password, saying what was expected."""

    def wrong(why: str) -> ConfigError:
        return ConfigError(f"store URL {_without_userinfo(url)!r}: {why}; {EXPECTED}")

    match = _URL.fullmatch(url.strip())
    if match is None:
        raise wrong("not a URL")
    if match["scheme"] not in _SCHEMES:
        raise wrong(f"unknown scheme {match['scheme']!r}")
    kind, tls = _SCHEMES[match["scheme"]]
    username, _, password = (match["userinfo"] or "").partition(":")
    path, query = match["path"] or "", match["query"] or ""
    if "@" in path + query:
        raise wrong("'/', '?' and '@' in a password or a path must be percent-encoded (%2F, %3F, %40)")

    hosts = []
    if kind is not Kind.UNIX:
        for text in match["hosts"].split(","):
            host = _HOST.fullmatch(text)
            port = int((host and host["port"]) or (SENTINEL_PORT if kind is Kind.SENTINEL else REDIS_PORT))
            if host is None or not 0 < port < 65536:
                raise wrong(f"{text!r} is not a host and port")
            hosts.append((host["v6"] or host["name"], port))
        if len(hosts) > 1 and kind is Kind.STANDALONE:
            raise wrong("several hosts need redis+sentinel:// or redis+cluster://")
        if query:
            raise wrong("it takes no options")

    service, db = "", ""
    match kind:
        case Kind.STANDALONE:
            db = path[1:]
        case Kind.SENTINEL:
            service, _, db = path[1:].partition("/")
            if not service:
                raise wrong("the service name of the sentinels is missing")
        case Kind.CLUSTER:
            if path not in ("", "/", "/0"):
                raise wrong("a cluster has no databases")
        case Kind.UNIX:
            if match["hosts"] or len(path) < 2:
                raise wrong("the path of a socket starts with / and follows unix://")
            if query and not query.startswith("db="):
                raise wrong("the only option is db")
            db = query.removeprefix("db=")
    if db and not (db.isascii() and db.isdigit()):
        raise wrong(f"database {db!r} is not a number")

    return StoreUrl(
        kind=kind,
        hosts=tuple(hosts),
        path=unquote(path) if kind is Kind.UNIX else "",
        service=unquote(service),
        db=int(db or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=tls,
    )


def _without_userinfo(url: str) -> str:
    return re.sub(r"(://).*@", r"\1***@", url, flags=re.DOTALL)


RedisClient = Redis | RedisCluster


def connect(
    url: StoreUrl,
    *,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    operation_timeout_s: float = OPERATION_TIMEOUT_S,
) -> RedisClient:
    """A client that answers in bytes; it connects when it is first used, and again after a failure.

    A command is tried once: its caller knows whether it may be repeated, and how long to wait. Close the
    client with `disconnect`.
    """
    timeouts: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": operation_timeout_s,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "retry": Retry(NoBackoff(), 0),
        # RESP3 gives nothing here, and costs a handshake that proxies and old servers refuse.
        "protocol": 2,
        "driver_info": _DRIVER,
    }
    options: dict[str, Any] = {**timeouts, "username": url.username, "password": url.password, "ssl": url.tls}
    match url.kind:
        case Kind.STANDALONE:
            host, port = url.hosts[0]
            return Redis(host=host, port=port, db=url.db, **options)
        case Kind.UNIX:
            return Redis(unix_socket_path=url.path, db=url.db, **options)
        case Kind.SENTINEL:
            asking = {**timeouts, "ssl": url.tls}
            sentinel = Sentinel(url.hosts, sentinel_kwargs=asking, db=url.db, **options)  # type: ignore[no-untyped-call]
            master: Redis = sentinel.master_for(url.service)
            return master
        case Kind.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in url.hosts]
            return RedisCluster(startup_nodes=nodes, **options)


async def disconnect(client: RedisClient) -> None:
    """Close the client's connections, those to sentinels included."""
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        await client.connection_pool.sentinel_manager.aclose()
    await client.aclose()
