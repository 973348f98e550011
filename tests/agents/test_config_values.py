"""Single values of the configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.config_values import broker_url, duration_between, integer, size_bytes

HOSTS = st.from_regex(r"[a-z][a-z0-9.-]{0,10}|\[::1\]", fullmatch=True)
NODES = st.lists(st.tuples(HOSTS, st.integers(1, 65535)), min_size=1, max_size=4)


@given(nodes=NODES, schemes=st.booleans())
def test_a_broker_has_one_spelling(nodes: list[tuple[str, int]], schemes: bool) -> None:
    addresses = [f"{host}:{port}" for host, port in nodes]
    given_as = ",".join(f"kafka://{address}" for address in addresses) if schemes else ",".join(addresses)
    given_as = given_as if schemes else f"kafka://{given_as}"
    assert broker_url(given_as) == "kafka://" + ",".join(addresses)
    assert broker_url(broker_url(given_as)) == broker_url(given_as)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("kafka://a", "kafka://a:9092"),
        (" kafka://a:1, kafka://b/ ", "kafka://a:1,b:9092"),
        ("memory://", "memory://"),
    ],
)
def test_what_is_left_out_of_a_broker_is_filled_in(text: str, url: str) -> None:
    assert broker_url(text) == url


@pytest.mark.parametrize(
    "value",
    ["", "a:9092", "kafka:a", "kafka://", "kafka://a,,b", "kafka://a:x", "kafka://a b", "memory://x", 9],
)
def test_what_is_no_broker(value: object) -> None:
    with pytest.raises(ValueError, match="expected kafka://host:port"):
        broker_url(value)


def test_a_password_in_the_brokers_address_is_sent_to_where_it_belongs() -> None:
    with pytest.raises(ValueError, match=r"see kafka\.security"):
        broker_url("kafka://user:hunter2@a:9092")


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (4096, 4096), ("100", 100), ("512KiB", 524_288), ("4 MiB", 4_194_304), ("1GB", 10**9)],
)
def test_sizes(value: object, size: int) -> None:
    assert size_bytes(value) == size


@pytest.mark.parametrize("value", ["", "4 apples", "-1", "1.5MiB", -1, 1.5, True, None, [1]])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 512KiB or 4MiB"):
        size_bytes(value)


def test_bounds_belong_to_the_range() -> None:
    count = integer(1, 3)
    assert [count(1), count("3")] == [1, 3]
    for value in (0, 4, "4", 1.0, True, "one"):
        with pytest.raises(ValueError, match="expected a whole number from 1 to 3"):
            count(value)
    duration = duration_between(1_000, 60_000)
    assert [duration("1s"), duration("1m"), duration(30)] == [1_000, 60_000, 30_000]
    for value in ("999ms", "61s"):
        with pytest.raises(ValueError, match="expected a duration from 1s to 1m"):
            duration(value)
