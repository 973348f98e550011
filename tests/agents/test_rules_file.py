"""Rules from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.rules_file import find_rule_mistakes, is_rules_file, load_rules
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
    ],
)
def test_a_mistake_in_a_query_is_told_with_the_line_of_the_file(file: Path, sql: str, line: int, said: str) -> None:
    file.write_text(f"rules:\n  - name: a\n    sql: {sql}  - name: b\n    expr: ctr < 5\n")
    first, _ = find_rule_mistakes(file)
    assert first.startswith(f"{file}:{line}: rules[0].sql: ")
    assert said in first
    assert "\n" not in first
