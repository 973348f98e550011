"""The incidents of a book in lists, texts and numbers: JSON and msgpack carry them unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from alerting.rules.incident_machine import Incident, Key, Told
from alerting.rules.reading import Kind, Reading
from alerting.rules.rule import Rule
from tables.errors import StoreError

_VERSION: Final = 4
_NOT_TOLD: Final = -1
#: A version may be empty, too.
_ALL_VERSIONS: Final = "\0"


class Series(NamedTuple):
    """Windows that come one after the other, as rules of one settle delay see them. Of a query: its rule's name in
    place of the model."""

    model_id: str
    model_version: str
    kind: Kind
    feature: str
    settle_ms: int

    @classmethod
    def of(cls, reading: Reading, settle_ms: int) -> Series:
        """The one that a window belongs to."""
        version = _ALL_VERSIONS if reading.of_all_versions else reading.model_version
        return cls(reading.model_id, version, reading.kind, reading.feature, settle_ms)

    @classmethod
    def judged_by(cls, rule: Rule, key: Key) -> Series:
        """The one of which a rule has made an incident."""
        version = _ALL_VERSIONS if rule.per_model else key.model_version
        return cls(key.model_id, version, key.kind, key.feature, rule.settle_ms)


class Unpacked(NamedTuple):
    """What `packed` was given."""

    opened: dict[Key, Incident]
    heard: dict[Series, int]
    expected: dict[Key, int]
    too_few: dict[Key, tuple[int, ...]]


def packed(
    opened: Mapping[Key, Incident],
    heard: Mapping[Series, int],
    expected: Mapping[Key, int],
    too_few: Mapping[Key, tuple[int, ...]],
) -> dict[str, Any]:
    """All keep their order. What was told is there once for all incidents of a rule."""
    told: dict[Told, int] = {}
    rows = []
    for key, it in opened.items():
        place = _NOT_TOLD if it.told is None else told.setdefault(it.told, len(told))
        rows.append([*key, it.started_at, it.breached_until, it.fired_at, it.clear_ms, place])
    return {
        "version": _VERSION,
        "told": [[*each[:1], [list(pair) for pair in each.labels], *each[2:]] for each in told],
        "open": rows,
        "heard": [[*series, window_end] for series, window_end in heard.items()],
        "expected": [[*key, window_end] for key, window_end in expected.items()],
        "too_few": [[*key, list(ends)] for key, ends in too_few.items()],
    }


def unpacked(state: Mapping[str, Any]) -> Unpacked:
    """The reverse. Raises StoreError when the state is of another version or damaged."""
    try:
        if state["version"] != _VERSION:
            raise StoreError(f"incidents of state version {state['version']!r}; this is {_VERSION}")
        told = [
            Told(severity, tuple((name, text) for name, text in labels), *rest)
            for severity, labels, *rest in state["told"]
        ]
        opened = {}
        for *key, started_at, breached_until, fired_at, clear_ms, place in state["open"]:
            if (fired_at is None) is not (place == _NOT_TOLD):
                raise StoreError(f"incident of {key!r}: fired and not told, or the reverse")
            voice = None if place == _NOT_TOLD else told[place]
            opened[Key(*key)] = Incident(started_at, breached_until, fired_at, clear_ms, voice)
        heard = {Series(*series): window_end for *series, window_end in state["heard"]}
        expected = {Key(*key): window_end for *key, window_end in state["expected"]}
        too_few = {Key(*key): tuple(ends) for *key, ends in state["too_few"]}
        return Unpacked(opened, heard, expected, too_few)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"incidents cannot be restored: {type(error).__name__}: {error}") from error
