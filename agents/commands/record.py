"""`tidemark record`: copies topics from Kafka into a recording."""

import argparse
import asyncio
import difflib
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.commands.options import add_config_options, config_of
from agents.config import Config
from agents.event_time import parse_event_time
from agents.kafka_admin import connect, consumer, one_line_errors
from agents.kafka_copy import merged_records, offsets_between
from agents.recordings import Line, RecordingWriter
from alerting.durations import parse_duration
from tables.errors import ConfigError, RunError

EXAMPLE = """\
example:
  tidemark record --topic impressions --topic clicks --since -1h --out shop.jsonl.gz

Times are Kafka's timestamps: RFC 3339 (2026-05-01T10:00:00Z), milliseconds since 1970, or relative (-1h).
The recording ends at --until, or where the topics end when the command starts. Lines are in order of arrival.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the options."""
    parser = subparsers.add_parser("record", help="copy topics from Kafka into a recording", epilog=EXAMPLE)
    parser.add_argument(
        "--topic",
        metavar="NAME",
        dest="topics",
        action="extend",
        nargs="+",
        required=True,
        help="topic as it is called in Kafka; more than one may be named",
    )
    parser.add_argument("--since", metavar="T", help="first time to copy (default: the oldest record)")
    parser.add_argument("--until", metavar="T", help="time to stop before (default: the end as it is now)")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help=".gz and .zst are compressed; - is standard output"
    )
    add_config_options(parser)


def run(args: argparse.Namespace) -> int:
    """Copy, and say on standard error how much. Raises ConfigError, RunError."""
    config = config_of(args)
    now_ms = time.time_ns() // 1_000_000
    since_ms = None if args.since is None else parse_when(args.since, now_ms, "--since")
    until_ms = None if args.until is None else parse_when(args.until, now_ms, "--until")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ConfigError(f"--until: expected a time after --since, got {args.until}")
    names = list(dict.fromkeys(args.topics))
    started = time.monotonic()
    count = asyncio.run(_record(config, names, since_ms, until_ms, args.out))
    seconds = time.monotonic() - started
    rate = f"{count / seconds:,.0f}/s" if seconds > 0 else "-"
    sys.stderr.write(f"recorded {count:,} records of {', '.join(names)} in {seconds:.1f} s ({rate})\n")
    return 0


def parse_when(text: str, now_ms: int, option: str) -> int:
    """A point in time as milliseconds since the epoch: RFC 3339, milliseconds, or before now as in -1h30m.

    :raises ConfigError: naming `option`.
    """
    given = text.strip()
    try:
        if given.startswith("-"):
            return now_ms - parse_duration(given[1:])
        if re.fullmatch(r"\d+", given):
            return parse_event_time(int(given))
        return parse_event_time(given)
    except (ConfigError, ValueError):
        expected = "expected a time such as 2026-05-01T10:00:00Z, milliseconds since the epoch, or -1h"
        raise ConfigError(f'{option}: {expected}, got "{text}"') from None


async def _record(config: Config, names: Sequence[str], since_ms: int | None, until_ms: int | None, out: str) -> int:
    partitions = await _partitions(config, names)
    # Short, so that a partition that runs dry is not kept waiting by those that have records left.
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 20, "request_timeout_ms": 20_000}
    async with one_line_errors(config, within_s=None), consumer(config, **options) as source:
        ranges = await offsets_between(source, partitions, since_ms, until_ms)
        # Opened last: a command that cannot work leaves an older file as it is.
        with RecordingWriter(out) as writer, _progress_bar() as bar:
            total = sum(offsets.end - offsets.first for offsets in ranges.values())
            task = bar.add_task("recording", total=total)
            async for records in merged_records(source, ranges):
                writer.write_many(map(_line, records))
                bar.advance(task, len(records))
        return writer.count


async def _partitions(config: Config, names: Sequence[str]) -> list[TopicPartition]:
    async with connect(config) as admin:
        existing = await admin.topics()
    for name in names:
        if name not in existing:
            near = difflib.get_close_matches(name, existing, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RunError(f"--topic: {config.broker} has no topic {name}{hint}")
    return [TopicPartition(name, index) for name in names for index in range(existing[name].partitions)]


def _line(record: Any) -> Line:
    timestamp = record.timestamp if record.timestamp >= 0 else None
    return Line(record.topic, record.partition, record.offset, timestamp, record.key, record.value)


def _progress_bar() -> Progress:
    """On standard error, where that is a terminal; nothing of it stays."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
