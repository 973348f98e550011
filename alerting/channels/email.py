"""Alerts as e-mail over SMTP."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from ipaddress import ip_address
from typing import Final, Literal

import aiosmtplib

from alerting.channels.base import Budget, DeliveryFailed
from alerting.channels.email_message import compose, parse_mailbox
from alerting.channels.quoting import quoted
from alerting.message import Message, Parcel
from tables.errors import ConfigError

Tls = Literal["starttls", "implicit", "none"]
TLS: Final[tuple[Tls, ...]] = ("starttls", "implicit", "none")
#: The submission ports of RFC 6409 and RFC 8314, and the plain relay's.
DEFAULT_PORT: Final[Mapping[Tls, int]] = {"starttls": 587, "implicit": 465, "none": 25}
DEFAULT_TIMEOUT_S: Final = 30.0

_DIGEST_BYTES: Final = 65_536
_GOODBYE_S: Final = 2.0
#: Parcels of which some recipients wait for another attempt; more than a queue ever holds in retry.
_PARTLY_SENT_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is left of a parcel that some recipients have already."""

    waiting: tuple[str, ...]
    refused: Mapping[str, str]


class EmailChannel:
    """One mail a message to all `recipients`, in the thread of its conversation.

    STARTTLS is required unless `tls` says otherwise; a server that does not offer it, or whose certificate does not
    fit its name, gets neither password nor mail.
    """

    def __init__(
        self,
        host: str,
        *,
        sender: str,
        recipients: Sequence[str],
        name: str = "email",
        port: int | None = None,
        tls: Tls = "starttls",
        username: str = "",
        password: str = "",
        cafile: str = "",
        budgets: Sequence[Budget] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` (seconds since the epoch) dates the mails. `cafile`: certificates to trust instead of the system's.

        Raises ConfigError for addresses that are none, a password without a user or that would go out in clear text
        beyond this machine, and certificates that cannot be read.
        """
        self.name = name
        self.budgets = tuple(budgets)
        self.digest_bytes = _DIGEST_BYTES
        self._host = host
        self._port = DEFAULT_PORT[tls] if port is None else port
        self._tls: Tls = tls
        self._sender = parse_mailbox(sender, f"channel {name}: from")
        boxes: dict[str, Address] = {}
        for text in recipients:
            box = parse_mailbox(text, f"channel {name}: to")
            # Each address once, whatever its owner is called beside it.
            boxes.setdefault(box.addr_spec, box)
        self._recipients = tuple(boxes.values())
        if not self._recipients:
            raise ConfigError(f"channel {name}: to: expected at least one address, got none")
        if bool(username) != bool(password):
            raise ConfigError(f"channel {name}: expected a user and a password, or neither, got one of them")
        if username and tls == "none" and not is_loopback(host):
            raise ConfigError(f"channel {name}: expected tls starttls or implicit where there is a password, got none")
        if not timeout_s > 0:
            raise ConfigError(f"channel {name}: expected a timeout above 0 s, got {timeout_s!r}")
        self._username, self._password = username, password
        self._hidden = _forms_of(username, password)
        self._timeout_s = timeout_s
        self._now = now
        self._context = None if tls == "none" else _context_of(cafile, name)
        self._partly_sent: OrderedDict[str, _Rest] = OrderedDict()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, host='{self._host}:{self._port}', tls={self._tls!r})"

    def prepare(self, message: Message) -> tuple[Parcel, ...]:
        mail = compose(message, sender=self._sender, recipients=self._recipients, now_s=self._now())
        return (Parcel(key=message.key, body=mail),)

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed: retryable on 4xx, time-outs and broken connections, else final.

        A recipient whom the server has taken is left out of later attempts, and those that it refused for good are
        told of when no other is waiting.
        """
        rest = self._partly_sent.get(parcel.key) or _Rest(tuple(box.addr_spec for box in self._recipients), {})
        answers = await self._deliver(rest.waiting, parcel.body)
        refused = dict(rest.refused)
        refused.update({to: said for to, (code, said) in answers.items() if code >= 500})
        waiting = tuple(to for to, (code, _) in answers.items() if code < 500)
        if waiting:
            self._partly_sent[parcel.key] = _Rest(waiting, refused)
            if len(self._partly_sent) > _PARTLY_SENT_LIMIT:
                self._partly_sent.popitem(last=False)
            raise self._partly(len(waiting), "not taken yet", answers[waiting[0]][1], retryable=True)
        self._partly_sent.pop(parcel.key, None)
        if refused:
            raise self._partly(len(refused), "refused", next(iter(refused.values())), retryable=False)

    async def close(self) -> None:
        """Each mail has a connection of its own: nothing stays open."""

    async def _deliver(self, recipients: Sequence[str], mail: bytes) -> Mapping[str, tuple[int, str]]:
        """Code and words for each recipient that was refused, for now or for good."""
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._username or None,
            password=self._password or None,
            timeout=self._timeout_s,
            use_tls=self._tls == "implicit",
            start_tls=self._tls == "starttls",
            tls_context=self._context,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await client.connect()
                errors, _ = await client.sendmail(self._sender.addr_spec, recipients, mail)
            # The mail is theirs by now, whatever becomes of the good-bye.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=_GOODBYE_S)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: (one.code, self._said(one.code, one.message)) for one in error.recipients}
        except aiosmtplib.SMTPResponseException as error:
            raise DeliveryFailed(self._said(error.code, error.message), retryable=error.code < 500) from None
        except TimeoutError:
            raise DeliveryFailed(f"no answer within {self._timeout_s:g} s", retryable=True) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self._broken(error) from None
        finally:
            client.close()
        return {to: (answer.code, self._said(answer.code, answer.message)) for to, answer in errors.items()}

    def _broken(self, error: Exception) -> DeliveryFailed:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return DeliveryFailed(f"the certificate is not trusted: {cause.verify_message}", retryable=False)
            cause = cause.__cause__ or cause.__context__
        said = str(error) if isinstance(error, aiosmtplib.SMTPException) else getattr(error, "strerror", None)
        # What aiosmtplib raises as the bare class: the server lacks STARTTLS or AUTH, and will tomorrow.
        return DeliveryFailed(quoted(said or type(error).__name__, self._hidden), retryable=isinstance(error, OSError))

    def _partly(self, count: int, what: str, said: str, *, retryable: bool) -> DeliveryFailed:
        return DeliveryFailed(f"{count} of {len(self._recipients)} recipients {what}: {said}", retryable=retryable)

    def _said(self, code: int, text: str) -> str:
        return f"SMTP {code}: {quoted(text, self._hidden)}"


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _forms_of(username: str, password: str) -> tuple[str, ...]:
    """The password as AUTH PLAIN and LOGIN send it: what a server that quotes the command would put into our log."""
    if not password:
        return ()
    plain = f"\0{username}\0{password}".encode()
    return (b64encode(plain).decode(), b64encode(password.encode()).decode(), password)


def _context_of(cafile: str, name: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile or None)
    except (OSError, ssl.SSLError) as error:
        said = error.strerror or type(error).__name__
        raise ConfigError(f'channel {name}: cafile: expected certificates, got "{cafile}": {said}') from None
