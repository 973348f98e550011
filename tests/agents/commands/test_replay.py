"""`tidemark replay` as it is typed."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from agents.commands import main as command_line
from agents.commands.main import main
from agents.recording_codec import encode_lines
from tests.agents.shop_lines import event_json, final_counts, lines_of, topic_of, write_recording
from tests.oracle import Click, Event, Impression, count
from tests.tables.streams import T0, random_stream

ROOT = Path(command_line.__file__).parents[2]
MINUTE = 60_000

Replayed = Callable[..., "Files"]


class Files:
    """What a replay wrote."""

    def __init__(self, folder: Path, said: str) -> None:
        self.windows = (folder / "windows").read_bytes()
        self.alerts = (folder / "alerts").read_bytes()
        self.dead_letters = (folder / "dead").read_bytes()
        self.said = said

    @property
    def rows(self) -> list[bytes]:
        return self.windows.splitlines()

    @property
    def letters(self) -> list[Any]:
        return [json.loads(line) for line in self.dead_letters.splitlines()]


@pytest.fixture
def replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Replayed:
    """Replays with all outputs in files."""

    def run(*arguments: str | Path) -> Files:
        outputs = [
            "--windows",
            tmp_path / "windows",
            "--alerts",
            tmp_path / "alerts",
            "--dead-letters",
            tmp_path / "dead",
        ]
        assert main(["replay", *map(str, [*arguments, *outputs])]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        return Files(tmp_path, captured.err)

    return run


@pytest.fixture(scope="module")
def may_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine minutes of the case study, three of them a promotion."""
    path = tmp_path_factory.mktemp("recording") / "may-day.jsonl.zst"
    arguments = ["--scenario", "may-day", "--minutes", "9", "--rate", "40", "--seed", "4"]
    assert main(["simulate", *arguments, "--out", str(path)]) == 0
    return path


def in_order(seed: int, events: int = 300) -> list[Event]:
    """Random events by event time, over at most an hour."""
    return sorted(random_stream(random.Random(seed), events=events), key=lambda event: event.time)


# ---------------------------------------------------------------- what comes out


def test_the_case_study_gives_one_alert_that_is_resolved(may_day: Path, replay: Replayed) -> None:
    told = replay(may_day)
    firing, resolved = map(json.loads, told.alerts.splitlines())
    assert (firing["status"], resolved["status"]) == ("firing", "resolved")
    assert firing["alert_id"] == resolved["alert_id"]
    assert (firing["rule"], firing["severity"], firing["model_id"]) == ("ctr-low", "major", "recommender-home")
    ten_o_clock = 1_777_629_600_000
    assert firing["started_at"] == ten_o_clock
    assert firing["fired_at"] == ten_o_clock + 3 * MINUTE
    assert firing["value"] == pytest.approx(0.04, abs=0.002)
    assert firing["related"]["clicks"] / firing["related"]["impressions"] == firing["value"]
    assert resolved["value"] == pytest.approx(0.08, abs=0.004)
    assert "2 alerts" in told.said
    rates = {
        start: clicks / shown
        for ((model, _), start), (shown, clicks) in final_counts(told.rows).items()
        if model == "recommender-home" and start >= ten_o_clock - 3 * MINUTE
    }
    assert [rates[start] for start in sorted(rates)] == pytest.approx([0.08] * 3 + [0.04] * 3 + [0.08] * 3, abs=0.01)


def test_every_run_writes_the_same_bytes(may_day: Path, replay: Replayed, tmp_path: Path) -> None:
    first = replay(may_day, "--provisional")
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-m", "agents.commands.main", "replay", str(may_day), "--provisional",
             "--windows", "windows", "--alerts", "alerts", "--dead-letters", "dead"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )  # fmt: skip
        again = Files(tmp_path, done.stderr)
        assert (again.windows, again.alerts, again.dead_letters) == (first.windows, first.alerts, first.dead_letters)
        assert done.stderr.split(";")[0] == first.said.split(";")[0]


