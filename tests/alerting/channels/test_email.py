"""E-mail, against a real SMTP server on the loopback interface."""

from __future__ import annotations

import asyncio
import email.policy
from base64 import b64encode
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import Envelope
from hypothesis import given
from hypothesis import strategies as st

from alerting.channels.base import DeliveryFailed
from alerting.channels.email import EmailChannel, is_loopback
from alerting.message import Message
from alerting.notification import Link
from tables.errors import ConfigError
from tests.alerting.channels.smtp_server import smtp_serving
from tests.alerting.samples import TEN_O_CLOCK, an_alert, message_of

SENDER = "tidemark <tidemark@shop.example>"
ANN, BOB, EVE = "ann@shop.example", "bob@shop.example", "eve@shop.example"
PASSWORD = "hunter2-hunter2"


def emailing(port: int = 25, **options: Any) -> EmailChannel:
    given: dict[str, Any] = {"sender": SENDER, "recipients": [ANN], "tls": "none", "timeout_s": 5.0}
    return EmailChannel("127.0.0.1", port=port, now=lambda: TEN_O_CLOCK / 1000, **given | options)


async def told(channel: EmailChannel, message: Message | None = None) -> None:
    (parcel,) = channel.prepare(message or message_of())
    await channel.send(parcel)


async def failure_of(channel: EmailChannel, message: Message | None = None) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await told(channel, message)
    return caught.value


def parsed(source: Envelope | bytes) -> EmailMessage:
    content = source if isinstance(source, bytes) else source.content
    assert isinstance(content, bytes)
    return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(content)


def part(mail: EmailMessage, kind: str) -> str:
    found = mail.get_body((kind,))
    assert found is not None
    return str(found.get_content()).replace("\r\n", "\n")


async def test_the_mail_that_somebody_gets() -> None:
    async with smtp_serving() as mailbox:
        await told(emailing(mailbox.port, recipients=[ANN, f"Bob <{BOB}>", f"Ann <{ANN}>", ANN]))
    (envelope,) = mailbox.received
    assert (envelope.mail_from, envelope.rcpt_tos) == ("tidemark@shop.example", [ANN, BOB])
    mail = parsed(envelope)
    assert mail["From"] == SENDER
    assert mail["To"] == f"{ANN}, Bob <{BOB}>"
    assert mail["Subject"].strip() == "FIRING major: CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min"
    assert mail["Date"] == "Fri, 01 May 2026 10:00:00 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Content-Language"] == "en"
    assert mail.get_content_type() == "multipart/alternative"
    assert part(mail, "plain") == message_of().text
    assert "CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min<br>" in part(mail, "html")


async def test_attempts_have_one_message_id_and_a_conversation_one_thread() -> None:
    firing, later = message_of(), message_of(an_alert(status="resolved", resolved_at=TEN_O_CLOCK + 600_000))
    other = message_of(an_alert(alert_id="other"), group_key="/:another")
    first, again, resolved, elsewhere = (
        parsed(emailing().prepare(message)[0].body) for message in (firing, firing, later, other)
    )
    assert first["Message-ID"] == again["Message-ID"] == f"<{firing.key}@shop.example>"
    assert resolved["Message-ID"] != first["Message-ID"]
    for header in ("In-Reply-To", "References"):
        assert first[header] == resolved[header] != elsewhere[header]


async def test_chinese_arrives_as_it_was_written() -> None:
    text = "首页推荐 v3 的点击率为 4.1 %，低于 5 %\n"
    (parcel,) = emailing().prepare(message_of(text=text))
    assert parcel.body.isascii() and part(parsed(parcel.body), "plain") == text
    text += "很长" * 600 + "\n"
    async with smtp_serving() as mailbox:
        await told(emailing(mailbox.port), message_of(locale="zh", title="【重要】触发：首页推荐点击率下降", text=text))
    (envelope,) = mailbox.received
    mail = parsed(envelope)
    assert mail["Subject"] == "【重要】触发：首页推荐点击率下降"
    assert part(mail, "plain") == text
    assert '<html lang="zh">' in part(mail, "html")
    # Not every relay takes eight bits, nor lines of any length (RFC 5321: 998 and the line end).
    assert isinstance(envelope.content, bytes) and envelope.content.isascii()
    assert max(map(len, envelope.content.split(b"\r\n"))) <= 998


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_title_or_text_adds_a_header_or_a_tag(title: str, text: str) -> None:
    message = message_of(title=f"{title}\r\nBcc: {EVE}", text=f"{text}\n<script>\n.\nBcc: {EVE}\n")
    mail = parsed(emailing().prepare(message)[0].body)
    assert sorted(mail.keys()) == sorted(parsed(emailing().prepare(message_of())[0].body).keys())
    assert "Bcc" not in mail
    assert "<script" not in part(mail, "html")
    assert "<script>\n.\nBcc: eve" in part(mail, "plain")


