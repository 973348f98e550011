"""All benchmarks in turn, each in a process of its own; the file is written after each, so a failure loses one only."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import Cores, describe
from benchmarks.report import write_json

INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark; its name is its place in the file."""

    name: str
    argv: Sequence[str]
    """A module with its options; it takes `--out` as well."""
    minutes: float
    """What it takes about."""


def parts(table: Sequence[str], rounds: int) -> list[Part]:
    """Everything, each with so many rounds where it has any; `table` is what measures all systems."""
    each = ["--rounds", str(rounds)]
    return [
        Part("table", table, 1.5 + 5.5 * rounds),
        Part("workers", ["benchmarks.workers", *each], 2 + 0.8 * rounds),
        Part("partitions", ["benchmarks.partitions", *each], 2 + 0.8 * rounds),
        Part("monitoring", ["benchmarks.monitoring", *each], 1 + 0.5 * rounds),
        Part("growth", ["benchmarks.growth", *each], 0.5 * rounds),
        Part("live_state", ["benchmarks.live_state"], 1.5),
        Part("restart", ["benchmarks.restart", *each], 1.5 + 2 * rounds),
        Part("latency", ["benchmarks.latency"], 3.5),
    ]


def run(out: Path, todo: Sequence[Part], *, resume: bool) -> int:
    """Run the parts and leave what they found in `out`; 0 done, 1 where one of them failed."""
    found: dict[str, Any] = json.loads(out.read_text()) if resume and out.exists() else {}
    unfinished = set(found.pop(INCOMPLETE, ()))
    todo = [part for part in todo if part.name not in found or part.name in unfinished]
    found["machine"] = describe(Cores.divide())
    began, failed = time.monotonic(), []
    for number, part in enumerate(todo):
        left = sum(later.minutes for later in todo[number:])
        _say(f"{part.name}: {number + 1} of {len(todo)}, {_minutes(began):.0f} min so far, about {left:.0f} min to go")
        with tempfile.TemporaryDirectory(prefix="tidemark-full-") as folder:
            file = Path(folder) / "part.json"
            done = subprocess.run([sys.executable, "-m", *part.argv, "--out", str(file)], check=False)
            if file.exists():
                found[part.name] = json.loads(file.read_text())
        if done.returncode:
            failed.append(part.name)
        write_json(out, {**found, INCOMPLETE: failed} if failed else found)
    subprocess.run([sys.executable, "-m", "benchmarks.charts", str(out)], check=False)
    _say(f"{_minutes(began):.0f} min in all; written to {out}")
    if failed:
        _say(f"failed: {', '.join(failed)}; what is missing: python -m benchmarks --full --resume")
    return 1 if failed else 0


def _minutes(since: float) -> float:
    return (time.monotonic() - since) / 60


def _say(text: str) -> None:
    sys.stderr.write(f"== {text}\n")
    sys.stderr.flush()
