"""`tidemark alerts`: what is wrong now, and who looks after it."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.posted_silence import silence_of
from agents.worker_client import AlertAnswer, AlertsAnswer, SilenceAnswer, SilencesAnswer, ask
from alerting.alert import SEVERITIES, printable
from tables.errors import ConfigError, RunError

URL_VARIABLE: Final = "TIDEMARK_URL"
DEFAULT_URL: Final = "http://127.0.0.1:6066"

EXAMPLE = """\
example:
  tidemark alerts list
  tidemark alerts ack 045b5c890b12c020 --comment "rolling back v3"
  tidemark alerts silence 'model_id="recommender-home"' --for 2h --comment "promotion"
  tidemark alerts silences
  tidemark alerts unsilence 5b6c1f0e9d2a4477

Any worker answers for all of them; --url, or TIDEMARK_URL, says where one is (default http://127.0.0.1:6066). Where
workers want a token, TIDEMARK_WEB_TOKEN has it.
"""

_WIDEST: Final = 600
_STYLES: Final = {"critical": "bold white on red", "major": "bold red", "minor": "yellow"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "alerts",
        help="list, acknowledge and silence alerts",
        description="Lists the open alerts of all workers, acknowledges them, and silences what is known already.",
        epilog=EXAMPLE,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)

    def action(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(name, help=summary, epilog=f"example:\n  {example}")
        added.add_argument("--url", metavar="U", help=f"a worker's address (default ${URL_VARIABLE}, {DEFAULT_URL})")
        added.add_argument("--json", action="store_true", help="print the answer as JSON")
        return added

    listing = action("list", "list the open alerts", "tidemark alerts list --severity critical")
    listing.add_argument("--status", choices=("firing", "acknowledged"))
    listing.add_argument("--severity", choices=SEVERITIES)
    listing.add_argument("--model", metavar="ID", help="only those of this model")
    ack = action(
        "ack", "acknowledge: you look after it, and nobody else is called", "tidemark alerts ack ID --by alice"
    )
    ack.add_argument("ids", nargs="+", metavar="ID", type=_id)
    silence = action(
        "silence",
        "say nothing about alerts that fit, for a time",
        "tidemark alerts silence 'rule=\"ctr-low\"' --for 2h",
    )
    silence.add_argument(
        "matchers", nargs="+", metavar="MATCHER", help="""such as 'severity="minor"' or 'model_id=~"home-.*"'"""
    )
    silence.add_argument("--for", dest="duration", default="1h", metavar="D", help="how long (default 1h)")
    for each in (ack, silence):
        each.add_argument("--by", metavar="NAME", default=None, help="who you are (default: your user name)")
        each.add_argument("--comment", default="", help="why, for the others")
    action("silences", "list the silences", "tidemark alerts silences")
    unsilence = action("unsilence", "end a silence", "tidemark alerts unsilence ID")
    unsilence.add_argument("ids", nargs="+", metavar="ID", type=_id)


def run(args: argparse.Namespace) -> int:
    """Ask a worker. Raises ConfigError (it refuses what was asked for), RunError (it does not answer)."""
    url = (args.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url: expected http://HOST:PORT, got {url!r}")
    return asyncio.run(_ACTIONS[args.action](args, url))


async def _list(args: argparse.Namespace, url: str) -> int:
    asked = {"status": args.status, "severity": args.severity, "model_id": args.model}
    params = {name: value for name, value in asked.items() if value is not None}
    answer, plain = await ask("GET", f"{url}/api/v1/alerts", AlertsAnswer, params=params)
    if args.json:
        return _print_json(plain)
    if not answer.alerts:
        sys.stdout.write("no open alerts\n")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("since (UTC)", "status", "severity", "alert", "what"):
        table.add_column(name, no_wrap=name not in ("what", "status"))
    for alert in answer.alerts:
        by = f" by {printable(alert.acknowledged_by, 40)}" if alert.acknowledged_by else ""
        # As `Text`, in which no bracket or colon of an event is taken for markup.
        table.add_row(
            _time(alert.fired_at),
            Text(printable(alert.status) + by),
            Text(printable(alert.severity), style=_STYLES.get(alert.severity, "")),
            Text(printable(alert.alert_id)),
            Text(printable(alert.summary, 400)),
        )
    # In a pipe each alert is one line, however long.
    width = None if sys.stdout.isatty() else _WIDEST
    Console(file=sys.stdout, highlight=False, width=width).print(table)
    return 0


async def _ack(args: argparse.Namespace, url: str) -> int:
    body = {"by": args.by or _user(), "comment": args.comment}

    async def ack(alert_id: str) -> None:
        address = f"{url}/api/v1/alerts/{quote(alert_id, safe='')}/ack"
        answer, plain = await ask("POST", address, AlertAnswer, body=body)
        if args.json:
            _print_json(plain)
            return
        by = f" by {printable(answer.acknowledged_by, 40)}" if answer.acknowledged_by else ""
        # Who was first stays: the name and comment given now are nowhere.
        first = answer.status != "acknowledged" or (answer.acknowledged_by, answer.comment) == tuple(body.values())
        sys.stdout.write(f"{printable(answer.alert_id)} {'' if first else 'already '}{printable(answer.status)}{by}\n")

    return await _each(args.ids, ack)


async def _silence(args: argparse.Namespace, url: str) -> int:
    body = {
        "matchers": args.matchers,
        "duration": args.duration,
        "created_by": args.by or _user(),
        "comment": args.comment,
    }
    # What is wrong with it is wrong whether or not a worker is there to say so.
    silence_of(body, time.time_ns() // 1_000_000)
    answer, plain = await ask("POST", f"{url}/api/v1/silences", SilenceAnswer, body=body)
    if args.json:
        return _print_json(plain)
    sys.stdout.write(f"silence {printable(answer.id)} until {_time(answer.ends_at)} UTC\n")
    return 0


async def _silences(args: argparse.Namespace, url: str) -> int:
    answer, plain = await ask("GET", f"{url}/api/v1/silences", SilencesAnswer)
    if args.json:
        return _print_json(plain)
    if not answer.silences:
        sys.stdout.write("no silences\n")
    for silence in answer.silences:
        said = f"{silence.id}  {_time(silence.starts_at)} to {_time(silence.ends_at)} UTC  "
        said += f"{' '.join(silence.matchers)}  by {silence.created_by}"
        sys.stdout.write(printable(said + (f": {silence.comment}" if silence.comment else ""), 2000) + "\n")
    return 0


async def _unsilence(args: argparse.Namespace, url: str) -> int:
    async def end(silence_id: str) -> None:
        await ask("DELETE", f"{url}/api/v1/silences/{quote(silence_id, safe='')}", type(None))
        if not args.json:
            sys.stdout.write(f"silence {printable(silence_id)} has ended\n")

    return await _each(args.ids, end)


async def _each(ids: Sequence[str], act: Callable[[str], Awaitable[None]]) -> int:
    """All of them, whatever becomes of one; each that fails is a line on standard error."""
    status = 0
    for one in ids:
        try:
            await act(one)
        except RunError as error:
            sys.stderr.write(f"tidemark: error: {error}\n")
            status = 1
    return status


_ACTIONS: Final[Mapping[str, Callable[[argparse.Namespace, str], Coroutine[Any, Any, int]]]] = {
    "list": _list,
    "ack": _ack,
    "silence": _silence,
    "silences": _silences,
    "unsilence": _unsilence,
}


def _print_json(answer: object) -> int:
    sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
    return 0


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _id(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected an id, got nothing")
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
