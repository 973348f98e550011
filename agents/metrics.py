"""The worker's metrics, in Prometheus' conventions: base units, `_total` for counters, bounded labels.

Every worker (app) has a registry of its own, so that several can live in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from agents.latency_export import InferenceExport

disable_created_metrics()

VERSION = version("tidemark")

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 10, 100, 1_000, 5_000, 20_000, 50_000, 200_000)


class Metrics:
    """All metrics; what to do when one of them rises stands in its help text."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.events = Counter(
            "tidemark_events_consumed", "Records taken from the broker.", ["topic"], registry=registry
        )
        self.dead_letters = Counter(
            "tidemark_dead_letters",
            "Records that could not be used, late ones included. Look at the topic tidemark.dead_letters.",
            ["topic", "reason"],
            registry=registry,
        )
        self.late = Counter(
            "tidemark_events_late",
            "Events that came when all their windows were final. Look for a producer with a backlog.",
            ["topic"],
            registry=registry,
        )
        self.joined = Counter(
            "tidemark_join_results",
            "Pairs of closed windows that were clicked (matched) or not (expired), and repeated rows (duplicate).",
            ["outcome"],
            registry=registry,
        )
        self.rows = Counter("tidemark_window_rows", "Window rows told.", ["kind", "state"], registry=registry)
        self.drift_no_room = Counter(
            "tidemark_drift_windows_without_room",
            "Windows without drift rows, as too many models and versions have a history. Look for made-up versions.",
            registry=registry,
        )
        self.alerts = Counter("tidemark_alerts", "Alerts told.", ["severity", "status"], registry=registry)
        self.decisions = Counter(
            "tidemark_rule_decisions", "Why rules did or did not fire.", ["rule", "reason"], registry=registry
        )
        self.sql_answers = Counter(
            "tidemark_sql_answers",
            "Minutes that SQL rules were asked about, by what came of it. Look at the rule when it is not `answered`.",
            ["rule", "outcome"],
            registry=registry,
        )
        self.sql_rows_left_out = Counter(
            "tidemark_sql_rows_left_out",
            "Rows that SQL rules do not see: there are more than they have room for, or their names are too long.",
            registry=registry,
        )
        self.desk_decisions = Counter(
            "tidemark_desk_decisions", "Why people were or were not told of alerts.", ["reason"], registry=registry
        )
        self.policy_reloaded = Gauge(
            "tidemark_policy_last_reload_successful",
            "0 while the files of the configuration hold a mistake; what was valid before goes on to hold.",
            registry=registry,
        )
        self.notifications = Counter(
            "tidemark_notifications",
            "What became of each notification.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.watermark_lag = Gauge(
            "tidemark_watermark_lag_seconds",
            "Wall clock minus watermark. Rises when a worker falls behind or an input is delayed.",
            ["partition"],
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "tidemark_consumer_lag_records",
            "Records in the broker that this worker has not fetched. Add workers when it keeps rising.",
            ["topic", "partition"],
            registry=registry,
        )
        self.live_rows = Gauge(
            "tidemark_live_rows",
            "Impressions and clicks held for joining.",
            ["partition", "side"],
            registry=registry,
        )
        self.open_windows = Gauge(
            "tidemark_open_windows",
            "Windows times models that are not final.",
            ["partition"],
            registry=registry,
        )
        self.batch_records = Histogram(
            "tidemark_batch_records",
            "Records delivered at once.",
            ["agent"],
            buckets=_RECORDS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "tidemark_batch_processing_seconds",
            "Time to take in a batch.",
            ["agent"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.checkpoint_seconds = Histogram(
            "tidemark_checkpoint_seconds",
            "Time to write a checkpoint, outputs included. Rises when Redis or Kafka is slow.",
            ["agent"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.checkpoint_failures = Counter(
            "tidemark_checkpoint_failures",
            "Checkpoints that were refused or went unanswered: unavailable, fenced, fell_behind.",
            ["agent", "reason"],
            registry=registry,
        )
        self.restores = Counter(
            "tidemark_restores",
            "Partitions taken over: from a checkpoint, rebuilt from the broker, or started fresh.",
            ["agent", "how"],
            registry=registry,
        )
        self.inferences = InferenceExport()
        registry.register(self.inferences)
        build = Gauge("tidemark_build_info", "Always 1.", ["version"], registry=registry)
        build.labels(VERSION).set(1)
        # So that rates exist before the first failure.
        for agent in ("join", "inferences", "windows"):
            for reason in ("unavailable", "fenced", "fell_behind"):
                self.checkpoint_failures.labels(agent, reason)
        for outcome in ("matched", "expired", "duplicate"):
            self.joined.labels(outcome)

    def forget_partition(self, topics: tuple[str, ...], partition: int) -> None:
        """Drop the gauges of a partition that went to another worker."""
        number = str(partition)
        for topic in topics:
            _remove(self.consumer_lag, topic, number)
        _remove(self.watermark_lag, number)
        _remove(self.open_windows, number)
        for side in ("impressions", "clicks"):
            _remove(self.live_rows, number, side)

    def exposition(self, encode: Callable[[Collector], bytes] = generate_latest) -> bytes:
        """What Prometheus scrapes, in the form that `encode` gives it."""
        return encode(self.registry)


def _remove(gauge: Gauge, *labels: str) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:
        return
