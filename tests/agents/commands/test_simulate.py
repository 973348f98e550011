"""`tidemark simulate` as it is typed."""

from pathlib import Path

import pytest

from agents.commands.main import main
from agents.recordings import BrokenLine, read_recording

SHORT = ["simulate", "--scenario", "may-day", "--minutes", "1", "--rate", "20", "--seed", "3"]


def unexpected(broken: BrokenLine) -> None:
    raise AssertionError(broken)


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"])
def test_the_same_command_writes_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main([*SHORT, "--out", str(tmp_path / name)]) == 0
    first = (tmp_path / name).read_bytes()
    assert main([*SHORT, "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes() == first
    lines = list(read_recording([tmp_path / name], on_broken=unexpected))
    output = capsys.readouterr()
    assert output.out == ""
    summary = output.err.splitlines()[0]
    assert summary.startswith(f"may-day: {len(lines):,} records (")
    assert summary.endswith(" inferences), 1 minutes from 2026-05-01T09:59:40Z")


def test_a_dash_writes_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    assert main([*SHORT, "--out", str(tmp_path / "r")]) == 0
    capfdbinary.readouterr()
    assert main([*SHORT, "--out", "-"]) == 0
    assert capfdbinary.readouterr().out == (tmp_path / "r").read_bytes()


def test_partitions_are_as_many_as_asked_for(tmp_path: Path) -> None:
    assert main([*SHORT, "--partitions", "7", "--out", str(tmp_path / "r")]) == 0
    lines = read_recording([tmp_path / "r"], on_broken=unexpected)
    assert {line.partition for line in lines} == set(range(7))


def test_topics_can_be_left_out_and_the_others_stay_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT, "--out", str(tmp_path / "all")]) == 0
    assert main([*SHORT, "--topics", "impressions", "clicks", "--out", str(tmp_path / "two")]) == 0
    assert "inferences" not in capsys.readouterr().err.splitlines()[1]
    every, two = (list(read_recording([tmp_path / name], on_broken=unexpected)) for name in ("all", "two"))
    assert {line.topic for line in every} == {"impressions", "clicks", "inferences"}
    assert two == [line for line in every if line.topic != "inferences"]


def test_the_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list"]) == 0
    assert [text.split()[0] for text in capsys.readouterr().out.splitlines()] == ["steady", "may-day"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--out", "r", "--scenario", "june"], 2, "unknown scenario 'june'"),
        (["--out", "r", "--minutes", "0"], 2, "minutes must be"),
        (["--out", "r", "--rate", "fast"], 2, "--rate"),
        (["--out", "r", "--topics", "orders"], 2, "argument --topics: invalid choice: 'orders'"),
        ([], 2, "--out"),
        (["--out", "no/such/folder/r"], 1, "cannot write no/such/folder/r"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", *arguments]) == status
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
    assert not (tmp_path / "r").exists()
