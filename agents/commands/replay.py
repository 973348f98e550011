"""`tidemark replay`: recorded events through the same agents, without Kafka and without Redis."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import gc
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from agents.config import Config, TopicsConfig, load_judgement
from agents.event_types import LATEST_AHEAD_MS
from agents.line_files import Sink, name_of, open_sink
from agents.reference_files import read_reference
from agents.replay_input import read_chunks
from agents.rule_words import counted
from alerting.alert import printable
from tables.errors import ConfigError, RunError

if TYPE_CHECKING:
    from agents.replay import Output, Replay, Totals

EXAMPLE = """\
example:
  tidemark simulate --scenario may-day --out may-day.jsonl.zst
  tidemark replay may-day.jsonl.zst --windows windows.jsonl --alerts -
  tidemark replay --topic impressions=shown.jsonl --topic clicks=clicked.jsonl.gz --windows -
  tidemark replay may-day.jsonl.zst --reference recommender-home.json --windows windows.jsonl

Times are those of the recording, so the same recording and configuration always give the same bytes, on any day and at
any speed. Nobody is notified. Without --config every model is watched with the defaults; TIDEMARK_CONFIG is not read.
"""

OUTPUTS = ("windows", "alerts", "dead_letters")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "replay",
        help="feed recorded events through the same agents, without Kafka and Redis",
        description="Feeds recorded events through the same agents as a worker's, until all is drained; at the end "
        "every open window becomes final. Files ending in .gz and .zst are compressed, - is standard input or output.",
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "recordings", nargs="*", metavar="RECORDING", help="as `tidemark record` and `tidemark simulate` write them"
    )
    parser.add_argument(
        "--topic",
        metavar="NAME=FILE",
        dest="topic_files",
        action="append",
        default=[],
        help="a file of bare events of one topic, one a line, in order of event time, by which all files are merged; "
        "may be given many times",
    )
    parser.add_argument("--config", metavar="F", help="configuration file, for its rules, join and topic names")
    parser.add_argument(
        "--reference",
        metavar="F",
        dest="references",
        action="append",
        default=[],
        help="compare a model's features with this reference, as `tidemark reference build` writes them; may be given "
        "many times, beside those of the configuration",
    )
    parser.add_argument("--windows", metavar="F", help="write the rows of all windows once they are final")
    parser.add_argument("--alerts", metavar="F", help="write the alerts, in order of event time")
    parser.add_argument("--dead-letters", metavar="F", help="write what could not be used, and why")
    parser.add_argument("--provisional", action="store_true", help="write rows of windows that are not final, too")
    parser.add_argument(
        "--speed",
        metavar="K",
        type=_speed,
        default=math.inf,
        help="K times as fast as it was recorded, or max (default)",
    )


def run(args: argparse.Namespace) -> int:
    """Replay, and say on standard error what came of it. Raises ConfigError, RunError."""
    config = load_judgement(args.config)
    references = (*config.drift.references, *map(read_reference, args.references))
    config = replace(config, drift=replace(config.drift, references=references))
    topic_files = _topic_files(args.topic_files, config.topics)
    inputs = [*args.recordings, *(file for files in topic_files.values() for file in files)]
    outputs = [path for name in OUTPUTS if (path := getattr(args, name))]
    _check_paths(inputs, outputs)
    latest_ms = time.time_ns() // 1_000_000 + LATEST_AHEAD_MS
    strays: Counter[str] = Counter()
    chunks = read_chunks(args.recordings, topic_files, latest_ms, strays)

    # Here, not above: importing Faust takes longer than --help may.
    from agents.replay import replaying

    started = time.monotonic()
    # The loop runs only while there is a chunk to be fed: reading may block, and a Ctrl-C ends it at once.
    with _Sinks(args) as sinks, _progress(outputs) as progress, _rare_collections(), asyncio.Runner() as runner:
        task = progress.add_task("replaying")
        app = AsyncExitStack()
        try:
            replay: Replay = runner.run(app.enter_async_context(replaying(config, provisional=args.provisional)))
            begin_ms = 0
            for chunk in chunks:
                begin_ms = begin_ms or chunk[-1][0]
                _wait_until(started + (chunk[-1][0] - begin_ms) / 1000 / args.speed)
                sinks.write(runner.run(replay.feed(chunk)))
                progress.update(task, description=_so_far(replay, started))
            sinks.write(runner.run(replay.finish()))
        finally:
            runner.run(app.aclose())
    for file, count in sorted((+strays).items()):
        late = f"{count:,} event{'s' * (count > 1)} came more than 10 min late"
        sys.stderr.write(f"{name_of(file)} is not in order of event time: {late}\n")
    for rule, why in replay.app.sql.unanswered.items():
        said = f"rule {rule} had no answer for {counted(why.total(), 'minute')}: {replay.app.sql.last_words[rule]}"
        sys.stderr.write(printable(said, 500) + "\n")
    sys.stderr.write(summary(replay.totals, time.monotonic() - started, config))
    return 0


def summary(totals: Totals, seconds: float, config: Config) -> str:
    """What a replay came to, in a line; a second one where nothing at all was read and the topics' names are why."""
    ignored = ""
    if totals.ignored:
        names = sorted(totals.ignored)
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        ignored = f", {totals.ignored.total():,} ignored ({shown})"
    rate = totals.events / seconds if seconds > 0 else 0.0
    text = (
        f"{totals.events:,} events read{ignored}, {totals.late:,} late, {totals.dead:,} dead letters with those, "
        f"{totals.rows:,} rows, {totals.alerts:,} alerts; {seconds:.1f} s, {rate:,.0f} events/s\n"
    )
    if totals.ignored and not totals.events:
        topics = config.topics
        known = f"{topics.impressions}, {topics.clicks} and {topics.inferences}"
        text += f"expected the topics {known}; topics.prefix in --config sets others\n"
    return text


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0 or max, got {text!r}")
    return speed


