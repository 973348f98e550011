"""Rules from YAML: in the configuration, or in a file of their own whose top has `rules`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agents.config_file import Mistakes, Section, read_file
from alerting.durations import say_duration
from alerting.rules.rule import DEFAULT_RULES, Rule, parse_rule
from tables.errors import ConfigError

DAY_MS: Final = 86_400_000

_IN_QUERY: Final = re.compile(r"line (\d+): (.*)")
_PLACE: Final = re.compile(r"(.*):(\d+): (\S+)", re.DOTALL)


def read_rules(top: Section, longest_settle_ms: int = DAY_MS) -> tuple[Rule, ...]:
    """`rules`: parsed by the rule language itself; the built-in ones where the key is absent.

    longest_settle_ms: the attribution window, after which a window is final and judged, whatever a rule says; without
    it the longest that there is.
    """
    found = top.sections("rules")
    if "rules" not in top:
        return DEFAULT_RULES
    if top.plain("rules") is None:
        top.mistake("rules", "expected a list of rules, got nothing; `rules: []` has nothing watched")
    queries = [section.plain("sql") for section in found if "sql" in section]
    if queries:
        # Most files have none, and go without the engine.
        from alerting.sql.query import check_together

        check_together(queries)
    rules: list[Rule] = []
    for section in found:
        try:
            rule = parse_rule(section.mapping(), section.where)
        except ConfigError as error:
            section.rewrite(_placed_in_query(section, str(error)))
            continue
        if any(rule.name == other.name for other in rules):
            section.mistake("name", f'the name "{rule.name}" is taken by another rule')
        if rule.settle_ms > longest_settle_ms:
            longest, got = say_duration(longest_settle_ms), say_duration(rule.settle_ms)
            section.mistake("settle", f"expected at most the attribution window of {longest}, got {got}")
        rules.append(rule)
    return tuple(rules)


def read_rules_file(path: Path, mistakes: Mistakes, longest_settle_ms: int = DAY_MS) -> tuple[Rule, ...]:
    """The rules of a file; a configuration is such a file too, what else is in it does not matter here.

    Raises ConfigError where the file cannot be read at all; mistakes in it are noted.
    """
    top = read_file(path, mistakes)
    if "rules" not in top:
        mistakes.note(f"{path}:1: rules: expected a list of rules, but missing", 1)
    return read_rules(top, longest_settle_ms)


def load_rules(path: str | Path, longest_settle_ms: int = DAY_MS) -> tuple[Rule, ...]:
    """The rules of a file. Raises ConfigError with the first mistake, and how many more there are."""
    mistakes = Mistakes()
    rules = read_rules_file(Path(path), mistakes, longest_settle_ms)
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
    if said == message or not section.is_block("sql"):
        return message
    in_query, place = _IN_QUERY.fullmatch(said), _PLACE.fullmatch(section.place("sql"))
    if in_query is None or place is None:
        return message
    file, line, path = place.groups()
    return f"{file}:{int(line) + int(in_query[1])}: {path}: {in_query[2]}"
