"""What a replay reads: recordings and bare topic files as one stream, with the clock that time passes by in it.

The clock is the time of arrival, as the recording has it, or else the event time; it never goes back. The stream is cut
into chunks, for everything that follows from one chunk is done before the next one is read.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

import msgspec

from agents.event_time import parse_event_time
from agents.event_types import EARLIEST_MS
from agents.recordings import BrokenLine, Line, PathOrDash, read_recording, read_topic_files

CHUNK_RECORDS = 20_000
CHUNK_MS = 30_000

Item = Line | BrokenLine
Chunk = list[tuple[int, Item]]
"""(clock in ms, line); the clock is 0 while no time is known."""


class _Times(msgspec.Struct, gc=False):
    event_time: int | float | str | None = None
    at: int | float | str | None = msgspec.field(default=None, name="@timestamp")


_decode_times = msgspec.json.Decoder(_Times).decode


def read_chunks(
    recordings: Sequence[PathOrDash],
    topic_files: Mapping[str, Sequence[PathOrDash]],
    latest_ms: int,
    strays: Counter[str] | None = None,
) -> Iterator[Chunk]:
    """Everything in the inputs, in order of arrival; several inputs are merged by their clocks.

    `topic_files`: topic -> files of bare events. `latest_ms`: event times after it are nobody's clock.
    `strays`: see `read_topic_files`.
    Raises InputError for a file that is missing (at once) or damaged (on the way), ConfigError where "-" comes twice.
    """
    streams: list[Iterator[tuple[int, Item]]] = []
    if recordings:
        broken: deque[BrokenLine] = deque()
        note = broken.append if len(recordings) == 1 else lambda line: broken.append(_naming_its_file(line))
        lines = read_recording(recordings, on_broken=note)
        streams.append(clocked(_with_broken(lines, broken), latest_ms))
    if topic_files:
        streams.append(clocked(read_topic_files(topic_files, latest_ms=latest_ms, strays=strays), latest_ms))
    return cut(streams[0] if len(streams) == 1 else heapq.merge(*streams, key=itemgetter(0)))


def clocked(items: Iterable[Item], latest_ms: int) -> Iterator[tuple[int, Item]]:
    """Each item with the clock: its timestamp, or else its event time."""
    clock = 0
    for item in items:
        if isinstance(item, Line):
            at = item.timestamp or _event_time(item.value, latest_ms)
            if at > clock:
                clock = at
        yield clock, item


def cut(items: Iterable[tuple[int, Item]]) -> Iterator[Chunk]:
    """Cut where the clock enters the next half minute, and after so many lines."""
    chunk: Chunk = []
    end = 0
    for clocked_item in items:
        clock = clocked_item[0]
        if chunk and (clock >= end or len(chunk) >= CHUNK_RECORDS):
            yield chunk
            chunk = []
        if not chunk:
            end = clock // CHUNK_MS * CHUNK_MS + CHUNK_MS
        chunk.append(clocked_item)
    if chunk:
        yield chunk


def _naming_its_file(line: BrokenLine) -> BrokenLine:
    return msgspec.structs.replace(line, reason=f"{line.path}: {line.reason}")


def _with_broken(lines: Iterator[Line], broken: deque[BrokenLine]) -> Iterator[Item]:
    for line in lines:
        while broken:
            yield broken.popleft()
        yield line
    yield from broken


def _event_time(value: bytes | None, latest_ms: int) -> int:
    try:
        times = _decode_times(value or b"")
        at = parse_event_time(times.at if times.event_time is None else times.event_time)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 0
    return at if EARLIEST_MS <= at <= latest_ms else 0
