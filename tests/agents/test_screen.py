"""Writing beside the event loop."""

from __future__ import annotations

import io
import os
import pty
import threading
import time

from rich.text import Text

from agents.screen import CLOSE_S, Screen, stream_into


class Stopped(io.StringIO):
    """A stream whose reader takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def write(self, text: str, /) -> int:
        self.goes_on.wait()
        return super().write(text)


def test_lines_come_in_their_order() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    assert not screen.has_pictures
    for number in range(100):
        screen.line(str(number))
    screen.close()
    assert stream.getvalue().split() == [str(number) for number in range(100)]


def test_a_reader_that_has_stopped_holds_up_nobody() -> None:
    stream = Stopped()
    screen = Screen(stream)
    started = time.monotonic()
    screen.line("waits")
    for _ in range(1000):
        screen.picture(Text("waits, too"))
    assert time.monotonic() - started < CLOSE_S
    screen.close()
    assert CLOSE_S <= time.monotonic() - started < CLOSE_S + 20
    stream.goes_on.set()


def test_a_reader_that_has_gone_is_an_error_and_not_the_end_of_the_process() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as raw:
        screen = Screen(io.TextIOWrapper(raw, write_through=True))
        screen.picture(Text("one"))
        screen.line("two")
        screen.close()
        assert isinstance(screen.error, BrokenPipeError)


def test_what_a_stream_cannot_encode_becomes_a_question_mark() -> None:
    raw = io.BytesIO()
    screen = Screen(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert screen.is_plain
    screen.line("8 % → 4 %")
    screen.close()
    assert raw.getvalue() == b"8 % ? 4 %\n"


def everything(terminal: int) -> str:
    """All that was written to a terminal whose other end is closed."""
    data = b""
    try:
        while chunk := os.read(terminal, 65_536):
            data += chunk
    except OSError:
        pass  # how a pseudo terminal says that it has ended
    os.close(terminal)
    return data.decode()


def test_on_a_terminal_pictures_replace_one_another_and_the_last_one_stays() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        screen = Screen(stream)
        assert screen.has_pictures
        for number in range(3):
            screen.picture(Text(f"picture {number}"))
            time.sleep(0.1)
        screen.line("the end")
        screen.close()
        assert screen.error is None
    shown = everything(ours)
    assert "picture 0" in shown and "picture 2" in shown
    assert "\x1b[2K" in shown  # a line is erased before it is drawn anew
    assert shown.rstrip().endswith("the end")
    assert shown.rindex("picture 2") < shown.rindex("the end")


def test_a_stream_hands_on_what_is_written_to_it() -> None:
    taken: list[str] = []
    stream = stream_into(taken.append, colour=True, encoding="ascii")
    assert (stream.write("one\n"), stream.isatty(), stream.encoding) == (4, True, "ascii")
    stream.flush()
    assert taken == ["one\n"]
