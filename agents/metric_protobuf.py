"""Metrics as protobuf, the only form in which Prometheus takes native histograms from a scrape.

The messages are those of https://github.com/prometheus/client_model (io/prometheus/client/metrics.proto) as far as our
metrics need them, one varint with its length before each family.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.proto import serialize_length_prefixed
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from agents.latency_export import ExponentialFamily
from tables.exponential_histogram import LOWEST, SCHEMA, ZERO_S, ExponentialHistogram

_KIND = "application/vnd.google.protobuf"
_PARAMETERS = {"proto": "io.prometheus.client.MetricFamily", "encoding": "delimited"}
CONTENT_TYPE = "; ".join([_KIND, *(f"{name}={value}" for name, value in _PARAMETERS.items())])

_PACKAGE = "io.prometheus.client"
# Message -> field -> (number, type); a message's name stands for its type, brackets for a repeated field.
_MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    "LabelPair": {"name": (1, Field.TYPE_STRING), "value": (2, Field.TYPE_STRING)},
    "Gauge": {"value": (1, Field.TYPE_DOUBLE)},
    "Counter": {"value": (1, Field.TYPE_DOUBLE)},
    "Bucket": {"cumulative_count": (1, Field.TYPE_UINT64), "upper_bound": (2, Field.TYPE_DOUBLE)},
    "BucketSpan": {"offset": (1, Field.TYPE_SINT32), "length": (2, Field.TYPE_UINT32)},
    "Histogram": {
        "sample_count": (1, Field.TYPE_UINT64),
        "sample_sum": (2, Field.TYPE_DOUBLE),
        "bucket": (3, ["Bucket"]),
        "schema": (5, Field.TYPE_SINT32),
        "zero_threshold": (6, Field.TYPE_DOUBLE),
        "zero_count": (7, Field.TYPE_UINT64),
        "positive_span": (12, ["BucketSpan"]),
        "positive_delta": (13, [Field.TYPE_SINT64]),
    },
    "Metric": {
        "label": (1, ["LabelPair"]),
        "gauge": (2, "Gauge"),
        "counter": (3, "Counter"),
        "histogram": (7, "Histogram"),
    },
    "MetricFamily": {
        "name": (1, Field.TYPE_STRING),
        "help": (2, Field.TYPE_STRING),
        # An enumeration, which looks the same on the wire.
        "type": (3, Field.TYPE_INT32),
        "metric": (4, ["Metric"]),
    },
}
_TYPES = {"counter": 0, "gauge": 1, "histogram": 4}


def _message_class() -> Any:
    file = FileDescriptorProto(name="metrics.proto", package=_PACKAGE)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = Field.LABEL_REPEATED if isinstance(kind, list) else Field.LABEL_OPTIONAL
            kind = kind[0] if isinstance(kind, list) else kind
            descriptor = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                descriptor.type, descriptor.type_name = Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                descriptor.type = kind
    # In a pool of our own: another library may bring the same messages along.
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.MetricFamily"))


MetricFamily = _message_class()
"""The message class; its fields are those of the schema above."""


def is_preferred(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, 12.5.1) likes CONTENT_TYPE at least as much as everything else."""
    ours, others = 0.0, 0.0
    for wish in accept.split(","):
        kind, *parameters = (part.strip() for part in wish.split(";"))
        said = {name: value for name, _, value in (parameter.partition("=") for parameter in parameters)}
        try:
            weight = float(said.pop("q", 1))
        except ValueError:
            continue
        if kind == _KIND and _PARAMETERS.items() >= said.items():
            ours = max(ours, weight)
        else:
            others = max(others, weight)
    return ours > 0 and ours >= others


def encode(registry: Collector) -> bytes:
    """All families that have samples. Raises KeyError for a type that is not counter, gauge or histogram."""
    output = io.BytesIO()
    for family in registry.collect():
        if family.samples:
            serialize_length_prefixed(_family(family), output)
    return output.getvalue()


def _family(family: Metric) -> Any:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    message = MetricFamily(name=name, help=family.documentation, type=_TYPES[family.type])
    metrics: dict[tuple[str, ...], Any] = {}
    for sample in family.samples:
        bound = sample.labels.get("le")
        labels = {label: value for label, value in sample.labels.items() if label != "le"}
        key = tuple(labels.values())
        metric = metrics.get(key)
        if metric is None:
            metric = metrics[key] = message.metric.add()
            for label, value in labels.items():
                metric.label.add(name=label, value=value)
        if family.type != "histogram":
            getattr(metric, family.type).value = sample.value
        elif bound is not None:
            metric.histogram.bucket.add(cumulative_count=int(sample.value), upper_bound=float(bound))
        elif sample.name.endswith("_count"):
            metric.histogram.sample_count = int(sample.value)
        else:
            metric.histogram.sample_sum = sample.value
    if isinstance(family, ExponentialFamily):
        for key, histogram in family.exponential.items():
            _add_native(metrics[key].histogram, histogram)
    return message


def _add_native(message: Any, histogram: ExponentialHistogram) -> None:
    """Add the exponential buckets: runs of them as spans, and each count as what it adds to the one before."""
    message.schema = SCHEMA
    message.zero_threshold = ZERO_S
    buckets, counts = histogram.buckets()
    zeros = int(np.count_nonzero(buckets == LOWEST))
    message.zero_count = int(counts[:zeros].sum())
    buckets, counts = buckets[zeros:], counts[zeros:]
    end = 0
    for run in np.split(buckets, np.flatnonzero(np.diff(buckets) > 1) + 1):
        if len(run):
            message.positive_span.add(offset=int(run[0]) - end, length=len(run))
            end = int(run[-1]) + 1
    message.positive_delta.extend(np.diff(counts, prepend=0).tolist())
