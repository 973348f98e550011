"""A real SMTP server on the loopback interface that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

# It would log all that it is sent, passwords as well, among what we log.
logging.getLogger("mail.log").setLevel(logging.WARNING)


@dataclass
class Mailbox:
    """What came in, and what is said to whom instead of 250."""

    port: int = 0
    cafile: str = ""
    received: list[Envelope] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Recipient, or "DATA", -> answers still to give; "hang" is none, and "reset" breaks the connection."""
    users: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refusals.get(address):
            return self.refusals[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.refusals["DATA"].pop(0) if self.refusals.get("DATA") else ""
        if answer == "hang":
            await asyncio.Event().wait()
        if answer == "reset":
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        if answer:
            return answer
        self.received.append(envelope)
        self.sessions.append(session)
        return "250 OK"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        good = self.users.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=good, handled=False)


@asynccontextmanager
async def smtp_serving(
    folder: Any = None, *, tls: str = "none", users: dict[str, str] | None = None, certified: str = "127.0.0.1"
) -> AsyncIterator[Mailbox]:
    """With `tls` starttls or implicit, `folder` gets the certificate of the authority that vouches for `certified`."""
    mailbox = Mailbox(users=users or {})
    context = None
    if tls != "none":
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(certified).configure_cert(context)
        mailbox.cafile = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(mailbox.cafile)

    def connected() -> SMTP:
        return SMTP(
            mailbox,
            hostname="mail.example.com",
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            authenticator=mailbox.authenticate if users else None,
            auth_required=bool(users) and tls == "starttls",
            auth_require_tls=tls == "starttls",
        )

    server = await asyncio.get_running_loop().create_server(
        connected, "127.0.0.1", 0, ssl=context if tls == "implicit" else None
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
        await server.wait_closed()
