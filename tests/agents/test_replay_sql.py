"""`tidemark replay` with rules that look beyond one window: SQL, changes, silence; and a text of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.commands.main import main

MINUTE = 60_000
TEN_O_CLOCK = 1_777_629_600_000

CONFIG = """\
rules:
  - name: sql-low
    sql: |
      SELECT c.model_id, c.model_version, c.ctr AS value, 0.06 AS threshold, c.impressions, s.requests
      FROM ctr c JOIN serving s USING (model_id, model_version, minute)
      WHERE c.age = 0 AND c.impressions >= 100 AND c.ctr < 0.06
    for: 1m
    severity: minor
  - name: drop
    expr: drop(ctr, vs=10m) > 30%
    for: 1m
    min_n: 100
    model: recommender-home
    summary: "{{ model_id | upper }} {{ status }}: {{ value | percent }} less, {{ numbers.clicks | number }} clicks"
  - {name: silent, expr: impressions < 1, for: 1m, no_data: 3m, min_n: 20, model: recommender-cart}
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The case study from 9:52 to 10:16, without the shopping cart's impressions from 10:04 to 10:10."""
    folder = tmp_path_factory.mktemp("recording")
    whole, cut = folder / "whole.jsonl", folder / "cut.jsonl"
    arguments = ["--scenario", "may-day", "--minutes", "24", "--rate", "20", "--seed", "4"]
    assert main(["simulate", *arguments, "--out", str(whole)]) == 0
    with whole.open() as lines, cut.open("w") as kept:
        kept.writelines(line for line in lines if not is_cut(json.loads(line)))
    return cut


def is_cut(line: dict[str, Any]) -> bool:
    value = line.get("value")
    if line["topic"] != "impressions" or not isinstance(value, dict) or value.get("model_id") != "recommender-cart":
        return False
    at = value.get("event_time")  # some events are broken
    return isinstance(at, int) and 4 * MINUTE <= at - TEN_O_CLOCK < 10 * MINUTE


@pytest.fixture(scope="module")
def told(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bytes, bytes]]:
    """Windows and alerts."""
    folder = tmp_path_factory.mktemp("told")
    config = folder / "tidemark.yaml"
    config.write_text(CONFIG)
    runs = []
    for number in range(2):
        windows, alerts = folder / f"windows-{number}", folder / f"alerts-{number}"
        files = ["--config", str(config), "--windows", str(windows), "--alerts", str(alerts)]
        assert main(["replay", str(recording), *files]) == 0
        runs.append((windows.read_bytes(), alerts.read_bytes()))
    assert runs[0] == runs[1]  # to the byte
    yield runs[0]


def alerts_of(told: tuple[bytes, bytes], rule: str) -> list[dict[str, Any]]:
    return [alert for alert in map(json.loads, told[1].splitlines()) if alert["rule"] == rule]


def row_of(told: tuple[bytes, bytes], kind: str, model: str, minute: int) -> dict[str, Any]:
    start = TEN_O_CLOCK + minute * MINUTE
    (row,) = [
        row
        for row in map(json.loads, told[0].splitlines())
        if (row["kind"], row["model_id"], row["window_start"]) == (kind, model, start)
    ]
    return dict(row)


def test_a_query_sees_all_rows_of_its_minute_and_fires_as_long_as_it_returns_one(told: tuple[bytes, bytes]) -> None:
    firing, resolved = alerts_of(told, "sql-low")
    assert (firing["status"], resolved["status"]) == ("firing", "resolved")
    assert firing["alert_id"] == resolved["alert_id"]
    assert (firing["severity"], firing["model_id"], firing["model_version"]) == ("minor", "recommender-home", "v3")
    # From ten o'clock for a minute; then it needs a whole minute without a row.
    assert (firing["started_at"], firing["fired_at"]) == (TEN_O_CLOCK, TEN_O_CLOCK + 2 * MINUTE)
    assert resolved["resolved_at"] == TEN_O_CLOCK + 10 * MINUTE
    minute = (firing["related"]["window_start"] - TEN_O_CLOCK) // MINUTE
    assert minute == 0
    ctr, serving = (row_of(told, kind, "recommender-home", minute) for kind in ("ctr", "serving"))
    assert firing["value"] == pytest.approx(ctr["ctr"], abs=0.004)  # some clicks come later than it is asked
    assert firing["threshold"] == 0.06
    numbers = {"impressions": ctr["impressions"], "requests": serving["requests"]}
    assert firing["related"]["numbers"] == numbers


