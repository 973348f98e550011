"""`tidemark check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.commands.main import main


def test_a_good_configuration_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_HASH_KEY", "0123456789abcdef")
    file = tmp_path / "t.yaml"
    file.write_text(
        "rules:\n  - {name: a, expr: ctr < 5%}\n  - {name: b, expr: ctr < 1%}\n"
        "channels:\n  - {type: terminal}\n"
        "broker: kafka://k1,k2\n"
    )
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr() == (
        "ok: 2 rules, 1 channel (terminal), group tidemark, broker kafka://k1:9092,k2:9092, "
        "store redis://localhost:6379/0\n",
        "",
    )


def test_a_missing_hash_key_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIDEMARK_HASH_KEY", raising=False)
    file = tmp_path / "t.yaml"
    file.write_text("group: shop\n")
    assert main(["check", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("ok: ")
    assert captured.err.startswith("tidemark: warning: no hash key is configured")


def test_every_mistake_is_a_line_in_the_order_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("web: {port: 0}\nrules:\n  - {name: a, expr: ctr ~ 5%}\ngruop: x\n")
    assert main(["check", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(": ")[2:4] for line in captured.err.splitlines()] == [
        [f"{file}:1", "web.port"],
        [f"{file}:3", "rules[0].expr"],
        [f"{file}:4", "gruop"],
    ]


def test_broken_yaml_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("web: {port: 1\nrules: []\n")
    assert main(["check", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"tidemark: error: {file}:2: not valid YAML: ")