@pytest.mark.parametrize("attribution", ["all", "last"])
def test_events_in_order_give_the_contracts_counts(attribution: str, replay: Replayed, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"join: {{attribution: {attribution}}}\n")
    for seed in range(4):
        events = in_order(seed)
        lines = lines_of([(event.time, 0, event) for event in events])
        told = replay(write_recording(tmp_path / "r.jsonl", lines), "--config", config)
        assert final_counts(told.rows) == count(events, attribution)
        assert told.letters == []
        assert told.said.startswith(
            f"{len(events):,} events read, 0 late, 0 dead letters with those, {len(told.rows)} rows"
        )


def test_provisional_rows_come_before_the_final_one_of_their_window(may_day: Path, replay: Replayed) -> None:
    final, every = replay(may_day).rows, replay(may_day, "--provisional").rows
    assert [row for row in every if json.loads(row)["final"]] == final
    assert len(every) > 3 * len(final)
    named = ("window_end", "model_id", "model_version", "kind", "final")
    keys = [tuple(row[name] for name in named) for row in map(json.loads, every)]
    assert keys == sorted(keys)


def test_lines_that_are_no_records_are_dead_letters(replay: Replayed, tmp_path: Path) -> None:
    (good,) = lines_of([(T0, 0, Impression("u", "i", T0, ("home", "v1")))])
    path = tmp_path / "r.jsonl"
    bad_value = '{"topic":"clicks","partition":3,"offset":7,"key":null,"value_base64":"AAA="}'
    path.write_bytes(b"{}\n" + encode_lines([good]) + b"\n  \nnonsense\n" + bad_value.encode() + b"\n\xff\n")
    letters = replay(path).letters
    assert [(x["topic"], x["partition"], x["offset"]) for x in letters] == [
        (None, None, 1), (None, None, 5), ("clicks", 3, 7), (None, None, 7),
    ]  # fmt: skip
    assert [x["reason"].partition(":")[0] for x in letters] == ["broken_line", "broken_line", "not_json", "broken_line"]
    assert [x["value"] for x in letters] == ["e30=", "bm9uc2Vuc2U=", "AAA=", "/w=="]
    other = tmp_path / "other.jsonl"
    other.write_text("nonsense\n")
    assert any(x["reason"].startswith(f"broken_line: {other}: ") for x in replay(path, other).letters)


def test_a_reference_on_the_command_line_brings_drift_rows(may_day: Path, replay: Replayed, tmp_path: Path) -> None:
    path = tmp_path / "home.json"
    build = ["reference", "build", "--model", "recommender-home", "--from", str(may_day), "--out", str(path)]
    assert main(build) == 0
    assert not [row for row in replay(may_day).rows if json.loads(row)["kind"] == "drift"]
    rows = [json.loads(row) for row in replay(may_day, "--reference", str(path)).rows]
    drift = [row for row in rows if row["kind"] == "drift"]
    assert {row["model_id"] for row in drift} == {"recommender-home"}
    assert {"gender", "new_user", "prediction"} <= {row["feature"] for row in drift}
    assert {row["method"] for row in drift} == {"psi", "ks", "kl", "js"}


def test_topics_that_nobody_reads_are_counted_and_do_no_harm(replay: Replayed, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"topic":"outcomes","value":{}}\n{"topic":"else","value":1}\n{"topic":"else","value":2}\n')
    told = replay(path)
    assert told.said.startswith("0 events read, 3 ignored (else, outcomes), ")
    assert told.said.splitlines()[1].startswith("expected the topics impressions, clicks and inferences")
    assert (told.windows, told.alerts, told.dead_letters) == (b"", b"", b"")


def test_an_empty_recording_is_a_replay_of_nothing(replay: Replayed, tmp_path: Path) -> None:
    (tmp_path / "r").touch()
    assert replay(tmp_path / "r").said.startswith("0 events read, 0 late")


# ---------------------------------------------------------------- what goes in


