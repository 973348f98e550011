"""Inferences in /metrics: exact buckets, cumulative counts, and a limit on the models."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agents.latency_export import OTHER, InferenceExport
from tables.models import Model

HOME: Model = ("home", "v1")
SEARCH: Model = ("search", "")

OK, ERROR, TIMEOUT = range(3)
SECONDS = "tidemark_inference_latency_seconds"


def observe(export: InferenceExport, model: Model, *latency_ms: float, status: int = OK) -> None:
    size = len(latency_ms)
    export.observe([model], np.zeros(size, np.int64), np.full(size, status), np.array(latency_ms))


def samples(export: InferenceExport) -> dict[tuple[str, ...], float]:
    """Values by name and label values, as they stand in the text."""
    registry = CollectorRegistry()
    registry.register(export)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_a_batch_of_many_models_is_taken_apart() -> None:
    export = InferenceExport()
    names = [HOME, None, SEARCH]
    model, status = np.array([2, 0, 2, 0]), np.array([OK, ERROR, TIMEOUT, OK])
    # A timeout tells no latency here.
    export.observe(names, model, status, np.array([30.0, 10.0, math.nan, 500.0]))
    found = samples(export)
    assert [found["tidemark_inferences_total", *HOME, status] for status in ("ok", "error", "timeout")] == [1, 1, 0]
    assert [found["tidemark_inferences_total", *SEARCH, status] for status in ("ok", "error", "timeout")] == [1, 0, 1]
    assert found[f"{SECONDS}_count", *HOME] == 2
    assert found[f"{SECONDS}_sum", *HOME] == pytest.approx(0.510)
    assert found[f"{SECONDS}_count", *SEARCH] == 1


def test_it_only_grows() -> None:
    export = InferenceExport()
    observe(export, HOME, 1.0)
    observe(export, HOME, 2.0, 3.0)
    observe(export, HOME)
    found = samples(export)
    assert found[f"{SECONDS}_count", *HOME] == found["tidemark_inferences_total", *HOME, "ok"] == 3


@given(st.lists(st.floats(0, 1e5) | st.sampled_from([0.0, 125.0, 250.0, 1000.0, 32_000.0])))
def test_the_count_at_each_bound_is_exact(latency_ms: list[float]) -> None:
    export = InferenceExport()
    observe(export, HOME, *latency_ms)
    bounds = [(float(key[1]), value) for key, value in samples(export).items() if key[0] == f"{SECONDS}_bucket"]
    assert len(bounds) == (32 if latency_ms else 0)
    for bound, count in bounds:
        assert count == sum(value / 1000 <= bound for value in latency_ms)


def test_a_latency_at_a_bound_is_within_it() -> None:
    export = InferenceExport()
    observe(export, HOME, 125.0, math.nextafter(125.0, math.inf))
    found = samples(export)
    assert found[f"{SECONDS}_bucket", "0.125", *HOME] == 1
    assert found[f"{SECONDS}_bucket", "0.1767766952966369", *HOME] == 2


def test_models_above_the_limit_are_counted_together() -> None:
    export = InferenceExport(models=2)
    for version in range(10):
        observe(export, ("home", str(version)), 5.0, 5.0)
    observe(export, ("home", "0"), 5.0)
    found = samples(export)
    counts = {key[1:]: value for key, value in found.items() if key[0] == f"{SECONDS}_count"}
    # The first two keep their names.
    assert counts == {("home", "0"): 3, ("home", "1"): 2, OTHER: 16}


def test_a_model_that_is_called_other_takes_no_place() -> None:
    export = InferenceExport(models=1)
    for model in (OTHER, HOME, SEARCH):
        observe(export, model, 5.0)
    counts = {key[1:]: value for key, value in samples(export).items() if key[0] == f"{SECONDS}_count"}
    assert counts == {OTHER: 2, HOME: 1}
