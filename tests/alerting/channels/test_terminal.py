from __future__ import annotations

import asyncio
import io
import threading

import pytest

from alerting.alert import Severity
from alerting.channels.base import DeliveryFailed
from alerting.channels.terminal import TerminalChannel
from alerting.message import Locale, Message
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, an_alert, message_of


async def told(channel: TerminalChannel, message: Message) -> None:
    (parcel,) = channel.prepare(message)
    await channel.send(parcel)


async def shown(message: Message, colour: bool | None = None) -> str:
    stream = io.StringIO()
    channel = TerminalChannel(stream, colour=colour)
    await told(channel, message)
    await channel.close()
    return stream.getvalue()


async def printed(colour: bool | None = None, **changes: object) -> str:
    return await shown(message_of(an_alert(**changes)), colour)


async def test_an_alert_is_two_lines_and_how_to_answer() -> None:
    assert await printed(related={"owner": "ann", "runbook": "https://wiki.example.com/ctr"}) == (
        "2026-05-01 10:04:00 UTC  FIRING major  CTR of recommender-home v3 is 4.1 %, below 5 % for 2 min\n"
        "    ctr-low · alert 00000000000000a1 · owner ann · runbook https://wiki.example.com/ctr\n"
        "    acknowledge: tidemark alerts ack 00000000000000a1\n"
    )


async def test_of_several_one_line_says_how_to_answer_and_of_what_is_over_none() -> None:
    text = await shown(message_of(an_alert(), an_alert(alert_id="b")))
    assert text.endswith("alert b\n    acknowledge: tidemark alerts ack ID\n") and text.count("acknowledge:") == 1
    assert "acknowledge:" not in await printed(status="resolved", resolved_at=TEN_O_CLOCK)


async def test_a_resolved_alert_is_dated_when_it_was_over() -> None:
    text = await printed(status="resolved", resolved_at=1_777_630_200_000)
    assert text.startswith("2026-05-01 10:10:00 UTC  RESOLVED major")


async def test_each_likely_cause_has_a_line() -> None:
    causes = (
        {"kind": "drift", "text": "new_user true 20 % -> 50 %, PSI 0.40 (severe)"},
        {"kind": "drift", "text": "b"},
    )
    lines = (await printed(causes=causes)).splitlines()
    assert lines[2:-1] == ["    cause: new_user true 20 % -> 50 %, PSI 0.40 (severe)", "    cause: b"]
    lines = (await printed(causes=causes * 4)).splitlines()
    assert (len(lines), lines[-2]) == (9, "    and 3 more causes")
    assert "cause" not in await printed(causes=causes, status="resolved", resolved_at=TEN_O_CLOCK)


async def test_a_repeat_and_an_escalation_say_so_and_when() -> None:
    for stage in ("repeat", "escalation"):
        text = await shown(message_of(stage=stage, at=TEN_O_CLOCK + 64 * MINUTE))
        assert text.startswith(f"2026-05-01 11:04:00 UTC  {stage.upper()} major  CTR")


async def test_an_alert_that_is_over_is_not_said_to_repeat() -> None:
    over = an_alert(alert_id="over", status="resolved", resolved_at=TEN_O_CLOCK + 10 * MINUTE)
    first, _, second, *_ = (await shown(message_of(an_alert(), over, stage="repeat"))).splitlines()
    assert "REPEAT major" in first
    assert second.startswith("2026-05-01 10:10:00 UTC  RESOLVED major")


async def test_another_language_is_shown_in_its_own_words() -> None:
    text = await shown(message_of(locale="zh", title="【重要】触发：首页推荐", text="点击率 4.1 %\n负责人 ann\n"))
    assert text == "2026-05-01 10:04:00 UTC  【重要】触发：首页推荐\n    点击率 4.1 %\n    负责人 ann\n"


async def test_a_file_gets_no_escape_sequences() -> None:
    assert "\x1b" not in await printed()


async def test_each_severity_has_a_colour_of_its_own() -> None:
    severities: list[Severity] = ["critical", "major", "minor"]
    styles = {(await printed(colour=True, severity=severity)).split("FIRING")[0] for severity in severities}
    assert len(styles) == 3
    assert all("\x1b[" in style for style in styles)


async def test_a_long_summary_is_not_broken_into_lines() -> None:
    assert (await printed(summary="x" * 400)).count("\n") == 3


async def test_a_stream_of_few_letters_gets_question_marks() -> None:
    raw = io.BytesIO()
    channel = TerminalChannel(io.TextIOWrapper(raw, encoding="ascii"))
    await told(channel, message_of(an_alert(summary="首页 CTR")))
    await channel.close()
    assert b"  ?? CTR\n" in raw.getvalue()


@pytest.mark.parametrize("locale", ["en", "zh"])
async def test_no_text_moves_the_cursor_or_adds_a_line(locale: Locale) -> None:
    nasty = "首页 [red]:smile: \x1b[2J\r\N{RIGHT-TO-LEFT OVERRIDE}"
    plain, drawn = [
        await shown(message_of(an_alert(summary=text), title=text, text=f"{text}\n", locale=locale))
        for text in ("plain", nasty)
    ]
    assert "首页 [red]:smile: \N{REPLACEMENT CHARACTER}[2J" in drawn
    assert not {"\x1b", "\r", "\N{RIGHT-TO-LEFT OVERRIDE}"} & set(drawn)
    assert drawn.count("\n") == plain.count("\n")


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
            await asyncio.wait_for(told(channel, message_of()), 0.002)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    go_on.set()
    await told(channel, message_of(an_alert(alert_id="after")))
    await channel.close()
    assert "after" in stream.getvalue()


async def test_a_reader_that_is_gone_is_final() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(DeliveryFailed, match="Broken pipe") as failure:
        await told(TerminalChannel(Gone()), message_of())
    assert not failure.value.retryable
