"""The metrics as Prometheus sees them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from agents.metrics import Metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def labels_of(metric: MetricWrapperBase) -> tuple[str, ...]:
    names: tuple[str, ...] = metric._labelnames
    return names


@pytest.fixture
def metrics() -> Metrics:
    """With every metric used once."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        child = metric.labels(*["x" for _ in labels_of(metric)]) if labels_of(metric) else metric
        getattr(child, "inc" if hasattr(child, "inc") else "observe")(1)
    metrics.inferences.observe([("home", "v1")], np.array([0]), np.array([0]), np.array([5.0]))
    return metrics


def test_names_follow_the_conventions(metrics: Metrics) -> None:
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    assert len(families) > 15
    for family in families:
        assert re.fullmatch(r"tidemark(_[a-z]+)+", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_ms", "_milliseconds", "_kb"))
        assert family.documentation.endswith(".")
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names == {f"{family.name}_total"}
        if family.type == "histogram":
            assert names == {f"{family.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
            assert family.name.endswith(("_seconds", "_records"))


def test_labels_are_bounded(metrics: Metrics) -> None:
    allowed = {
        *("topic", "reason", "outcome", "kind", "state", "severity", "status", "rule", "channel", "partition"),
        *("side", "agent", "how", "version", "le"),
    }
    # Neither users nor items: there is no end of them. Models only where their number is limited.
    for name, labels in samples(metrics):
        limited = {"model_id", "model_version"} if name.startswith("tidemark_inference") else set()
        assert {label for label, _ in labels} <= allowed | limited


def test_what_has_not_failed_yet_is_zero() -> None:
    found = samples(Metrics())
    for agent in ("join", "windows"):
        for reason in ("unavailable", "fenced", "fell_behind"):
            assert found["tidemark_checkpoint_failures_total", (("agent", agent), ("reason", reason))] == 0
    assert found["tidemark_join_results_total", (("outcome", "matched"),)] == 0


def test_the_build_names_its_version() -> None:
    [labels] = [labels for name, labels in samples(Metrics()) if name == "tidemark_build_info"]
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", dict(labels)["version"])


def test_the_gauges_of_a_partition_that_left_are_gone() -> None:
    metrics = Metrics()
    for partition in ("1", "11"):
        for topic in ("impressions", "clicks"):
            metrics.consumer_lag.labels(topic, partition).set(5)
        metrics.watermark_lag.labels(partition).set(5)
        for side in ("impressions", "clicks"):
            metrics.live_rows.labels(partition, side).set(5)
        metrics.open_windows.labels(partition).set(5)
    metrics.events.labels("impressions").inc(7)

    metrics.forget_partition(("impressions", "clicks"), 1)
    metrics.forget_partition(("tidemark.partials",), 1)
    metrics.forget_partition(("impressions", "clicks"), 99)

    left = [dict(labels)["partition"] for _, labels in samples(metrics) if "partition" in dict(labels)]
    assert sorted(set(left)) == ["11"]
    assert len(left) == 6
    assert samples(metrics)["tidemark_events_consumed_total", (("topic", "impressions"),)] == 7


def test_workers_of_one_process_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.events.labels("impressions").inc()
    assert ("tidemark_events_consumed_total", (("topic", "impressions"),)) not in samples(other)
