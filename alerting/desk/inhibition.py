"""Which incidents keep which others quiet: a model that fails says nothing of its click-through rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alerting.desk.matchers import match_all
from alerting.desk.policy import InhibitRule


@dataclass(slots=True)
class _Side:
    """The incidents of one rule that have the same `equal` labels; dicts as ordered sets."""

    sources: dict[str, None] = field(default_factory=dict)
    targets: dict[str, None] = field(default_factory=dict)
    both: dict[str, None] = field(default_factory=dict)
    """Fit source and target. They inhibit targets, and are inhibited by sources, but not by each other: two of them
    would keep each other quiet, and nobody would be told."""

    def inhibitor(self, incident: str) -> str:
        if incident in self.both:
            return next(iter(self.sources), "")
        if incident in self.targets:
            return next(iter(self.sources), "") or next(iter(self.both), "")
        return ""


class Inhibition:
    """The open incidents as the rules see them.

    An incident that is itself inhibited or silenced inhibits nevertheless, as does one that somebody has acknowledged.
    """

    def __init__(self, rules: Sequence[InhibitRule]) -> None:
        self._rules = tuple(rules)
        self._sides: dict[tuple[int, tuple[str, ...]], _Side] = {}

    def add(self, incident: str, labels: Mapping[str, str]) -> list[str]:
        """An incident has opened; returns those that may be inhibited now and were not before, itself included."""
        affected = {incident: None}
        for key, rule in self._keys(labels):
            is_source, is_target = match_all(rule.source, labels), match_all(rule.target, labels)
            if not (is_source or is_target):
                continue
            side = self._sides.setdefault(key, _Side())
            affected |= _affected(side) if is_source else {}
            (side.both if is_source and is_target else side.sources if is_source else side.targets)[incident] = None
        return list(affected)

    def remove(self, incident: str, labels: Mapping[str, str]) -> list[str]:
        """It is over; returns those that it alone may have inhibited."""
        affected: dict[str, None] = {}
        for key, _ in self._keys(labels):
            side = self._sides.get(key)
            if side is None:
                continue
            was_source = incident in side.sources or incident in side.both
            for incidents in (side.sources, side.targets, side.both):
                incidents.pop(incident, None)
            affected |= _affected(side) if was_source else {}
            if not (side.sources or side.targets or side.both):
                del self._sides[key]
        return list(affected)

    def inhibitor(self, incident: str, labels: Mapping[str, str]) -> str:
        """The incident that inhibits this one; empty if none does."""
        for key, _ in self._keys(labels):
            side = self._sides.get(key)
            if side is not None and (found := side.inhibitor(incident)):
                return found
        return ""

    def _keys(self, labels: Mapping[str, str]) -> list[tuple[tuple[int, tuple[str, ...]], InhibitRule]]:
        return [
            ((number, tuple(labels.get(name, "") for name in rule.equal)), rule)
            for number, rule in enumerate(self._rules)
        ]


def _affected(side: _Side) -> dict[str, None]:
    """Whom one source more or less concerns, `side` being without it."""
    if side.sources:
        return {}
    return {**side.both, **({} if side.both else side.targets)}
