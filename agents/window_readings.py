"""From merged windows to what the rules judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alerting.rules.reading import CtrReading, DriftReading, Kind, Reading, ServingReading
from tables.drift_windows import DriftWindows, FeatureDrift
from tables.join_policy import WINDOW_MS
from tables.serving import PackedCounts, ServingCounts
from tables.window_kinds import CtrCounts
from tables.window_merge import Merged


def readings_of(kind: Kind, windows: Iterable[Merged[Any]], drift: DriftWindows) -> Iterator[Reading]:
    """One reading a window; of drift one a feature."""
    match kind:
        case "ctr":
            yield from map(_ctr_reading, windows)
        case "serving":
            yield from map(_serving_reading, windows)
        case "drift":
            yield from map(_drift_reading, drift.drift_of(windows))


def _ctr_reading(merged: Merged[CtrCounts]) -> CtrReading:
    return CtrReading(
        model_id=merged.model[0],
        model_version=merged.model[1],
        window_start=merged.window_start,
        window_end=merged.window_end,
        impressions=merged.value.impressions,
        clicks=merged.value.clicks,
    )


def _serving_reading(merged: Merged[PackedCounts]) -> ServingReading:
    fields = ServingCounts.restore([merged.value]).fields()
    return ServingReading(
        model_id=merged.model[0],
        model_version=merged.model[1],
        window_start=merged.window_start,
        window_end=merged.window_end,
        requests=fields["requests"],
        errors=fields["errors"],
        latency_ms=fields["latency_ms"],
    )


def _drift_reading(drift: FeatureDrift) -> DriftReading:
    return DriftReading(
        model_id=drift.model[0],
        model_version=drift.model[1],
        window_start=drift.window_start,
        window_end=drift.window_start + WINDOW_MS,
        feature=drift.feature,
        horizon_ms=drift.horizon_ms,
        distances=drift.distances,
    )