async def test_a_line_with_a_dot_does_not_end_the_mail() -> None:
    async with smtp_serving() as mailbox:
        await told(emailing(mailbox.port), message_of(text="one\n.\n..two\nthree\n"))
    assert part(parsed(mailbox.received[0]), "plain") == "one\n.\n..two\nthree\n"


def test_only_our_own_links_can_be_clicked_on() -> None:
    ack = Link(title="Acknowledge", url="https://tm.example/a/token?x=1&y=2")
    book = Link(title="Runbook", url="https://wiki.example/ctr")
    text = "model https://evil.example/ is low\nacknowledge: https://tm.example/a/token?x=1&y=2\n"
    mail = parsed(emailing().prepare(message_of(text=text, links=(ack, book)))[0].body)
    assert part(mail, "plain") == f"{text}Runbook: https://wiki.example/ctr\n"
    html = part(mail, "html")
    assert html.count("<a href=") == 2
    url = "https://tm.example/a/token?x=1&amp;y=2"
    assert f'acknowledge: <a href="{url}">{url}</a><br>' in html
    assert 'Runbook: <a href="https://wiki.example/ctr">https://wiki.example/ctr</a>' in html


async def test_starttls_and_a_password(tmp_path: Path) -> None:
    async with smtp_serving(tmp_path, tls="starttls", users={"bob": PASSWORD}) as mailbox:
        await told(
            emailing(mailbox.port, tls="starttls", cafile=mailbox.cafile, username="bob", password=PASSWORD),
        )
    (session,) = mailbox.sessions
    assert session.ssl is not None and session.authenticated


async def test_implicit_tls(tmp_path: Path) -> None:
    async with smtp_serving(tmp_path, tls="implicit") as mailbox:
        await told(emailing(mailbox.port, tls="implicit", cafile=mailbox.cafile))
    assert len(mailbox.received) == 1


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize(("certified", "trusted"), [("elsewhere.example", True), ("127.0.0.1", False)])
async def test_a_certificate_that_does_not_fit_is_refused(
    tmp_path: Path, tls: str, certified: str, trusted: bool
) -> None:
    async with smtp_serving(tmp_path, tls=tls, certified=certified) as mailbox:
        failure = await failure_of(emailing(mailbox.port, tls=tls, cafile=mailbox.cafile if trusted else ""))
    assert failure.reason.startswith("the certificate is not trusted: ")
    assert not failure.retryable
    assert mailbox.received == []


async def test_a_server_without_starttls_gets_nothing() -> None:
    async with smtp_serving() as mailbox:
        failure = await failure_of(emailing(mailbox.port, tls="starttls"))
    assert "STARTTLS" in failure.reason and not failure.retryable
    assert mailbox.received == []


async def test_a_wrong_password_is_final_and_not_shown(tmp_path: Path) -> None:
    async with smtp_serving(tmp_path, tls="starttls", users={"bob": "another"}) as mailbox:
        channel = emailing(mailbox.port, tls="starttls", cafile=mailbox.cafile, username="bob", password=PASSWORD)
        failure = await failure_of(channel)
    assert failure.reason.startswith("SMTP 535") and not failure.retryable
    assert PASSWORD not in f"{failure!r} {channel!r}"


async def test_a_server_that_quotes_the_password_does_not_bring_it_into_a_log() -> None:
    encoded = [b64encode(text.encode()).decode() for text in (PASSWORD, f"\0bob\0{PASSWORD}")]
    async with smtp_serving(users={"bob": PASSWORD}) as mailbox:
        mailbox.refusals["DATA"] = [f"554 you said {PASSWORD} {' '.join(encoded)}"]
        failure = await failure_of(emailing(mailbox.port, username="bob", password=PASSWORD))
    assert failure.reason == "SMTP 554: you said *** *** ***"


async def test_a_server_that_quotes_the_mail_does_not_bring_its_links_into_a_log() -> None:
    async with smtp_serving() as mailbox:
        mailbox.refusals["DATA"] = ["554 spam: https://tidemark.example.com/a/bG9uZw-token_77x and /a/bG9uZw-token_77x"]
        failure = await failure_of(emailing(mailbox.port))
    assert failure.reason == "SMTP 554: spam: https://tidemark.example.com/*** and /a/***"


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [("451 busy", True), ("421 closing", True), ("552 too large", False), ("554 no\x1b[2J", False)],
)
async def test_4xx_is_worth_another_try_and_5xx_is_not(answer: str, retryable: bool) -> None:
    async with smtp_serving() as mailbox:
        mailbox.refusals["DATA"] = [answer]
        failure = await failure_of(emailing(mailbox.port))
    assert failure.reason.startswith(f"SMTP {answer[:3]}: ")
    assert failure.reason.isprintable()
    assert failure.retryable is retryable


