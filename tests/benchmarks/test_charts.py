"""Charts and Markdown tables of a full run, of which any part may be missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import charts, markdown, report

SERVERS = {"java": "17.0.2", "kafka": "4.1.0", "redis": "6.2.14"}
MACHINE = {"cpu": "a fast one", "system": "Linux 6", "python": "3.11.7", **SERVERS}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": median * 0.9, "high": median * 1.1}


def system(rate: float) -> dict[str, Any]:
    costs = {"cpu_s_per_million": spread(1e6 / rate), "startup_s": spread(1.0), "peak_rss": spread(2.0**28)}
    return {"records_per_s": spread(rate), **costs, "windows_right": "120 of 120"}


FULL: Mapping[str, Any] = {
    "machine": {**MACHINE, "packages": {"tidemark": "0.1.0"}, "peers": {"bytewax": "0.21.1"}},
    "table": {
        "rounds": [{}, {}, {}],
        "systems": {"tidemark": system(400_000.0), "bytewax": system(10_000.0)},
        "ratios": {"tidemark / bytewax": spread(40.0)},
    },
    "growth": [
        {"what": "features", "value": value, "total": spread(1.5 + value / 50), "apply": 1.0, "checkpoint": 0.5}
        for value in (0, 10, 50)
    ],
    "partitions": [
        {"partitions": count, "records_per_s": spread(4e5), "cpu_s_per_million": spread(2.0)} for count in (1, 64)
    ],
    "restart": [
        {"impressions": size, "ended": "killed", "ready_s": 1.0, "consumed_s": 1.2, "caught_up_s": caught_up}
        for size in (500_000, 5_000_000)
        for caught_up in (1.5, 2.5, 2.0)
    ],
}


def test_both_charts_are_drawn_with_titles_axes_and_every_system(tmp_path: Path) -> None:
    bars, curves = charts.draw(FULL, tmp_path)

    said = bars.read_text()
    assert all(text in said for text in ("tidemark", "bytewax", "400,000", "CPU s per million events, log scale"))
    said = curves.read_text()
    assert all(text in said for text in ("Features (join alone)", "features per event", "Partitions", "killed", "5 M"))
    # Nothing was measured of them.
    assert "Workers" not in said
    assert "Models" not in said


def test_of_a_run_that_has_measured_nothing_yet_nothing_is_drawn(tmp_path: Path) -> None:
    assert charts.draw({"machine": MACHINE}, tmp_path) == []


def test_the_same_figures_give_the_same_files(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in charts.draw(FULL, tmp_path)]

    assert [path.read_bytes() for path in charts.draw(FULL, tmp_path)] == first


def test_a_table_of_each_part_that_was_measured() -> None:
    said = markdown.markdown(FULL)

    assert "bytewax 0.21.1" in said
    assert "| bytewax | 10,000 (9,000 to 11,000) | 100.00 (90.00 to 110.00) | 256 | 1.0 | 120 of 120 |" in said
    assert "| tidemark | bytewax | 40.00 (36.00 to 44.00) |" in said
    assert "- `bytewax`: It has no interval join" in said
    assert "| features | 0: 1.50, 10: 1.70, 50: 2.50 |" in said
    assert "| 5,000,000 | killed | 1.0 | 1.2 | 2.0 (1.5 to 2.5) |" in said
    assert "probes" not in said


def test_the_tables_take_the_place_of_those_of_an_earlier_run(tmp_path: Path) -> None:
    readme, figures = tmp_path / "README.md", tmp_path / "full.json"
    readme.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    figures.write_text(json.dumps(FULL))

    assert report.main([str(figures), "--into", str(readme)]) == 0

    said = readme.read_text()
    assert said.startswith("before\n<!-- results -->\n")
    assert said.endswith("<!-- end of results -->\nafter\n")
    assert "old" not in said
    assert "| tidemark | 400,000" in said


def test_a_file_without_the_markers_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme, figures = tmp_path / "README.md", tmp_path / "full.json"
    readme.write_text("no markers\n")
    figures.write_text(json.dumps(FULL))

    assert report.main([str(figures), "--into", str(readme)]) == 1

    assert readme.read_text() == "no markers\n"
    assert "expected a line <!-- results -->" in capsys.readouterr().err
