"""`tidemark reference`, with files, a real Redis and a real broker."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agents.commands.main import main
from agents.reference_files import read_reference
from deploy.stack import KafkaCluster
from tables.daily_histograms import DAY_MS, DailyHistograms
from tables.redis_connection import RedisConnection
from tables.redis_url import parse_store_url
from tables.reference import Reference
from tables.reference_building import build_reference
from tables.reference_store import ReferenceStore
from tests.agents.commands.processes import ROOT, TIDEMARK, environment

NOON = 1_777_636_800_000
"""2026-05-01T12:00:00Z."""
FEW = "warning: of fewer than 1,000 rows only a large shift can be told from chance"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows of features: ages 0 to 99, a tenth of the genders missing."""
    file = tmp_path / "rows.csv"
    file.write_text("age,gender\n" + "".join(f"{age},{'fm'[age % 2] if age % 10 else ''}\n" for age in range(100)))
    return file


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from the environment, and a store that is not there."""
    monkeypatch.delenv("TIDEMARK_CONFIG", raising=False)
    monkeypatch.setenv("TIDEMARK_STORE", "redis://127.0.0.1:1/0")


def reference(model_id: str = "ranker", version: str | None = None, ages: int = 100) -> Reference:
    return build_reference(
        {"age": list(range(ages)), "gender": ["f", "m"] * (ages // 2)},
        model_id=model_id,
        model_version=version,
        created_at_ms=NOON,
        source="may-day.jsonl",
    )


def put(url: str, *references: Reference) -> None:
    async def putting() -> None:
        async with RedisConnection(parse_store_url(url)) as redis:
            for each in references:
                await ReferenceStore(redis, "tidemark").put(each)

    asyncio.run(putting())


@pytest.mark.usefixtures("no_store")
def test_a_reference_is_built_from_a_file_and_shown(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ranker.json"
    assert main(["reference", "build", "--model", "ranker", "--from", str(rows), "--bins", "4", "--out", str(out)]) == 0
    built = read_reference(str(out))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"reference {built.id} of ranker, every version: 2 features of 100 rows; written to {out}\n{FEW}\n"
    )
    assert (built.model_id, built.model_version, built.source) == ("ranker", None, str(rows))
    assert abs(built.created_at_ms - time.time() * 1000) < 60_000
    age, gender = built.features
    assert (age.counts, gender.counts) == ((25, 25, 25, 25, 0, 0), (50, 40, 0, 10))

    assert main(["reference", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"reference {built.id}" in shown
    assert re.search(r"^gender +category +100 +10\.0 % +\S+ +55\.6 %  m$", shown, re.MULTILINE)
    assert main(["reference", "show", str(out), "--json"]) == 0
    assert capsys.readouterr().out.encode() == out.read_bytes()


@pytest.mark.usefixtures("no_store")
def test_standard_input_to_standard_output(rows: Path, tmp_path: Path) -> None:
    def piped(data: bytes) -> tuple[Reference, str]:
        command = [*TIDEMARK, "reference", "build", "--model", "ranker", "--from", "-", "--out", "-"]
        done = subprocess.run(command, input=data, capture_output=True, timeout=60, env=environment(), cwd=ROOT)
        assert done.returncode == 0, done.stderr
        built = Reference.from_json(done.stdout)
        assert built.source == "standard input"
        return built, done.stderr.decode()

    table = rows.read_bytes()
    lines = [{"age": age, "gender": "fm"[age % 2] if age % 10 else None} for age in range(100)]
    events = [{"model_id": "ranker", "event_time": NOON, "features": features} for features in lines]
    built, said = piped(table)
    # Nothing but the result where standard error is no terminal.
    assert said.splitlines() == [
        f"reference {built.id} of ranker, every version: 2 features of 100 rows; written to standard output",
        FEW,
    ]
    from_lines, from_events = (piped("\n".join(map(json.dumps, objects)).encode())[0] for objects in (lines, events))
    assert from_lines.id == built.id
    # Only events tell which input they are of.
    assert from_events.features == tuple(replace(feature, topics=("inferences",)) for feature in built.features)


@pytest.mark.usefixtures("no_store")
@pytest.mark.parametrize(("count", "warned"), [(4, True), (999, True), (1_000, False)])
def test_few_rows_are_warned_of(count: int, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("age\n" + "".join(f"{age}\n" for age in range(count)))
    assert main(["reference", "build", "--model", "m", "--from", str(file), "--out", str(tmp_path / "m.json")]) == 0
    assert (FEW in capsys.readouterr().err.splitlines()) == warned


def test_what_was_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"age": 1, "user_id": "u1"}\nnonsense\n')
    assert main(["reference", "build", "--model", "m", "--from", str(file), "--out", str(tmp_path / "m.json")]) == 0
    _, skipped, left_out, _few = capsys.readouterr().err.splitlines()
    assert skipped.startswith(f"skipped 1 that cannot be read; {file}: line 2: ")
    assert left_out == "left out: user_id"


def test_a_stored_reference_is_found_shown_and_listed(
    rows: Path, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ["reference", "build", "--from", str(rows), "--model"]
    assert main(["reference", "list", "--store", redis_url]) == 0
    assert capsys.readouterr() == ("", f"no references in {redis_url} for group tidemark\n")

    for name in (["ranker"], ["ranker", "--version", "v3"], ["ranker", "--bins", "4"], ["home"]):
        assert main([*build, *name, "--store", redis_url]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line != FEW]
    ids = [line.split()[1] for line in said]
    assert all(line.endswith(f"; stored in {redis_url} for group tidemark") for line in said)

    assert main(["reference", "list", "--store", redis_url]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["home", "every", ids[3], lines[0].split()[3]],
        ["ranker", "every", ids[2], lines[1].split()[3]],
        ["ranker", "every", ids[0], "older"],
        ["ranker", "v3", ids[1], lines[3].split()[3]],
    ]
    for version, expected in (([], ids[2]), (["--version", "v3"], ids[1]), (["--version", "v4"], ids[2])):
        assert main(["reference", "show", "--model", "ranker", *version, "--store", redis_url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == expected

    # Another group has references of its own.
    (tmp_path / "eu.yaml").write_text(f"group: eu\nstore: {redis_url}\n")
    assert main(["reference", "list", "--config", str(tmp_path / "eu.yaml")]) == 0
    assert "no references" in capsys.readouterr().err


def test_a_model_that_is_not_in_the_store_is_said_with_those_that_are(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(redis_url, reference("home"), reference("ranker", "v2"), reference("ranker", ""))
    where = f"in {redis_url} for group tidemark"
    for arguments, said in (
        (["nobody"], f"no reference of model 'nobody' {where}; there are those of home, ranker"),
        (
            ["ranker"],
            f"no reference of model 'ranker' for every version {where}; there is one for version \"\", v2",
        ),
        (
            ["ranker", "--version", "v3"],
            f"no reference of model 'ranker' for version 'v3' {where}; there is one for version \"\", v2",
        ),
    ):
        assert main(["reference", "show", "--store", redis_url, "--model", *arguments]) == 1
        assert capsys.readouterr().err == f"tidemark: error: {said}\n"


def test_a_rolling_reference_sums_the_days_that_were_counted_in_the_same_bins(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = reference(ages=100)
    before = reference(ages=50)  # other bins
    put(redis_url, before, current)
    counts = {feature.name: [2 * count for count in feature.counts] for feature in current.features}
    today = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS

    async def write() -> None:
        async with RedisConnection(parse_store_url(redis_url)) as redis:
            days = DailyHistograms(redis, "tidemark")
            for ago, version, used in ((0, "v3", current), (1, "v3", current), (1, "v2", current), (3, "v3", before)):
                await days.write("ranker", version, today - ago * DAY_MS, used.id, counts)

    asyncio.run(write())
    build = ["reference", "build", "--model", "ranker", "--store", redis_url, "--rolling"]
    # At midnight the test's today is no longer that of the command: one more day is counted then.
    assert main([*build, "30"]) == 0
    first, left_out, _few = capsys.readouterr().err.splitlines()
    assert re.search(r": 2 features of [12] of 30 days; stored in ", first)
    assert left_out == "left out: 1 days that were counted in other bins"
    assert main([*build, "--version", "v2"]) == 0
    assert main(["reference", "show", "--model", "ranker", "--version", "v2", "--json", "--store", redis_url]) == 0
    rolled = Reference.from_json(capsys.readouterr().out)
    assert [feature.counts for feature in rolled.features] == [tuple(counts[name]) for name in ("age", "gender")]
    assert [feature.bins for feature in rolled.features] == [feature.bins for feature in current.features]
    assert (rolled.model_version, rolled.source) == ("v2", "rolling 30 days, 1 of them counted")

    # What was rolled has an id of its own; its bins are the same, and its days go on adding up.
    asyncio.run(write())
    assert main([*build, "30", "--version", "v3"]) == 0
    assert main([*build, "30", "--version", "v9"]) == 1
    assert f"days counted in the bins of reference {current.id}" not in capsys.readouterr().err


def test_a_topic_in_kafka_is_read_to_its_end(
    kafka: KafkaCluster,
    topic_prefix: str,
    shop: Path,
    produce: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inferences, impressions = f"{topic_prefix}inferences", f"{topic_prefix}impressions"
    kafka.create_topics({inferences: 2, impressions: 2})
    records = []
    events = []
    for index in range(1000):
        event = {"model_id": "ranker", "event_time": NOON + index, "features": {"a": index % 7, "b": "xyz"[index % 3]}}
        if index % 2:
            event |= {"user_id": "u", "item_id": "i"}
        else:
            event |= {"prediction": index / 1000}
        topic = impressions if index % 2 else inferences
        records.append((topic, index % 4 // 2, NOON + index, json.dumps(event).encode()))
        events.append(json.dumps(event))
    # What an event is, its topic says, whatever it looks like.
    odd = {"model_id": "odd", "event_time": NOON, "user_id": "u", "item_id": "i", "features": {"a": 1}}
    produce([*records, (inferences, 0, NOON + 2000, b"{broken"), (inferences, 0, NOON, json.dumps(odd).encode())])
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(events))

    def built(*arguments: str) -> Reference:
        out = tmp_path / "r.json"
        command = ["reference", "build", "--model", "ranker", "--config", str(shop), "--out", str(out), "--from"]
        assert main([*command, *arguments]) == 0
        return read_reference(str(out))

    # By its whole name, or by ours.
    whole = built(f"kafka:{inferences}", "topic:impressions")
    assert whole.id == built(str(file)).id
    assert f"skipped 1 that cannot be read; {inferences}/0, offset 250: not_json: " in capsys.readouterr().err
    since = built("kafka:inferences", "kafka:impressions", "--since", str(NOON + 900))
    assert {feature.name: feature.n for feature in since.features} == {"a": 100, "b": 100, "prediction": 50}
    assert [feature.topics for feature in built("kafka:inferences", "--model", "odd").features] == [("inferences",)]

    arguments = ["--from", "kafka:inference", "--config", str(shop), "--model", "ranker", "--out", "never"]
    assert main(["reference", "build", *arguments]) == 1
    assert re.search(r"--from: kafka://\S+ has no topic inference; did you mean ", capsys.readouterr().err)


BUILD = ["build", "--model", "m"]


@pytest.mark.usefixtures("no_store")
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "required: ACTION (see tidemark reference --help)"),
        (["build", "--from", "f", "--out", "o"], 2, "required: --model"),
        ([*BUILD, "--from", "f"], 2, "expected either --out FILE or --store"),
        ([*BUILD, "--from", "f", "--out", "o", "--store"], 2, "expected either --out FILE or --store"),
        ([*BUILD, "--out", "o"], 2, "expected either --from or --rolling"),
        ([*BUILD, "--from", "f", "--rolling", "--out", "o"], 2, "expected either --from or --rolling"),
        ([*BUILD, "--from", "f", "--out", "o", "--bins", "1"], 2, "--bins: expected a number from 2 to 50, got 1"),
        ([*BUILD, "--from", "f", "--out", "o", "--bins", "51"], 2, "--bins: expected a number from 2 to 50, got 51"),
        ([*BUILD, "--from", "f", "--out", "o", "--bins", "ten"], 2, "--bins: invalid int value: 'ten'"),
        ([*BUILD, "--from", "f", "--out", "o", "--first-hours", "0"], 2, "--first-hours: expected a number above 0"),
        ([*BUILD, "--from", "f", "--out", "o", "--first-hours", "nan"], 2, "--first-hours: expected a number above 0"),
        ([*BUILD, "--from", "f", "--out", "o", "--since", "soon"], 2, "--since: expected a time such as"),
        (
            [*BUILD, "--from", "f", "--out", "o", "--since", "-1h", "--until", "-2h"],
            2,
            "--until: expected a time after",
        ),
        ([*BUILD, "--from", "f", "--out", "o", "--features", "a,,b"], 2, "--features: expected names with commas"),
        ([*BUILD, "--from", "kafka:", "--out", "o"], 2, "--from: expected the name of a topic after kafka:"),
        ([*BUILD, "--from", "-", "-", "--out", "o"], 2, "- (standard input) can be read once only"),
        ([*BUILD, "--rolling", "--bins", "5", "--out", "o"], 2, "--bins: goes with --from only"),
        ([*BUILD, "--rolling", "--first-hours", "5", "--out", "o"], 2, "--first-hours: goes with --from only"),
        ([*BUILD, "--rolling", "32", "--out", "o"], 2, "--rolling: expected 1 to 31 days, got 32"),
        ([*BUILD, "--rolling", "--out", "o"], 1, "store redis://127.0.0.1:1/0 is unavailable"),
        ([*BUILD, "--from", "nowhere.csv", "--out", "o"], 1, "nowhere.csv: no such file"),
        ([*BUILD, "--from", "kafka:a", "--broker", "memory://", "--out", "o"], 2, "broker: expected kafka://"),
        ([*BUILD, "--from", "rows.csv", "--out", "no/where"], 1, "cannot write no/where: No such file"),
        ([*BUILD, "--from", "rows.csv", "--store"], 1, "store redis://127.0.0.1:1/0 is unavailable"),
        (["show"], 2, "expected either a FILE or --model"),
        (["show", "f", "--model", "m"], 2, "expected either a FILE or --model"),
        (["show", "f", "--version", "v"], 2, "--version: goes with --model only"),
        (["show", "nowhere.json"], 1, "nowhere.json: no such file"),
        (["show", "rows.csv"], 2, "rows.csv: not a reference: "),
        (["list"], 1, "store redis://127.0.0.1:1/0 is unavailable"),
    ],
)
def test_what_cannot_work_is_one_line_with_its_status(
    arguments: list[str],
    status: int,
    said: str,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(rows.parent)
    assert main(["reference", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tidemark: error: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not (rows.parent / "o").exists()


@pytest.mark.usefixtures("no_store")
def test_a_build_that_fails_leaves_an_older_file_as_it_is(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    out.write_text("older")
    arguments = ["--model", "m", "--features", "agee", "--out", str(out)]
    assert main(["reference", "build", "--from", str(rows), *arguments]) == 1
    assert out.read_text() == "older"


@pytest.mark.parametrize("action", ["build", "show", "list"])
def test_every_action_has_a_help_with_an_example(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", action, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"tidemark reference {action}" in shown[shown.index("example") :]
