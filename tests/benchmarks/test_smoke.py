"""The benchmarks as they are run by hand, only shorter: they still work, and their ratios are not absurd."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peer_environment import peer_python
from benchmarks.same_job import PEERS
from deploy.stack import why_no_kafka
from tables.errors import RunError
from tests.conftest import IN_CI

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not IN_CI and why_no_kafka() is not None, reason=f"{why_no_kafka()}"),
]


def run(out: Path, timeout_s: float, *arguments: str) -> Any:
    """`python -m ARGUMENTS --out OUT`: what it has written."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    # It fails where a final row of tidemark is not what the oracle counts.
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def cost(figures: Any, system: str) -> float:
    """CPU seconds per million events."""
    return float(figures["systems"][system]["cpu_s_per_million"]["median"])


def is_right(figures: Any, system: str) -> bool:
    """Whether every window of the peer came out as the oracle counts it."""
    (measured,) = figures["rounds"]
    return bool(measured[system]["right_windows"] == measured[system]["windows"])


def test_a_short_round_counts_right_and_is_far_ahead_of_stock_faust(tmp_path: Path) -> None:
    figures = run(tmp_path / "figures.json", 110, "benchmarks", "--quick", "--only", "stock faust", "tidemark")

    assert figures["load"]["windows"] > 100
    # 15 is what is promised; a short run on a busy machine shows less.
    assert figures["ratios"]["tidemark / stock faust"]["median"] > 5


def test_peers_that_do_the_same_job_count_right_and_cost_many_times_as_much(tmp_path: Path) -> None:
    peers = ["faust job"]
    try:
        peer_python("bytewax_job")
    except RunError:
        assert not IN_CI
    else:
        peers.append("bytewax")

    only = ["--only", "tidemark", *peers]
    figures = run(tmp_path / "figures.json", 110, "benchmarks", "--quick", "--events", "100000", *only)

    # About 200 and 20 times; so few events are dear to tidemark, whose last checkpoints and rows cost the same.
    assert cost(figures, "faust job") > 20 * cost(figures, "tidemark")
    for peer in peers:
        assert is_right(figures, peer)
        assert cost(figures, peer) > 2 * cost(figures, "tidemark")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_peer_does_the_job(tmp_path: Path) -> None:
    figures = run(tmp_path / "figures.json", 1700, "benchmarks", "--quick", "--only", "tidemark", *PEERS)

    assert figures["systems"].keys() == {"tidemark", *PEERS}
    for peer in ("faust job", "bytewax", "flink heap", "flink rocksdb"):
        assert is_right(figures, peer)
    # It misses the clicks that it reads before their impressions.
    assert figures["rounds"][0]["quix streams"]["right_windows"] > 0
    # The first hundred thousands of events are dear to a JVM, which compiles meanwhile.
    assert all(cost(figures, peer) > cost(figures, "tidemark") for peer in PEERS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_else_of_a_full_run_works_on_little(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"

    workers = run(out, 300, "benchmarks.workers", "--events", "200000", "--rounds", "1")
    partitions = run(out, 300, "benchmarks.partitions", "--events", "50000", "--rounds", "1")
    restarts = run(out, 300, "benchmarks.restart", "--impressions", "20000", "50000", "--rounds", "1")
    latencies = run(out, 300, "benchmarks.latency", "--rate", "2000", "--probes", "10")
    state = run(out, 300, "benchmarks.live_state", "--impressions", "100000")

    assert [point["workers"] for point in workers["points"]] == [1, 2]
    assert [point["partitions"] for point in partitions] == [1, 4, 16, 64]
    assert [one["impressions"] for one in restarts] == [20_000] * 2 + [50_000] * 4
    assert [one["to"] for one in latencies] == ["window row", "webhook"]
    assert 0 < state["used_memory"] / state["impressions"] < 100
