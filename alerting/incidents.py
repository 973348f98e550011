"""Incidents: from a window's numbers to "this has just started, is still so, is over".

One state machine for each (rule, model, version, feature), driven by event time alone, so that a replay of the same
readings says the same:

    inactive ──breach──> pending ──for_ms──> firing ──keep_firing_for_ms of good windows──> inactive
                            └──────good window, or a gap longer than for_ms──────────────────^
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from alerting.alert import Alert, alert_id_of, fingerprint_of
from alerting.reading import DriftReading, Kind, Reading
from alerting.rules import Rule
from alerting.summary import firing_summary, resolved_summary
from tables.errors import ConfigError, StoreError

__all__ = ["DEFAULT_LIMIT", "Decision", "IncidentBook", "Reading", "Reason"]

#: Model ids come from events: a flood of made-up ones must not fill the memory.
DEFAULT_LIMIT: Final = 10_000
_STATE_VERSION: Final = 2

_Key = tuple[str, str, str, Kind, str]  # rule, model_id, model_version, kind, feature ("" where the kind has none)
_Series = tuple[str, str, Kind, str, int]  # model_id, model_version, kind, feature, settle_ms


class Reason(StrEnum):
    """Why a reading led to what it led to; also the label under which decisions are counted."""

    NOT_SELECTED = "not_selected"
    OUT_OF_ORDER = "out_of_order"
    TOO_FEW_IMPRESSIONS = "too_few_impressions"
    TOO_FEW_REQUESTS = "too_few_requests"
    TOO_FEW_RECORDS = "too_few_records"
    CONDITION_FALSE = "condition_false"
    PENDING_STARTED = "pending_started"
    STILL_PENDING = "still_pending"
    PENDING_DROPPED = "pending_dropped"
    GAP_RESET = "gap_reset"
    FIRED = "fired"
    STILL_FIRING = "still_firing"
    HOLDING = "holding"
    RESOLVED = "resolved"
    EVICTED = "evicted"


_TOO_FEW: Final[Mapping[Kind, Reason]] = {
    "ctr": Reason.TOO_FEW_IMPRESSIONS,
    "serving": Reason.TOO_FEW_REQUESTS,
    "drift": Reason.TOO_FEW_RECORDS,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule made of one reading; `alert` is there exactly where the reason is fired or resolved."""

    reason: Reason
    alert: Alert | None
    rule: str


@dataclass(frozen=True, slots=True)
class _Incident:
    """A condition that holds, or did a moment ago: pending until `fired_at` is set. Event-time ms."""

    started_at: int
    breached_until: int
    fired_at: int | None = None
    clear_ms: int = 0


