"""`tidemark rules`: look at rules, and try them on a recording before they wake anybody."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from agents.backtest import Backtest, backtest
from agents.backtest_page import page
from agents.backtest_text import between, report, timeline
from agents.commands import check
from agents.config import load_judgement
from agents.event_types import LATEST_AHEAD_MS
from agents.line_files import Sink, open_sink
from agents.reference_files import read_reference
from agents.replay_input import read_chunks
from agents.rule_words import condition_of, counted, selected_by
from agents.rules_file import load_rules
from agents.screen import GoneConsole
from agents.timeline import SEVERITY_STYLES
from alerting.alert import printable
from alerting.durations import say_duration
from alerting.rules.rule import Rule
from tables.errors import ConfigError, RunError

if TYPE_CHECKING:
    from agents.replay import Output, Replay

EXAMPLE = """\
example:
  tidemark rules list rules.yaml
  tidemark rules check rules.yaml
  tidemark rules test rules.yaml may-day.jsonl.zst

A file of rules is YAML whose top has `rules`; a configuration is one too.
"""

LIST_EXAMPLE = """\
example:
  tidemark rules list tidemark.yaml
"""

TEST_EXAMPLE = """\
example:
  tidemark simulate --scenario may-day --out may-day.jsonl.zst
  tidemark rules test rules.yaml may-day.jsonl.zst
  tidemark rules test rules.yaml may-day.jsonl.zst --html may-day.html --alerts alerts.jsonl
  tidemark rules test rules.yaml quiet-day.jsonl.zst --expect-none
  tidemark rules test rules.yaml may-day.jsonl.zst --expect ctr-low

The same rules and recording always give the same alerts, byte for byte those of `tidemark replay`. Nobody is notified.
Only the rules are read from RULES; join, topics and references are those of --config, else the defaults.

exit status: 0 done, whether or not a rule fired; 1 an unreadable recording, or not what was expected; 2 wrong rules
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser("rules", help="list and check rules, and try them on a recording", epilog=EXAMPLE)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)

    shown = actions.add_parser("list", help="show rules as they are understood", epilog=LIST_EXAMPLE)
    shown.add_argument("rules", metavar="FILE", help="rules or configuration (YAML)")

    checked = actions.add_parser("check", help="validate rules, as `tidemark check` does", epilog=check.EXAMPLE)
    checked.add_argument("file", metavar="FILE", help="rules or configuration (YAML)")

    test = actions.add_parser(
        "test",
        help="say what rules would have made of a recording",
        description="Replays a recording under these rules, says for each rule and model when it fired and what was "
        "judged and left out, and draws a timeline.",
        epilog=TEST_EXAMPLE,
    )
    test.add_argument("rules", metavar="RULES", help="rules or configuration (YAML)")
    test.add_argument("recording", metavar="RECORDING", help="as `tidemark record` writes it; - is standard input")
    test.add_argument(
        "--reference",
        metavar="F",
        dest="references",
        action="append",
        default=[],
        help="compare a model's features with this reference; may be given many times",
    )
    test.add_argument("--config", metavar="F", help="configuration file, for its join, topics and references")
    test.add_argument("--alerts", metavar="F", help="write the alerts, in order of event time; not to standard output")
    test.add_argument("--html", metavar="F", help="write a page with the timeline and what was judged")
    expected = test.add_mutually_exclusive_group()
    expected.add_argument("--expect-none", action="store_true", help="fail where any rule fires")
    expected.add_argument(
        "--expect",
        metavar="RULE",
        action="append",
        default=[],
        help="fail where this rule does not fire; may be given many times",
    )


def run(args: argparse.Namespace) -> int:
    """Carry out the action. Raises ConfigError, RunError."""
    match args.action:
        case "check":
            return check.run(args)
        case "list":
            _list(load_rules(args.rules))
        case "test":
            _test(args)
    return 0


