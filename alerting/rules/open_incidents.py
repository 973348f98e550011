"""The incidents that are open, at most so many of them, found by their key and by their model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from alerting.rules.decisions import Decision, Reason
from alerting.rules.incident_alerts import left_alert
from alerting.rules.incident_machine import Incident, Key


class OpenIncidents(Mapping[Key, Incident]):
    """In the order in which they were last touched: the first one is the first to be forgotten."""

    def __init__(self, limit: int, opened: Mapping[Key, Incident] | None = None) -> None:
        """Of more than `limit` of `opened` those that were touched last are kept."""
        self._limit = limit
        self._all: dict[Key, Incident] = {}
        self._by_model: dict[str, dict[Key, None]] = {}
        for key, incident in list((opened or {}).items())[-limit:]:
            self.keep(key, incident)

    def __getitem__(self, key: Key) -> Incident:
        return self._all[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def of_model(self, model_id: str) -> list[Key]:
        """Those of all its versions."""
        return list(self._by_model.get(model_id, ()))

    def take(self, key: Key) -> Incident | None:
        """Remove and return it, if it is there."""
        incident = self._all.pop(key, None)
        if incident is not None:
            keys = self._by_model[key.model_id]
            del keys[key]
            if not keys:
                del self._by_model[key.model_id]
        return incident

    def keep(self, key: Key, incident: Incident) -> list[Decision]:
        """Set it as the one touched last; what has to be forgotten for it."""
        self.take(key)
        self._all[key] = incident
        self._by_model.setdefault(key.model_id, {})[key] = None
        if len(self._all) <= self._limit:
            return []
        # Somebody has been told about a firing one, nobody about a pending one.
        pending = (other for other, it in self._all.items() if it.fired_at is None and other != key)
        evicted = next(pending, next(iter(self._all)))
        forgotten = self._all[evicted]
        self.take(evicted)
        return [Decision.on_incident(Reason.EVICTED, evicted, forgotten)]

    def leave(self, reason: Reason, key: Key, at_ms: int) -> list[Decision]:
        """Look no longer at one that fires, and say so; `reason`: one of LEFT."""
        incident = self._all[key]
        self.take(key)
        return [Decision.on_incident(reason, key, incident, left_alert(key, incident, reason, at_ms))]
