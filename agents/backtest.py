"""What rules would have made of a recording: every decision of a replay, gathered by rule and series."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from agents.config import Config
from agents.replay_input import Chunk
from alerting.alert import Alert
from alerting.rules.decisions import Decision, Reason
from alerting.rules.reading import Judged
from alerting.rules.rule import Rule

if TYPE_CHECKING:
    from agents.replay import Output, Replay, Totals

MOST_SERIES: Final = 10_000
"""Model ids come from events; of what is beyond only the firings are counted."""
MOST_POINTS: Final = 1_500
"""Of a line that is drawn: twice as many are there before neighbours become one."""

_MOST_FEATURES: Final = 1_000

LEFT_OUT: Final = frozenset(
    {
        Reason.OUT_OF_ORDER,
        Reason.DUPLICATE_ROW,
        Reason.FOREIGN_MODEL,
        Reason.TOO_FEW_IMPRESSIONS,
        Reason.TOO_FEW_REQUESTS,
        Reason.TOO_FEW_RECORDS,
        Reason.NO_HISTORY,
    }
)
"""The window was not judged."""
_BEGINS: Final = frozenset({Reason.FIRED, Reason.NO_DATA})
_ENDS: Final = frozenset({Reason.RESOLVED, Reason.DATA_BACK, Reason.GIVEN_UP, Reason.VERSION_GONE})
_PENDING: Final = frozenset({Reason.PENDING_STARTED, Reason.STILL_PENDING})
_JUDGED: Final = frozenset(
    {Reason.CONDITION_FALSE, Reason.PENDING_DROPPED, Reason.FIRED, Reason.STILL_FIRING, Reason.HOLDING, Reason.RESOLVED}
    | _PENDING
)


class Series(NamedTuple):
    """What a rule judges by itself; `feature` is empty where the rule's kind has none."""

    rule: str
    model_id: str
    model_version: str
    feature: str
    silent: bool = False
    """Not the rule's condition, but that there were no data to judge."""


class Span(NamedTuple):
    """[`begin_ms`, `end_ms`) of event time."""

    begin_ms: int
    end_ms: int


@dataclass(slots=True)
class Firing:
    """One incident that fired; times as its alerts have them."""

    started_at: int
    fired_at: int
    resolved_at: int | None
    """None: it still fires at the recording's end."""
    worst: float | None
    summary: str


@dataclass(slots=True)
class Track:
    """What became of one series."""

    judged: list[Span] = field(default_factory=list)
    """Windows side by side are one span."""
    pending: list[Span] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    windows: int = 0
    """Judged."""
    left_out: Counter[Reason] = field(default_factory=Counter)
    worst: float | None = None
    """Of all that were judged."""
    points: list[tuple[int, float]] = field(default_factory=list)
    """(end of the window, value), where they are kept."""
    pending_worst: float | None = None
    """Of the windows since the condition last began to hold, until it fired."""

    @property
    def is_quiet(self) -> bool:
        """Whether it was never pending and never fired."""
        return not self.pending and not self.firings

    def firing_spans(self, end_ms: int) -> list[Span]:
        """When it fired; what still does, does so until `end_ms`."""
        spans = ((firing.fired_at, firing.resolved_at) for firing in self.firings)
        return [Span(fired, max(fired, end_ms) if resolved is None else resolved) for fired, resolved in spans]


