"""A full run is written part by part, and what failed can be run again alone."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import full
from benchmarks.full import Part
from benchmarks.systems import SYSTEMS


def part(name: str, number: int) -> Part:
    return Part(name, ["tests.benchmarks.a_part", str(number)], 0.1)


def test_a_part_that_fails_keeps_what_it_has_and_does_not_stop_the_others(tmp_path: Path) -> None:
    out = tmp_path / "full.json"

    code = full.run(out, [part("first", -1), part("second", 2)], resume=False)

    written = json.loads(out.read_text())
    assert code == 1
    assert (written["first"], written["second"], written["incomplete"]) == (-1, 2, ["first"])
    assert written["machine"]["peers"].keys() == {"quixstreams", "bytewax", "apache-flink"}


def test_only_what_failed_or_is_missing_is_run_again(tmp_path: Path) -> None:
    out = tmp_path / "full.json"
    full.run(out, [part("first", -1), part("second", 2)], resume=False)

    code = full.run(out, [part("first", 3), part("second", 4), part("third", 5)], resume=True)

    written = json.loads(out.read_text())
    assert code == 0
    assert (written["first"], written["second"], written["third"]) == (3, 2, 5)
    assert "incomplete" not in written


def test_a_full_run_of_three_rounds_is_over_within_45_minutes() -> None:
    parts = full.parts(["benchmarks", "--only", *SYSTEMS], rounds=3)

    assert len({part.name for part in parts}) == len(parts)
    assert sum(part.minutes for part in parts) <= 45