def write_topic_files(folder: Path, events: list[Event]) -> list[str]:
    """A file for each topic, of which one is compressed; the arguments that name them."""
    texts = {"impressions": b"", "clicks": b""}
    for event in events:
        texts[topic_of(event)] += event_json(event) + b"\n"
    (folder / "shown.jsonl").write_bytes(texts["impressions"])
    (folder / "clicked.gz").write_bytes(gzip.compress(texts["clicks"]))
    return ["--topic", f"impressions={folder}/shown.jsonl", "--topic", f"clicks={folder}/clicked.gz"]


def test_bare_topic_files_are_merged_by_event_time(replay: Replayed, tmp_path: Path) -> None:
    events = in_order(7)
    told = replay(*write_topic_files(tmp_path, events))
    assert final_counts(told.rows) == count(events)
    assert told.letters == []


def test_a_topic_file_in_no_order_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = 1_777_600_000_000
    for name, minutes in (("sorted", (0, 11, 30)), ("nearly", (10, 0, 30)), ("shuffled", (30, 0, 11, 25))):
        lines = [json.dumps({"user_id": "u", "item_id": "i", "event_time": at + each * 60_000}) for each in minutes]
        (tmp_path / name).write_text("\n".join(lines))
    files = [f"--topic=clicks={tmp_path / name}" for name in ("sorted", "nearly", "shuffled")]
    assert main(["replay", *files]) == 0
    said, _summary = capsys.readouterr().err.splitlines()
    assert said == f"{tmp_path / 'shuffled'} is not in order of event time: 2 events came more than 10 min late"


def test_recordings_and_topic_files_go_together(replay: Replayed, tmp_path: Path) -> None:
    events = in_order(8, events=400)
    lines = lines_of([(event.time, 0, event) for event in events])
    one = write_recording(tmp_path / "one.jsonl.zst", lines[0::4])
    other = write_recording(tmp_path / "other.jsonl.gz", lines[1::4])
    (tmp_path / "more").mkdir()
    bare = write_topic_files(tmp_path, events[2::4]) + write_topic_files(tmp_path / "more", events[3::4])
    told = replay(one, other, *bare)
    assert final_counts(told.rows) == count(events)


def test_a_dash_is_standard_input_and_output(
    may_day: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    plain = zstandard.ZstdDecompressor().stream_reader(may_day.read_bytes()).read()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(plain))))
    assert main(["replay", "-", "--windows", "-"]) == 0
    shown = capfdbinary.readouterr().out
    assert len(shown.splitlines()) > 20
    assert main(["replay", str(may_day), "--windows", "-"]) == 0
    assert capfdbinary.readouterr().out == shown


