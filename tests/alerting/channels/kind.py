"""What the conformance suite has to know of a kind of channel, and how the other side of HTTP misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import pytest

from alerting.channels.base import Channel
from alerting.message import Parcel
from tests.alerting.channels.receiver import Answer, echo, hang, receiving, reset, status

#: What the other side can do to a channel. `*_in_body`: the status says that all is well.
Scenario = Literal[
    "busy",  # HTTP 500 or what is like it
    "refused",  # HTTP 400 or what is like it
    "unknown",  # HTTP 404 or what is like it
    "throttled",  # HTTP 429 that asks for a wait of 7 s
    "hang",
    "reset",  # in the middle
    "busy_in_body",
    "refused_in_body",
    "throttled_in_body",
    "echo",  # HTTP 400 that quotes all of the request
    "huge",  # well, but megabytes of it
]

#: Of the channels of the suite: long enough for loopback, short enough to wait for.
TIMEOUT_S: Final = 1.0
HUGE: Final = "x" * 4_000_000
#: What the channels of the suite are made with.
TOKEN: Final = "robot-token-0123456789"
SECRET: Final = "SECsigning-0123456789"
#: Where nobody listens.
NOWHERE: Final = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Expected:
    """Which DeliveryFailed a scenario means."""

    retryable: bool
    throttled: bool = False
    wait_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One channel and its other side, running."""

    channel: Channel
    play: Callable[[Scenario], Expected | None]
    """Make the other side do so once, and tell what is expected of the channel; None: it is delivered all the same.
    Skips the test, with the reason, where there is no such thing."""
    arrived: Callable[[], list[str]]
    """What the other side has, a text a parcel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str
    make: Callable[[], Channel]
    """One without another side, for what it prepares."""
    bench: Callable[[], AbstractAsyncContextManager[Bench]]
    read: Callable[[Parcel], str] | None
    """What a person sees of the text, without the title; None where only machines read."""
    size: Callable[[Parcel], int]
    """In what the other side counts."""
    limit: int
    """The largest size that the other side takes."""
    secrets: tuple[str, ...] = ()
    """Those that its channels are made with."""
    live: Callable[[Parcel], list[str]] | None = None
    """Targets of links, and mentions, that work in the body; None where nobody could click."""


#: What HTTP says by itself; a channel adds what its other side says in the body.
HTTP_SCENARIOS: Final[Mapping[Scenario, tuple[Answer, Expected | None]]] = {
    "busy": (status(500), Expected(retryable=True)),
    "refused": (status(400), Expected(retryable=False)),
    "unknown": (status(404), Expected(retryable=False)),
    "throttled": (status(429, Retry_After="7"), Expected(retryable=True, throttled=True, wait_s=7.0)),
    "hang": (hang, Expected(retryable=True)),
    "reset": (reset, Expected(retryable=True)),
    "echo": (echo, Expected(retryable=False)),
    "huge": (status(200, HUGE), None),
}


def http_bench(
    make: Callable[[str], Channel],
    *,
    otherwise: Answer,
    scenarios: Mapping[Scenario, tuple[Answer, Expected | None]],
) -> Callable[[], AbstractAsyncContextManager[Bench]]:
    """Benches of a channel that `make` opens to the base URL that it is given (without a path). `otherwise` is how
    the other side says that all is well; `scenarios` come on top of what HTTP says by itself."""
    known = {**HTTP_SCENARIOS, **scenarios}

    @asynccontextmanager
    async def opened() -> AsyncIterator[Bench]:
        async with receiving() as receiver:
            receiver.otherwise = otherwise
            channel = make(receiver.base_url)

            def play(scenario: Scenario) -> Expected | None:
                if scenario not in known:
                    pytest.skip("it tells nothing in the body")
                answer, expected = known[scenario]
                receiver.answer(answer)
                return expected

            try:
                yield Bench(
                    channel=channel,
                    play=play,
                    arrived=lambda: [request.body.decode() for request in receiver.received],
                )
            finally:
                await channel.close()

    return opened


#: Of a channel that reads the body: a page of somebody else does not say that the message arrived.
UNLIKE_JSON: Final = (status(200, HUGE), Expected(retryable=True))