def _list(rules: tuple[Rule, ...]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns: list[tuple[str, Sequence[str]]] = [
        ("name", [rule.name for rule in rules]),
        ("severity", [rule.severity for rule in rules]),
        ("condition", [_condition(rule) for rule in rules]),
        ("for", [say_duration(rule.for_ms) for rule in rules]),
        ("keeps", [say_duration(rule.keep_firing_for_ms) for rule in rules]),
        ("rows", [f"{rule.minimum:,}" if rule.minimum else "any" for rule in rules]),
        ("about", [selected_by(rule) for rule in rules]),
        ("owner", [printable(rule.owner, 60) for rule in rules]),
    ]
    if not any(rule.owner for rule in rules):
        del columns[-1]
    # A reader that is no terminal wraps by itself, or not.
    console = _console(None if sys.stdout.isatty() else 1_000)
    for name, _ in columns:
        table.add_column(name, overflow="fold")
    for place, rule in enumerate(rules):
        row = [_encodable(Text(cells[place]), console) for _, cells in columns]
        row[1].stylize(SEVERITY_STYLES[rule.severity])
        table.add_row(*row)
    console.print(table)
    console.print(f"{counted(len(rules), 'rule')}")


def _condition(rule: Rule) -> str:
    said = condition_of(rule)
    return f"{said}, or no data for {say_duration(rule.no_data_ms)}" if rule.no_data_ms else said


def _test(args: argparse.Namespace) -> None:
    config = load_judgement(args.config)
    rules = load_rules(args.rules, config.join.attribution_ms)
    names = [rule.name for rule in rules]
    for name in args.expect:
        if name not in names:
            raise ConfigError(f"--expect: expected one of the rules {', '.join(names)}, got {name!r}")
    _check_outputs(args)
    references = (*config.drift.references, *map(read_reference, args.references))
    config = replace(config, drift=replace(config.drift, references=references))
    chunks = read_chunks([args.recording], {}, time.time_ns() // 1_000_000 + LATEST_AHEAD_MS)
    found = Backtest(rules, keep_points=args.html is not None)
    with _sinks(args.alerts) as sinks, _progress() as said:

        def told(replay: Replay, output: Output) -> None:
            said(f"{replay.totals.events:,} events, {replay.totals.alerts} alerts")
            for sink in sinks:
                with _writing(args.alerts):
                    sink.write(b"".join(alert + b"\n" for alert in output.alerts))

        totals = backtest(config, chunks, found, told)
    if args.html is not None:
        text = page(found, f"{Path(args.rules).name} on {Path(args.recording).name}")
        with _writing(args.html):
            Path(args.html).write_text(text, encoding="utf-8", errors="replace")
    console = _console()
    head = f"{totals.events:,} events, {totals.dead:,} dead letters, {totals.alerts:,} alerts"
    if found.end_ms:
        head = f"{between(found.begin_ms, found.end_ms)}: {head}"
    _print(console, [Text(head), Text(), *report(found), Text()])
    _print(console, timeline(found, console.width, plain=not console.encoding.startswith("utf")))
    if totals.ignored and not totals.events:
        topics = ", ".join(sorted(totals.ignored))
        raise RunError(f"{args.recording}: nothing that tidemark reads, only {topics}; topics.prefix in --config")
    _judge(args, found)


def _judge(args: argparse.Namespace, found: Backtest) -> None:
    fired = [rule.name for rule in found.rules if found.fired[rule.name]]
    if args.expect_none and fired:
        raise RunError(f"expected no rule to fire, but {', '.join(fired)} did")
    if missing := [name for name in args.expect if name not in fired]:
        raise RunError(f"expected {', '.join(missing)} to fire, which did not happen")


def _check_outputs(args: argparse.Namespace) -> None:
    outputs = [path for path in (args.alerts, args.html) if path is not None]
    for place, path in enumerate(outputs):
        if path == "-":
            raise ConfigError("--alerts and --html: expected a file, standard output shows the timeline")
        for other in (args.rules, args.recording, args.config, *args.references, *outputs[:place]):
            if other is not None and Path(path).resolve() == Path(other).resolve():
                raise ConfigError(f"{path}: expected a file of its own, but {other} is the same")


@contextmanager
def _sinks(path: str | None) -> Iterator[list[Sink]]:
    """Of the alerts, where they were asked for. Raises RunError."""
    resources = ExitStack()
    try:
        yield [] if path is None else [open_sink(path, resources)]
    finally:
        with _writing(path):
            resources.close()


@contextmanager
def _writing(path: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """On standard error, where that is a terminal; nothing of it stays."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("replaying")
        yield lambda text: bars.update(task, description=text)


def _console(width: int | None = None) -> Console:
    return GoneConsole(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(_encodable(line, console), soft_wrap=True)


def _encodable(line: Text, console: Console) -> Text:
    """With question marks for what the output cannot carry."""
    line.plain = line.plain.encode(console.encoding, "replace").decode(console.encoding)
    return line
