"""Events of the oracle as lines of a recording, and window rows as the oracle's keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from agents.recordings import Line, RecordingWriter
from tests.oracle import Click, Event, Inference, Key

Arrival = tuple[int, int, Event]
"""(clock in ms, partition, event)"""
AnyArrival = tuple[int, int, Event | Inference]


def event_json(event: Event | Inference) -> bytes:
    """An event as it stands on its topic."""
    body: dict[str, object] = {"event_time": event.time}
    if not isinstance(event, Inference):
        body |= {"user_id": event.user, "item_id": event.item}
    else:
        told = {"latency_ms": event.latency_ms, "status": event.status, "prediction": event.prediction}
        body |= {name: value for name, value in told.items() if value is not None}
    if isinstance(event, Click):
        return json.dumps(body).encode()
    body |= {"model_id": event.model[0], "model_version": event.model[1]}
    features = "" if event.features == "null" else f', "features": {event.features}'
    return f"{json.dumps(body)[:-1]}{features}}}".encode()


def topic_of(event: Event | Inference) -> str:
    if isinstance(event, Inference):
        return "inferences"
    return "clicks" if isinstance(event, Click) else "impressions"


def lines_of(arrivals: Iterable[AnyArrival], *, timestamps: bool = True) -> list[Line]:
    """Lines of a recording; offsets run from 1000, so that nothing relies on their beginning at 0."""
    next_offset: dict[tuple[str, int], int] = {}
    lines = []
    for clock, partition, event in arrivals:
        topic = topic_of(event)
        offset = next_offset.get((topic, partition), 1000)
        next_offset[topic, partition] = offset + 1
        timestamp = clock if timestamps else None
        key = None if isinstance(event, Inference) else event.user.encode()
        lines.append(Line(topic, partition, offset, timestamp, key, event_json(event)))
    return lines


def write_recording(path: Path, lines: Sequence[Line]) -> Path:
    with RecordingWriter(path) as writer:
        writer.write_many(lines)
    return path


def final_counts(rows: Iterable[bytes]) -> dict[Key, tuple[int, int]]:
    """What the final rows of kind `ctr` say; each window may be told once."""
    counts: dict[Key, tuple[int, int]] = {}
    for text in rows:
        row = json.loads(text)
        assert row["final"] and row["window_end"] == row["window_start"] + 60_000
        if row["kind"] != "ctr":
            continue
        assert row["ctr"] == (row["clicks"] / row["impressions"] if row["impressions"] else None)
        key = ((row["model_id"], row["model_version"]), row["window_start"])
        assert key not in counts
        counts[key] = row["impressions"], row["clicks"]
    return counts
