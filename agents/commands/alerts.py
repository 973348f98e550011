"""`tidemark alerts`: what is wrong now, and who looks after it."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from rich.console import Console
from rich.table import Table

from alerting.alert import SEVERITIES, printable
from tables.errors import ConfigError, RunError

URL_VARIABLE: Final = "TIDEMARK_URL"
WEB_TOKEN_VARIABLE: Final = "TIDEMARK_WEB_TOKEN"
DEFAULT_URL: Final = "http://127.0.0.1:6066"
TIMEOUT_S: Final = 15.0

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
    listing.add_argument("--status", choices=("firing", "acknowledged", "resolved"))
    listing.add_argument("--severity", choices=SEVERITIES)
    listing.add_argument("--model", metavar="ID", help="only those of this model")
    ack = action(
        "ack", "acknowledge: you look after it, and nobody else is called", "tidemark alerts ack ID --by alice"
    )
    ack.add_argument("ids", nargs="+", metavar="ID")
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
    unsilence.add_argument("ids", nargs="+", metavar="ID")


def run(args: argparse.Namespace) -> int:
    """Ask a worker. Raises ConfigError (it refuses what was asked for), RunError (it does not answer)."""
    url = (args.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url: expected http://HOST:PORT, got {url!r}")
    return asyncio.run(_ACTIONS[args.action](args, url))


async def _list(args: argparse.Namespace, url: str) -> int:
    asked = {"status": args.status, "severity": args.severity, "model_id": args.model}
    answer = await _ask("GET", f"{url}/api/v1/alerts", params={k: v for k, v in asked.items() if v is not None})
    alerts: Sequence[Mapping[str, Any]] = answer["alerts"]
    if args.json:
        return _print_json(answer)
    if not alerts:
        sys.stdout.write("no open alerts\n")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("since (UTC)", "status", "severity", "alert", "what"):
        table.add_column(name, no_wrap=name not in ("what", "status"))
    for alert in alerts:
        status = printable(str(alert["status"]))
        if by := alert.get("acknowledged_by"):
            status += f" by {printable(str(by), 40)}"
        table.add_row(
            _time(alert["fired_at"]),
            status,
            f"[{_STYLES.get(alert['severity'], '')}]{alert['severity']}[/]",
            printable(alert["alert_id"]),
            printable(alert["summary"], 400).replace("[", "\\["),
        )
    # In a pipe each alert is one line, however long.
    width = None if sys.stdout.isatty() else _WIDEST
    Console(file=sys.stdout, highlight=False, width=width).print(table)
    return 0


async def _ack(args: argparse.Namespace, url: str) -> int:
    for alert_id in args.ids:
        body = {"by": args.by or _user(), "comment": args.comment}
        answer = await _ask("POST", f"{url}/api/v1/alerts/{quote(alert_id, safe='')}/ack", body=body)
        if args.json:
            _print_json(answer)
        else:
            by = answer.get("acknowledged_by")
            sys.stdout.write(f"{printable(alert_id)} {answer['status']}{f' by {printable(by, 40)}' if by else ''}\n")
    return 0


async def _silence(args: argparse.Namespace, url: str) -> int:
    body = {
        "matchers": args.matchers,
        "duration": args.duration,
        "created_by": args.by or _user(),
        "comment": args.comment,
    }
    answer = await _ask("POST", f"{url}/api/v1/silences", body=body)
    if args.json:
        return _print_json(answer)
    sys.stdout.write(f"silence {answer['id']} until {_time(answer['ends_at'])} UTC\n")
    return 0


async def _silences(args: argparse.Namespace, url: str) -> int:
    answer = await _ask("GET", f"{url}/api/v1/silences")
    if args.json:
        return _print_json(answer)
    if not answer["silences"]:
        sys.stdout.write("no silences\n")
    for silence in answer["silences"]:
        said = f"{silence['id']}  {_time(silence['starts_at'])} to {_time(silence['ends_at'])} UTC  "
        said += f"{' '.join(silence['matchers'])}  by {silence['created_by']}"
        sys.stdout.write(printable(said + (f": {silence['comment']}" if silence["comment"] else ""), 2000) + "\n")
    return 0


async def _unsilence(args: argparse.Namespace, url: str) -> int:
    for silence_id in args.ids:
        await _ask("DELETE", f"{url}/api/v1/silences/{quote(silence_id, safe='')}")
        if not args.json:
            sys.stdout.write(f"silence {printable(silence_id)} has ended\n")
    return 0


_ACTIONS: Final[Mapping[str, Callable[[argparse.Namespace, str], Coroutine[Any, Any, int]]]] = {
    "list": _list,
    "ack": _ack,
    "silence": _silence,
    "silences": _silences,
    "unsilence": _unsilence,
}


async def _ask(
    method: str, url: str, *, params: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
) -> Any:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    token = os.environ.get(WEB_TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, params=params, json=body, headers=headers) as response,
        ):
            text = await response.text()
    except aiohttp.InvalidURL as error:
        raise ConfigError(f"--url: expected http://HOST:PORT, which {url} does not begin with") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise RunError(f"no worker answers at {url}: {said}; is one running, or is --url wrong?") from error
    try:
        answer = json.loads(text) if text.strip() else None
    except ValueError as error:
        raise RunError(f"{url} is no tidemark worker: expected JSON") from error
    if response.status < 400:
        return answer
    detail = answer.get("detail") or answer.get("title") if isinstance(answer, dict) else None
    said = printable(str(detail or f"HTTP {response.status}"), 400)
    raise ConfigError(said) if response.status == 400 else RunError(said)


def _print_json(answer: object) -> int:
    sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
    return 0


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
