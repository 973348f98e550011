"""Metrics as protobuf: the bytes, the spans of native histograms, and when a scraper gets them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from google.protobuf.proto import parse_length_prefixed
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from agents.metric_protobuf import CONTENT_TYPE, MetricFamily, encode, is_preferred
from agents.metrics import Metrics
from tables.exponential_histogram import LOWEST, ExponentialHistogram

SECONDS = "tidemark_inference_latency_seconds"


def decode(data: bytes) -> dict[str, Any]:
    stream, families = io.BytesIO(data), {}
    while (family := parse_length_prefixed(MetricFamily, stream)) is not None:
        families[family.name] = family
    return families


def observed(*latency_ms: float) -> Metrics:
    metrics, size = Metrics(), len(latency_ms)
    all_zero = np.zeros(size, np.int64)
    metrics.inferences.observe([("home", "v1")], all_zero, all_zero, np.array(latency_ms))
    return metrics


def native(metrics: Metrics) -> Any:
    [metric] = decode(metrics.exposition(encode))[SECONDS].metric
    return metric.histogram


def test_a_counter_byte_by_byte() -> None:
    registry = CollectorRegistry()
    Counter("a", "b", ["c"], registry=registry).labels("d").inc()
    metric = b"\x0a\x06" + b"\x0a\x01c\x12\x01d" + b"\x1a\x09" + b"\x09\x00\x00\x00\x00\x00\x00\xf0\x3f"
    family = b"\x0a\x07a_total" + b"\x12\x01b" + b"\x18\x00" + b"\x22" + bytes([len(metric)]) + metric
    assert encode(registry) == bytes([len(family)]) + family


def test_it_says_what_the_text_says() -> None:
    metrics = observed(5.0, 70.0)
    metrics.events.labels("impressions").inc(3)
    metrics.watermark_lag.labels("1").set(-0.5)
    metrics.batch_records.labels("join").observe(50)
    families = decode(metrics.exposition(encode))
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families.values():
        for metric in family.metric:
            labels = frozenset((label.name, label.value) for label in metric.label)
            if family.type == 4:
                values[f"{family.name}_count", labels] = metric.histogram.sample_count
                values[f"{family.name}_sum", labels] = metric.histogram.sample_sum
                for bucket in metric.histogram.bucket:
                    bound = floatToGoString(bucket.upper_bound)
                    values[f"{family.name}_bucket", labels | {("le", bound)}] = bucket.cumulative_count
            else:
                values[family.name, labels] = metric.counter.value if family.type == 0 else metric.gauge.value
    text = text_string_to_metric_families(metrics.exposition().decode())
    told = {(s.name, frozenset(s.labels.items())): s.value for family in text for s in family.samples}
    assert values == told
    assert families["tidemark_events_consumed_total"].help == "Records taken from the broker."
    assert all(family.metric for family in families.values())


def test_a_native_histogram_has_spans_and_deltas() -> None:
    # Buckets 0 (twice), 1 (once) and, after a gap of two, 4 (three times), and one latency of zero.
    second = 1000.0
    histogram = native(observed(second, second, 1.02 * second, *[1.08 * second] * 3, 0.0))
    assert (histogram.schema, histogram.zero_threshold, histogram.zero_count) == (5, 2.0**-30, 1)
    assert [(span.offset, span.length) for span in histogram.positive_span] == [(0, 2), (2, 1)]
    assert list(histogram.positive_delta) == [2, -1, 2]
    assert (histogram.sample_count, histogram.sample_sum) == (7, pytest.approx(6.26))


def test_without_latencies_it_is_a_native_histogram_all_the_same() -> None:
    histogram = native(observed(float("nan")))
    assert (histogram.schema, histogram.sample_count, len(histogram.positive_span)) == (5, 0, 0)
    # By which Prometheus tells it from a classic one.
    assert histogram.zero_threshold > 0


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_spans_and_deltas_are_the_buckets(latency_ms: list[float]) -> None:
    histogram = native(observed(*latency_ms))
    buckets: list[int] = []
    bucket = 0
    for span in histogram.positive_span:
        bucket += span.offset
        buckets += range(bucket, bucket + span.length)
        bucket += span.length
    counts = np.cumsum(list(histogram.positive_delta)).astype(int).tolist()
    found = dict(zip(buckets, counts, strict=True))
    if histogram.zero_count:
        found[LOWEST] = histogram.zero_count
    exact = ExponentialHistogram()
    exact.add(np.array(latency_ms))
    assert found == dict(zip(*(column.tolist() for column in exact.buckets()), strict=True))


def test_a_type_that_we_do_not_have_is_an_error() -> None:
    class Odd:
        def collect(self) -> list[Any]:
            [family] = Counter("a", "b", registry=None).collect()
            family.type = "info"
            return [family]

    with pytest.raises(KeyError, match="info"):
        encode(Odd())


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (CONTENT_TYPE, True),
        ("application/vnd.google.protobuf", True),
        # As Prometheus 2.42 and 3 ask when they want native histograms, and when they do not.
        (f"{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        (f"{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.2", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", False),
        # Configured to take it only where nothing else is offered.
        (f"application/openmetrics-text;version=1.0.0;q=0.6,{PROTOBUF};q=0.5", False),
        (f"{PROTOBUF};q=0", False),
        (f"{PROTOBUF};q=much", False),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", False),
        ("application/vnd.google.protobuf;proto=another.Message;encoding=delimited", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_who_gets_it(accept: str, wanted: bool) -> None:
    assert is_preferred(accept) is wanted
