"""The figures as a table for people and as JSON for programs.

`python -m benchmarks.report results/full.json` prints those of a full run as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import markdown
from benchmarks.load import Load
from benchmarks.measurement import Measurement, Spread

RATIOS = (
    ("tidemark", "stock faust", "the whole job against a stock Faust agent that only counts"),
    ("tidemark", "decode", "the whole job against fetching and decoding alone"),
)
MIB = 2**20

Rounds = Sequence[Mapping[str, Measurement]]
"""One round is one run of every system, so that what disturbs the machine meets all of them."""


def ratio(rounds: Rounds, system: str, reference: str) -> Spread | None:
    """Records/s of one system over those of another in the same round; None where one of them did not run."""
    pairs = [(each[system], each[reference]) for each in rounds if system in each and reference in each]
    return Spread.of([mine.rate / other.rate for mine, other in pairs]) if pairs else None


def as_json(rounds: Rounds, load: Load, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured."""
    ratios = {f"{system} / {reference}": ratio(rounds, system, reference) for system, reference, _ in _ratios(rounds)}
    return {
        "machine": dict(machine),
        "load": {"records": dict(load.records), "value_bytes": load.value_bytes, "windows": len(load.expected)},
        "ratios": {name: asdict(found) for name, found in ratios.items() if found is not None},
        "systems": {
            name: {key: asdict(spread) for key, spread in _figures(runs).items()} | {"windows_right": _right(runs)}
            for name, runs in _by_system(rounds).items()
        },
        "rounds": [{name: asdict(each) for name, each in measured.items()} for measured in rounds],
    }


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Leave the figures in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def show(console: Console, rounds: Rounds, differences: Mapping[str, str] | None = None) -> None:
    """The table: median, and the range over the rounds; under it, what a system does otherwise than tidemark."""
    table = Table(title=f"median of {len(rounds)} (lowest to highest)", title_justify="left")
    table.add_column("system")
    for heading in ("records/s", "CPU s per million", "peak MiB", "start s", "windows right"):
        table.add_column(heading, justify="right")
    for name, runs in _by_system(rounds).items():
        figures = _figures(runs)
        table.add_row(
            name,
            _cell(figures["records_per_s"], "{:,.0f}"),
            _cell(figures["cpu_s_per_million"], "{:.2f}"),
            f"{figures['peak_rss'].median / MIB:,.0f}",
            f"{figures['startup_s'].median:.1f}",
            _right(runs),
        )
    console.print(table)
    for system, reference, what in _ratios(rounds):
        found = ratio(rounds, system, reference)
        if found is not None:
            console.print(f"{what}: [bold]{_cell(found, '{:.2f}')} times[/]")
    for name, text in (differences or {}).items():
        console.print(f"[bold]{name}[/]: {text}")


def _ratios(rounds: Rounds) -> list[tuple[str, str, str]]:
    """RATIOS, and one to each other system that does the whole job."""
    peers = [name for name, runs in _by_system(rounds).items() if name != "tidemark" and runs[0].windows]
    return [*RATIOS, *(("tidemark", name, f"the whole job against the same job in {name}") for name in peers)]


def _right(runs: Sequence[Measurement]) -> str:
    """Windows that came out right, in the worst run."""
    worst = min(runs, key=lambda run: run.right_windows)
    return f"{worst.right_windows} of {worst.windows}" if worst.windows else ""


def _by_system(rounds: Rounds) -> dict[str, list[Measurement]]:
    names = dict.fromkeys(name for measured in rounds for name in measured)
    return {name: [measured[name] for measured in rounds if name in measured] for name in names}


def _figures(runs: Sequence[Measurement]) -> dict[str, Spread]:
    return {
        "records_per_s": Spread.of([run.rate for run in runs]),
        "cpu_s_per_million": Spread.of([run.cpu_per_million for run in runs]),
        "peak_rss": Spread.of([run.peak_rss for run in runs]),
        "startup_s": Spread.of([run.startup_s for run in runs]),
    }


def _cell(spread: Spread, form: str) -> str:
    median, low, high = (form.format(value) for value in (spread.median, spread.low, spread.high))
    return median if low == high else f"{median} ({low} to {high})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or put them into a file; 0 done, 1 a file cannot be read, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("file", type=Path, help="what `python -m benchmarks --full` has written")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help=f"put them between its lines {markdown.BEGIN} and {markdown.END}"
    )
    options = parser.parse_args(arguments)
    try:
        found = markdown.markdown(json.loads(options.file.read_text()))
        if options.into is None:
            sys.stdout.write(found)
        else:
            options.into.write_text(markdown.put_between(options.into.read_text(), found))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
