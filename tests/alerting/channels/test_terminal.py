from __future__ import annotations

import asyncio
import io
import threading

import pytest

from alerting.alert import Severity
from alerting.channels.base import DeliveryFailed
from alerting.channels.terminal import TerminalChannel
from tests.alerting.samples import an_alert


async def printed(colour: bool | None = None, **changes: object) -> str:
    stream = io.StringIO()
    channel = TerminalChannel(stream, colour=colour)
    await channel.send(an_alert(**changes))
    await channel.close()
    return stream.getvalue()


async def test_two_lines_an_alert() -> None:
    assert await printed(related={"owner": "ann", "runbook": "https://wiki.example.com/ctr"}) == (
        "2026-05-01 10:04:00 UTC  FIRING major  CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min\n"
        "    ctr-low · alert 00000000000000a1 · owner ann · runbook https://wiki.example.com/ctr\n"
    )


async def test_a_resolved_alert_is_dated_when_it_was_over() -> None:
    text = await printed(status="resolved", resolved_at=1_777_630_200_000)
    assert text.startswith("2026-05-01 10:10:00 UTC  RESOLVED major")


async def test_a_file_gets_no_escape_sequences() -> None:
    assert "\x1b" not in await printed()


async def test_each_severity_has_a_colour_of_its_own() -> None:
    severities: list[Severity] = ["critical", "major", "minor"]
    styles = {(await printed(colour=True, severity=severity)).split("FIRING")[0] for severity in severities}
    assert len(styles) == 3
    assert all("\x1b[" in style for style in styles)


async def test_a_long_summary_is_not_broken_into_lines() -> None:
    assert (await printed(summary="x" * 400)).count("\n") == 2


async def test_a_stream_of_few_letters_gets_question_marks() -> None:
    raw = io.BytesIO()
    channel = TerminalChannel(io.TextIOWrapper(raw, encoding="ascii"))
    await channel.send(an_alert(summary="首页 CTR"))
    await channel.close()
    assert b"  ?? CTR\n" in raw.getvalue()


async def test_a_stopped_terminal_holds_up_nobody_else() -> None:
    go_on = threading.Event()

    class Stopped(io.StringIO):
        def write(self, text: str) -> int:
            go_on.wait(10)
            return super().write(text)

    stream = Stopped()
    channel = TerminalChannel(stream)
    for _ in range(40):  # more than there are threads for everybody
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.send(an_alert()), 0.002)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    go_on.set()
    await channel.send(an_alert(alert_id="after"))
    await channel.close()
    assert "after" in stream.getvalue()


async def test_a_reader_that_is_gone_is_final() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(DeliveryFailed, match="Broken pipe") as failure:
        await TerminalChannel(Gone()).send(an_alert())
    assert not failure.value.retryable