async def test_who_has_it_does_not_get_it_again() -> None:
    async with smtp_serving() as mailbox:
        mailbox.refusals = {BOB: ["450 grey", "450 grey"], EVE: ["550 unknown"]}
        channel = emailing(mailbox.port, recipients=[ANN, BOB, EVE])
        for _ in range(2):
            failure = await failure_of(channel)
            assert failure.retryable
            assert failure.reason == "1 of 3 recipients not taken yet: SMTP 450: grey"
        last = await failure_of(channel)
        # That is over: what comes under the same key later is for all of them.
        await told(channel)
    assert (last.reason, last.retryable) == ("1 of 3 recipients refused: SMTP 550: unknown", False)
    assert [envelope.rcpt_tos for envelope in mailbox.received] == [[ANN], [BOB], [ANN, BOB, EVE]]


async def test_when_nobody_is_taken_the_reason_says_of_how_many() -> None:
    async with smtp_serving() as mailbox:
        mailbox.refusals = {ANN: ["550 unknown"], BOB: ["553 no"]}
        failure = await failure_of(emailing(mailbox.port, recipients=[ANN, BOB]))
    assert (failure.reason, failure.retryable) == ("2 of 2 recipients refused: SMTP 550: unknown", False)
    assert mailbox.received == []


async def test_a_server_that_says_nothing_is_tried_again() -> None:
    async with smtp_serving() as mailbox:
        mailbox.refusals["DATA"] = ["hang"]
        failure = await failure_of(emailing(mailbox.port, timeout_s=0.2))
    assert (failure.reason, failure.retryable) == ("no answer within 0.2 s", True)


async def test_nobody_listens(unused_tcp_port: int) -> None:
    assert (await failure_of(emailing(unused_tcp_port))).retryable


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_connection_that_breaks_is_tried_again(at_once: bool) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not at_once:
            writer.write(b"220 hello\r\n")
            await reader.readline()
        writer.transport.abort()

    async with await asyncio.start_server(breaks, "127.0.0.1", 0) as server:
        failure = await failure_of(emailing(server.sockets[0].getsockname()[1]))
    assert failure.retryable


async def test_a_good_bye_without_an_answer_is_no_failure() -> None:
    """The mail was taken: to send it again because of that would be to send it twice."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        while line := await reader.readline():
            command = line[:4].upper()
            if command == b"QUIT":
                break
            writer.write(b"354 go on\r\n" if command == b"DATA" else b"250 OK\r\n")
            if command == b"DATA":
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
        writer.transport.abort()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        await told(emailing(server.sockets[0].getsockname()[1]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sender": "nobody"}, "channel ops: from: expected an address"),
        ({"sender": f"a\r\nBcc: {EVE}"}, "channel ops: from: expected an address"),
        ({"recipients": ["ann@"]}, "channel ops: to: expected an address"),
        ({"recipients": [f"{ANN}, {BOB}"]}, "channel ops: to: expected an address"),
        ({"recipients": [f"<{ANN}"]}, "channel ops: to: expected an address"),
        ({"recipients": ["安@shop.example"]}, "channel ops: to: expected an address"),
        ({"recipients": ["ann@商店.example"]}, "channel ops: to: expected an address"),
        ({"recipients": []}, "channel ops: to: expected at least one address"),
        ({"username": "bob"}, "channel ops: expected a user and a password"),
        ({"timeout_s": 0}, "channel ops: expected a timeout above 0 s"),
        ({"tls": "starttls", "cafile": "/nowhere"}, "channel ops: cafile: expected certificates"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        emailing(name="ops", **options)
    assert str(refusal.value).startswith(expected)
    assert "\n" not in str(refusal.value)


def test_no_password_leaves_this_machine_in_clear_text() -> None:
    with pytest.raises(ConfigError, match="expected tls starttls or implicit where there is a password, got none"):
        EmailChannel("mail.example.com", sender=SENDER, recipients=[ANN], tls="none", username="u", password="p")


@pytest.mark.parametrize(
    ("host", "local"), [("localhost", True), ("127.1.2.3", True), ("::1", True), ("10.0.0.1", False), ("mail", False)]
)
def test_what_stays_on_this_machine(host: str, local: bool) -> None:
    assert is_loopback(host) is local
