"""What is measured of tidemark alone, with nothing to compare it to: memory, restart and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from benchmarks import latency, live_state, restart

Figures = live_state.LiveState | restart.Restart | latency.Latency

MEASURES: Mapping[str, Callable[[], Sequence[Figures]]] = {
    "live state": lambda: [live_state.measure()],
    "restart": restart.measure,
    "latency": lambda: [latency.measure()],
}


def measure(console: Console) -> dict[str, list[dict[str, Any]]]:
    """Each as published, told as it comes; as JSON takes it. Raises RunError."""
    measured: dict[str, list[dict[str, Any]]] = {}
    for name, once in MEASURES.items():
        figures = once()
        for one in figures:
            console.print(f"{name}: {one}")
        measured[name] = [asdict(one) for one in figures]
    return measured
