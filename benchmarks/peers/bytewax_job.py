"""The job as a Bytewax dataflow: keyed state for the join and the distinct pairs, tumbling windows, a Kafka sink."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.run import cli_main
from pairs import Mark, Pair, take
from task import MINUTE_MS, Task, row

ALIGN_TO = datetime(2020, 1, 1, tzinfo=UTC)

task = Task()


def parse(message: KafkaSourceMessage) -> tuple[str, dict[str, Any]] | None:
    """A whole record by its pair; None for a broken one."""
    task.see()
    try:
        event = orjson.loads(message.value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event.get("event_time"), int):
        return None
    return f"{event['user_id']}|{event['item_id']}", event


def join(pair: Pair | None, event: dict[str, Any]) -> tuple[Pair, Iterable[Mark]]:
    """What is new in the windows of a pair."""
    pair = pair or {"shown": [], "clicks": []}
    return pair, list(take(pair, event))


def by_model(item: tuple[str, Mark]) -> tuple[str, Mark]:
    """Marks by model and version."""
    mark = item[1]
    return f"{mark[0]}|{mark[1]}", mark


def event_time(mark: Mark) -> datetime:
    """The start of the mark's window, which is what it is counted by."""
    return datetime.fromtimestamp(mark[2] / 1000, UTC)


def add(numbers: list[int], mark: Mark) -> list[int]:
    """Count a mark."""
    numbers[mark[3] == "clicked"] += 1
    return numbers


def merge(numbers: list[int], others: list[int]) -> list[int]:
    """Two parts of one window; tumbling windows have none."""
    return [numbers[0] + others[0], numbers[1] + others[1]]


def to_row(item: tuple[str, tuple[int, list[int]]]) -> KafkaSinkMessage[bytes, bytes]:
    """A closed window as it is written."""
    key, (window, (shown, clicked)) = item
    model, version = key.split("|")
    start = int(ALIGN_TO.timestamp()) * 1000 + window * MINUTE_MS
    return KafkaSinkMessage(key.encode(), orjson.dumps(row(model, version, start, shown, clicked)))


flow = Dataflow("ctr")
source = kop.input("in", flow, brokers=[task.bootstrap], topics=[task.impressions, task.clicks], tail=False)
events = op.filter_map("parse", source.oks, parse)
marks = op.stateful_flat_map("join", events, join)
windows = win.fold_window(
    "count",
    op.map("by_model", marks, by_model),
    EventClock(event_time, wait_for_system_duration=timedelta(minutes=10, seconds=5)),
    TumblingWindower(length=timedelta(minutes=1), align_to=ALIGN_TO),
    lambda: [0, 0],
    add,
    merge,
    ordered=False,
)
kop.output("out", op.map("row", windows.down, to_row), brokers=[task.bootstrap], topic=task.rows)

if __name__ == "__main__":
    cli_main(flow)
    task.done()
    signal.pause()
