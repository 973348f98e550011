"""`tidemark reference`: what the features of a model were when it was well, which later traffic is compared with."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from agents.commands.options import add_config_options, config_of
from agents.commands.record import parse_when
from agents.config import Config
from agents.reference_files import read_reference, write_reference
from agents.reference_rows import ReferenceRows, Wanted
from agents.reference_sources import Told, read_file, read_topics, topic_of
from agents.reference_view import describe, draw, draw_list
from agents.stored_references import find_reference, load_references, put_reference, roll_reference
from alerting.alert import printable
from tables.errors import ConfigError
from tables.reference import Reference
from tables.reference_building import LEAST_BINS, MOST_BINS, feature_reference

EXAMPLE = """\
example:
  tidemark reference build --model ranker --from may-day.jsonl.zst --first-hours 24 --out ranker.json
  tidemark reference build --model ranker --version v3 --from kafka:inferences --since -7d --store
  tidemark reference show ranker.json
  tidemark reference list
"""

BUILD_EXAMPLE = """\
example:
  tidemark reference build --model ranker --from training.parquet --features age,gender --out ranker.json
  tidemark reference build --model ranker --from may-day.jsonl.zst --first-hours 24 --store
  tidemark reference build --model ranker --from kafka:impressions kafka:inferences --since -7d --store
  tidemark reference build --model ranker --rolling 30 --store

A FILE is a recording, bare events of impressions or inferences, rows of features as JSON lines, a CSV file with a
header (an empty cell is a missing value) or a Parquet file; .gz and .zst are compressed, - is standard input. Columns
called model_id, model_version and event_time select rows; user_id, item_id, request_id and event_id are left out
unless --features names them. Times are event times: RFC 3339, milliseconds since 1970, or relative (-7d).
A feature belongs to those of impressions and inferences in which it is found; a table says nothing of them, and its
features are expected in both. Of more than a million rows a sample of a million is taken, the same one each time.
"""

SHOW_EXAMPLE = """\
example:
  tidemark reference show ranker.json
  tidemark reference show --model ranker --version v3
"""

LIST_EXAMPLE = """\
example:
  tidemark reference list --store redis://localhost:6379/0