def _topic_files(arguments: Sequence[str], topics: TopicsConfig) -> dict[str, list[str]]:
    """Topic -> files; a name is taken with the configured prefix and without."""
    known = {name: name for name in topics.inputs} | {name.removeprefix(topics.prefix): name for name in topics.inputs}
    files: dict[str, list[str]] = {}
    for argument in arguments:
        name, separator, file = argument.partition("=")
        if not (separator and file):
            raise ConfigError(f"--topic: expected NAME=FILE, got {argument!r}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(topics.inputs)}"
            raise ConfigError(f"--topic: unknown topic {name!r}; {hint}")
        files.setdefault(known[name], []).append(file)
    return files


def _check_paths(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if not inputs:
        raise ConfigError("expected a RECORDING or --topic NAME=FILE (see tidemark replay --help)")
    if inputs.count("-") > 1:
        raise ConfigError("- (standard input) can be read once only, but is named more often")
    for place, path in enumerate(outputs):
        for other in (*inputs, *outputs[:place]):
            if _is_same_file(path, other):
                raise ConfigError(f"{path}: expected a file of its own for each output, but {other} is the same")


def _is_same_file(one: str, other: str) -> bool:
    if "-" in (one, other):
        return False
    paths = Path(one), Path(other)
    if all(path.exists() for path in paths):
        return paths[0].is_file() and paths[0].samefile(paths[1])
    return paths[0].resolve() == paths[1].resolve()


class _Sinks:
    """The files of the outputs that were asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Open them, replacing what is there. Raises RunError."""
        self._paths: dict[str, str] = {name: path for name in OUTPUTS if (path := getattr(args, name))}
        self._files = {name: ExitStack() for name in self._paths}
        self._sinks: dict[str, Sink] = {}
        try:
            for name, path in self._paths.items():
                self._sinks[name] = open_sink(path, self._files[name])
        except RunError:
            self.__exit__()
            raise

    def write(self, output: Output) -> None:
        """Append what a step of the replay gave. Raises RunError, and BrokenPipeError where the reader has gone."""
        for name, sink in self._sinks.items():
            lines: list[bytes] = getattr(output, name)
            if lines:
                with self._complaining(name):
                    sink.write(b"\n".join(lines) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name, files in self._files.items():
            with self._complaining(name):
                files.close()

    @contextmanager
    def _complaining(self, name: str) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise RunError(f"cannot write {self._paths[name]}: {error.strerror}") from error


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Many records come and go and none is part of a cycle: looking for cycles takes a sixth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _wait_until(moment: float) -> None:
    if (wait := moment - time.monotonic()) > 0:
        time.sleep(wait)


def _progress(outputs: Sequence[str]) -> Progress:
    """On standard error, where that is a terminal and nothing else is written there; nothing of it stays."""
    console = Console(stderr=True)
    shares_terminal = "-" in outputs and sys.stdout.isatty()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=shares_terminal or not console.is_terminal,
    )


def _so_far(replay: Replay, started: float) -> str:
    totals, seconds = replay.totals, time.monotonic() - started
    clock = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(replay.clock_ms / 1000))
    return f"{totals.events:,} events, {totals.events / max(seconds, 0.001):,.0f}/s, {totals.alerts} alerts, at {clock}"
