"""`tidemark doctor`: one screen that says what is reachable, the lag, the versions, and what is wrong."""

import argparse
import asyncio
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version

from rich.console import Console
from rich.text import Text

from agents.commands.findings import Finding, examine
from agents.commands.main import program_version
from agents.commands.options import add_config_options, config_of

EXAMPLE = """\
example:
  tidemark doctor --broker kafka://localhost:9092 --store redis://localhost:6379/0

exit status: 0 nothing is wrong (warnings may be shown), 1 something is, 2 the configuration is wrong
"""

LIBRARIES = {"faust": "faust-streaming", "aiokafka": "aiokafka", "redis-py": "redis", "numpy": "numpy"}
"""What people call them, and their packages."""

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "doctor", help="say what is reachable, the lag, the versions, and what is wrong", epilog=EXAMPLE
    )
    add_config_options(parser, store=True, web=True)


def run(args: argparse.Namespace) -> int:
    """Show the screen; 1 where something is wrong. Raises ConfigError."""
    config = config_of(args)
    findings = asyncio.run(examine(config))
    show(findings, Console(file=sys.stdout, highlight=False, soft_wrap=True))
    return 1 if any(finding.state == "wrong" for finding in findings) else 0


def show(findings: Sequence[Finding], console: Console) -> None:
    """Versions, one line for each finding, then what to do."""
    console.print(Text(_versions()))
    console.print()
    width = max(len(finding.part) for finding in findings)
    for finding in findings:
        line = Text("  ")
        line.append(f"{finding.state:7}", style=STYLES[finding.state])
        line.append(f"  {finding.part:{width}}  {finding.text}")
        console.print(line)
    todo = [finding for finding in findings if finding.state != "ok"]
    console.print()
    if not todo:
        console.print(Text("nothing is wrong"))
        return
    console.print(Text("what to do"))
    for finding in sorted(todo, key=lambda finding: finding.state != "wrong"):
        line = Text("  ")
        line.append(f"{finding.part:{width}}", style=STYLES[finding.state])
        line.append(f"  {finding.remedy}")
        console.print(line)


def _versions() -> str:
    libraries = [f"{name} {version(package)}" for name, package in LIBRARIES.items()]
    return ", ".join([f"tidemark {program_version()}", f"python {platform.python_version()}", *libraries])