def test_files_may_stand_on_both_sides_of_options(may_day: Path, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_bytes(b"")
    assert main(["replay", str(may_day), "--windows", str(tmp_path / "w.jsonl"), str(tmp_path / "none.jsonl")]) == 0
    assert (tmp_path / "w.jsonl").read_bytes()


def test_a_replay_needs_no_secrets_nor_what_a_worker_connects_to(
    may_day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BROKER", "STORE", "WEB_PORT"):
        monkeypatch.setenv(f"TIDEMARK_{name}", "nonsense")
    file = tmp_path / "production.yaml"
    file.write_text(
        """\
rules: [{name: ctr-low, expr: "ctr < 5%"}]
channels: [{type: wecom, name: ops, url_env: NOT_SET_HERE}]
alerting: {receivers: {operations: [ops], data-science: [ops]}}
privacy: {hash_key_file: /run/secrets/not-here}
"""
    )
    assert main(["replay", str(may_day), "--config", str(file), "--alerts", str(tmp_path / "alerts.jsonl")]) == 0
    assert b"ctr-low" in (tmp_path / "alerts.jsonl").read_bytes()
    assert main(["check", str(file)]) == 2  # who is to tell somebody needs them


def test_outputs_are_compressed_by_their_names(may_day: Path, tmp_path: Path) -> None:
    names = "w.jsonl", "w.gz", "w.zst"
    for name in names:
        assert main(["replay", str(may_day), "--windows", str(tmp_path / name)]) == 0
    plain, zipped, packed = ((tmp_path / name).read_bytes() for name in names)
    assert gzip.decompress(zipped) == plain
    assert zstandard.ZstdDecompressor().stream_reader(packed).read() == plain


def test_a_prefix_is_part_of_the_topics_names(replay: Replayed, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("topics: {prefix: prod.}\n")
    recording = tmp_path / "r.jsonl"
    event = event_json(Impression("u", "i", T0, ("home", ""))).decode()
    recording.write_text(
        "".join(f'{{"topic":"{name}","value":{event}}}\n' for name in ("prod.impressions", "impressions"))
    )
    assert replay(recording, "--config", config).said.startswith("1 events read, 1 ignored (impressions)")
    bare = tmp_path / "bare.jsonl"
    bare.write_text(event + "\n")
    for name in ("prod.impressions", "impressions"):
        assert len(replay("--topic", f"{name}={bare}", "--config", config).rows) == 1


def test_the_environment_changes_nothing(may_day: Path, replay: Replayed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_CONFIG", "nowhere.yaml")
    assert len(replay(may_day).alerts.splitlines()) == 2


def test_speed_follows_the_recordings_clock(replay: Replayed, tmp_path: Path) -> None:
    shown = [(T0 + second * 1000, 0, Impression("u", f"i{second}", T0, ("home", ""))) for second in range(0, 181, 30)]
    path = write_recording(tmp_path / "r.jsonl", lines_of(shown))
    started = time.monotonic()
    fast = replay(path)
    assert time.monotonic() - started < 60, "three minutes long"
    started = time.monotonic()
    slow = replay(path, "--speed", "180")
    assert time.monotonic() - started > 0.95
    assert slow.windows == fast.windows


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected a RECORDING or --topic NAME=FILE"),
        (["-", "-"], "standard input"),
        (["-", "--topic", "clicks=-"], "standard input"),
        (["--topic", "clicks"], "--topic: expected NAME=FILE, got 'clicks'"),
        (["--topic", "click=r"], "--topic: unknown topic 'click'; did you mean clicks?"),
        (["--topic", "orders=r"], "--topic: unknown topic 'orders'; expected one of impressions, clicks, "),
        (["r", "--speed", "fast"], "argument --speed: expected a number above 0 or max, got 'fast'"),
        (["r", "--speed", "0"], "argument --speed: expected a number above 0 or max"),
        (["r", "--speed", "nan"], "argument --speed: expected a number above 0 or max"),
        (["r", "--windows", "r"], "r: expected a file of its own for each output"),
        (["r", "--windows", "w", "--alerts", "./w"], "./w: expected a file of its own for each output"),
        (["r", "--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["r", "--broker", "kafka://x:1"], "unrecognized arguments: --broker"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").write_text("")
    assert main(["replay", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert {path.name for path in tmp_path.iterdir()} == {"r"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such file"),
        (["."], ".: is a directory"),
        (["r", "--topic", "clicks=nowhere"], "nowhere: no such file"),
        (["cut.gz", "--windows", "w"], "cut.gz: the compressed data end too early"),
        (["r", "--windows", "no/such/folder/w"], "cannot write no/such/folder/w"),
        (["r", "--dead-letters", "/dev/full"], "cannot write /dev/full: No space left on device"),
        (["few", "--dead-letters", "/dev/full"], "cannot write /dev/full: No space left on device"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_line_and_status_1(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").write_text("broken\n" * 5000)
    (tmp_path / "few").write_text("broken\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(os.urandom(1000))[:-20])
    assert main(["replay", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tidemark: error: ") and said in line


def test_a_reader_of_the_output_that_goes_away_is_no_news(may_day: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agents.commands.main", "replay", str(may_day), "--provisional", "--windows", "-"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b'{"kind":"ctr"')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_a_click_alone_makes_no_row(replay: Replayed, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r.jsonl", lines_of([(T0, 0, Click("u", "i", T0))]))
    assert replay(path).rows == []
