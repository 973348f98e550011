"""Alerts on the terminal, in the colour of their severity."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from alerting.alert import Alert, Severity, Status, printable
from alerting.channels.base import DeliveryFailed

_SEVERITY_STYLE: Final[dict[Severity, str]] = {
    "critical": "bold white on red",
    "major": "bold red",
    "minor": "yellow",
}
_STATUS_STYLE: Final[dict[Status, str]] = {"firing": "bold", "acknowledged": "cyan", "resolved": "green"}
_SUMMARY_LIMIT: Final = 500


class TerminalChannel:
    """Two lines an alert on a text stream; colour where the stream is a terminal, or as `colour` says."""

    def __init__(self, stream: TextIO, *, name: str = "terminal", colour: bool | None = None) -> None:
        self.name = name
        self._stream = stream
        self._colour = colour
        self._thread: ThreadPoolExecutor | None = None

    async def send(self, alert: Alert) -> None:
        """Raises DeliveryFailed, not retryable, when the stream is closed or its reader is gone."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer(), self._write, self._draw(alert))
        except (OSError, ValueError) as error:
            raise DeliveryFailed(f"cannot write: {error}", retryable=False) from error

    def _draw(self, alert: Alert) -> str:
        # Into a buffer, not the stream: at a broken pipe a rich console ends the whole process.
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            force_terminal=self._stream.isatty() if self._colour is None else self._colour,
            color_system="standard" if self._colour else "auto",
            no_color=None if self._colour is None else not self._colour,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
        )
        console.print(render(alert))
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


def render(alert: Alert) -> Text:
    """When, state, severity and summary on the first line; what to look it up by on the second."""
    at_ms = alert.fired_at if alert.resolved_at is None else alert.resolved_at
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    style = _SEVERITY_STYLE[alert.severity] if alert.status == "firing" else _STATUS_STYLE[alert.status]
    text = Text()
    text.append(f"{at:%Y-%m-%d %H:%M:%S} UTC  ", style="dim")
    text.append(f"{alert.status.upper()} {alert.severity}", style=style)
    text.append(f"  {printable(alert.summary, _SUMMARY_LIMIT)}", style=_STATUS_STYLE[alert.status])
    text.append(f"\n    {printable(alert.rule)} · alert {printable(alert.alert_id)}", style="dim")
    for name in ("owner", "runbook"):
        if name in alert.related:
            text.append(f" · {name} {printable(str(alert.related[name]))}", style="dim")
    return text
