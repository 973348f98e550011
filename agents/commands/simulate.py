"""`tidemark simulate`: the simulated shop, written as a recording."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress

from agents.recordings import Line, RecordingWriter
from agents.simulation.deliveries import TOPICS
from agents.simulation.scenarios import SCENARIOS, scenario_named
from agents.simulation.shop import Shop

EXAMPLE = """\
example:
  tidemark simulate --scenario may-day --minutes 30 --rate 100 --seed 7 --out may-day.jsonl.zst
  tidemark replay may-day.jsonl.zst

The events span --minutes; their clicks go on for up to a quarter of an hour, as people click when they like.
"""

_SLICE_MS = 1000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "simulate",
        help="write the events of a simulated shop as a recording",
        description="Writes the events of a simulated shop as a recording. The same arguments always give "
        "the same bytes.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--list", action=_ListScenarios, help="list the scenarios and exit")
    parser.add_argument(
        "--scenario",
        default="may-day",
        metavar="NAME",
        help="what the shop goes through (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=30.0,
        metavar="M",
        help="length of the run in event time (default: %(default)g)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=100.0,
        metavar="R",
        help="impressions a second of event time; clicks and inferences come on top (default: %(default)g)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="another seed, another shop (default: %(default)s)"
    )
    parser.add_argument(
        "--partitions",
        type=int,
        default=4,
        metavar="P",
        help="partitions of each topic (default: %(default)s)",
    )
    parser.add_argument(
        "--topics",
        nargs="+",
        choices=TOPICS,
        default=TOPICS,
        metavar="TOPIC",
        help=f"leave out all but these of {', '.join(TOPICS)} (default: all)",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="F",
        help="the recording, compressed if it ends in .gz or .zst; - is standard output",
    )


def run(args: argparse.Namespace) -> int:
    """Write the recording and return the exit code.

    Raises ConfigError for arguments that make no run, RunError where the file cannot be written.
    """
    shop = Shop(scenario_named(args.scenario), args.rate, args.seed, args.minutes, partitions=args.partitions)
    written: Counter[str] = Counter()
    with RecordingWriter(args.out) as writer:
        for slice_lines in _with_progress(shop):
            lines = [line for line in slice_lines if line.topic in args.topics]
            writer.write_many(lines)
            written.update([line.topic for line in lines])
    start = datetime.fromtimestamp(shop.start_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    counts = ", ".join(f"{written[topic]:,} {topic}" for topic in TOPICS if topic in args.topics)
    sys.stderr.write(
        f"{args.scenario}: {written.total():,} records ({counts}), {args.minutes:g} minutes from {start}\n"
    )
    return 0


def _with_progress(shop: Shop) -> Iterator[list[Line]]:
    """Pass the slices on, showing on a terminal how far the run is."""
    slices: Iterable[list[Line]] = shop.slices(_SLICE_MS)
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from slices
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=shop.end_ms - shop.start_ms)
        for lines in slices:
            yield lines
            progress.advance(task, _SLICE_MS)


class _ListScenarios(argparse.Action):
    """Prints the scenarios and ends the program, as `--help` and `--version` do."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        width = max(map(len, SCENARIOS))
        for scenario in SCENARIOS.values():
            sys.stdout.write(f"{scenario.name:<{width}}  {scenario.summary}\n")
        parser.exit()
