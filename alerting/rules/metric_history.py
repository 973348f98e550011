"""What metrics were, minute by minute: for rules that compare with before (`drop`, `rise`)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Final, NamedTuple

import msgspec

from alerting.rules.expressions import MINUTE_MS, Change
from alerting.rules.metrics import METRICS
from alerting.rules.reading import Reading

#: Models, versions and features with a history of one metric: they come from events, and a flood of made-up ones must
#: not fill the memory. At 24 bytes a minute a thousand of them over a day take 35 MB, over a week 240 MB.
MOST_SERIES: Final = 1_000

_HOUR: Final = 60
"""Minutes in a chunk."""
_PREFIX: Final = "metric"


class Need(NamedTuple):
    """Metrics are remembered as rules of one settle delay see them: with another one they are other numbers."""

    metric: str
    settle_ms: int


class Mean(NamedTuple):
    """Over several minutes."""

    value: float
    n: int
    """Rows behind it."""
    minutes: int
    """How many had a value."""


@dataclass(frozen=True, slots=True)
class Changed:
    """How a metric went from `reference` to `current`."""

    value: float
    current: Mean
    reference: Mean


_Series = tuple[str, str, str]  # model_id, model_version, feature


class _Minutes:
    """One metric of one series, in the order of time."""

    __slots__ = ("n", "numbers", "values")

    def __init__(self) -> None:
        self.numbers = array("q")
        """Of the minutes, counted since the epoch."""
        self.values = array("d")
        self.n = array("q")

    def add(self, number: int, value: float, n: int) -> None:
        self.numbers.append(number)
        self.values.append(value)
        self.n.append(n)

    def span(self, begin: int, end: int) -> slice:
        return slice(bisect_left(self.numbers, begin), bisect_left(self.numbers, end))

    def forget_before(self, begin: int) -> None:
        gone = self.span(0, begin)
        del self.numbers[gone], self.values[gone], self.n[gone]


class MetricHistory:
    """The minutes of all metrics that somebody needs, each for as long as it is needed.

    A series for which there is no room has no history, and so no value; `no_room` counts the minutes left out.
    """

    def __init__(self, needs: Mapping[Need, int] | None = None, most_series: int = MOST_SERIES) -> None:
        """`needs` says for how many milliseconds each metric is to be kept."""
        self._needs = dict(needs or {})
        self._most_series = most_series
        self._past: dict[Need, dict[_Series, _Minutes]] = {need: {} for need in self._needs}
        self._hours: dict[Need, set[int]] = {need: set() for need in self._needs}
        """First minutes of the chunks that hold something."""
        self._unsaved: set[tuple[Need, int]] = set()
        self._gone: set[str] = set()
        self.no_room = 0

    @property
    def series(self) -> int:
        """How many are remembered."""
        return sum(map(len, self._past.values()))

    def need(self, needs: Mapping[Need, int]) -> None:
        """Keep these from now on; what nobody needs any more is dropped."""
        for need in self._needs.keys() - needs.keys():
            self._gone |= {_chunk(need, hour) for hour in self._hours.pop(need)}
            self._unsaved = {(of, hour) for of, hour in self._unsaved if of != need}
            del self._past[need]
        self._needs = dict(needs)
        for need in needs:
            self._past.setdefault(need, {})
            self._hours.setdefault(need, set())

    def put(self, need: Need, reading: Reading) -> None:
        """Take in a minute of a metric; minutes of a series come in order, an older one changes nothing."""
        value = reading.value(need.metric)
        if value is None:
            return
        series = (reading.model_id, reading.model_version, reading.feature)
        number = reading.window_start // MINUTE_MS
        minutes = self._past[need].get(series)
        if minutes is None:
            if len(self._past[need]) >= self._most_series:
                self.no_room += 1
                return
            minutes = self._past[need][series] = _Minutes()
        if minutes.numbers and number <= minutes.numbers[-1]:
            return
        minutes.add(number, value, reading.rows(need.metric))
        hour = number // _HOUR * _HOUR
        if hour not in self._hours[need]:
            self._forget(need, number)
            self._hours[need].add(hour)
        self._unsaved.add((need, hour))

    def mean(
        self, need: Need, model_id: str, model_version: str, feature: str, until_ms: int, span_ms: int
    ) -> Mean | None:
        """Over the minutes in the `span_ms` up to `until_ms`, each weighed with its rows (a tally's minutes all alike).

        None where nothing is behind it. It does not depend on the order of adding up, nor on what else is remembered.
        """
        minutes = self._past[need].get((model_id, model_version, feature))
        if minutes is None:
            return None
        span = minutes.span((until_ms - span_ms) // MINUTE_MS, until_ms // MINUTE_MS)
        values, n = minutes.values[span], minutes.n[span]
        weights = [1] * len(values) if METRICS[need.metric].is_tally else n
        weight = sum(weights)
        if not weight:
            return None
        total = fsum(value * each for value, each in zip(values, weights, strict=True))
        return Mean(total / weight, sum(n), len(values))

    def change(self, need: Need, change: Change, reading: Reading, minimum: int) -> Changed | None:
        """How the metric has changed up to the end of `reading`'s minute, which must have been put.

        None unless both sides have values in half of their minutes and `minimum` rows, and before it was above 0.
        """
        series = (reading.model_id, reading.model_version, reading.feature)
        current, reference = (
            self.mean(need, *series, reading.window_end - back_ms, change.over_ms) for back_ms in (0, change.vs_ms)
        )
        if current is None or reference is None or not reference.value > 0:
            return None
        if min(current.n, reference.n) < minimum or 2 * min(current.minutes, reference.minutes) * MINUTE_MS < (
            change.over_ms
        ):
            return None
        return Changed(change.of(current.value, reference.value), current, reference)

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """Chunks to append and to drop in a checkpoint; what changed is in both, to be replaced as a whole."""
        append = {_chunk(need, hour): self._packed(need, hour) for need, hour in self._unsaved}
        drop = self._gone | append.keys()
        self._unsaved, self._gone = set(), set()
        return append, drop

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Continue from a checkpoint; other chunks may be among them. Raises ValueError for damage.

        What nobody needs any more is dropped with the next changes.
        """
        found: list[tuple[int, Need, str]] = []
        for name in chunks:
            if name.startswith(f"{_PREFIX}:"):
                _, metric, settle_ms, first = name.split(":")
                found.append((int(first), Need(metric, int(settle_ms)), name))
        for hour, need, name in sorted(found):
            if need not in self._needs:
                self._gone.add(name)
                continue
            for series, numbers, values, n in _unpacked(chunks[name]):
                self._take_in(need, hour, series, zip(numbers, values, n, strict=True))

    def _take_in(self, need: Need, hour: int, series: _Series, rows: Iterable[tuple[int, float, int]]) -> None:
        if series not in self._past[need] and len(self._past[need]) >= self._most_series:
            return
        minutes = self._past[need].setdefault(series, _Minutes())
        for place, value, n in rows:
            minutes.add(hour + place, value, n)
        self._hours[need].add(hour)

    def _forget(self, need: Need, number: int) -> None:
        """Drop the hours that are wholly out of reach from the end of a minute."""
        reach = number + 1 - self._needs[need] // MINUTE_MS
        old = {hour for hour in self._hours[need] if hour + _HOUR <= reach}
        if not old:
            return
        self._hours[need] -= old
        self._unsaved -= {(need, hour) for hour in old}
        self._gone |= {_chunk(need, hour) for hour in old}
        begin = max(old) + _HOUR
        for series, minutes in list(self._past[need].items()):
            minutes.forget_before(begin)
            if not minutes.numbers:
                del self._past[need][series]

    def _packed(self, need: Need, hour: int) -> bytes:
        rows = []
        for series, minutes in sorted(self._past[need].items(), key=lambda item: item[0]):
            span = minutes.span(hour, hour + _HOUR)
            if span.start < span.stop:
                places = bytes(number - hour for number in minutes.numbers[span])
                rows.append((*series, places, minutes.values[span].tobytes(), minutes.n[span].tobytes()))
        return msgspec.msgpack.encode(rows)


def _chunk(need: Need, hour: int) -> str:
    return f"{_PREFIX}:{need.metric}:{need.settle_ms}:{hour}"


def _unpacked(data: bytes) -> Iterable[tuple[_Series, bytes, array[float], array[int]]]:
    try:
        for model_id, version, feature, places, packed_values, packed_n in msgspec.msgpack.decode(data):
            values, n = array("d"), array("q")
            values.frombytes(packed_values)
            n.frombytes(packed_n)
            if not len(places) == len(values) == len(n) > 0:
                raise ValueError(f"{len(places)} minutes, {len(values)} values")
            yield (model_id, version, feature), places, values, n
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise ValueError(f"metric history: {error}") from error
