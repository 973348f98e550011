"""Reading YAML so that every mistake has a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.config_file import LONGEST_FILE, Mistakes, read_file, read_text, show
from tables.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "f.yaml:3: not valid YAML: "),
        ("a: 1\n\tb: 2\n", "f.yaml:2: not valid YAML: "),
        ("a: 1\nb: \x00\n", "f.yaml:2: not valid YAML: "),
        ("a: 1\nb: *nobody\n", "f.yaml:2: not valid YAML: found undefined alias"),
        ("a: !!python/object:os.system 1\n", "f.yaml:1: not valid YAML: could not determine a constructor"),
        ("? [1, 2]\n: x\n", "f.yaml:1: not valid YAML: found unhashable key"),
        ("a: 2026-02-31\n", "f.yaml: not valid YAML: day is out of range"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: but found another document"),
        ("a: &x [*x]\n", "f.yaml:1: not valid YAML: an anchor that contains itself"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: the key was given already in line 1"),
        ("web:\n  port: 1\n  port: 2\n", "f.yaml:3: port: the key was given already in line 2"),
        ("a: 1\nb: " + "[" * 3000, "f.yaml:2: not valid YAML: expected values nested at most 50 deep"),
        ("a: 1\nb: 0x" + "f" * 5000, "f.yaml:2: expected a number of at most 100 digits, got more"),
        ("a: 1\nb: " + "9" * 5000, "f.yaml:2: expected a number of at most 100 digits, got more"),
        ("- a\n- b\n", "f.yaml:1: expected a mapping of sections, got a list"),
        ("tidemark\n", 'f.yaml:1: expected a mapping of sections, got "tidemark"'),
    ],
)
def test_what_is_no_configuration_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_text(text, "f.yaml", Mistakes())
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_anchors_and_merged_keys_work() -> None:
    text = "base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\n"
    top = read_text(text, "f.yaml", Mistakes())
    assert top.section("use").mapping() == {"a": 1, "b": 3}


@pytest.mark.parametrize("width", [1, 10])
def test_aliases_that_multiply_are_counted_and_refused(width: int) -> None:
    levels = [f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, 100)]
    with pytest.raises(ConfigError, match=r"^f\.yaml:\d+: expected (at most 100,000 values|values nested at most 50)"):
        read_text("\n".join(["x0: &a0 [1]", *levels]), "f.yaml", Mistakes())


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"#" * (LONGEST_FILE + 1))
    with pytest.raises(ConfigError, match="expected a file of at most 1,048,576 bytes, got a longer one"):
        read_file(file, Mistakes())


def test_unknown_keys_are_noted_with_the_nearest_known_one() -> None:
    mistakes = Mistakes()
    top = read_text("host: h\nprot: 1\nzzz: 2\n", "f.yaml", mistakes)
    top.plain("host")
    top.plain("port")
    top.finish()
    assert mistakes.in_order() == [
        "f.yaml:2: prot: unknown key; did you mean port?",
        "f.yaml:3: zzz: unknown key; known are host, port",
    ]


def test_values_are_shown_in_one_line_without_passwords() -> None:
    assert show("a\nb") == '"a\\nb"'
    assert show({"a": 1}) == "a mapping"
    assert show(True) == "true"
    assert show("redis://user:hunter2@host") == '"redis://***@host"'
    assert len(show("x" * 1000)) == 80


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    mistakes = Mistakes()
    try:
        top = read_text(text, "f.yaml", mistakes)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        top.finish()
        assert all(mistake.startswith("f.yaml:") for mistake in mistakes.in_order())
