"""Recordings: what went through Kafka, one record a line (see `recording_codec`), in the order of arrival.

Bare topic files, one event a line and nothing else, are read here too.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from operator import itemgetter
from os import PathLike, fspath
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from agents.event_time import parse_event_time
from agents.line_files import MAX_LINE_BYTES, name_of, open_sink, read_blocks, require_readable
from agents.recording_codec import MISSING_OFFSET, Line, decode_line, encode_lines
from tables.errors import ConfigError, RunError

__all__ = [
    "BrokenLine",
    "Line",
    "PathOrDash",
    "RecordingWriter",
    "read_recording",
    "read_topic_files",
]

#: A path, or "-" for a standard stream.
PathOrDash = str | PathLike[str]

Item = TypeVar("Item")

_BLOCK_LINES = 4096
_LONG_AGO = -(2**63)
_STRAY_MS = 600_000


class BrokenLine(msgspec.Struct, frozen=True, gc=False):
    """A line of a recording that is no record; `raw` may be cut, see `line_files.MAX_LINE_BYTES`."""

    path: str
    line_no: int
    reason: str
    raw: bytes


class _EventTimes(msgspec.Struct, gc=False):
    """The part of a bare event that says when it happened; the rest is skipped undecoded."""

    event_time: int | float | str | None = None
    logstash_time: int | float | str | None = msgspec.field(name="@timestamp", default=None)


_decode_times = msgspec.json.Decoder(_EventTimes).decode


class RecordingWriter:
    """Writes a recording to a file (`.gz` and `.zst` compressed), or to standard output for "-".

    A context manager; leaving it completes the file, which until then may lack its end. Raises RunError where
    the file cannot be written, but lets BrokenPipeError through: the reader of a pipe may stop when it likes.
    """

    def __init__(self, path: PathOrDash) -> None:
        self._path = fspath(path)
        self._resources = ExitStack()
        self._sink = open_sink(self._path, self._resources)
        #: Lines written so far.
        self.count = 0

    def write(self, line: Line) -> None:
        """Write one line; for many, `write_many` is several times faster."""
        self.write_many((line,))

    def write_many(self, lines: Iterable[Line]) -> None:
        """Write all `lines`; any iterable will do, however long."""
        rest = iter(lines)
        while block := list(islice(rest, _BLOCK_LINES)):
            try:
                self._sink.write(encode_lines(block))
            except BrokenPipeError:
                raise
            except OSError as error:
                raise RunError(f"cannot write {self._path}: {error.strerror}") from error
            self.count += len(block)

    def close(self) -> None:
        """Complete and close the file; closing twice does nothing."""
        try:
            self._resources.close()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_recording(paths: Sequence[PathOrDash], *, on_broken: Callable[[BrokenLine], None]) -> Iterator[Line]:
    """Yield the lines of one or more recordings in order of arrival.

    One file is read strictly in its own order. Several are merged by timestamp: a line's place is the
    largest timestamp of its file up to there, so a line without one goes with the line before it, and the
    order within each file stays. A missing partition is 0, a missing offset the running number of its topic
    and partition. A line that is no record is handed to `on_broken`, exactly between its neighbours.

    Raises InputError at once for a file that is missing or unreadable, and later for compressed data that are
    damaged or cut off, after the lines before; ConfigError where "-" is named twice.
    """
    names = [fspath(path) for path in paths]
    _require_all_readable(names)
    if len(names) == 1:
        return _number(_read_lines(names[0]), on_broken)
    timed = (_by_timestamp(_read_lines(name)) for name in names)
    return _number(_merge(timed), on_broken)


def read_topic_files(
    files: Mapping[str, Sequence[PathOrDash]], *, latest_ms: int | None = None, strays: Counter[str] | None = None
) -> Iterator[Line]:
    """Yield the bare events of topic files (`{topic: [path, ...]}`), merged by event time over all files.

    Nothing is sorted within a file: like a recording's, an event's place is the largest event time of its
    file up to there, so that memory stays bounded and logs that are roughly in order merge well. An event
    whose time cannot be read, or lies after `latest_ms` (which would hold back the rest of its file), goes
    with the one before it. Every line is handed on, broken or not: partition 0, offset the running number of
    its topic, timestamp its event time or else that of the line before. `strays` counts, for each file, events more
    than 10 min older than one before them: many of them tell that it is in no order.

    Raises as `read_recording` does.
    """
    named = [(topic, fspath(path)) for topic, paths in files.items() for path in paths]
    _require_all_readable([name for _, name in named])
    limit = 2**63 - 1 if latest_ms is None else latest_ms
    counted: Counter[str] = Counter() if strays is None else strays
    timed = (_read_events(topic, name, limit, counted) for topic, name in named)
    return _number(_merge(timed), _never)


def _require_all_readable(names: Sequence[str]) -> None:
    for name in names:
        require_readable(name)
    if names.count("-") > 1:
        raise ConfigError("- (standard input) can be read once only, but is named more often")


def _read_lines(path: str) -> Iterator[Line | BrokenLine]:
    line_no = 0
    for block in read_blocks(path):
        for text in block:
            line_no += 1
            if not text:
                continue
            try:
                if len(text) > MAX_LINE_BYTES:
                    raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
                line = decode_line(text)
            except ValueError as error:
                if not text.isspace():
                    yield BrokenLine(name_of(path), line_no, str(error), text)
                continue
            yield line


def _by_timestamp(items: Iterator[Line | BrokenLine]) -> Iterator[tuple[int, Line | BrokenLine]]:
    latest = _LONG_AGO
    for item in items:
        if isinstance(item, Line) and item.timestamp is not None:
            latest = item.timestamp
        yield latest, item


def _merge(timed: Iterable[Iterator[tuple[int, Item]]]) -> Iterator[Item]:
    """Merge by time, though no file need be in order.

    Always the earliest of the files' next lines: one that goes back in time thus comes right after the line
    before it, as if each had the largest time of its file so far.
    """
    return map(itemgetter(1), heapq.merge(*timed, key=itemgetter(0)))


def _read_events(topic: str, path: str, limit: int, strays: Counter[str]) -> Iterator[tuple[int, Line]]:
    timestamp: int | None = None
    newest = _LONG_AGO
    for block in read_blocks(path):
        for line in block:
            value = line.strip()
            if not value:
                continue
            event_time = _event_time_of(value)
            if event_time is not None and event_time <= limit:
                timestamp = event_time
                newest = max(newest, event_time)
                strays[path] += event_time < newest - _STRAY_MS
            place = _LONG_AGO if timestamp is None else timestamp
            yield place, Line(topic, 0, MISSING_OFFSET, timestamp, None, value)


def _event_time_of(value: bytes) -> int | None:
    try:
        times = _decode_times(value)
        return parse_event_time(times.logstash_time if times.event_time is None else times.event_time)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def _number(
    items: Iterator[Line | BrokenLine] | Iterator[Line], on_broken: Callable[[BrokenLine], None]
) -> Iterator[Line]:
    """Fill in missing offsets, and take the broken lines out."""
    expected: dict[tuple[str, int], int] = {}
    for item in items:
        if isinstance(item, BrokenLine):
            on_broken(item)
            continue
        source = (item.topic, item.partition)
        if item.offset == MISSING_OFFSET:
            item = msgspec.structs.replace(item, offset=expected.get(source, 0))
        expected[source] = item.offset + 1
        yield item


def _never(broken: BrokenLine) -> None:
    raise AssertionError(broken)