"""

DEFAULT_BINS = 10
DEFAULT_DAYS, MOST_DAYS = 30, 31
HOUR_MS = 3_600_000
FEW_ROWS = 1_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "reference", help="build, show and list what the features of models are compared with", epilog=EXAMPLE
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)

    build = actions.add_parser("build", help="build a reference from recorded traffic or a table", epilog=BUILD_EXAMPLE)
    build.add_argument("--model", metavar="M", required=True, help="the model's id")
    build.add_argument("--version", metavar="V", help="only of this version (default: one for every version)")
    build.add_argument(
        "--from", metavar="FILE|kafka:TOPIC", dest="sources", action="extend", nargs="+", help="what to read"
    )
    build.add_argument("--features", metavar="A,B", action="append", help="only these features (default: all)")
    build.add_argument("--bins", metavar="N", type=int, help=f"bins of a number (default: {DEFAULT_BINS})")
    build.add_argument("--since", metavar="T", help="first event time to take")
    build.add_argument("--until", metavar="T", help="event time to stop before")
    build.add_argument("--first-hours", metavar="N", type=float, help="only the first N hours of event time")
    build.add_argument(
        "--rolling",
        metavar="DAYS",
        type=int,
        nargs="?",
        const=DEFAULT_DAYS,
        help=f"instead of --from: the days before today (default: {DEFAULT_DAYS}) as the workers counted them, in the "
        "bins of the reference in the store",
    )
    build.add_argument("--out", metavar="FILE", help="write it to a file; - is standard output")
    build.add_argument(
        "--store", metavar="URL", nargs="?", const="", help="put it into the store, where all workers find it"
    )
    add_config_options(build)

    show = actions.add_parser("show", help="show a reference, feature by feature", epilog=SHOW_EXAMPLE)
    show.add_argument("file", metavar="FILE", nargs="?", help="as `build --out` wrote it")
    show.add_argument("--model", metavar="M", help="instead of a FILE: the one in the store of this model")
    show.add_argument("--version", metavar="V", help="and of this version")
    show.add_argument("--json", action="store_true", help="print the file itself")
    add_config_options(show, store=True)

    shown = actions.add_parser("list", help="list the references in the store", epilog=LIST_EXAMPLE)
    add_config_options(shown, store=True)


def run(args: argparse.Namespace) -> int:
    """Carry out the action. Raises ConfigError, RunError."""
    match args.action:
        case "build":
            _build(args, config_of(args))
        case "show":
            _show(args, config_of(args))
        case _:
            _list(config_of(args))
    return 0


def _build(args: argparse.Namespace, config: Config) -> None:
    now_ms = time.time_ns() // 1_000_000
    if (args.out is None) == (args.store is None):
        raise ConfigError("expected either --out FILE or --store (see tidemark reference build --help)")
    if (args.sources is None) == (args.rolling is None):
        raise ConfigError("expected either --from or --rolling (see tidemark reference build --help)")
    if args.sources is None:
        _require_no_selection(args)
        reference, notes = asyncio.run(roll_reference(config, args.model, args.version, now_ms, args.rolling))
    else:
        reference, notes = _build_from_sources(args, config, now_ms)
    if max(feature.n for feature in reference.features) < FEW_ROWS:
        notes.append(f"warning: of fewer than {FEW_ROWS:,} rows only a large shift can be told from chance")
    if args.out is None:
        asyncio.run(put_reference(config, reference))
        where = f"stored in {config.redacted_store} for group {config.group}"
    else:
        write_reference(args.out, reference)
        where = "written to " + ("standard output" if args.out == "-" else args.out)
    sys.stderr.writelines(f"{line}\n" for line in (f"{describe(reference)} of {notes[0]}; {where}", *notes[1:]))


def _build_from_sources(args: argparse.Namespace, config: Config, now_ms: int) -> tuple[Reference, list[str]]:
    """The reference, and what there is to say of its rows."""
    bins = DEFAULT_BINS if args.bins is None else args.bins
    if not LEAST_BINS <= bins <= MOST_BINS:
        raise ConfigError(f"--bins: expected a number from {LEAST_BINS} to {MOST_BINS}, got {bins}")
    files = [source for source in args.sources if topic_of(source) is None]
    topics = [topic for source in args.sources if (topic := topic_of(source)) is not None]
    if files.count("-") > 1:
        raise ConfigError("- (standard input) can be read once only, but is named more often")
    rows = ReferenceRows(_wanted(args, now_ms))
    with _steps() as steps:
        for file in files:
            read_file(file, config, rows, now_ms, steps.begin(f"reading {file}"))
        if topics:
            asyncio.run(read_topics(config, topics, rows, now_ms, steps.begin(f"reading {', '.join(topics)}")))
        source = ", ".join("standard input" if each == "-" else each for each in args.sources)
        names = rows.features(source)
        features = []
        told = steps.begin("placing the bins", "features")
        for name in names:
            features.append(feature_reference(name, rows.column(name), bins=bins, topics=rows.topics(name)))
            told(len(features), len(names))
    reference = Reference(args.model, args.version, tuple(features), now_ms, source)
    return reference, list(_notes(rows, reference))


def _require_no_selection(args: argparse.Namespace) -> None:
    for name in ("features", "bins", "since", "until", "first_hours"):
        if getattr(args, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: goes with --from only; --rolling takes features and bins from the store")
    if not 0 < args.rolling <= MOST_DAYS:
        raise ConfigError(f"--rolling: expected 1 to {MOST_DAYS} days, got {args.rolling}")


def _wanted(args: argparse.Namespace, now_ms: int) -> Wanted:
    since_ms = None if args.since is None else parse_when(args.since, now_ms, "--since")
    until_ms = None if args.until is None else parse_when(args.until, now_ms, "--until")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ConfigError(f"--until: expected a time after --since, got {args.until}")
    hours = args.first_hours
    if hours is not None and not 0 < hours < 1e6:
        raise ConfigError(f"--first-hours: expected a number above 0, got {hours:g}")
    names = [name.strip() for text in args.features or () for name in text.split(",")]
    if "" in names:
        raise ConfigError("--features: expected names with commas between them")
    return Wanted(
        model_id=args.model,
        model_version=args.version,
        features=tuple(dict.fromkeys(names)),
        since_ms=since_ms,
        until_ms=until_ms,
        first_ms=None if hours is None else round(hours * HOUR_MS),
    )


def _notes(rows: ReferenceRows, reference: Reference) -> Iterator[str]:
    """What the reference was built from, then what was left out."""
    longest = max(reference.features, key=lambda feature: feature.n)
    drawn_from = rows.drawn_from(longest.name)
    yield f"{longest.n:,} rows" + (f", a sample of {drawn_from:,}" if drawn_from else "")
    if rows.skipped:
        yield f"skipped {rows.skipped:,} that cannot be read; {rows.first_skipped}"
    if rows.left_out:
        yield f"left out: {', '.join(printable(name, 80) for name in sorted(rows.left_out))}"


def _show(args: argparse.Namespace, config: Config) -> None:
    if (args.file is None) == (args.model is None):
        raise ConfigError("expected either a FILE or --model (see tidemark reference show --help)")
    if args.file is not None:
        if args.version is not None:
            raise ConfigError("--version: goes with --model only")
        reference = read_reference(args.file)
    else:
        reference = asyncio.run(find_reference(config, args.model, args.version))
    if args.json:
        sys.stdout.write(reference.to_json().decode())
    else:
        sys.stdout.write(draw(reference, plain=not _takes_unicode()))


def _list(config: Config) -> None:
    holding, kept = asyncio.run(load_references(config))
    if not kept:
        sys.stderr.write(f"no references in {config.redacted_store} for group {config.group}\n")
        return
    sys.stdout.write(draw_list(kept, {reference.id for reference in holding}))


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


class _Steps:
    """The steps of the work as bars on standard error, where that is a terminal; nothing of them stays."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def begin(self, description: str, unit: str = "rows") -> Told:
        """Begin a step; the one before is done."""
        for before in self._bars.tasks:
            self._bars.update(before.id, total=before.completed)
        task = self._bars.add_task(description, total=None, unit=unit)
        return lambda count, total: self._bars.update(task, completed=count, total=total)


@contextmanager
def _steps() -> Iterator[_Steps]:
    console = Console(stderr=True)
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), TextColumn("{task.completed:,} {task.fields[unit]}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield _Steps(bars)
