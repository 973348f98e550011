"""`tidemark check`: is this configuration right?"""

import argparse
import os
import sys
from collections import Counter

from agents.config import find_mistakes, load_config

EXAMPLE = """\
example:
  tidemark check tidemark.yaml

Variables of the environment that the configuration names must be set, as for a worker.
exit status: 0 it is right, 2 it is not: each mistake is one line on standard error
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the options."""
    parser = subparsers.add_parser("check", help="validate a configuration and its rules", epilog=EXAMPLE)
    parser.add_argument("config", metavar="CONFIG", help="configuration file (YAML)")


def run(args: argparse.Namespace) -> int:
    """One line for a good configuration, or one for each mistake; 0 or 2."""
    if mistakes := find_mistakes(args.config, os.environ):
        for mistake in mistakes:
            sys.stderr.write(f"tidemark: error: {mistake}\n")
        return 2
    config = load_config(args.config, os.environ)
    channels = Counter(channel.type for channel in config.channels)
    kinds = f" ({', '.join(sorted(channels))})" if channels else ""
    sys.stdout.write(
        f"ok: {_count(len(config.rules), 'rule')}, {_count(len(config.channels), 'channel')}{kinds}, "
        f"group {config.group}, broker {config.broker}, store {config.redacted_store}\n"
    )
    if config.privacy.warning:
        sys.stderr.write(f"tidemark: warning: {config.privacy.warning}\n")
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
