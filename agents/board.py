"""What the demo has been told of a running shop: the minutes of each model, and the alerts."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import orjson

from tables.drift_policy import Level
from tables.join_policy import WINDOW_MS

KEPT_MINUTES: Final = 40
SHOWN_ALERTS: Final = 5
SETTLE_MS: Final = 60_000
"""A minute is shown when the watermark has left it behind by this: before, most of its clicks are to come."""
LEAST_RECORDS: Final = 200
"""Of fewer, a distance says little."""

Model = tuple[str, str]
Kind = Literal["ctr", "serving", "drift"]


class Drift(NamedTuple):
    """How far a feature is from its reference."""

    psi: float
    level: Level
    n: int


@dataclass(slots=True)
class Minute:
    """What was last told about one minute of a model."""

    impressions: int = 0
    clicks: int = 0
    requests: int = 0
    errors: int = 0
    p95_ms: float | None = None
    """None where no request said how long it took."""
    drift: dict[str, Drift] = field(default_factory=dict)
    """By feature; of at least LEAST_RECORDS."""

    @property
    def ctr(self) -> float | None:
        """Clicked over shown; None where nothing was shown."""
        return self.clicks / self.impressions if self.impressions else None

    @property
    def availability(self) -> float | None:
        """Share of the requests that did not fail; None where there were none."""
        return 1 - self.errors / self.requests if self.requests else None

    def drifting(self) -> list[tuple[str, Drift]]:
        """The features whose level is more than none, the farthest first."""
        found = ((name, drift) for name, drift in self.drift.items() if drift.level != "none")
        return sorted(found, key=lambda item: (-item[1].psi, item[0]))


@dataclass(slots=True)
class Board:
    """What has been told so far."""

    minutes: dict[Model, dict[int, Minute]] = field(default_factory=lambda: defaultdict(dict))
    """Model and version -> start in ms -> the minute; the newest KEPT_MINUTES of each."""
    firing: dict[str, tuple[Model, Kind]] = field(default_factory=dict)
    """Id of each alert that fires and is more than minor -> whose it is, and what kind of row it is about."""
    fired: int = 0
    resolved: int = 0
    minor: int = 0
    """Minor alerts that fired; they are in neither of the numbers before."""
    final_rows: int = 0
    """Of kind `ctr`."""
    alert_texts: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN_ALERTS))
    """What the notifier has written, with its colours."""

    def take_row(self, data: bytes) -> None:
        """A row of `tidemark.windows`."""
        row = orjson.loads(data)
        known = self.minutes[row["model_id"], row["model_version"]]
        minute = known.setdefault(row["window_start"], Minute())
        match row["kind"]:
            case "ctr":
                minute.impressions, minute.clicks = row["impressions"], row["clicks"]
                self.final_rows += row["final"]
            case "serving":
                minute.requests, minute.errors = row["requests"], row["errors"]
                minute.p95_ms = row["latency_ms"]["p95"]
            case "drift" if row["method"] == "psi" and row["n"] >= LEAST_RECORDS:
                minute.drift[row["feature"]] = Drift(row["value"], row["level"], row["n"])
        while len(known) > KEPT_MINUTES:
            del known[min(known)]

    def take_alert(self, data: bytes) -> None:
        """An alert of `tidemark.alerts`."""
        alert = orjson.loads(data)
        is_firing = alert["status"] == "firing"
        if alert["severity"] == "minor":
            self.minor += is_firing
        elif is_firing:
            self.fired += 1
            self.firing[alert["alert_id"]] = (alert["model_id"], alert["model_version"]), _kind(alert["related"])
        elif alert["status"] == "resolved":
            self.resolved += 1
            self.firing.pop(alert["alert_id"], None)

    def troubles(self, model: Model) -> set[Kind]:
        """The kinds of row that alerts fire about."""
        return {kind for whose, kind in self.firing.values() if whose == model}

    def settled(self, model: Model, told_ms: int) -> list[tuple[int, Minute]]:
        """The minutes of a model whose clicks have come, oldest first."""
        until = told_ms - SETTLE_MS - WINDOW_MS
        return sorted((start, minute) for start, minute in self.minutes[model].items() if start <= until)


def _kind(related: dict[str, Any]) -> Kind:
    return "ctr" if "impressions" in related else "serving" if "requests" in related else "drift"
