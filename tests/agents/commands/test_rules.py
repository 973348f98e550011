"""`tidemark rules` as it is typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agents.commands import main as command_line
from agents.commands.main import main
from tests.agents.shop_lines import lines_of, write_recording
from tests.oracle import Impression
from tests.tables.streams import T0

ROOT = Path(command_line.__file__).parents[2]

RULES = """\
rules:
  - {name: ctr-low, expr: ctr < 5%, for: 2m, owner: reco, model: "recommender-*"}
  - {name: ctr-high, expr: ctr > 90%, severity: critical}
  - {name: shown-much, expr: impressions > 100, for: 1h, severity: minor}
"""
CLICKS = """\
rules:
  - name: clicked
    for: 2m
    sql: |
      SELECT model_id, sum(clicks) AS value
      FROM ctr
      WHERE age = 0
      GROUP BY model_id
      HAVING value > 100
"""


@pytest.fixture(scope="module")
def may_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine minutes of the case study, three of them a promotion."""
    path = tmp_path_factory.mktemp("recording") / "may-day.jsonl.zst"
    arguments = ["--scenario", "may-day", "--minutes", "9", "--rate", "40", "--seed", "4"]
    assert main(["simulate", *arguments, "--out", str(path)]) == 0
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> str:
    """What `tidemark rules` says on standard output."""
    capsys.readouterr()
    assert main(["rules", *map(str, arguments)]) == status
    captured = capsys.readouterr()
    assert (captured.err == "") == (status == 0), captured.err
    return captured.out


# ---------------------------------------------------------------- test


