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
        "ok: 2 rules (2 major), 1 channel (terminal), 1 receiver (everybody), group tidemark, "
        "broker kafka://k1:9092,k2:9092, store redis://localhost:6379/0\n",
        "",
    )


def test_rules_of_every_kind_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "rules:\n"
        "  - {name: a, expr: availability < 99.9%, min_n: 1000}\n"
        "  - {name: b, expr: p95(latency) > 500ms, for: 5m, settle: 0}\n"
        "  - {name: c, expr: psi(*) >= 0.2}\n"
        "  - {name: d, expr: drift(gender) >= minor}\n"
    )
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out == "ok: 4 rules (4 major)\n"


def test_a_mistake_in_a_rule_is_told_with_its_line_and_what_was_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "rules:\n"
        "  - name: a\n"
        "    expr: p95(latency) > 500\n"
        "  - {name: b, expr: PSI(gender) > 0.2}\n"
        "  - name: c\n"
        "    expr: errors > 5\n"
        "    min_impressions: 500\n"
    )
    assert main(["check", str(file)]) == 2
    unit, metric, minimum = capsys.readouterr().err.splitlines()
    assert unit.endswith(f"{file}:3: rules[0].expr: expected a time with its unit, such as 500ms or 0.5s, got 500")
    assert f"{file}:4: rules[1].expr: unknown metric 'PSI'" in metric
    assert metric.endswith("(did you mean 'psi'?)")
    assert f"{file}:7: rules[2].min_impressions: expected min_n instead" in minimum


def test_what_there_is_to_tell_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_HASH_KEY", "0123456789abcdef")
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/hook")
    file = tmp_path / "t.yaml"
    file.write_text(
        "rules: []\n"
        "channels:\n"
        "  - {type: webhook, name: one, url_env: HOOK}\n"
        "  - {type: webhook, name: two, url_env: HOOK}\n"
        "  - {type: alertmanager, name: am, url_env: HOOK}\n"
        "alerting:\n"
        "  receivers: {ops: {channels: [one, two, am]}}\n"
        "  route: {notify: [ops]}\n"
        "  escalations: {page: [{notify: [ops]}]}\n"
    )
    assert main(["check", str(file)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        "ok: 0 rules, 3 channels (alertmanager, webhook), 1 receiver (ops), 1 escalation (page), group tidemark, "
    )


def test_a_file_of_rules_alone_is_checked_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_BROKER", "nonsense")
    monkeypatch.delenv("TIDEMARK_HASH_KEY", raising=False)
    file = tmp_path / "rules.yaml"
    file.write_text(
        "rules:\n"
        "  - {name: a, expr: error_rate > 5%, severity: critical}\n"
        "  - {name: b, expr: ctr < 1%}\n"
        "  - name: c\n"
        "    sql: SELECT model_id, clicks AS value FROM ctr\n"
    )
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr() == ("ok: 3 rules (1 critical, 2 major)\n", "")
    file.write_text("rules:\n  - name: c\n    sql: |\n      SELECT model_id,\n        oops AS value\n      FROM ctr\n")
    assert main(["check", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"tidemark: error: {file}:5: rules[0].sql: ")


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


def test_links_that_anybody_could_sign_are_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIDEMARK_HASH_KEY", raising=False)
    file = tmp_path / "t.yaml"
    file.write_text("links: {base_url: 'https://tidemark.example.com'}\n")
    for command in (["check", str(file)], ["worker", "--config", str(file)]):
        assert main(command) == 2
        said, error = capsys.readouterr()
        assert said == "" and error.count("\n") == 1
        assert error.startswith("tidemark: error: links.base_url: expected a hash key too")


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
