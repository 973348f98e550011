"""What a rule made of a window, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from alerting.alert import Alert

if TYPE_CHECKING:
    from alerting.rules.incident_machine import Incident, Judgement, Key
    from alerting.rules.reading import Judged


class Reason(StrEnum):
    """Why a reading led to what it led to; also the label under which decisions are counted."""

    NOT_SELECTED = "not_selected"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE_ROW = "duplicate_row"
    """A query returned a model, version and feature again."""
    FOREIGN_MODEL = "foreign_model"
    """A query returned a model that it has seen no row of."""
    TOO_FEW_IMPRESSIONS = "too_few_impressions"
    TOO_FEW_REQUESTS = "too_few_requests"
    TOO_FEW_RECORDS = "too_few_records"
    NO_HISTORY = "no_history"
    """Too little is known of before, or too few rows of it, to say how the metric has changed."""
    CONDITION_FALSE = "condition_false"
    PENDING_STARTED = "pending_started"
    STILL_PENDING = "still_pending"
    PENDING_DROPPED = "pending_dropped"
    GAP_RESET = "gap_reset"
    FIRED = "fired"
    STILL_FIRING = "still_firing"
    HOLDING = "holding"
    RESOLVED = "resolved"
    NO_DATA = "no_data"
    """Fires an incident of its own."""
    DATA_BACK = "data_back"
    """Resolves it."""
    GIVEN_UP = "given_up"
    """There have been no data for so long that nobody expects any: that, or what fired before, is resolved."""
    VERSION_GONE = "version_gone"
    """Other versions have data, this one has none any more: what fired is resolved."""
    RULE_REMOVED = "rule_removed"
    """The rule is gone, or is no longer about this: what fired is resolved."""
    EVICTED = "evicted"


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule made of one window; `alert` is there exactly where an incident began to fire or is over.

    Of a query that has returned nothing, and had returned nothing before, model, version and feature are empty.
    """

    reason: Reason
    alert: Alert | None
    rule: str
    model_id: str
    model_version: str
    feature: str
    window_start: int
    window_end: int
    value: float | None = None
    """What was judged, where it could be."""

    @classmethod
    def on_reading(cls, reason: Reason, rule: str, reading: Judged) -> Decision:
        """On a window that is not judged."""
        model = reading.model_id, reading.model_version, reading.feature
        return cls(reason, None, rule, *model, reading.window_start, reading.window_end)

    @classmethod
    def on_window(cls, reason: Reason, found: Judgement, alert: Alert | None = None) -> Decision:
        """On one that is."""
        key = found.key
        model = key.model_id, key.model_version, key.feature
        return cls(reason, alert, key.rule, *model, found.window_start, found.window_end, found.value)

    @classmethod
    def on_incident(cls, reason: Reason, key: Key, incident: Incident, alert: Alert | None = None) -> Decision:
        """On an incident as a whole, from its beginning until it was last seen."""
        model = key.model_id, key.model_version, key.feature
        return cls(reason, alert, key.rule, *model, incident.started_at, incident.breached_until)
