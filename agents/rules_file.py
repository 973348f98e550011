"""Rules from YAML: in the configuration, or in a file of their own whose top has `rules`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agents.config_file import Mistakes, Section, read_file
from alerting.rules.rule import DEFAULT_RULES, Rule, parse_rule
from tables.errors import ConfigError

_IN_QUERY: Final = re.compile(r"line (\d+): (.*)")
_PLACE: Final = re.compile(r"(.*):(\d+): (\S+)", re.DOTALL)


def read_rules(top: Section) -> tuple[Rule, ...]:
    """`rules`: parsed by the rule language itself; the built-in ones where the key is absent."""
    found = top.sections("rules")
    if "rules" not in top:
        return DEFAULT_RULES
    rules: list[Rule] = []
    for section in found:
        try:
            rule = parse_rule(section.mapping(), section.where)
        except ConfigError as error:
            section.rewrite(_placed_in_query(section, str(error)))
            continue
        if any(rule.name == other.name for other in rules):
            section.mistake("name", f'the name "{rule.name}" is taken by another rule')
        rules.append(rule)
    return tuple(rules)


def read_rules_file(path: Path, mistakes: Mistakes) -> tuple[Rule, ...]:
    """The rules of a file; a configuration is such a file too, what else is in it does not matter here.

    Raises ConfigError where the file cannot be read at all; mistakes in it are noted.
    """
    top = read_file(path, mistakes)
    if "rules" not in top:
        mistakes.note(f"{path}:1: rules: expected a list of rules, but missing", 1)
    return read_rules(top)


def load_rules(path: str | Path) -> tuple[Rule, ...]:
    """The rules of a file. Raises ConfigError with the first mistake, and how many more there are."""
    mistakes = Mistakes()
    rules = read_rules_file(Path(path), mistakes)
    if found := mistakes.in_order():
        more = len(found) - 1
        raise ConfigError(found[0] + (f" (and {more} more, see tidemark check)" if more else ""))
    return rules


def find_rule_mistakes(path: str | Path) -> list[str]:
    """All mistakes that `load_rules` would find, one line each."""
    mistakes = Mistakes()
    try:
        read_rules_file(Path(path), mistakes)
    except ConfigError as error:
        mistakes.note(str(error))
    return mistakes.in_order()


def is_rules_file(path: str | Path) -> bool:
    """Whether rules are all that is in it. Raises ConfigError where it cannot be read."""
    return set(read_file(Path(path), Mistakes()).keys()) == {"rules"}


def _placed_in_query(section: Section, message: str) -> str:
    """The message with the line of the file, where it names one of a query that is a block below its key."""
    said = message.removeprefix(f"{section.where}.sql: ")
    if said == message or "\n" not in str(section.plain("sql")):
        return message
    in_query, place = _IN_QUERY.fullmatch(said), _PLACE.fullmatch(section.place("sql"))
    if in_query is None or place is None:
        return message
    file, line, path = place.groups()
    return f"{file}:{int(line) + int(in_query[1])}: {path}: {in_query[2]}"
