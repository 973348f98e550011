"""Store URLs: what they mean, what is said about wrong ones, and that no password is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from tables.errors import ConfigError
from tables.redis_url import Kind, StoreUrl, connect, disconnect, parse_store_url

HOST = ("redis.shop", 6379)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis.shop", StoreUrl(Kind.STANDALONE, (HOST,))),
        ("redis://redis.shop:7000/3", StoreUrl(Kind.STANDALONE, (("redis.shop", 7000),), db=3)),
        ("rediss://redis.shop/", StoreUrl(Kind.STANDALONE, (HOST,), tls=True)),
        ("redis://[::1]:7000/0", StoreUrl(Kind.STANDALONE, (("::1", 7000),))),
        ("redis://:pw@redis.shop", StoreUrl(Kind.STANDALONE, (HOST,), password="pw")),
        (
            "redis://shop%40eu:p%2Fw%3A@redis.shop",
            StoreUrl(Kind.STANDALONE, (HOST,), username="shop@eu", password="p/w:"),
        ),
        (
            "redis://shop:p@w:x@redis.shop",
            StoreUrl(Kind.STANDALONE, (HOST,), username="shop", password="p@w:x"),
        ),
        ("unix:///run/redis.sock", StoreUrl(Kind.UNIX, path="/run/redis.sock")),
        (
            "unix://shop:pw@/run/my%20redis.sock?db=2",
            StoreUrl(Kind.UNIX, path="/run/my redis.sock", db=2, username="shop", password="pw"),
        ),
        (
            "redis+sentinel://shop:pw@a,b:26380/checkpoints/1",
            StoreUrl(
                Kind.SENTINEL,
                (("a", 26379), ("b", 26380)),
                service="checkpoints",
                db=1,
                username="shop",
                password="pw",
            ),
        ),
        ("redis+sentinel://a/checkpoints", StoreUrl(Kind.SENTINEL, (("a", 26379),), service="checkpoints")),
        ("redis+cluster://a:7000,b", StoreUrl(Kind.CLUSTER, (("a", 7000), ("b", 6379)))),
        ("rediss+cluster://a/0", StoreUrl(Kind.CLUSTER, (("a", 6379),), tls=True)),
    ],
)
def test_what_a_url_means(url: str, expected: StoreUrl) -> None:
    assert parse_store_url(url) == expected


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "not a URL"),
        ("redis.shop:6379", "not a URL"),
        ("redis:/redis.shop", "not a URL"),
        ("http://redis.shop", "unknown scheme 'http'"),
        ("unix+sentinel:///x", "unknown scheme"),
        ("redis://", "'' is not a host and port"),
        ("redis://redis.shop:port", "is not a host and port"),
        ("redis://redis.shop:0", "is not a host and port"),
        ("redis://redis.shop:65536", "is not a host and port"),
        ("redis://::1:6379", "is not a host and port"),
        ("redis://a,b", "several hosts need"),
        ("redis://a/one", "database 'one' is not a number"),
        ("redis://a/²", "is not a number"),
        ("redis://a?db=1", "takes no options"),
        ("redis://shop:p/w@a", "must be percent-encoded"),
        ("redis+sentinel://a:26379", "service name of the sentinels is missing"),
        ("redis+sentinel://a/shop/x", "database 'x' is not a number"),
        ("redis+cluster://a,,b", "'' is not a host and port"),
        ("redis+cluster://a/1", "no databases"),
        ("unix://run/redis.sock", "starts with /"),
        ("unix://", "starts with /"),
        ("unix:///run/redis.sock?timeout=1", "only option is db"),
    ],
)
def test_a_wrong_url_is_answered_with_what_was_expected(url: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_store_url(url)
    assert why in str(caught.value)
    assert "expected redis://" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("redis://redis.shop", "redis://redis.shop:6379/0"),
        ("redis://shop:s3cret@redis.shop/1", "redis://shop:***@redis.shop:6379/1"),
        ("rediss://:s3cret@[::1]", "rediss://***@[::1]:6379/0"),
        ("redis://s3cret@redis.shop", "redis://***@redis.shop:6379/0"),
        ("unix://:s3cret@/run/redis.sock?db=2", "unix://***@/run/redis.sock?db=2"),
        ("redis+sentinel://shop:s3cret@a,b/shop", "redis+sentinel://shop:***@a:26379,b:26379/shop/0"),
        ("rediss+cluster://shop:s3cret@a", "rediss+cluster://shop:***@a:6379"),
    ],
)
def test_a_redacted_url_shows_all_but_the_password(url: str, redacted: str) -> None:
    parsed = parse_store_url(url)
    assert parsed.redacted == redacted
    assert repr(parsed) == f"StoreUrl({redacted!r})"


@given(
    scheme=st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "http"]),
    mark=st.sampled_from(["", "/", "@", "?", ":", "#"]),
    rest=st.sampled_from(["h", "h:port", "h/x", "", "/", "/s?db=x", "h/s/0", "h,h/0"]),
)
def test_no_password_gets_out_whatever_the_url(scheme: str, mark: str, rest: str) -> None:
    url = f"{scheme}://shop:s3c{mark}ret@{rest}"
    try:
        shown = repr(parse_store_url(url))
    except ConfigError as error:
        shown = str(error)
    assert "s3c" not in shown
    assert "ret@" not in shown


async def test_every_kind_of_url_gets_its_client() -> None:
    clients = {
        url: connect(parse_store_url(url))
        for url in (
            "redis://a",
            "rediss://a",
            "unix:///a",
            "redis+sentinel://a/shop",
            "redis+cluster://127.0.0.1",
        )
    }
    try:
        assert [type(client) for client in clients.values()] == [Redis, Redis, Redis, Redis, RedisCluster]
        sentinel = clients["redis+sentinel://a/shop"]
        assert isinstance(sentinel, Redis)
        assert isinstance(sentinel.connection_pool, SentinelConnectionPool)
    finally:
        for client in clients.values():
            await disconnect(client)
