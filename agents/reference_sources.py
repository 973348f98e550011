"""Where the rows of a reference come from: recordings, bare events and tables of features in files, topics in Kafka."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from aiokafka import TopicPartition

from agents.config import Config
from agents.event_types import LATEST_AHEAD_MS, Event, decode_events
from agents.feature_decoding import IMPRESSIONS, INFERENCES, PREDICTION
from agents.feature_tables import add_fields, read_csv, read_parquet
from agents.kafka_admin import connect, consumer, one_line_errors
from agents.kafka_copy import merged_records, offsets_between
from agents.line_files import name_of, read_blocks, require_readable
from agents.recording_codec import decode_line
from agents.reference_rows import ReferenceRows, Row
from tables.errors import ConfigError, RunError

MOST_TOPICS = 100
TOPIC_SCHEMES = ("kafka:", "topic:")

Told = Callable[[int, int | None], None]
"""Called now and then with how many rows have been read, and of how many, where that is known."""


class _Event(Event, gc=False, kw_only=True):
    """An impression or an inference, as far as a reference goes."""

    model_id: str
    model_version: str | None = None
    features: dict[str, float | str | bool | None] | None = None
    prediction: float | str | None = None
    item_id: msgspec.Raw = msgspec.Raw()


_events = msgspec.json.Decoder(_Event)
_fields = msgspec.json.Decoder(dict[str, int | float | str | bool | None])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_EVENT_FIELDS = {
    *("event_time", "@timestamp", "event_id", "model_id", "model_version", "request_id", "features"),
    *("user_id", "item_id", "position", "latency_ms", "status", "prediction"),
}

NumberedLines = list[tuple[int, bytes]]
"""Lines with their number in the file; blank ones are left out."""


def read_file(path: str, config: Config, rows: ReferenceRows, now_ms: int, told: Told) -> None:
    """Read a whole file into `rows`.

    What it is, its name says (`.csv` and `.parquet`), or else its beginning: lines of a recording, of which those
    topics are taken whose features count in drift; bare events; or objects whose fields are features.
    `now_ms`: event times may be at most a day ahead of it.

    :raises InputError: it cannot be read.
    :raises RunError: it is Parquet, and pyarrow is not installed.
    """
    require_readable(path)
    if path.lower().endswith((".parquet", ".pq")):
        for total in read_parquet(path, rows, now_ms):
            told(rows.read, total)
        return
    blocks = read_blocks(path)
    beginning = next((block for block in blocks if any(line.strip() for line in block)), [])
    blocks = itertools.chain([beginning], blocks)
    if path.lower().removesuffix(".gz").removesuffix(".zst").endswith(".csv") or not _is_json(beginning):
        for _ in read_csv(path, blocks, rows, now_ms):
            told(rows.read, None)
        return
    read = _reader_of(beginning)
    for lines in _numbered(blocks):
        read(path, lines, config, rows, now_ms)
        told(rows.read, None)


async def read_topics(config: Config, names: Sequence[str], rows: ReferenceRows, now_ms: int, told: Told) -> None:
    """Read topics into `rows`, in order of arrival and up to where they end now.

    `names` are those in Kafka, or ours without the configured prefix.

    :raises ConfigError: the broker is `memory://`.
    :raises RunError: there is no such topic; BrokerUnavailable.
    """
    async with connect(config) as admin:
        existing = await admin.topics()
    found = {_topic_named(name, config, existing) for name in names}
    partitions = [TopicPartition(name, index) for name in sorted(found) for index in range(existing[name].partitions)]
    inputs = _inputs(config)
    # An event is at most a day ahead of its arrival, or it is not counted anywhere.
    since_ms = None if rows.wanted.since_ms is None else max(0, rows.wanted.since_ms - LATEST_AHEAD_MS)
    # Short, so that a partition that runs dry is not kept waiting by those that have records left.
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 20, "request_timeout_ms": 20_000}
    async with one_line_errors(config, within_s=None), consumer(config, **options) as source:
        ranges = await offsets_between(source, partitions, since_ms, None)
        total = sum(offsets.end - offsets.first for offsets in ranges.values())
        async for records in merged_records(source, ranges):
            _add_events(
                rows,
                [each.value for each in records],
                [f"{each.topic}/{each.partition}, offset {each.offset}" for each in records],
                [inputs.get(each.topic, "") for each in records],
                now_ms,
            )
            told(rows.read, total)


def topic_of(source: str) -> str | None:
    """The topic that `kafka:NAME` or `topic:NAME` means; None for a file. Raises ConfigError."""
    scheme = next((scheme for scheme in TOPIC_SCHEMES if source.startswith(scheme)), None)
    if scheme is None:
        return None
    if not (name := source.removeprefix(scheme)):
        raise ConfigError(f"--from: expected the name of a topic after {scheme}")
    return name


def _topic_named(name: str, config: Config, existing: Iterable[str]) -> str:
    names = set(existing)
    for each in (name, config.topics.prefix + name):
        if each in names:
            return each
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise RunError(f"--from: {config.broker} has no topic {name}{hint}")


def _is_json(beginning: Iterable[bytes]) -> bool:
    return next((line.lstrip() for line in beginning if line.strip()), b"{").startswith(b"{")


def _reader_of(beginning: Iterable[bytes]) -> Callable[[str, NumberedLines, Config, ReferenceRows, int], None]:
    """What the lines of a file are, by those of its beginning."""
    for line in beginning:
        try:
            names = _object.decode(line).keys()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if "topic" in names and not names.isdisjoint({"value", "value_base64"}):
            return _read_recording
        if "features" in names or ("model_id" in names and names <= _EVENT_FIELDS):
            return _read_events
    return _read_fields


def _read_recording(path: str, lines: NumberedLines, config: Config, rows: ReferenceRows, now_ms: int) -> None:
    counted = {IMPRESSIONS: config.drift.from_impressions, INFERENCES: config.drift.from_inferences}
    inputs = {name: topic for name, topic in _inputs(config).items() if counted[topic]}
    values: list[bytes | None] = []
    where: list[str] = []
    topics: list[str] = []
    for number, text in lines:
        try:
            line = decode_line(text)
        except ValueError as error:
            rows.skip(f"{name_of(path)}: line {number}", str(error))
            continue
        if line.topic in inputs:
            values.append(line.value)
            where.append(f"{name_of(path)}: line {number}")
            topics.append(inputs[line.topic])
        elif len(rows.other_topics) < MOST_TOPICS:
            rows.other_topics.add(line.topic)
    _add_events(rows, values, where, topics, now_ms)


def _read_events(path: str, lines: NumberedLines, _: Config, rows: ReferenceRows, now_ms: int) -> None:
    where = [f"{name_of(path)}: line {number}" for number, _ in lines]
    _add_events(rows, [text for _, text in lines], where, [""] * len(lines), now_ms)


def _read_fields(path: str, lines: NumberedLines, _: Config, rows: ReferenceRows, now_ms: int) -> None:
    def decoded() -> Iterator[tuple[int, dict[str, int | float | str | bool | None]]]:
        for number, text in lines:
            try:
                yield number, _fields.decode(text)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                rows.skip(f"{name_of(path)}: line {number}", str(error) or "nested too deeply")

    add_fields(rows, path, decoded(), now_ms)


def _inputs(config: Config) -> dict[str, str]:
    """Topics of events with features, by name: which of INPUTS each is."""
    names = config.topics
    inputs = {names.impressions: IMPRESSIONS, names.inferences: INFERENCES}
    # A recording made elsewhere need not have our prefix.
    return inputs | {name.removeprefix(names.prefix): topic for name, topic in inputs.items()}


def _add_events(
    rows: ReferenceRows,
    values: Sequence[bytes | None],
    where: Sequence[str],
    topics: Sequence[str],
    now_ms: int,
) -> None:
    """Take in events; which input one is of its topic says, or where that is empty what is in it."""
    found = decode_events(_events, values, now_ms)
    for place, reason in found.bad:
        rows.skip(where[place], reason)
    batch = []
    for event, row, time_ms in zip(found.events, found.rows, found.times.tolist(), strict=True):
        features = event.features or {}
        # Of features that is the one name that only an inference itself can fill.
        features.pop(PREDICTION, None)
        is_inference = event.prediction is not None or not event.item_id
        topic = topics[row] or (INFERENCES if is_inference else IMPRESSIONS)
        batch.append(Row(features, event.model_id, event.model_version or "", time_ms, topic, event.prediction))
    rows.add(batch)


def _numbered(blocks: Iterable[list[bytes]]) -> Iterator[NumberedLines]:
    begin = 1
    for block in blocks:
        lines = [(number, line) for number, line in enumerate(block, begin) if line and not line.isspace()]
        begin += len(block)
        yield lines
