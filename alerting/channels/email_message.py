"""A message as a mail: headers that nobody can add to, the text as it is, and the same as plain HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from alerting.alert import Severity, printable
from alerting.message import Message
from alerting.notification import key_of
from tables.errors import ConfigError

_TITLE_LIMIT: Final = 200
#: Control characters, which a mail has no use for, and halves of characters, which UTF-8 cannot write.
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_COLOUR: Final[dict[Severity, str]] = {"critical": "#b00020", "major": "#c75000", "minor": "#8a6d00"}
_RESOLVED_COLOUR: Final = "#1b7f3b"
#: 7 bits: not every relay on the way takes 8.
_POLICY: Final = policy.SMTP.clone(cte_type="7bit")
_ADDRESS: Final = re.compile(r"(?:(?P<display>[^<>\r\n]*)<)?(?P<spec>[^<>\s@]+@[^<>\s@]+)>?")


def compose(message: Message, *, sender: Address, recipients: Sequence[Address], now_s: float) -> bytes:
    """The mail as it goes over the wire; its Message-ID is that of the message's key, whenever it is made."""
    mail = EmailMessage(_POLICY)
    root = f"<{key_of('thread', message.thread)}@{sender.domain}>"
    mail["From"] = sender
    mail["To"] = list(recipients)
    mail["Subject"] = printable(message.title, _TITLE_LIMIT)
    mail["Date"] = format_datetime(datetime.fromtimestamp(now_s, UTC))
    mail["Message-ID"] = f"<{message.key}@{sender.domain}>"
    # Of a mail that was never sent: all of one conversation answer to it, so that none has to be remembered.
    mail["In-Reply-To"] = root
    mail["References"] = root
    mail["Auto-Submitted"] = "auto-generated"
    lines = [_NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", line) for line in message.text.rstrip("\n").split("\n")]
    lines += [f"{link.title}: {link.url}" for link in message.links if link.url not in message.text]
    mail.set_content("".join(f"{line}\n" for line in lines))
    mail.add_alternative(_html(message, lines), subtype="html")
    # Not before: contents that are set take what was said of contents away.
    mail["Content-Language"] = message.locale
    return mail.as_bytes()


def parse_mailbox(text: str, where: str) -> Address:
    """An address such as `ops@example.com` or `Operations <ops@example.com>`; raises ConfigError, which begins with
    `where`, for anything else."""
    match = _ADDRESS.fullmatch(text.strip())
    try:
        if match is None or (match["display"] is None) == text.strip().endswith(">"):
            raise ValueError
        match["spec"].encode("ascii")
        return Address(display_name=(match["display"] or "").strip().strip('"'), addr_spec=match["spec"])
    except ValueError:
        raise ConfigError(f"{where}: expected an address such as ops@example.com, got {printable(text)!r}") from None


def _html(message: Message, lines: Sequence[str]) -> str:
    colour = _RESOLVED_COLOUR if message.status == "resolved" else _COLOUR[message.severity]
    title = html.escape(printable(message.title, _TITLE_LIMIT))
    urls = sorted((link.url for link in message.links), key=len, reverse=True)
    body = "<br>\n".join(_linked(line, urls) for line in lines)
    return (
        f'<!DOCTYPE html>\n<html lang="{message.locale}"><body style="font-family: sans-serif">\n'
        f'<p style="border-left: 6px solid {colour}; padding-left: 8px"><b>{title}</b></p>\n'
        f"<p>{body}</p>\n</body></html>\n"
    )


def _linked(line: str, urls: Sequence[str]) -> str:
    """The line escaped, and only our own links in it to be clicked on."""
    if not urls:
        return html.escape(line)
    parts = re.split(f"({'|'.join(map(re.escape, urls))})", line)
    escaped = [html.escape(part) for part in parts]
    # Every second one is what was split at.
    escaped[1::2] = [f'<a href="{url}">{url}</a>' for url in escaped[1::2]]
    return "".join(escaped)
