"""What serving and drift rows must say, counted one value at a time from the events that were accepted."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tables.distances import distances
from tables.drift_policy import DriftPolicy
from tables.exponential_histogram import MAX_MS, ExponentialHistogram
from tables.feature_bins import Value
from tables.reference import Reference, ReferenceBook
from tests.oracle import MINUTE, Event, Impression, Inference, Key

PREDICTION = "prediction"

Counts = dict[str, list[int]]
"""Count vectors by feature."""
DriftKey = tuple[tuple[str, str], int, str, str]
"""(model, window start, feature, method)"""


def features_of(text: str) -> dict[str, Value]:
    """The features of an event; empty where it tells none."""
    # Python refuses to read thousands of digits, which are a number all the same.
    whole = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 400 else float(digits))
    return whole or {}


def serving_rows(inferences: Iterable[Inference]) -> dict[Key, dict[str, Any]]:
    """The fields of every row of kind `serving`."""
    windows: dict[Key, list[Inference]] = defaultdict(list)
    for inference in inferences:
        windows[inference.model, inference.time // MINUTE * MINUTE].append(inference)
    return {key: _serving(inside) for key, inside in windows.items()}


def _serving(inside: list[Inference]) -> dict[str, Any]:
    latencies = sorted(min(float(i.latency_ms), MAX_MS) for i in inside if i.latency_ms is not None)
    errors = sum(i.status in ("error", "timeout") for i in inside)
    histogram = ExponentialHistogram()
    histogram.add(np.array(latencies, np.float64))
    quantiles = {name: histogram.quantile(q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    for quantile, q in zip(quantiles.values(), (0.5, 0.95, 0.99), strict=True):
        assert (quantile is None) == (not latencies)
        if quantile is not None:
            assert math.isclose(quantile, latencies[math.ceil(q * len(latencies)) - 1], rel_tol=0.011)
    return {
        "requests": len(inside),
        "errors": errors,
        "availability": 1 - errors / len(inside),
        "qps": len(inside) / 60,
        "latency_ms": {
            **quantiles,
            "max": latencies[-1] if latencies else None,
            "count": len(latencies),
            "sum": sum(round(ms * 1_000_000) for ms in latencies) / 1_000_000,
        },
    }


def feature_counts(events: Iterable[Event | Inference], references: Sequence[Reference]) -> dict[Key, Counts]:
    """Counts by model and minute; a minute in which nothing was counted is not there."""
    book, found = ReferenceBook(references), dict[Key, Counts]()
    for event in events:
        if not isinstance(event, Impression | Inference):
            continue
        reference = book.find(*event.model)
        if reference is None:
            continue
        key = event.model, event.time // MINUTE * MINUTE
        empty = {feature.name: [0] * feature.bins.width for feature in reference.features}
        values = features_of(event.features)
        for feature in reference.features:
            if feature.name == PREDICTION:
                if isinstance(event, Inference):
                    place = feature.bins.index_of(event.prediction)
                    found.setdefault(key, empty)[feature.name][place] += 1
            elif values and feature.is_of("inferences" if isinstance(event, Inference) else "impressions"):
                place = feature.bins.index_of(values.get(feature.name))
                found.setdefault(key, empty)[feature.name][place] += 1
    return found


def drift_rows(
    counts: dict[Key, Counts], references: Sequence[Reference], policy: DriftPolicy
) -> dict[DriftKey, dict[str, Any]]:
    """The fields of every row of kind `drift`."""
    book, rows = ReferenceBook(references), dict[DriftKey, dict[str, Any]]()
    for model, start in counts:
        reference = book.find(*model)
        assert reference is not None
        horizon = range(start + MINUTE - policy.horizon_ms, start + MINUTE, MINUTE)
        for feature in reference.features:
            parts = [counts[model, minute][feature.name] for minute in horizon if (model, minute) in counts]
            for distance in distances(feature, np.sum(parts, axis=0), policy):
                rows[model, start, feature.name, distance.method] = {
                    "value": distance.value,
                    "critical": distance.critical,
                    "n": distance.n,
                    "reference_n": distance.reference_n,
                    "level": distance.level,
                    "horizon_s": policy.horizon_ms // 1000,
                }
    return rows
