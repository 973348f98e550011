"""What the demo shows, without a demo."""

from __future__ import annotations

import io
import json

from rich.console import Console

from agents.live_view import KEPT_WINDOWS, Board, Progress, draw, minute_line, sparkline

TEN = 1_777_629_600_000
MINUTE = 60_000


def row(
    minute: int, shown: int, clicked: int, *, model: str = "home", version: str = "v1", final: bool = False
) -> bytes:
    start = TEN + minute * MINUTE
    return json.dumps(
        {
            "kind": "ctr", "model_id": model, "model_version": version, "window_start": start, "final": final,
            "window_end": start + MINUTE, "impressions": shown, "clicks": clicked, "ctr": clicked / shown,
        }
    ).encode()  # fmt: skip


def alert(status: str) -> bytes:
    return json.dumps({"alert_id": "a1", "status": status, "model_id": "home", "model_version": "v1"}).encode()


def shown(board: Board, watermark_minute: float, *, plain: bool = False, width: int = 120) -> str:
    watermark = TEN + int(watermark_minute * MINUTE)
    progress = Progress(watermark + 6000, watermark, watermark, 12_345, 678.0, 20.0)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(draw(board, progress, ["http://x:1/metrics"], plain=plain))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_window_is_shown_when_its_clicks_have_come() -> None:
    board = Board()
    board.take_row(row(0, 1000, 80))
    board.take_row(row(1, 1000, 3))
    picture = shown(board, 2.5)
    assert "home v1" in picture and "10:00-10:01" in picture and "8.0 %" in picture
    assert "10:01-10:02" not in picture
    assert "watermark 6 s behind" in picture and "678 events/s, 12,345 so far" in picture
    assert "http://x:1/metrics" in picture
    board.take_row(row(1, 1000, 40, final=True))
    later = shown(board, 3.0)
    assert "10:01-10:02" in later and "4.0 %" in later and "final" in later


def test_before_anything_is_known_it_says_so() -> None:
    assert "the first windows appear in a moment" in shown(Board(), 0)
    assert "none so far" in shown(Board(), 0)


def test_alerts_are_counted_and_their_models_marked() -> None:
    board = Board()
    board.take_row(row(0, 1000, 40))
    board.take_alert(alert("firing"))
    assert board.firing == {"a1": ("home", "v1")}
    board.alert_texts.append("FIRING major  CTR of home v1 is 4.0 %\n    ctr-low\n")
    assert "CTR of home v1 is 4.0 %" in shown(board, 5)
    board.take_alert(alert("resolved"))
    assert (board.firing, board.fired, board.resolved) == ({}, 1, 1)


def test_only_the_newest_windows_are_kept() -> None:
    board = Board()
    for minute in range(KEPT_WINDOWS + 5):
        board.take_row(row(minute, 10, 1, final=True))
    assert min(board.windows["home", "v1"]) == TEN + 5 * MINUTE
    assert (len(board.windows["home", "v1"]), board.final_rows) == (KEPT_WINDOWS, KEPT_WINDOWS + 5)


def test_a_line_tells_a_minute_of_all_models() -> None:
    board = Board()
    board.take_row(row(0, 1000, 40))
    board.take_row(row(0, 2000, 220, model="search", version=""))
    board.take_row(row(1, 1000, 80))
    assert minute_line(board, TEN) == "10:00 UTC  CTR: home v1 4.0 % (40 of 1,000) | search 11.0 % (220 of 2,000)"


def test_ids_from_events_do_no_harm_to_a_terminal() -> None:
    board = Board()
    board.take_row(row(0, 10, 1, model="\x1b[2J[bold]evil"))
    assert "\x1b" not in shown(board, 5) + minute_line(board, TEN)
    assert "[bold]evil" in shown(board, 5)


def test_sparklines_are_relative_to_their_largest_value() -> None:
    assert sparkline([0.08, 0.04, 0.0]) == "█▅▁"
    assert sparkline([0.08, 0.04, 0.0], plain=True) == "#*_"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""


def test_a_terminal_that_knows_only_ascii_gets_ascii() -> None:
    board = Board()
    board.take_row(row(0, 1000, 80))
    assert shown(board, 5, plain=True).isascii()
