"""The job as a Quix Streams app: its interval join, keyed state for the distinct pairs, a group-by and a window."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import Any

from quixstreams import Application, State
from quixstreams.dataframe.windows import Sum
from task import MINUTE_MS, WITHIN_MS, Task, row

# The join forgets by event time, and a window closes by the furthest partition: neither may lose an event here.
KEEP = timedelta(hours=2)

task = Task()
sent = received = 0


def event_time(value: Any, headers: Any, timestamp: int, timestamp_type: Any) -> int:
    """The event's own time; a broken record keeps its time of arrival, and is dropped."""
    at = value.get("event_time") if isinstance(value, dict) else None
    return at if isinstance(at, int) else timestamp


def is_whole(value: Any) -> bool:
    """Whether a record is an event."""
    return isinstance(value, dict) and isinstance(value.get("event_time"), int)


def merged(shown: dict[str, Any], clicked: dict[str, Any] | None) -> dict[str, Any]:
    """An impression, and the click that falls in its interval."""
    return {
        "item": shown["item_id"],
        "model": shown["model_id"],
        "version": shown.get("model_version") or "",
        "at": shown["event_time"],
        "clicked_item": clicked and clicked["item_id"],
    }


def marks(value: dict[str, Any], state: State) -> list[dict[str, Any]]:
    """`shown` and `clicked` of a pair, once each in a window; the state is that of the user."""
    global sent
    start = value["at"] - value["at"] % MINUTE_MS
    pair = f"{value['item']}|{value['model']}|{value['version']}|{start}"
    known = state.get(pair, 0)
    new = {"model": f"{value['model']}|{value['version']}", "start": start, "shown": 0, "clicked": 0}
    if not known:
        new["shown"] = 1
    if known < 2 and value["clicked_item"] == value["item"]:
        new["clicked"] = 1
    if not new["shown"] and not new["clicked"]:
        return []
    state.set(pair, 2 if new["clicked"] else 1)
    sent += 1
    return [new]


def to_row(window: dict[str, Any], key: str, timestamp: int, headers: Any) -> dict[str, object]:
    """A window as it is written."""
    model, version = key.split("|")
    return row(model, version, window["start"], window["shown"], window["clicked"])


def on_processed(topic: str, partition: int, offset: int) -> None:
    """Stop once both topics and the repartitioned one are read; stopping commits and flushes."""
    global received
    if topic in (task.impressions, task.clicks):
        task.see()
    else:
        received += 1
    if task.is_read and received >= sent:
        app.stop()


def on_broken(error: Exception, message: Any, logger: Any) -> bool:
    """A record that is no JSON is passed over."""
    if message is None:
        return False
    task.see()
    return True


app = Application(
    broker_address=task.bootstrap,
    consumer_group=task.group,
    auto_offset_reset="earliest",
    state_dir=task.folder,
    on_message_processed=on_processed,
    on_consumer_error=on_broken,
    loglevel="WARNING",
)
impressions = app.dataframe(app.topic(task.impressions, timestamp_extractor=event_time)).filter(is_whole)
clicks = app.dataframe(app.topic(task.clicks, timestamp_extractor=event_time)).filter(is_whole)
joined = impressions.join_interval(clicks, how="left", on_merge=merged, grace_ms=KEEP, forward_ms=WITHIN_MS)
joined = joined.apply(marks, stateful=True, expand=True).group_by("model")
joined = joined.set_timestamp(lambda value, key, timestamp, headers: value["start"])
counted = joined.tumbling_window(MINUTE_MS, grace_ms=KEEP).agg(shown=Sum("shown"), clicked=Sum("clicked")).current()
counted.apply(to_row, metadata=True).to_topic(app.topic(task.rows))

if __name__ == "__main__":
    app.run()
    task.done()
    signal.pause()
