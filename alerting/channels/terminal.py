"""Alerts on the terminal, in the colour of their severity."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from alerting.alert import Alert, Severity, Status, printable
from alerting.channels.base import Budget, DeliveryFailed
from alerting.message import Message, Parcel

_SEVERITY_STYLE: Final[dict[Severity, str]] = {
    "critical": "bold white on red",
    "major": "bold red",
    "minor": "yellow",
}
_STATUS_STYLE: Final[dict[Status, str]] = {"firing": "bold", "acknowledged": "cyan", "resolved": "green"}
_SUMMARY_LIMIT: Final = 500
_CAUSES_SHOWN: Final = 5
#: A screenful or two; who wants all of it has `tidemark alerts list`.
_DIGEST_BYTES: Final = 8192


class TerminalChannel:
    """A few lines an alert on a text stream; colour where the stream is a terminal, or as `colour` says."""

    def __init__(
        self, stream: TextIO, *, name: str = "terminal", colour: bool | None = None, budgets: Sequence[Budget] = ()
    ) -> None:
        self.name = name
        self.budgets = tuple(budgets)
        self.digest_bytes = _DIGEST_BYTES
        self._stream = stream
        self._colour = colour
        self._is_terminal = stream.isatty() if colour is None else colour
        self._thread: ThreadPoolExecutor | None = None

    def prepare(self, message: Message) -> tuple[Parcel, ...]:
        return (Parcel(key=message.key, body=self._draw(message)),)

    async def send(self, parcel: Parcel) -> None:
        """Raises DeliveryFailed, not retryable, when the stream is closed or its reader is gone."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer(), self._write, parcel.body)
        except (OSError, ValueError) as error:
            raise DeliveryFailed(f"cannot write: {error}", retryable=False) from error

    def _draw(self, message: Message) -> str:
        # Into a buffer, not the stream: at a broken pipe a rich console ends the whole process.
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            force_terminal=self._is_terminal,
            color_system="standard" if self._colour else "auto",
            no_color=None if self._colour is None else not self._colour,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
        )
        console.print(draw(message))
        return buffer.getvalue()

    def _writer(self) -> ThreadPoolExecutor:
        # A terminal stopped with Ctrl-S blocks its writer: not the event loop, and not the threads either
        # in which the other channels look up their hosts.
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"channel:{self.name}")
        return self._thread

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        # A plain C locale knows few letters; an alert with question marks is better than none.
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()

    async def close(self) -> None:
        """The stream stays open: it belongs to whoever opened it."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)


def draw(message: Message) -> Text:
    """In English two lines an alert, one a cause, and how to answer; else the message in its own words."""
    if message.locale == "en":
        return Text("\n").join([*(_alert_lines(message, alert) for alert in message.alerts), *_how_to_answer(message)])
    text = _head(message, message.alerts[0])
    text.append(printable(message.title, _SUMMARY_LIMIT), style=_style_of(message.alerts[0]))
    for line in message.text.rstrip("\n").split("\n"):
        text.append(f"\n    {printable(line, _SUMMARY_LIMIT)}", style="dim")
    return text


def _alert_lines(message: Message, alert: Alert) -> Text:
    """When, state, severity and summary on the first line; what to look it up by on the second; then the causes."""
    text = _head(message, alert)
    again = alert.status == "firing" and message.stage in ("repeat", "escalation")
    text.append(f"{message.stage if again else alert.status} ".upper() + alert.severity, style=_style_of(alert))
    text.append(f"  {printable(alert.summary, _SUMMARY_LIMIT)}", style=_STATUS_STYLE[alert.status])
    text.append(f"\n    {printable(alert.rule)} · alert {printable(alert.alert_id)}", style="dim")
    for name in ("owner", "runbook"):
        if name in alert.related:
            text.append(f" · {name} {printable(str(alert.related[name]))}", style="dim")
    if alert.status != "resolved":
        for cause in alert.causes[:_CAUSES_SHOWN]:
            text.append(f"\n    cause: {printable(str(cause.get('text', '')), _SUMMARY_LIMIT)}", style="dim")
        if (more := len(alert.causes) - _CAUSES_SHOWN) > 0:
            text.append(f"\n    and {more} more causes", style="dim")
    return text


def _how_to_answer(message: Message) -> list[Text]:
    """One line where anything still waits for somebody."""
    firing = [alert.alert_id for alert in message.alerts if alert.status == "firing"]
    if not firing:
        return []
    name = printable(firing[0]) if len(message.alerts) == 1 else "ID"
    return [Text(f"    acknowledge: tidemark alerts ack {name}", style="dim")]


def _head(message: Message, alert: Alert) -> Text:
    at_ms = message.notifications[0].at
    if alert.status == "resolved" and alert.resolved_at is not None:
        at_ms = alert.resolved_at
    elif alert.status == "firing" and message.stage in ("firing", "digest"):
        at_ms = alert.fired_at
    return Text().append(f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC  ", style="dim")


def _style_of(alert: Alert) -> str:
    return _SEVERITY_STYLE[alert.severity] if alert.status == "firing" else _STATUS_STYLE[alert.status]
