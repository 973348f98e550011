"""A stock Faust agent as its documentation teaches it, on Faust's own transport: it counts a topic, no more.

Run by Faust's own worker: `BENCHMARK_...=... faust -A benchmarks.stock_faust worker`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import faust

from benchmarks.child_result import Stopwatch
from benchmarks.load import TOPICS

POLL_S = 0.05

# `kafka://` is tidemark's transport wherever tidemark is installed; `aiokafka://` is still Faust's own.
app = faust.App(
    os.environ["BENCHMARK_GROUP"],
    broker=f"aiokafka://{os.environ['BENCHMARK_BOOTSTRAP']}",
    datadir=os.environ["BENCHMARK_FOLDER"],
    web_port=int(os.environ["BENCHMARK_WEB_PORT"]),
)
topic = app.topic(TOPICS.impressions, value_type=bytes, value_serializer="raw")
count = 0


@app.agent(topic)
async def count_impressions(stream: Any) -> None:
    """The whole job."""
    global count
    async for _event in stream:
        count += 1


@app.task  # type: ignore[untyped-decorator]
async def measure() -> None:
    """Look at the count after so many seconds, or at the end of the topic."""
    records, seconds = int(os.environ["BENCHMARK_RECORDS"]), float(os.environ["BENCHMARK_SECONDS"])
    while not count:  # noqa: ASYNC110 - an event would cost the agent a call for each record
        await asyncio.sleep(POLL_S)
    stopwatch = Stopwatch(count)
    while count < records and stopwatch.seconds() < seconds:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)
    stopwatch.stop(count).write(Path(os.environ["BENCHMARK_RESULT"]))
