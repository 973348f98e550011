"""Window rows as the topic `tidemark.windows` carries them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from agents.partition_state import Outgoing
from tables.drift_windows import FeatureDrift
from tables.join_policy import WINDOW_MS
from tables.models import Model
from tables.serving import PackedCounts, ServingCounts
from tables.window_kinds import CtrCounts
from tables.window_merge import Merged


def ctr_row(topic: str, merged: Merged[CtrCounts]) -> Outgoing:
    """A row of kind `ctr`."""
    counts = merged.value
    fields = {"impressions": counts.impressions, "clicks": counts.clicks, "ctr": counts.ctr}
    return _row(topic, "ctr", merged.model, merged.window_start, merged.final, fields)


def serving_row(topic: str, merged: Merged[PackedCounts]) -> Outgoing:
    """A row of kind `serving`."""
    fields = ServingCounts.restore([merged.value]).fields()
    return _row(topic, "serving", merged.model, merged.window_start, merged.final, fields)


def drift_rows(topic: str, drift: FeatureDrift) -> Iterator[Outgoing]:
    """Rows of kind `drift`, one for each method."""
    for distance in drift.distances:
        fields = {
            "feature": drift.feature,
            "method": distance.method,
            "value": distance.value,
            "critical": distance.critical,
            "n": distance.n,
            "reference_n": distance.reference_n,
            "level": distance.level,
            "horizon_s": drift.horizon_ms // 1000,
        }
        yield _row(topic, "drift", drift.model, drift.window_start, drift.final, fields)


def _row(topic: str, kind: str, model: Model, start: int, final: bool, fields: dict[str, Any]) -> Outgoing:
    row = {
        "kind": kind,
        "model_id": model[0],
        "model_version": model[1],
        "window_start": start,
        "window_end": start + WINDOW_MS,
        "final": final,
        **fields,
    }
    return Outgoing(topic, model[0].encode(), orjson.dumps(row))