class IncidentBook:
    """All incidents that are open under `rules`; at most `limit` of them, and as many series remembered."""

    def __init__(self, rules: Iterable[Rule], *, limit: int = DEFAULT_LIMIT) -> None:
        """Raises ConfigError when two rules share a name or `limit` is below 1."""
        self._rules: dict[str, Rule] = {}
        self._by_kind: dict[Kind, list[Rule]] = {}
        for rule in rules:
            if rule.name in self._rules:
                raise ConfigError(f"rules: expected names of their own, got {rule.name!r} twice")
            self._rules[rule.name] = rule
            self._by_kind.setdefault(rule.kind, []).append(rule)
        if limit < 1:
            raise ConfigError(f"limit: expected at least 1 incident, got {limit}")
        self._limit = limit
        # Both in the order in which they were last touched: the first one is the first to be forgotten.
        self._open: dict[_Key, _Incident] = {}
        self._heard: dict[_Series, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def firing(self) -> int:
        """How many incidents are firing now."""
        return sum(incident.fired_at is not None for incident in self._open.values())

    def observe(self, reading: Reading, settle_ms: int | None = None) -> list[Decision]:
        """Judge one window, once for each settle delay, in order of `window_end` within a series.

        A series is a model and version, a kind, and a feature where the kind has one. The rules of the
        reading's kind judge it: with `settle_ms` only those of that delay (the caller then comes back for
        the longer ones, with the counts of that time), without it all. Alerts are dated `window_end` + the
        rule's delay. Every rule asked gives at least one decision, in the order of the rules; a window that
        a series has seen already gives `out_of_order` and changes nothing.
        """
        fresh: dict[int, bool] = {}
        decisions: list[Decision] = []
        for rule in self._by_kind.get(reading.kind, ()):
            delay = rule.settle_ms
            if settle_ms is not None and delay != settle_ms:
                continue
            if not rule.selects(reading.model_id, reading.model_version, reading.feature):
                decisions.append(Decision(Reason.NOT_SELECTED, None, rule.name))
                continue
            if delay not in fresh:
                fresh[delay] = self._is_news(reading, delay)
            if fresh[delay]:
                decisions += self._judge(rule, reading)
            else:
                decisions.append(Decision(Reason.OUT_OF_ORDER, None, rule.name))
        return decisions

    def state(self) -> dict[str, Any]:
        """All that the book remembers, in lists, texts and numbers (JSON and msgpack carry it unchanged)."""
        return {
            "version": _STATE_VERSION,
            "open": [[*key, *astuple(incident)] for key, incident in self._open.items()],
            "heard": [[*series, window_end] for series, window_end in self._heard.items()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`, in place of what the book holds; incidents of vanished rules are dropped.

        Raises StoreError when the state is of another version or damaged; the book is then unchanged.
        """
        try:
            if state["version"] != _STATE_VERSION:
                raise StoreError(f"incidents of state version {state['version']!r}; this is {_STATE_VERSION}")
            opened = {
                (rule, model, version, kind, feature): _Incident(*rest)
                for rule, model, version, kind, feature, *rest in state["open"]
                if self._is_of(rule, model, version, kind, feature)
            }
            heard: dict[_Series, int] = {
                (model, version, kind, feature, delay): end
                for model, version, kind, feature, delay, end in state["heard"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"incidents cannot be restored: {type(error).__name__}: {error}") from error
        # A book of a lower limit keeps what was touched last.
        self._open = dict(list(opened.items())[-self._limit :])
        self._heard = dict(list(heard.items())[-self._limit :])

    def _is_of(self, name: str, model_id: str, model_version: str, kind: Kind, feature: str) -> bool:
        rule = self._rules.get(name)
        return rule is not None and rule.kind == kind and rule.selects(model_id, model_version, feature)

    def _is_news(self, reading: Reading, delay: int) -> bool:
        series = (reading.model_id, reading.model_version, reading.kind, reading.feature, delay)
        heard = self._heard.pop(series, None)
        is_news = heard is None or reading.window_end > heard
        self._heard[series] = reading.window_end if heard is None else max(heard, reading.window_end)
        if len(self._heard) > self._limit:
            del self._heard[next(iter(self._heard))]
        return is_news

    def _judge(self, rule: Rule, reading: Reading) -> list[Decision]:
        value = rule.value_of(reading)
        if value is None:
            return [Decision(_TOO_FEW[reading.kind], None, rule.name)]
        key = (rule.name, reading.model_id, reading.model_version, reading.kind, reading.feature)
        before = self._open.pop(key, None)
        decisions: list[Decision] = []
        if before is not None and _is_cut_off(rule, before, reading):
            decisions.append(Decision(Reason.GAP_RESET, None, rule.name))
            before = None
        reason, after = _step(rule, before, reading, rule.holds(value))
        if reason is Reason.RESOLVED and before is not None:
            alert = _alert(rule, reading, value, before, resolved_at=reading.window_end + rule.settle_ms)
        elif reason is Reason.FIRED and after is not None:
            alert = _alert(rule, reading, value, after, resolved_at=None)
        else:
            alert = None
        decisions.append(Decision(reason, alert, rule.name))
        if after is not None:
            self._open[key] = after
            decisions += self._evict(spare=key)
        return decisions

    def _evict(self, spare: _Key) -> list[Decision]:
        if len(self._open) <= self._limit:
            return []
        # Somebody has been told about a firing one, nobody about a pending one.
        pending = (key for key, incident in self._open.items() if incident.fired_at is None and key != spare)
        key = next(pending, next(iter(self._open)))
        del self._open[key]
        return [Decision(Reason.EVICTED, None, key[0])]


def _is_cut_off(rule: Rule, incident: _Incident, reading: Reading) -> bool:
    """Whether a pending incident's last window is too far back to say that the condition went on."""
    return incident.fired_at is None and reading.window_start - incident.breached_until > rule.for_ms


def _step(rule: Rule, incident: _Incident | None, reading: Reading, breached: bool) -> tuple[Reason, _Incident | None]:
    """The next state of one state machine, and why; no incident is the inactive state."""
    end = reading.window_end
    if not breached:
        if incident is None:
            return Reason.CONDITION_FALSE, None
        if incident.fired_at is None:
            return Reason.PENDING_DROPPED, None
        clear_ms = incident.clear_ms + end - reading.window_start
        if clear_ms >= rule.keep_firing_for_ms:
            return Reason.RESOLVED, None
        return Reason.HOLDING, replace(incident, clear_ms=clear_ms)
    if incident is None:
        incident, otherwise = _Incident(reading.window_start, end), Reason.PENDING_STARTED
    else:
        incident = replace(incident, breached_until=end, clear_ms=0)
        otherwise = Reason.STILL_PENDING
    if incident.fired_at is not None:
        return Reason.STILL_FIRING, incident
    if end - incident.started_at >= rule.for_ms:
        return Reason.FIRED, replace(incident, fired_at=end + rule.settle_ms)
    return otherwise, incident


def _alert(rule: Rule, reading: Reading, value: float, incident: _Incident, resolved_at: int | None) -> Alert:
    assert incident.fired_at is not None  # only what fired is told, and told again when it is over
    labels = dict(rule.labels)
    if isinstance(reading, DriftReading):
        labels["feature"] = reading.feature
    fingerprint = fingerprint_of(rule.name, reading.model_id, reading.model_version, labels)
    related: dict[str, Any] = {
        **reading.numbers(),
        "window_start": reading.window_start,
        "window_end": reading.window_end,
        "expression": rule.expression,
    }
    related |= {name: text for name, text in (("owner", rule.owner), ("runbook", rule.runbook)) if text}
    summarise = firing_summary if resolved_at is None else resolved_summary
    return Alert(
        alert_id=alert_id_of(fingerprint, incident.started_at),
        fingerprint=fingerprint,
        rule=rule.name,
        severity=rule.severity,
        status="firing" if resolved_at is None else "resolved",
        model_id=reading.model_id,
        model_version=reading.model_version,
        labels=labels,
        value=value,
        threshold=rule.threshold,
        started_at=incident.started_at,
        fired_at=incident.fired_at,
        resolved_at=resolved_at,
        summary=summarise(rule, reading, value, incident.breached_until - incident.started_at),
        causes=(),
        related=related,
    )