def test_the_case_study_rule_by_rule_and_as_a_timeline(
    may_day: Path, rules: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TIDEMARK_CONFIG", "nowhere.yaml")
    told = said(capsys, "test", rules, may_day)
    blocks = re.split(r"\n(?=ctr-|shown-|$)", told)
    assert re.fullmatch(
        r"2026-05-01 \d\d:\d\d to \d\d:\d\d UTC: [\d,]+ events, \d+ dead letters, 2 alerts\n?", blocks[0]
    )
    low, high, much = (block.splitlines() for block in blocks[1:4])
    assert low[0] == "ctr-low  major  CTR below 5 %, for 2 min"
    assert re.fullmatch(
        r"  recommender-home v3: fired once, worst 3\.\d %, 9 windows judged.*\(too few impressions\)", low[1]
    )
    assert re.fullmatch(r"    10:03 to 10:05 \(2 min\), began 10:00, worst 3\.\d %", low[2])
    assert all("search" not in line for line in low)
    assert high[0].startswith("ctr-high  critical  CTR above 90 %")
    assert all("never fired" in line for line in high[1:])
    assert any("recommender-cart v1: never fired, worst" in line for line in much)
    bars = [line.rstrip() for line in told.splitlines()[-7:-1] if line.startswith(("ctr-", "shown-"))]
    (bar,) = [line for line in bars if line.startswith("ctr-")]
    assert re.fullmatch(r"ctr-low recommender-home v3 +·*▒{3,}█{2,}·+", bar)
    assert any(line.startswith("shown-much recommender-home v3 ") for line in bars)
    assert all("▒" in line and "█" not in line for line in bars if line != bar)
    assert max(map(len, told.splitlines()[-6:])) <= 100


def test_the_alerts_are_those_of_a_replay_and_every_run_says_the_same(
    may_day: Path, rules: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    alerts, replayed = tmp_path / "alerts", tmp_path / "replayed"
    told = said(capsys, "test", rules, may_day, "--alerts", alerts, "--html", tmp_path / "page.html")
    assert main(["replay", str(may_day), "--config", str(rules), "--alerts", str(replayed)]) == 0
    assert len(alerts.read_bytes().splitlines()) == 2
    assert alerts.read_bytes() == replayed.read_bytes()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-m", "agents.commands.main", "rules", "test", str(rules), str(may_day),
             "--alerts", "alerts.2", "--html", "page.2"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            timeout=60,
        )  # fmt: skip
        assert done.stderr == b""
        assert done.stdout.decode() == told
        assert (tmp_path / "alerts.2").read_bytes() == alerts.read_bytes()
        assert (tmp_path / "page.2").read_bytes() == (tmp_path / "page.html").read_bytes()


def test_what_fires_with_the_last_event_is_told_too(
    rules: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shown = [(T0 + n * 500, 0, Impression(f"u{n}", "i", T0 + n * 500, ("recommender-x", ""))) for n in range(270)]
    recording = write_recording(tmp_path / "r.jsonl", lines_of(shown))
    rules.write_text("rules:\n  - {name: ctr-low, expr: ctr < 5%, min_n: 50}\n")
    told = said(capsys, "test", rules, recording, "--alerts", tmp_path / "alerts", "--expect", "ctr-low")
    assert [json.loads(line)["status"] for line in (tmp_path / "alerts").read_bytes().splitlines()] == ["firing"]
    assert "to the end" in told


def test_a_query_is_tried_like_any_other_rule(
    may_day: Path, rules: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rules.write_text(CLICKS)
    told = said(capsys, "test", rules, may_day, "--alerts", tmp_path / "alerts")
    fired = {json.loads(line)["model_id"] for line in (tmp_path / "alerts").read_bytes().splitlines()}
    assert fired == {"recommender-home"}
    assert "clicked  major  SELECT model_id, sum(clicks) AS value FROM ctr" in told
    assert "returned nothing for " in told
    assert re.search(r"\n  recommender-home: fired 2 times, worst 125, 8 windows judged\n    10:00 to 10:02 ", told)


def test_drift_rules_are_tried_against_a_reference(
    may_day: Path, rules: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    reference = tmp_path / "home.json"
    build = ["reference", "build", "--model", "recommender-home", "--from", str(may_day), "--out", str(reference)]
    assert main(build) == 0
    rules.write_text("rules:\n  - {name: shifted, expr: psi(gender) > 0.9, min_n: 10}\n")
    assert "judged nothing" in said(capsys, "test", rules, may_day)
    told = said(capsys, "test", rules, may_day, "--reference", reference)
    assert re.search(r"recommender-home v3: never fired, worst 0\.\d\d \(gender\), \d+ windows judged", told)
    assert "no rule was pending or firing at any time" in told


def test_what_is_expected_decides_on_the_status(may_day: Path, rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def status(*expected: str) -> tuple[int, str]:
        capsys.readouterr()
        return main(["rules", "test", str(rules), str(may_day), *expected]), capsys.readouterr().err

    assert status("--expect", "ctr-low") == (0, "")
    assert status("--expect-none") == (1, "tidemark: error: expected no rule to fire, but ctr-low did\n")
    assert status("--expect", "ctr-low", "--expect", "ctr-high") == (
        1,
        "tidemark: error: expected ctr-high to fire, which did not happen\n",
    )
    rules.write_text("rules:\n  - {name: ctr-high, expr: ctr > 90%}\n")
    assert status("--expect-none") == (0, "")


def test_a_terminal_without_unicode_is_drawn_in_ascii(may_day: Path, rules: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agents.commands.main", "rules", "test", str(rules), str(may_day)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    text = done.stdout.decode("ascii")
    assert re.search(r"ctr-low recommender-home v3 +[.]*={2,}#{2,}", text)


def test_the_page_needs_nothing_else_and_trusts_no_name(
    rules: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = '<script src="http://x.example/">&</script>\u202e'
    shown = [(T0 + n * 500, 0, Impression(f"u{n}", "i", T0 + n * 500, (name, "<b>"))) for n in range(1200)]
    recording = write_recording(tmp_path / "r.jsonl", lines_of(shown))
    rules.write_text(
        "rules:\n"
        '  - {name: "<i>low</i>", expr: ctr < 5%, min_n: 50}\n'
        '  - {name: shown, expr: impressions < 119, summary: "<img src=x> {{ model_id }}", for: 0}\n'
    )
    page = tmp_path / "page.html"
    told = said(capsys, "test", rules, recording, "--html", page)
    assert "\u202e" not in told
    text = page.read_text()
    assert "default-src 'none'" in text
    for forbidden in ("<script", "<img", "<i>", "<b>", "\u202e"):
        assert forbidden not in text
    assert "&lt;script src=&quot;http://x.example/&quot;&gt;" in text
    assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?https?:", re.sub(r"&quot;.*?&quot;", "", text))
    low, *_ = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    classes = [element.get("class") for element in low.iter()]
    assert {"line", "limit", "pending", "major", "judged"} <= set(classes)
    (line,) = [element for element in low.iter() if element.get("class") == "line"]
    places = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
    assert len(places) == 10
    assert all(0 <= x <= 960 and 0 <= y <= 110 for x, y in places)
    for bar in low.iter("rect"):
        assert 0 <= float(bar.get("x", "-1")) <= 960


def test_the_same_times_mean_the_same_places(rules: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A model that is shown for half of the time has half a line."""
    shown = [(T0 + n * 1000, 0, Impression(f"u{n}", "i", T0 + n * 1000, ("long", ""))) for n in range(1200)]
    shown += [(T0 + n * 1000, 0, Impression(f"v{n}", "i", T0 + n * 1000, ("short", ""))) for n in range(600)]
    recording = write_recording(tmp_path / "r.jsonl", lines_of(sorted(shown, key=lambda arrival: arrival[0])))
    rules.write_text("rules:\n  - {name: shown, expr: impressions > 1}\n")
    told = said(capsys, "test", rules, recording)
    bars = {line.split()[1]: line.rstrip() for line in told.splitlines() if line.startswith("shown ") and "▒" in line}
    # Neither is ever resolved: the end of a recording says nothing of what would have come.
    assert len(bars["long"]) == len(bars["short"])
    assert "to the end" in told


# ---------------------------------------------------------------- list and check


def test_rules_are_listed_as_they_are_understood(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules.write_text(
        RULES + '  - {name: slower, expr: "rise(p95(latency), vs=1d, over=30m) > 5%", min_n: 20000, no_data: 5m}\n'
        "  - {name: shifted, expr: psi(gender) >= 0.15, version: v3, keep_firing_for: 10m}\n"
        "  - {name: shifts, expr: drift(*) >= severe}\n"
    )
    lines = said(capsys, "list", rules).splitlines()
    table = [re.split(r" {2,}", line.rstrip()) for line in lines[:-1]]
    assert table == [
        ["name", "severity", "condition", "for", "keeps", "rows", "about", "owner"],
        ["ctr-low", "major", "CTR below 5 %", "2 min", "1 min", "500", "recommender-*", "reco"],
        ["ctr-high", "critical", "CTR above 90 %", "2 min", "1 min", "500", "all models"],
        ["shown-much", "minor", "Impression count above 100", "1 h", "1 min", "any", "all models"],
        ["slower", "major",
         "rise of P95 latency against 1 d before over 30 min above 5 %, or no data for 5 min",
         "2 min", "1 min", "20,000", "all models"],
        ["shifted", "major", "PSI of gender at or above 0.15", "2 min", "10 min", "1,000", "*; versions v3"],
        ["shifts", "major", "Drift of every feature at or above severe", "2 min", "1 min", "1,000", "all models"],
    ]  # fmt: skip
    assert lines[-1] == "6 rules"


def test_check_is_that_of_tidemark_check(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "check", rules) == "ok: 3 rules (1 critical, 1 major, 1 minor)\n"
    rules.write_text("rules:\n  - {name: a, expr: ctr ~ 5%}\n  - {name: b}\n")
    assert main(["rules", "check", str(rules)]) == 2
    by_rules = capsys.readouterr().err
    assert main(["check", str(rules)]) == 2
    assert capsys.readouterr().err == by_rules
    assert len(by_rules.splitlines()) == 2


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["test", "broken", "r"], 2, "broken:2: rules[0].expr: expected"),
        (["list", "broken"], 2, "(and 1 more, see tidemark check)"),
        (["list", "nowhere"], 2, "nowhere: cannot be read: No such file"),
        (["test", "rules.yaml", "r", "--expect", "ctr-lo"], 2, "--expect: expected one of the rules ctr-low, ctr-high"),
        (["test", "rules.yaml", "r", "--expect", "ctr-low", "--expect-none"], 2, "not allowed with argument"),
        (["test", "rules.yaml", "r", "--alerts", "r"], 2, "r: expected a file of its own, but r is the same"),
        (["test", "rules.yaml", "r", "--alerts", "-"], 2, "standard output shows the timeline"),
        (["test", "rules.yaml", "r", "--config", "nowhere"], 2, "nowhere: cannot be read"),
        (["test", "rules.yaml"], 2, "the following arguments are required: RECORDING"),
        (["test", "rules.yaml", "nowhere"], 1, "nowhere: no such file"),
        (["test", "rules.yaml", "r", "--alerts", "no/such/a"], 1, "cannot write no/such/a: No such file or directory"),
        (["test", "rules.yaml", "r", "--html", "no/such/h"], 1, "cannot write no/such/h: No such file or directory"),
        (["test", "rules.yaml", "other"], 1, "other: nothing that tidemark reads, only prod.clicks"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: Sequence[str],
    status: int,
    told: str,
    tmp_path: Path,
    rules: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken").write_text("rules:\n  - {name: a, expr: ctr ~ 5%}\n  - {name: b}\n")
    Path("r").touch()
    Path("other").write_text('{"topic":"prod.clicks","value":{}}\n')
    assert main(["rules", *arguments]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_an_empty_recording_is_a_test_of_nothing(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r").touch()
    told = said(capsys, "test", rules, tmp_path / "r", "--expect-none", "--html", tmp_path / "page.html")
    assert told.startswith("0 events, 0 dead letters, 0 alerts\n")
    assert told.count("judged nothing") == 3


@pytest.mark.parametrize("action", ["list", "check", "test"])
def test_every_action_has_a_help_with_an_example(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", action, "--help"]) == 0
    assert "example:\n  tidemark " in capsys.readouterr().out
