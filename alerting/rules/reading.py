"""What the rules judge: the numbers of one window of one model, one class for each kind of row that has rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, get_args

from tables.drift_policy import Level

if TYPE_CHECKING:
    from tables.distances import Distance

Kind = Literal["ctr", "serving", "drift", "sql"]
"""Of rows; `sql` is what a query over the others returned."""

#: From the least to the greatest shift; a level's value is its place here.
LEVELS: Final[tuple[Level, ...]] = get_args(Level)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """[`window_start`, `window_end`), in milliseconds of event time."""

    model_id: str
    model_version: str
    window_start: int
    window_end: int
    of_all_versions: bool = False
    """What the versions of a model come to together; `model_version` is empty then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CtrReading(_Window):
    """Distinct pairs shown and clicked."""

    kind: ClassVar[Kind] = "ctr"
    feature: ClassVar[str] = ""
    impressions: int
    clicks: int

    @property
    def ctr(self) -> float | None:
        """Clicked / shown, from 0 to 1; None where nothing was shown."""
        return self.clicks / self.impressions if self.impressions else None

    def value(self, metric: str) -> float | None:
        """`ctr`, `impressions` or `clicks`."""
        match metric:
            case "ctr":
                return self.ctr
            case "impressions":
                return self.impressions
            case "clicks":
                return self.clicks
        raise KeyError(metric)

    def rows(self, metric: str) -> int:
        """What stands behind a value: impressions."""
        return self.impressions

    def numbers(self) -> dict[str, Any]:
        """What an alert carries of it."""
        return {"impressions": self.impressions, "clicks": self.clicks}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingReading(_Window):
    """Requests to a model and how it answered; `latency_ms` as in a window row: p50, p95, p99, max (None where
    no request said how long it took) and count."""

    kind: ClassVar[Kind] = "serving"
    feature: ClassVar[str] = ""
    requests: int
    errors: int
    latency_ms: Mapping[str, float | None]
    """Empty where it is of all versions: quantiles do not add up."""

    def value(self, metric: str) -> float | None:
        """`requests`, `errors`, `qps` (1/s), `error_rate` and `availability` (0 to 1), else a latency in ms."""
        match metric:
            case "requests":
                return self.requests
            case "errors":
                return self.errors
            case "qps":
                return self.requests * 1000 / (self.window_end - self.window_start)
            case "error_rate":
                return self.errors / self.requests if self.requests else None
            case "availability":
                # One division, so that 999 of 1,000 is the 99.9 % of a rule to the last bit.
                return (self.requests - self.errors) / self.requests if self.requests else None
            case _:
                return self.latency_ms[metric]

    def rows(self, metric: str) -> int:
        """What stands behind a value: requests, of a latency only those that said how long they took."""
        return int(self.latency_ms["count"] or 0) if metric in self.latency_ms else self.requests

    def numbers(self) -> dict[str, Any]:
        """What an alert carries of it."""
        latency = {"latency_ms": dict(self.latency_ms)} if self.latency_ms else {}
        return {"requests": self.requests, "errors": self.errors, **latency}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReading(_Window):
    """How far one feature is from its reference over the `horizon_ms` up to the window's end."""

    kind: ClassVar[Kind] = "drift"
    feature: str
    horizon_ms: int
    distances: tuple[Distance, ...]
    """One for each method that there is for this feature, in the order `psi`, `ks`, `kl`, `js`."""

    def distance(self, metric: str) -> Distance | None:
        """By the method of that name; for `drift` the one of the greatest level, the first of them."""
        if metric == "drift":
            return max(self.distances, key=lambda found: LEVELS.index(found.level), default=None)
        return next((found for found in self.distances if found.method == metric), None)

    def value(self, metric: str) -> float | None:
        """`psi`, `ks`, `kl`, `js`; `drift`: the place in LEVELS; None where the method is not for this feature."""
        found = self.distance(metric)
        if found is None:
            return None
        return LEVELS.index(found.level) if metric == "drift" else found.value

    def rows(self, metric: str) -> int:
        """What stands behind a value: records counted."""
        found = self.distance(metric)
        return 0 if found is None else found.n

    def numbers(self) -> dict[str, Any]:
        """What an alert carries of it: every method, since they see different things."""
        return {
            "feature": self.feature,
            "horizon_s": self.horizon_ms / 1000,
            "distances": {
                found.method: {
                    "value": found.value,
                    "critical": found.critical,
                    "level": found.level,
                    "n": found.n,
                    "reference_n": found.reference_n,
                }
                for found in self.distances
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlReading(_Window):
    """One row that a rule's query returned for a minute: that it is there says that the condition holds."""

    kind: ClassVar[Kind] = "sql"
    feature: str = ""
    value: float
    threshold: float | None = None
    """What the query says that the value has crossed, for people to read."""
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    """The query's further columns."""


Reading: TypeAlias = CtrReading | ServingReading | DriftReading
"""A row of a window."""
Judged: TypeAlias = Reading | SqlReading


def of_all_versions(readings: Iterable[Reading]) -> Iterator[Reading]:
    """The counts of all versions of a model in a window together; of drift there are none."""
    windows: dict[tuple[str, int], list[Reading]] = {}
    for reading in readings:
        windows.setdefault((reading.model_id, reading.window_start), []).append(reading)
    for (model_id, window_start), versions in windows.items():
        window: dict[str, Any] = {
            "model_id": model_id,
            "model_version": "",
            "window_start": window_start,
            "window_end": versions[0].window_end,
            "of_all_versions": True,
        }
        shown = [each for each in versions if isinstance(each, CtrReading)]
        served = [each for each in versions if isinstance(each, ServingReading)]
        if shown:
            impressions, clicks = sum(each.impressions for each in shown), sum(each.clicks for each in shown)
            yield CtrReading(**window, impressions=impressions, clicks=clicks)
        if served:
            requests, errors = sum(each.requests for each in served), sum(each.errors for each in served)
            yield ServingReading(**window, requests=requests, errors=errors, latency_ms={})
