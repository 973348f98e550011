"""The job as a stock Faust app: two agents, tables with changelogs, a timer that writes the rows.

Run by Faust's own worker: `PEER_...=... faust -A faust_job worker`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import faust
import orjson
from pairs import take
from task import Task, row

ROWS_EVERY_S = 1.0

task = Task()
# `kafka://` is tidemark's transport wherever tidemark is installed; `aiokafka://` is still Faust's own.
app = faust.App(
    task.group,
    broker=f"aiokafka://{task.bootstrap}",
    store="memory://",
    datadir=task.folder,
    topic_partitions=4,
    web_port=int(os.environ["PEER_WEB_PORT"]),
)
impressions = app.topic(task.impressions, value_type=bytes, value_serializer="raw")
clicks = app.topic(task.clicks, value_type=bytes, value_serializer="raw")
rows = app.topic(task.rows, value_serializer="json")
pairs = app.Table("pairs", default=lambda: {"shown": [], "clicks": []})
counts = app.Table("counts", default=lambda: {"shown": 0, "clicked": 0})
changed: set[str] = set()


@app.agent(impressions)
async def take_impressions(stream: Any) -> None:
    """Every impression goes into the table of its pair."""
    async for value in stream:
        count(value)


@app.agent(clicks)
async def take_clicks(stream: Any) -> None:
    """And so does every click."""
    async for value in stream:
        count(value)


def count(value: bytes) -> None:
    """Update the pair's table, and the counts of the windows in which something is new."""
    task.see()
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return
    if not isinstance(event.get("event_time"), int):
        return
    key = f"{event['user_id']}|{event['item_id']}"
    pair = pairs[key]
    for model, version, start, which in take(pair, event):
        window = f"{model}|{version}|{start}"
        numbers = counts[window]
        numbers[which] += 1
        counts[window] = numbers
        changed.add(window)
    pairs[key] = pair


async def write_rows() -> None:
    """Write the windows that changed; each is in Kafka when its send returns."""
    windows = list(changed)
    changed.clear()
    for window in windows:
        model, version, start = window.split("|")
        numbers = counts[window]
        value = row(model, version, int(start), numbers["shown"], numbers["clicked"])
        await rows.send(key=window, value=value)


@app.timer(interval=ROWS_EVERY_S)
async def write_regularly() -> None:
    """Running rows."""
    await write_rows()


@app.task
async def measure() -> None:
    """The last rows, once everything has been read."""
    while not task.is_read:  # noqa: ASYNC110 - an event would cost a call for each record
        await asyncio.sleep(0.05)
    await write_rows()
    task.done()
