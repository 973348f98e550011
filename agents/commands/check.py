"""`tidemark check`: is this configuration right?"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable

from agents.config import Config, find_mistakes, load_config
from agents.rule_words import counted, severities_of
from agents.rules_file import find_rule_mistakes, is_rules_file, load_rules
from alerting.rules.rule import Rule
from tables.errors import ConfigError

EXAMPLE = """\
example:
  tidemark check tidemark.yaml
  tidemark check rules.yaml

Variables of the environment that a configuration names must be set, as for a worker. Queries of rules in SQL are
planned, not run.
exit status: 0 it is right, 2 it is not: each mistake is one line on standard error
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the options."""
    parser = subparsers.add_parser("check", help="validate a configuration and its rules", epilog=EXAMPLE)
    parser.add_argument("file", metavar="CONFIG", help="configuration or rules (YAML)")


def run(args: argparse.Namespace) -> int:
    """One line for a good file, or one for each mistake; 0 or 2."""
    only_rules = _has_only_rules(args.file)
    if mistakes := find_rule_mistakes(args.file) if only_rules else find_mistakes(args.file, os.environ):
        for mistake in mistakes:
            sys.stderr.write(f"tidemark: error: {mistake}\n")
        return 2
    if only_rules:
        sys.stdout.write(f"ok: {_rules(load_rules(args.file))}\n")
        return 0
    config = load_config(args.file, os.environ)
    config.check_links()
    sys.stdout.write(
        f"ok: {', '.join(_contents(config))}, "
        f"group {config.group}, broker {config.broker}, store {config.redacted_store}\n"
    )
    if config.privacy.warning:
        sys.stderr.write(f"tidemark: warning: {config.privacy.warning}\n")
    return 0


def _has_only_rules(path: str) -> bool:
    try:
        return is_rules_file(path)
    except ConfigError:
        # Said in full by those who read it.
        return False


def _contents(config: Config) -> list[str]:
    channels = Counter(channel.type for channel in config.channels)
    policy = config.alerting_policy
    found = [
        _rules(config.rules),
        counted(len(config.channels), "channel") + _in_brackets(channels),
        counted(len(policy.receivers), "receiver") + _in_brackets(policy.receivers),
    ]
    if policy.escalations:
        found.append(counted(len(policy.escalations), "escalation") + _in_brackets(policy.escalations))
    if policy.rotations:
        found.append(counted(len(policy.rotations), "on-call rotation") + _in_brackets(policy.rotations))
    return found


def _rules(rules: tuple[Rule, ...]) -> str:
    return counted(len(rules), "rule") + (f" ({severities_of(rules)})" if rules else "")


def _in_brackets(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f" ({listed})" if listed else ""
