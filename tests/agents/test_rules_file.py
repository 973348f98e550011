"""Rules from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.config import find_mistakes
from agents.rules_file import find_rule_mistakes, is_rules_file, load_rules
from alerting.sql import query
from tables.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.yaml"


def test_rules_by_themselves_and_within_a_configuration(file: Path) -> None:
    file.write_text("rules:\n  - {name: a, expr: ctr < 5%}\n  - {name: b, expr: errors > 5, severity: critical}\n")
    assert [(rule.name, rule.severity) for rule in load_rules(file)] == [("a", "major"), ("b", "critical")]
    assert is_rules_file(file)
    file.write_text("group: shop\nnobody: knows this\nrules:\n  - {name: a, expr: ctr < 5%}\n")
    assert [rule.name for rule in load_rules(str(file))] == ["a"]
    assert not is_rules_file(file)


def test_no_rules_at_all_are_a_mistake_but_an_empty_list_is_none(file: Path) -> None:
    file.write_text("group: shop\n")
    with pytest.raises(ConfigError, match=r"rules.yaml:1: rules: expected a list of rules, but missing$"):
        load_rules(file)
    file.write_text("rules: []\n")
    assert load_rules(file) == ()


def test_a_list_that_was_forgotten_is_a_mistake(file: Path) -> None:
    file.write_text("rules:\n")
    assert find_rule_mistakes(file) == [
        f"{file}:1: rules: expected a list of rules, got nothing; `rules: []` has nothing watched"
    ]


def test_nobody_waits_longer_than_windows_change(file: Path, tmp_path: Path) -> None:
    file.write_text("rules:\n  - name: a\n    expr: ctr < 5%\n    settle: 300d\n")
    said = "rules[0].settle: expected at most the attribution window of"
    assert find_rule_mistakes(file) == [f"{file}:4: {said} 1 d, got 300 d"]
    file.write_text(file.read_text().replace("300d", "30m"))
    assert find_rule_mistakes(file) == []  # it depends on the configuration
    config = tmp_path / "tidemark.yaml"
    for window, mistakes in (("10m", [f"{file}:4: {said} 10 min, got 30 min"]), ("1h", [])):
        config.write_text(f"join: {{attribution_window: {window}}}\nrules_file: {file.name}\n")
        assert find_mistakes(config, {}) == mistakes
        config.write_text(f"join: {{attribution_window: {window}}}\n{file.read_text()}")
        assert [mistake.partition(": ")[2] for mistake in find_mistakes(config, {})] == [
            mistake.partition(": ")[2] for mistake in mistakes
        ]


def test_many_queries_are_checked_in_one_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, command = [], query.child_command()

    def counted() -> list[str]:
        started.append(1)
        return command

    monkeypatch.setattr(query, "child_command", counted)
    queries = [f"SELECT model_id, {number} AS value FROM ctr WHERE clicks < 77" for number in range(20)]
    file.write_text("rules:\n" + "".join(f"  - {{name: r{n}, sql: '{sql}'}}\n" for n, sql in enumerate(queries)))
    assert len(load_rules(file)) == 20
    assert len(started) == 1
    # One that is wrong, or hangs, is told of by itself, and keeps the others from nothing.
    hangs = "SELECT ''m'' AS model_id, levenshtein(repeat(''a'', 200000), repeat(''b'', 200000)) AS value"
    others = ["nonsense", hangs, *(f"{sql} + 1" for sql in queries[:3])]
    file.write_text("rules:\n" + "".join(f"  - {{name: r{n}, sql: '{sql}'}}\n" for n, sql in enumerate(others)))
    first, second = find_rule_mistakes(file)
    assert first.startswith(f"{file}:2: rules[0].sql: ")
    assert second == f"{file}:3: rules[1].sql: expected a query that is planned within 2 s and 256 MB"


def test_the_first_mistake_and_how_many_more(file: Path) -> None:
    file.write_text(
        "rules:\n  - {name: a, expr: ctr < 5}\n"
        "  - {name: b, expr: ctr < 5%}\n  - {name: b, expr: ctr < 4%}\n  - {x: 1}\n"
    )
    first, second, third = find_rule_mistakes(file)
    assert first.startswith(f"{file}:2: rules[0].expr: expected a threshold")
    assert second == f'{file}:4: rules[2].name: the name "b" is taken by another rule'
    assert third.startswith(f"{file}:5: rules[3]: unknown key 'x'")
    with pytest.raises(ConfigError) as raised:
        load_rules(file)
    assert str(raised.value) == f"{first} (and 2 more, see tidemark check)"


def test_a_file_that_cannot_be_read_is_one_mistake(file: Path) -> None:
    assert find_rule_mistakes(file) == [f"{file}: cannot be read: No such file or directory"]
    file.write_text("rules: [\n")
    (mistake,) = find_rule_mistakes(file)
    assert "not valid YAML" in mistake


@pytest.mark.parametrize(
    ("sql", "line", "said"),
    [
        # The query's own line where it is a block, wherever the block begins.
        ("|\n      SELECT model_id,\n        nonsense AS value\n      FROM ctr\n", 5, "nonsense"),
        ("|-\n\n      SELECT model_id, clicks AS value\n      FRM ctr\n", 6, "FRM"),
        ("SELECT model_id, nonsense AS value FROM ctr\n", 3, "line 1: "),
        ("|\n      DROP TABLE ctr\n", 3, "SELECT"),
        # A line of a text within quotes is none of the file.
        ('"SELECT model_id,\\nnonsense AS value FROM ctr"\n', 3, "line 2: "),
    ],
)
def test_a_mistake_in_a_query_is_told_with_the_line_of_the_file(file: Path, sql: str, line: int, said: str) -> None:
    file.write_text(f"rules:\n  - name: a\n    sql: {sql}  - name: b\n    expr: ctr < 5\n")
    first, _ = find_rule_mistakes(file)
    assert first.startswith(f"{file}:{line}: rules[0].sql: ")
    assert said in first
    assert "\n" not in first
