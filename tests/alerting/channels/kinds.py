"""The kinds of channels that the conformance suite runs over. A new one joins by an entry in KINDS."""

from __future__ import annotations

import email.policy
import io
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Final

import pytest

from alerting.channels.alertmanager import AlertmanagerChannel
from alerting.channels.base import Channel
from alerting.channels.email import EmailChannel
from alerting.channels.pagerduty import PagerDutyChannel
from alerting.channels.terminal import TerminalChannel
from alerting.channels.webhook import WebhookChannel
from tests.alerting.channels.chat_kinds import CHAT_KINDS
from tests.alerting.channels.kind import (
    HUGE,
    NOWHERE,
    SECRET,
    TIMEOUT_S,
    TOKEN,
    UNLIKE_JSON,
    Bench,
    Expected,
    Kind,
    Scenario,
    http_bench,
)
from tests.alerting.channels.receiver import status, told
from tests.alerting.channels.smtp_server import smtp_serving


def _webhook(base_url: str) -> Channel:
    return WebhookChannel(f"{base_url}/hook/{TOKEN}", secret=SECRET, timeout_s=TIMEOUT_S)


def _alertmanager(base_url: str) -> Channel:
    return AlertmanagerChannel(f"{base_url}/{TOKEN}", timeout_s=TIMEOUT_S)


def _pagerduty(base_url: str) -> Channel:
    return PagerDutyChannel(TOKEN, url=f"{base_url}/v2/enqueue", timeout_s=TIMEOUT_S)


def _email(port: int) -> EmailChannel:
    return EmailChannel(
        "127.0.0.1",
        port=port,
        sender="tidemark@example.com",
        recipients=["ann@example.com"],
        tls="none",
        username="tidemark",
        password=SECRET,
        timeout_s=TIMEOUT_S,
    )


def _mail(body: bytes) -> EmailMessage:
    return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(body)


def _text_of_mail(body: bytes) -> str:
    part = _mail(body).get_body(("plain",))
    assert part is not None
    return str(part.get_content())


_SMTP_SCENARIOS: Final[Mapping[Scenario, tuple[str, Expected]]] = {
    "busy": ("451 come back later", Expected(retryable=True)),
    "refused": ("554 no", Expected(retryable=False)),
    "unknown": ("550 no such user", Expected(retryable=False)),
    "hang": ("hang", Expected(retryable=True)),
    "reset": ("reset", Expected(retryable=True)),
    "echo": (f"554 tidemark {SECRET} {b64encode(SECRET.encode()).decode()}", Expected(retryable=False)),
    "huge": (f"554 {HUGE[:5000]}", Expected(retryable=False)),
}


@asynccontextmanager
async def _email_bench() -> AsyncIterator[Bench]:
    async with smtp_serving(users={"tidemark": SECRET}) as mailbox:

        def play(scenario: Scenario) -> Expected | None:
            if scenario not in _SMTP_SCENARIOS:
                pytest.skip("SMTP has no such answer")
            answer, expected = _SMTP_SCENARIOS[scenario]
            mailbox.refusals["DATA"] = [answer]
            return expected

        def arrived() -> list[str]:
            bodies = [envelope.content for envelope in mailbox.received]
            return [f"{_mail(body)['Subject']}\n{_text_of_mail(body)}" for body in bodies if isinstance(body, bytes)]

        yield Bench(channel=_email(mailbox.port), play=play, arrived=arrived)


class _Lines(io.StringIO):
    """A stream that knows what came in one piece."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return super().write(text)


@asynccontextmanager
async def _terminal_bench() -> AsyncIterator[Bench]:
    stream = _Lines()
    channel = TerminalChannel(stream)

    def play(scenario: Scenario) -> Expected | None:
        if scenario != "refused":
            pytest.skip("a stream is open or closed; a stopped one is in test_terminal")
        stream.close()
        return Expected(retryable=False)

    yield Bench(channel=channel, play=play, arrived=lambda: stream.written)
    await channel.close()


#: Where the other side sets none: more than a test makes.
_NO_LIMIT: Final = 50_000_000

KINDS: Final[tuple[Kind, ...]] = (
    *CHAT_KINDS,
    Kind(
        name="webhook",
        make=lambda: _webhook(NOWHERE),
        bench=http_bench(_webhook, otherwise=status(204), scenarios={}),
        read=None,
        size=lambda parcel: len(parcel.body),
        limit=_NO_LIMIT,
        secrets=(TOKEN, SECRET),
    ),
    Kind(
        name="alertmanager",
        make=lambda: _alertmanager(NOWHERE),
        bench=http_bench(_alertmanager, otherwise=status(200), scenarios={}),
        read=None,
        size=lambda parcel: len(parcel.body),
        limit=_NO_LIMIT,
        secrets=(TOKEN,),
    ),
    Kind(
        name="pagerduty",
        make=lambda: _pagerduty(NOWHERE),
        bench=http_bench(
            _pagerduty,
            otherwise=told({"status": "success"}, 202),
            scenarios={
                "refused_in_body": (told({"status": "invalid event", "errors": ["x"]}, 202), Expected(retryable=False)),
                "huge": UNLIKE_JSON,
            },
        ),
        read=None,
        size=lambda parcel: len(parcel.body),
        limit=512_000,
        secrets=(TOKEN,),
    ),
    Kind(
        name="email",
        make=lambda: _email(9),
        bench=_email_bench,
        read=lambda parcel: _text_of_mail(parcel.body),
        size=lambda parcel: len(parcel.body),
        limit=_NO_LIMIT,
        secrets=(SECRET,),
    ),
    Kind(
        name="terminal",
        make=lambda: TerminalChannel(io.StringIO()),
        bench=_terminal_bench,
        read=None,
        size=lambda parcel: len(parcel.body),
        limit=_NO_LIMIT,
    ),
)
