"""What each model's inferences look like in /metrics: how many by status, and their latency as a histogram."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tables.exponential_histogram import BUCKETS_AN_OCTAVE, ExponentialHistogram, histograms_by_group, upper_bound
from tables.models import Model
from tables.serving import STATUSES

MODELS = 100
"""Models that are shown under their own name: each takes 37 series."""
OTHER: Model = ("other", "other")
"""All models that come after them."""

CLASSIC_BUCKETS = np.arange(-10 * BUCKETS_AN_OCTAVE, 5 * BUCKETS_AN_OCTAVE + 1, BUCKETS_AN_OCTAVE // 2)
"""Classic buckets end where each sixteenth exponential one does, from 1 ms to 32 s, so their counts are exact."""

_BOUNDS = [repr(upper_bound(bucket)) for bucket in CLASSIC_BUCKETS.tolist()]
_LABELS = ("model_id", "model_version")


class ExponentialFamily(HistogramMetricFamily):
    """A family of classic histograms that are known in exponential buckets as well."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        super().__init__(name, documentation, labels=labels)
        self.exponential: dict[tuple[str, ...], ExponentialHistogram] = {}
        """By label values."""

    def add_exponential(self, labels: tuple[str, ...], histogram: ExponentialHistogram) -> None:
        """Add a histogram, of which the classic one is derived."""
        counts = histogram.count_up_to(CLASSIC_BUCKETS).tolist()
        buckets = [*zip(_BOUNDS, counts, strict=True), ("+Inf", histogram.count)]
        self.add_metric(labels, buckets, histogram.sum_ns / 1e9)
        self.exponential[labels] = histogram


@dataclass(slots=True)
class _Seen:
    statuses: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(STATUSES), np.int64))
    latency: ExponentialHistogram = field(default_factory=ExponentialHistogram)


class InferenceExport(Collector):
    """Counts inferences for as long as the process lives; whoever registers it decides where they are shown."""

    def __init__(self, models: int = MODELS) -> None:
        self._models = models
        self._seen: dict[Model, _Seen] = {}

    def observe(
        self,
        names: Sequence[Model | None],
        model: NDArray[np.int64],
        status: NDArray[np.int64],
        latency_ms: NDArray[np.float64],
    ) -> None:
        """Count inferences: place of the model in `names`, place of the status in STATUSES, latency or NaN.

        Shapes (n,). The first models to be seen keep their names, the others are counted under OTHER.
        """
        statuses = np.bincount(model * len(STATUSES) + status, minlength=len(names) * len(STATUSES))
        statuses = statuses.reshape(len(names), len(STATUSES))
        latencies = histograms_by_group(model, latency_ms)
        for number in np.flatnonzero(statuses.any(axis=1)).tolist():
            name = names[number]
            assert name is not None, f"model number {number} is not in use"
            seen = self._place(name)
            seen.statuses += statuses[number]
            if number in latencies:
                seen.latency.merge(latencies[number])

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        inferences = CounterMetricFamily(
            "tidemark_inferences", "Inferences of each model that this worker has read.", labels=(*_LABELS, "status")
        )
        latency = ExponentialFamily(
            "tidemark_inference_latency_seconds",
            "How long each model took to answer; fine buckets for those that scrape native histograms.",
            labels=_LABELS,
        )
        for model, seen in sorted(self._seen.items()):
            for status, count in zip(STATUSES, seen.statuses.tolist(), strict=True):
                inferences.add_metric((*model, status), count)
            latency.add_exponential(model, seen.latency)
        yield inferences
        yield latency

    def _place(self, model: Model) -> _Seen:
        seen = self._seen.get(model)
        if seen is None:
            own = len(self._seen) - (OTHER in self._seen)
            seen = self._seen.setdefault(model if own < self._models else OTHER, _Seen())
        return seen
