"""A real Prometheus scrapes a worker's web server, and finds the quantiles that we find."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray

from agents.config import WebConfig
from agents.health import Health
from agents.latency_export import CLASSIC_BUCKETS
from agents.metrics import Metrics
from agents.web import WebServer
from deploy.process import ServerProcess, free_port
from tables.errors import RunError
from tables.exponential_histogram import ExponentialHistogram, bucket_of
from tests.conftest import IN_CI

HOST = "127.0.0.1"
MODELS = [("home", "v1"), ("search", "")]
SECONDS = "tidemark_inference_latency_seconds"
CONFIG = """
global: {{scrape_interval: 500ms}}
scrape_configs: [{{job_name: tidemark, static_configs: [{{targets: ["{target}"]}}]}}]
"""
DEADLINE_S = 60.0


class Prometheus:
    """The query interface of a running server."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://{HOST}:{port}/api/v1/"

    async def query(self, query: str) -> dict[tuple[str, str], float]:
        """The values of a query, by model."""
        async with self._session.get(self._url + "query", params={"query": query}) as answer:
            said: dict[str, Any] = await answer.json()
        assert said["status"] == "success", said
        rows = [(row["metric"], row["value"][1]) for row in said["data"]["result"] if "value" in row]
        return {(labels.get("model_id", ""), labels.get("model_version", "")): float(value) for labels, value in rows}

    async def is_up(self) -> bool:
        """Whether it answers and has scraped its target."""
        try:
            return (await self.query("sum(up)"))["", ""] == 1
        except (aiohttp.ClientError, KeyError):
            return False

    async def until_scraped(self, query: str, expected: float) -> None:
        """Wait until a count over all models has arrived."""

        async def arrived() -> bool:
            return await self.query(query) == {("", ""): expected}

        await until(arrived)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def prometheus_program() -> str:
    """Without Prometheus: skipped on a laptop, failed in CI."""
    program = shutil.which("prometheus")
    if program is None and IN_CI:
        pytest.fail("CI must run this test: no prometheus on the PATH (Debian: apt-get install prometheus)")
    return program or pytest.skip("no prometheus on the PATH (Debian: apt-get install prometheus)")


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    server = WebServer(WebConfig(host=HOST, port=0, port_was_asked=True), Metrics(), Health(assigned=True))
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def running(program: str, folder: Path, server: WebServer, *options: str) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes the server twice a second."""
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(target=f"{HOST}:{server.port}"))
    listen, storage = f"--web.listen-address={HOST}:{port}", f"--storage.tsdb.path={folder / 'data'}"
    argv = [program, f"--config.file={config}", listen, storage, *options]
    process = ServerProcess("prometheus", argv, folder / "prometheus.log", error=RunError)
    await asyncio.to_thread(process.start)
    try:
        async with aiohttp.ClientSession() as session:
            prometheus = Prometheus(session, port)
            await until(prometheus.is_up)
            yield prometheus
    finally:
        await asyncio.to_thread(process.stop)


def latencies(slower: float) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Latencies in ms of each model."""
    rng = np.random.default_rng(5)
    return {model: slower * rng.lognormal(2 + number, 0.7, 20_000) for number, model in enumerate(MODELS)}


def observe(server: WebServer, values: dict[tuple[str, str], NDArray[np.float64]]) -> None:
    latency_ms = np.concatenate(list(values.values()))
    model = np.repeat(np.arange(len(values)), [len(column) for column in values.values()])
    server._metrics.inferences.observe(list(values), model, np.zeros_like(model), latency_ms)


def ours(values: NDArray[np.float64]) -> float:
    """The 95th percentile in seconds."""
    histogram = ExponentialHistogram()
    histogram.add(values)
    quantile = histogram.quantile(0.95)
    assert quantile is not None
    return quantile / 1000


def exponential(value: float) -> int:
    return int(bucket_of(np.array([value]))[0])


def classic(value: float) -> int:
    return int(np.searchsorted(CLASSIC_BUCKETS, exponential(value)))


async def test_classic_buckets(prometheus_program: str, server: WebServer, tmp_path: Path) -> None:
    fast, slow = latencies(1.0), latencies(10.0)
    by_model = f"sum by (le, model_id, model_version) ({{}}({SECONDS}_bucket{{}}))"
    async with running(prometheus_program, tmp_path, server) as prometheus:
        observe(server, fast)
        await prometheus.until_scraped(f"sum({SECONDS}_count)", 40_000)
        found = await prometheus.query(f"histogram_quantile(0.95, {by_model.format('', '')})")
        assert {model: classic(value) for model, value in found.items()} == {
            model: classic(ours(fast[model])) for model in MODELS
        }

        # The rate sees nothing but the second half, which is ten times slower.
        observe(server, slow)
        await prometheus.until_scraped(f"sum({SECONDS}_count)", 80_000)
        found = await prometheus.query(f"histogram_quantile(0.95, {by_model.format('rate', '[1m]')})")
        assert {model: classic(value) for model, value in found.items()} == {
            model: classic(ours(slow[model])) for model in MODELS
        }
        assert await prometheus.query('sum by (model_id, model_version) (tidemark_inferences_total{status="ok"})') == {
            model: 40_000 for model in MODELS
        }


async def test_native_histograms(prometheus_program: str, server: WebServer, tmp_path: Path) -> None:
    fast, slow = latencies(1.0), latencies(10.0)
    async with running(prometheus_program, tmp_path, server, "--enable-feature=native-histograms") as prometheus:
        observe(server, fast)
        await prometheus.until_scraped(f"histogram_count(sum({SECONDS}))", 40_000)
        found = await prometheus.query(f"histogram_quantile(0.95, {SECONDS})")
        assert found.keys() == set(MODELS)
        for model in MODELS:
            assert abs(exponential(found[model]) - exponential(ours(fast[model]))) <= 1

        observe(server, slow)
        await prometheus.until_scraped(f"histogram_count(sum({SECONDS}))", 80_000)
        found = await prometheus.query(f"histogram_quantile(0.95, rate({SECONDS}[1m]))")
        for model in MODELS:
            assert abs(exponential(found[model]) - exponential(ours(slow[model]))) <= 1
        # Everything else comes along in the same form.
        assert await prometheus.query("tidemark_build_info") == {("", ""): 1}
        sums = await prometheus.query(f"histogram_sum({SECONDS})")
        for model in MODELS:
            assert sums[model] == pytest.approx((fast[model].sum() + slow[model].sum()) / 1000)