class Backtest:
    """Gathers decisions: its `take` is the tap of a replay."""

    def __init__(self, rules: tuple[Rule, ...], *, keep_points: bool = False) -> None:
        """`keep_points`: for drawing what was judged, not only what came of it."""
        self.rules = rules
        self.fired: Counter[str] = Counter()
        """Rule -> incidents."""
        self.asked: Counter[str] = Counter()
        """Rule that is a query -> minutes for which it returned nothing."""
        self.unanswered: dict[str, Counter[str]] = {}
        """Likewise -> why it had no answer -> minutes."""
        self.last_words: dict[str, str] = {}
        """Likewise -> what was said of the last one of these."""
        self.other_features: dict[str, set[str]] = {}
        """Rule -> the features of its models that it is not about, some of them."""
        self.unseen = 0
        """Rows that queries could not see."""
        self.dropped = 0
        """Decisions on series beyond MOST_SERIES."""
        self._by_name = {rule.name: rule for rule in rules}
        self._keep_points = keep_points
        self._tracks: dict[Series, Track] = {}
        self._begin_ms: int | None = None
        self._end_ms = 0

    @property
    def begin_ms(self) -> int:
        """Start of the first window."""
        return self._begin_ms or 0

    @property
    def end_ms(self) -> int:
        """When the last thing happened that there is to show."""
        return self._end_ms

    def tracks(self) -> list[tuple[Rule, Series, Track]]:
        """All series that a rule is about: in the order of the rules, then by model, version and feature."""
        order = {rule.name: place for place, rule in enumerate(self.rules)}
        found = sorted(self._tracks.items(), key=lambda item: (order[item[0].rule], item[0]))
        return [(self._by_name[series.rule], series, track) for series, track in found]

    def take(self, decision: Decision, reading: Judged | None) -> None:
        """Note what was decided."""
        reason, alert = decision.reason, decision.alert
        self.fired[decision.rule] += reason in _BEGINS
        rule = self._by_name[decision.rule]
        if rule.kind == "sql" and reason in (Reason.CONDITION_FALSE, Reason.OUT_OF_ORDER):
            self.asked[decision.rule] += reason is Reason.CONDITION_FALSE
            return
        self._see(decision.window_start, decision.window_end)
        if alert is not None:
            self._see(alert.started_at, alert.resolved_at or alert.fired_at)
        if reason is Reason.NOT_SELECTED:
            self._pass_over(rule, decision)
            return
        model = decision.model_id, decision.model_version, decision.feature
        series = Series(decision.rule, *model, silent=alert is not None and "no_data" in alert.labels)
        if reason is Reason.EVICTED:
            self._evict(series, decision)
            return
        track = self._track(series)
        if track is None:
            self.dropped += 1
            return
        if reason in LEFT_OUT:
            track.left_out[reason] += 1
        elif reason in _JUDGED:
            self._judge(rule, track, decision)
        if reason in _BEGINS and alert is not None:
            self._begin(rule, series, track, alert)
        elif reason in _ENDS and alert is not None and track.firings:
            track.firings[-1].resolved_at = alert.resolved_at

    # -- inside

    def _see(self, begin_ms: int, end_ms: int) -> None:
        self._begin_ms = begin_ms if self._begin_ms is None else min(self._begin_ms, begin_ms)
        self._end_ms = max(self._end_ms, end_ms)

    def _pass_over(self, rule: Rule, decision: Decision) -> None:
        features = self.other_features.setdefault(rule.name, set())
        is_of_model = rule.selects(decision.model_id, decision.model_version, rule.feature)
        if decision.feature and is_of_model and len(features) < _MOST_FEATURES:
            features.add(decision.feature)

    def _track(self, series: Series) -> Track | None:
        track = self._tracks.get(series)
        if track is None and len(self._tracks) < MOST_SERIES:
            track = self._tracks[series] = Track()
        return track

    def _judge(self, rule: Rule, track: Track, decision: Decision) -> None:
        reason, value = decision.reason, decision.value
        window = Span(decision.window_start, decision.window_end)
        track.windows += 1
        _extend(track.judged, window)
        if reason is Reason.PENDING_STARTED:
            track.pending.append(window)
            track.pending_worst = value
        elif reason is Reason.STILL_PENDING and track.pending:
            track.pending[-1] = track.pending[-1]._replace(end_ms=window.end_ms)
        if value is None:
            return
        track.worst = _worse(rule, track.worst, value)
        if reason is Reason.STILL_PENDING:
            track.pending_worst = _worse(rule, track.pending_worst, value)
        elif reason in (Reason.STILL_FIRING, Reason.HOLDING) and track.firings:
            track.firings[-1].worst = _worse(rule, track.firings[-1].worst, value)
        if self._keep_points:
            track.points.append((window.end_ms, value))
            if len(track.points) >= 2 * MOST_POINTS:
                track.points = _thinned(rule, track.points)

    def _begin(self, rule: Rule, series: Series, track: Track, alert: Alert) -> None:
        # Of silence nobody knows until it has lasted; a condition was pending until it fired.
        if not series.silent:
            if track.pending and track.pending[-1].begin_ms == alert.started_at:
                del track.pending[-1]
            track.pending.append(Span(alert.started_at, alert.fired_at))
        worst = track.pending_worst
        if alert.value is not None:
            worst = _worse(rule, worst, alert.value)
        track.firings.append(Firing(alert.started_at, alert.fired_at, None, worst, alert.summary))

    def _evict(self, series: Series, decision: Decision) -> None:
        """The book has no room for it: nothing more is heard of this incident."""
        for silent in (False, True):
            track = self._tracks.get(series._replace(silent=silent))
            if track is None:
                continue
            last = track.firings[-1] if track.firings else None
            if last is not None and last.resolved_at is None and last.started_at == decision.window_start:
                last.resolved_at = max(decision.window_end, last.fired_at)


def backtest(
    config: Config, chunks: Iterable[Chunk], found: Backtest, told: Callable[[Replay, Output], None]
) -> Totals:
    """Replay under the rules of `found`; `told` is called after each chunk and at the end.

    Raises RunError, and InputError where a recording cannot be read.
    """
    # Here, not above: importing Faust takes longer than --help may.
    from agents.replay import replaying

    # The loop runs only while there is a chunk to be fed: reading may block, and a Ctrl-C ends it at once.
    with asyncio.Runner() as runner:
        app = AsyncExitStack()
        try:
            replay = runner.run(app.enter_async_context(replaying(replace(config, rules=found.rules), tap=found.take)))
            for chunk in chunks:
                told(replay, runner.run(replay.feed(chunk)))
            told(replay, runner.run(replay.finish()))
        finally:
            runner.run(app.aclose())
    found.unseen = int(replay.app.metrics.sql_rows_left_out._value.get())
    found.unanswered, found.last_words = replay.app.sql.unanswered, replay.app.sql.last_words
    return replay.totals


def _extend(spans: list[Span], span: Span) -> None:
    if spans and spans[-1].end_ms == span.begin_ms:
        spans[-1] = spans[-1]._replace(end_ms=span.end_ms)
    else:
        spans.append(span)


def _worse(rule: Rule, one: float | None, other: float) -> float:
    """The one that is farther on the bad side; of a query nobody knows which that is, and the greater one is taken."""
    if one is None:
        return other
    return min(one, other) if rule.comparison in ("<", "<=") else max(one, other)


def _thinned(rule: Rule, points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of two neighbours the worse one."""
    pairs = zip(points[::2], points[1::2], strict=True)
    return [one if _worse(rule, one[1], other[1]) == one[1] else other for one, other in pairs]
