"""What the demo shows, without a demo."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from agents.board import KEPT_MINUTES, LEAST_RECORDS, Board, Kind
from agents.live_view import LEAST_REQUESTS, Progress, draw, minute_lines, sparkline, worst_lines

TEN = 1_777_629_600_000
MINUTE = 60_000


def row(kind: Kind, minute: int, *, model: str = "home", version: str = "v1", **fields: Any) -> bytes:
    start = TEN + minute * MINUTE
    common = {"model_id": model, "model_version": version, "window_start": start, "window_end": start + MINUTE}
    return json.dumps({"kind": kind, "final": False, **common, **fields}).encode()


def ctr(minute: int, shown: int, clicked: int, **fields: Any) -> bytes:
    return row("ctr", minute, impressions=shown, clicks=clicked, ctr=clicked / shown, **fields)


def serving(minute: int, requests: int, errors: int = 0, p95: float | None = 90.0, **fields: Any) -> bytes:
    latency = {"p50": p95, "p95": p95, "p99": p95, "max": p95, "count": requests, "sum": 0.0}
    rates = {"availability": 1 - errors / requests, "qps": requests / 60}
    return row("serving", minute, requests=requests, errors=errors, latency_ms=latency, **rates | fields)


def drift(minute: int, feature: str, value: float, level: str, *, n: int = 5000, **fields: Any) -> bytes:
    told = {"feature": feature, "value": value, "level": level, "n": n, "reference_n": 9000, "horizon_s": 300}
    return row("drift", minute, **{"method": "psi", "critical": 0.01, **told, **fields})


def alert(status: str, *, severity: str = "major", about: str = "impressions", number: int = 1) -> bytes:
    told = {"status": status, "severity": severity, "related": {about: 1}, "model_id": "home", "model_version": "v1"}
    return json.dumps({"alert_id": f"a{number}", **told}).encode()


def board_of(*rows: bytes) -> Board:
    board = Board()
    for each in rows:
        board.take_row(each)
    return board


def shown(board: Board, watermark_minute: float, *, plain: bool = False, width: int = 120, styled: bool = False) -> str:
    watermark = TEN + int(watermark_minute * MINUTE)
    progress = Progress(watermark + 6000, watermark, watermark, 12_345, 678.0, 20.0)
    colours = "standard" if styled else None
    console = Console(file=io.StringIO(), width=width, color_system=colours, force_terminal=styled)  # type: ignore[arg-type]
    console.print(draw(board, progress, ["http://x:1/metrics"], plain=plain, width=width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# ---------------------------------------------------------------- the picture


def test_a_minute_is_shown_when_its_clicks_have_come() -> None:
    board = board_of(ctr(0, 1000, 80), ctr(1, 1000, 3))
    picture = shown(board, 2.5)
    assert "home v1" in picture and "10:00" in picture and "8.0 %" in picture
    assert "10:01" not in picture.partition("model")[2]
    assert "watermark 6 s behind" in picture and "678 events/s, 12,345 so far" in picture
    assert "http://x:1/metrics" in picture
    board.take_row(ctr(1, 1000, 40, final=True))
    later = shown(board, 3.0)
    assert "10:01" in later and "4.0 %" in later


def test_latency_availability_and_drift_stand_beside_the_ctr_of_the_same_minute() -> None:
    board = board_of(
        ctr(0, 1000, 40),
        serving(0, 200, errors=1, p95=1234.5),
        drift(0, "gender", 0.214, "severe"),
        drift(0, "new_user", 0.42, "severe"),
        drift(0, "age", 0.12, "minor"),
        drift(0, "price", 0.01, "none"),
        # Another method's numbers are not PSI.
        drift(0, "score", 0.5, "severe", method="js"),
        serving(1, 200, p95=1.0),
    )
    (line,) = (line for line in shown(board, 2.5, width=140).splitlines() if "home v1" in line)
    for part in ("10:00", "4.0 %", "1,234 ms", "99.5 %", "severe new_user 0.42, gender 0.21; minor age 0.12"):
        assert part in line
    assert "price" not in line and "score" not in line


def test_a_model_that_shows_nothing_has_its_latency_all_the_same() -> None:
    board = board_of(serving(0, 50, errors=5, p95=None), drift(0, "age", 0.01, "none"))
    (line,) = (line for line in shown(board, 2.5).splitlines() if "home v1" in line)
    assert "90.0 %" in line and "none" in line and "ms" not in line


def test_too_few_records_are_no_drift() -> None:
    board = board_of(serving(0, 50), drift(0, "age", 0.9, "severe", n=LEAST_RECORDS - 1))
    assert "age" not in shown(board, 2.5)


def test_before_anything_is_known_it_says_so() -> None:
    assert "the first minutes appear in a moment" in shown(Board(), 0)
    assert "none so far" in shown(Board(), 0)


def test_alerts_are_counted_and_shown() -> None:
    board = board_of(ctr(0, 1000, 40))
    board.take_alert(alert("firing"))
    board.take_alert(alert("firing", severity="minor", number=2))
    board.alert_texts.append("FIRING major  CTR of home v1 is 4.0 %\n    ctr-low\n")
    assert "CTR of home v1 is 4.0 %" in shown(board, 5)
    board.take_alert(alert("resolved"))
    board.take_alert(alert("resolved", severity="minor", number=2))
    assert (board.firing, board.fired, board.resolved, board.minor) == ({}, 1, 1, 1)


@pytest.mark.parametrize(
    ("about", "red"),
    [("impressions", {"home v1", "4.0 %"}), ("requests", {"home v1", "90 ms", "100.0 %"}), ("feature", {"home v1"})],
)
def test_what_an_alert_is_about_is_red(about: str, red: set[str]) -> None:
    board = board_of(ctr(0, 1000, 40), serving(0, 100))
    board.take_alert(alert("firing", about=about))
    picture = shown(board, 5, styled=True)
    numbers = ("home v1", "4.0 %", "90 ms", "100.0 %")
    assert {number for number in numbers if re.search(rf"\x1b\[1;31m *{number}", picture)} == red


@pytest.mark.parametrize(("width", "bars"), [(80, 0), (100, 0), (102, 6), (120, 24), (200, 30)])
def test_bars_take_the_room_that_is_left_and_drift_has_some_always(width: int, bars: int) -> None:
    rows = [ctr(minute, 10_000, 800, model="recommender-home") for minute in range(40)]
    board = board_of(*rows, serving(39, 1000, p95=1234.5, model="recommender-home"))
    for feature, psi in (("gender", 0.21), ("new_user", 0.42)):
        board.take_row(drift(39, feature, psi, "severe", model="recommender-home"))
    picture = shown(board, 45, width=width)
    assert max(map(len, picture.splitlines())) <= width
    assert max(line.count("█") for line in picture.splitlines()) == bars
    assert {"severe", "new_user", "0.42", "gender", "0.21", "recommender-home", "100.0"} <= set(
        re.split(r"[ ,]+", picture)
    )


def test_only_the_newest_minutes_are_kept() -> None:
    board = board_of(*(ctr(minute, 10, 1, final=True) for minute in range(KEPT_MINUTES + 5)))
    assert min(board.minutes["home", "v1"]) == TEN + 5 * MINUTE
    assert (len(board.minutes["home", "v1"]), board.final_rows) == (KEPT_MINUTES, KEPT_MINUTES + 5)


def test_a_terminal_that_knows_only_ascii_gets_ascii() -> None:
    assert shown(board_of(ctr(0, 1000, 80), serving(0, 100)), 5, plain=True).isascii()


def test_sparklines_are_relative_to_their_largest_value() -> None:
    assert sparkline([0.08, 0.04, 0.0]) == "█▅▁"
    assert sparkline([0.08, 0.04, 0.0], plain=True) == "#*_"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""


# ---------------------------------------------------------------- lines


def test_a_minute_of_all_models_is_told_in_a_line_or_two() -> None:
    board = board_of(
        ctr(0, 1000, 40),
        ctr(0, 2000, 220, model="search", version=""),
        ctr(1, 1000, 80),
        serving(0, 100, p95=92.4),
        serving(0, 40, p95=18.0, model="prices"),
    )
    assert minute_lines(board, TEN) == [
        "10:00 UTC  CTR: home v1 4.0 % (40 of 1,000) | search 11.0 % (220 of 2,000)",
        "10:00 UTC  P95: home v1 92 ms | prices v1 18 ms",
    ]
    assert minute_lines(board, TEN + 2 * MINUTE) == []


def test_errors_and_drift_have_a_line_where_there_are_some() -> None:
    board = board_of(serving(0, 50, errors=4, p95=None), drift(0, "gender", 0.21, "severe"))
    # A few errors are usual, and one of few requests is no rate.
    for place, (requests, errors) in enumerate([(100, 2), (LEAST_REQUESTS - 1, 3)]):
        board.take_row(serving(0, requests, errors=errors, p95=None, model=f"other-{place}"))
    assert minute_lines(board, TEN) == [
        "10:00 UTC  errors: home v1 8.0 % (4 of 50)",
        "10:00 UTC  drift: home v1 severe gender 0.21",
    ]


def test_the_end_tells_what_stood_out() -> None:
    board = board_of(
        *(serving(minute, 100, p95=90.0 + minute) for minute in range(3)),
        serving(3, LEAST_REQUESTS - 1, p95=2000.0),
        serving(1, 40, errors=10, p95=20.0, model="prices"),
        *(drift(minute, "gender", 0.2 + minute / 100, "severe") for minute in range(3)),
        # Farther, but of fewer requests.
        drift(1, "gender", 0.9, "severe", n=300, model="prices"),
        drift(2, "age", 0.12, "minor"),
    )
    assert worst_lines(board) == [
        "slowest minute: home v1 at 10:02, P95 92 ms",
        "most errors: prices v1 at 10:01, 10 of 40 requests",
        "severe drift: gender of home v1 at 10:02, PSI 0.22; and of 1 more",
    ]
    # What every minute has is not told.
    assert worst_lines(board_of(serving(0, 100, errors=1))) == ["slowest minute: home v1 at 10:00, P95 90 ms"]
    assert worst_lines(Board()) == []


def test_ids_from_events_do_no_harm_to_a_terminal() -> None:
    evil = "\x1b[2J[bold]evil"
    board = board_of(ctr(0, 10, 1, model=evil), serving(0, 100, model=evil), drift(0, evil, 0.9, "severe", model=evil))
    told = shown(board, 5, width=200) + "".join(minute_lines(board, TEN) + worst_lines(board))
    assert "\x1b" not in told
    assert "[bold]evil" in told
