"""Writing to a terminal or pipe from a thread of its own, so that a reader who has stopped stops nothing else."""

from __future__ import annotations

import errno
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import TextIO, cast

from rich.console import Console, RenderableType
from rich.live import Live

CLOSE_S = 2.0


class GoneConsole(Console):
    """A console that says when its reader has gone, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Called where the reader has gone."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Screen:
    """Shows pictures, each in the place of the one before, and lines, each below the one before.

    After an error nothing is written any more, and `error` holds it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = GoneConsole(file=stream)
        self._live: Live | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pictures_waiting = 0
        self.error: Exception | None = None
        # A daemon: one that hangs on a stopped terminal must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="screen", daemon=True)
        self._thread.start()

    @property
    def has_pictures(self) -> bool:
        """Whether the stream is a terminal that can be drawn on."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    @property
    def is_plain(self) -> bool:
        """Whether only ASCII can be shown."""
        return not self._console.encoding.startswith("utf")

    @property
    def width(self) -> int:
        """Characters in a line."""
        return self._console.width

    def picture(self, picture: RenderableType) -> None:
        """Draw, unless the last one is still being drawn."""
        if not self._pictures_waiting:
            self._pictures_waiting += 1
            self._jobs.put(lambda: self._draw(picture))

    def line(self, text: str) -> None:
        """Write a line; the last picture stays above it."""
        self._jobs.put(lambda: self._write(text))

    def close(self) -> None:
        """Write what is waiting, for a bounded time; the last picture stays."""
        self._jobs.put(self._end)
        self._jobs.put(None)
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self.error is not None:
                continue
            try:
                job()
            except (OSError, ValueError) as error:
                self.error = error

    def _draw(self, picture: RenderableType) -> None:
        self._pictures_waiting -= 1
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(picture, refresh=True)

    def _write(self, text: str) -> None:
        self._end()
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self._stream.flush()

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def stream_into(write: Callable[[str], None], *, colour: bool, encoding: str) -> TextIO:
    """A text stream that hands on what is written to it, a write at a time."""
    return cast(TextIO, _Handing(write, colour, encoding))


class _Handing(io.TextIOBase):
    def __init__(self, write: Callable[[str], None], colour: bool, encoding: str) -> None:
        self._hand_on = write
        self._colour = colour
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._colour

    def write(self, text: str, /) -> int:
        self._hand_on(text)
        return len(text)