def test_a_drop_is_told_in_the_words_of_its_template(told: tuple[bytes, bytes]) -> None:
    firing, resolved = alerts_of(told, "drop")
    change = firing["related"]["change"]
    assert firing["value"] == pytest.approx(1 - change["current"] / change["reference"])
    assert 0.3 < firing["value"] < 0.55
    assert TEN_O_CLOCK < firing["fired_at"] < resolved["resolved_at"]
    assert firing["started_at"] == firing["fired_at"] - 2 * MINUTE
    percent, clicks = f"{firing['value'] * 100:.1f} %", firing["related"]["clicks"]
    assert firing["summary"] == f"RECOMMENDER-HOME firing: {percent} less, {clicks} clicks"
    assert resolved["summary"].startswith("RECOMMENDER-HOME resolved: ")
    assert change["vs_ms"] == 10 * MINUTE


def test_a_model_that_falls_silent_is_told_of_until_it_is_back(told: tuple[bytes, bytes]) -> None:
    firing, resolved, *_ = alerts_of(told, "silent")
    assert (firing["status"], resolved["status"]) == ("firing", "resolved")
    assert firing["alert_id"] == resolved["alert_id"]
    assert (firing["model_id"], firing["labels"], firing["value"]) == ("recommender-cart", {"no_data": "true"}, None)
    assert firing["started_at"] == TEN_O_CLOCK + 4 * MINUTE
    assert TEN_O_CLOCK + 7 * MINUTE <= firing["fired_at"] <= TEN_O_CLOCK + 8 * MINUTE
    assert TEN_O_CLOCK + 10 * MINUTE < resolved["resolved_at"] <= TEN_O_CLOCK + 12 * MINUTE


def test_nothing_else_is_told_and_in_order_of_event_time(told: tuple[bytes, bytes]) -> None:
    alerts = [*map(json.loads, told[1].splitlines())]
    # Clicks come for ten minutes after the last impression: the cart is silent then, too.
    assert [(a["rule"], a["status"]) for a in alerts[6:]] == [("silent", "firing")]
    times = [alert["resolved_at"] or alert["fired_at"] for alert in alerts]
    assert times == sorted(times)


BROKEN = """\
rules:
  - {name: twice, for: 0s, sql: "SELECT model_id, ctr AS value FROM ctr, range(2) WHERE age = 0 AND ctr < 0.06"}
  - {name: long, sql: "SELECT repeat(model_id, 1000) AS model_id, 1 AS value FROM ctr WHERE age = 0"}
"""


def test_what_a_query_cannot_say_is_told_and_takes_nothing_else_with_it(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, alerts = tmp_path / "tidemark.yaml", tmp_path / "alerts"
    config.write_text(BROKEN)
    assert main(["replay", str(recording), "--config", str(config), "--alerts", str(alerts)]) == 0
    fired = [alert for alert in map(json.loads, alerts.read_text().splitlines()) if alert["status"] == "firing"]
    assert [(alert["rule"], alert["model_id"]) for alert in fired] == [("twice", "recommender-home")]
    (line, _) = capsys.readouterr().err.splitlines()
    assert line.startswith("rule long had no answer for ")
    assert line.endswith("expected texts of at most 1000 characters, got a longer one")
    assert main(["rules", "test", str(config), str(recording)]) == 0
    assert "expected texts of at most 1000 characters" in capsys.readouterr().out
