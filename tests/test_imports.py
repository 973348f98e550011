"""The shape of the code: which folder may know which, and how long a module may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "tables": {"tables"},
    "alerting": {"alerting", "tables"},
    "agents": {"agents", "alerting", "tables"},
    "deploy": {"deploy", "tables"},
    "benchmarks": {"benchmarks", "tests", "deploy", "agents", "alerting", "tables"},
}
OURS = {*MAY_IMPORT, "tests"}
IO_LIBRARIES = {"faust", "mode", "aiokafka", "aiohttp"}
LINES = 400

MODULES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """First names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import hides where it comes from"
            names.add(node.module or "")
    return {module.partition(".")[0] for module in names}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_run_one_way(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    assert imported(path) & OURS <= MAY_IMPORT[folder]


@pytest.mark.parametrize("path", sorted((ROOT / "tables").glob("*.py")), ids=name)
def test_tables_know_neither_faust_nor_kafka(path: Path) -> None:
    assert not imported(path) & IO_LIBRARIES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_is_longer_than_can_be_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_is_a_drawer_for_everything(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager", "managers", "core"}


def test_modules_are_found() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == MAY_IMPORT.keys()
    assert imported(ROOT / "agents" / "app.py") >= {"agents", "tables", "faust"}
