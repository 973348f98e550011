"""Recordings written and read back, merged, broken, cut off; and bare topic files."""

import gzip
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agents import line_files
from agents.recording_codec import decode_line, encode_lines
from agents.recordings import BrokenLine, Line, RecordingWriter, read_recording, read_topic_files
from tables.errors import ConfigError, InputError, RunError


def line(
    value: bytes | None = b"{}",
    *,
    topic: str = "clicks",
    partition: int = 0,
    offset: int = 0,
    timestamp: int | None = 0,
    key: bytes | None = b"u1",
) -> Line:
    return Line(topic, partition, offset, timestamp, key, value)


def written(path: Path, lines: Iterable[Line]) -> Path:
    with RecordingWriter(path) as writer:
        writer.write_many(lines)
    return path


def text_file(path: Path, *lines: object) -> Path:
    """A file of these lines: bytes as they are, anything else as JSON."""
    path.write_bytes(
        b"".join((text if isinstance(text, bytes) else json.dumps(text).encode()) + b"\n" for text in lines)
    )
    return path


def read(*paths: Path | str) -> list[Line]:
    return list(read_recording(paths, on_broken=unexpected))


def read_with_broken(*paths: Path) -> list[Line | BrokenLine]:
    """All lines, the broken ones in their places."""
    seen: list[Line | BrokenLine] = []
    for good in read_recording(paths, on_broken=seen.append):
        seen.append(good)  # noqa: PERF402 - on_broken appends to it in between
    return seen


def unexpected(broken: BrokenLine) -> None:
    raise AssertionError(broken)


# ---------------------------------------------------------------- one line, there and back

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
json_texts = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    ),
    json_values,
    st.sampled_from([None, 1]),
    st.booleans(),
)


@given(
    st.builds(
        Line,
        topic=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**63 - 1),
        timestamp=st.none() | st.integers(0, 2**63 - 1),
        key=st.none() | st.binary(),
        value=st.none() | st.binary() | json_texts,
    )
)
def test_every_record_survives_the_trip_byte_by_byte(original: Line) -> None:
    text = encode_lines([original])
    assert text.count(b"\n") == 1
    assert text.endswith(b"\n")
    assert json.loads(text)["topic"] == original.topic
    assert decode_line(text.rstrip(b"\n")) == original


@pytest.mark.parametrize(
    "value",
    [b'{"user_id":"u1","event_time":1}', b'{"b":1, "b":2.50,"a":1e999}', '"é"'.encode(), b'"x"', b"0", b"[]"],
)
def test_json_is_embedded_as_it_is(value: bytes) -> None:
    assert b'"value":' + value + b"}" in encode_lines([line(value)])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",  # bare, it would read as a tombstone
        b"{",
        b"{} ",
        b'{"a":\n1}',
        b'{"a":\r1}',
        b'{"a":NaN}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"{}{}",
        b"[" * 5000 + b"]" * 5000,
        b"[" * 200 + b"]" * 200,  # JSON, but a reader with a deep stack might refuse it
        b'\xef\xbb\xbf{"a":1}',
    ],
)
def test_what_is_not_json_on_one_line_becomes_base64(value: bytes) -> None:
    text = encode_lines([line(value)])
    assert "value_base64" in json.loads(text)
    assert decode_line(text.strip()).value == value


def test_a_tombstone_is_a_null_value() -> None:
    text = encode_lines([line(None, key=None)])
    assert json.loads(text) == {
        "topic": "clicks", "partition": 0, "offset": 0, "timestamp": 0, "key": None, "value": None,
    }  # fmt: skip
    assert decode_line(text.strip()).value is None


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"])
def test_a_file_is_read_back_and_written_the_same_twice(tmp_path: Path, name: str) -> None:
    lines = [line(b'{"n":%d}' % n, offset=n) for n in range(10_000)]
    path = written(tmp_path / name, lines)
    first = path.read_bytes()
    assert read(path) == lines
    (tmp_path / "elsewhere").mkdir()
    assert written(tmp_path / "elsewhere" / name, iter(lines)).read_bytes() == first


def test_the_writer_counts(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "r") as writer:
        writer.write(line())
        writer.write_many([line(), line()])
        assert writer.count == 3


def test_several_gzip_or_zstd_members_in_one_file_are_read_through(tmp_path: Path) -> None:
    one, two = encode_lines([line(b"1")]), encode_lines([line(b"2")])
    (tmp_path / "r.gz").write_bytes(gzip.compress(one) + gzip.compress(two))
    (tmp_path / "r.zst").write_bytes(zstandard.compress(one) + zstandard.compress(two))
    assert read(tmp_path / "r.gz") == read(tmp_path / "r.zst") == [line(b"1"), line(b"2")]


@pytest.mark.parametrize("name", ["r.gz", "r.zst"])
def test_a_file_that_was_cut_off_gives_its_good_lines_and_then_an_error(tmp_path: Path, name: str) -> None:
    # Random values: nothing to compress, so that half of the file is about half of the lines.
    lines = [line(json.dumps(os.urandom(64).hex()).encode(), offset=n) for n in range(10_000)]
    path = written(tmp_path / name, lines)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    got = []
    with pytest.raises(InputError, match=rf"{name}: the compressed data end too early") as error:
        for good in read_recording([path], on_broken=unexpected):
            got.append(good)  # noqa: PERF402 - a comprehension would lose them
    assert got == lines[: len(got)]
    assert len(got) > 3000
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["r.gz", "r.zst"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_an_input_error(tmp_path: Path, name: str) -> None:
    path = text_file(tmp_path / name, {"topic": "clicks", "value": {}})
    with pytest.raises(InputError, match=rf"{name}: the compressed data are damaged"):
        read(path)


def test_a_missing_file_or_a_directory_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    good = written(tmp_path / "good", [line()])
    with pytest.raises(InputError, match="missing: no such file"):
        read_recording([good, tmp_path / "missing"], on_broken=unexpected)
    with pytest.raises(InputError, match="is a directory"):
        read_topic_files({"clicks": [tmp_path]})


def test_a_place_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*: No such file or directory"):
        RecordingWriter(tmp_path / "no" / "such" / "folder")


def test_a_full_disk_is_a_run_error() -> None:
    writer = RecordingWriter("/dev/full")
    with pytest.raises(RunError, match="cannot write /dev/full: No space left on device"), writer:
        writer.write(line(b'"' + b"x" * 100_000 + b'"'))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_dash_is_standard_input_and_output(pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
    with RecordingWriter("-") as writer:
        writer.write(line())
    assert not out.closed
    stdin = io.BufferedReader(io.BytesIO(pack(out.getvalue())))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))
    assert read("-") == [line()]


def test_standard_input_can_be_named_once_only() -> None:
    with pytest.raises(ConfigError, match="once only"):
        read("-", "-")


# ---------------------------------------------------------------- reading what others wrote


def test_missing_partitions_and_offsets_are_filled_in(tmp_path: Path) -> None:
    path = text_file(
        tmp_path / "r",
        {"topic": "a", "value": 1},
        {"topic": "a", "value": 2},
        {"topic": "b", "partition": 3, "value": 1},
        {"topic": "a", "offset": 10, "value": 3, "surplus": True},
        {"topic": "a", "timestamp": -1, "offset": None, "partition": None, "value": 4},
    )
    assert [(got.topic, got.partition, got.offset, got.timestamp) for got in read(path)] == [
        ("a", 0, 0, None),
        ("a", 0, 1, None),
        ("b", 3, 0, None),
        ("a", 0, 10, None),
        ("a", 0, 11, None),
    ]


def test_running_offsets_go_on_from_one_file_to_the_next(tmp_path: Path) -> None:
    one = text_file(tmp_path / "one", {"topic": "a", "timestamp": 1, "value": 1})
    two = text_file(tmp_path / "two", {"topic": "a", "timestamp": 2, "value": 2})
    assert [got.offset for got in read(two, one)] == [0, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"not json", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"topic":"\xff","value":1}', "UTF-8"),
        (b"[1]", "Expected `object`"),
        (b'{"value":1}', "missing required field `topic`"),
        (b'{"topic":"","value":1}', "length >= 1"),
        (b'{"topic":"a"}', "neither"),
        (b'{"topic":"a","value":1} {}', "trailing"),
        (b'{"topic":"a","value":1', "truncated"),
        (b'{"topic":"a","value":[NaN]}', "malformed"),
        (b'{"topic":"a","offset":"1","value":1}', "Expected `int | null`"),
        (b'{"topic":"a","offset":-1,"value":1}', "offset"),
        (b'{"topic":"a","partition":3000000000,"value":1}', "partition"),
        (b'{"topic":"a","value_base64":"!"}', "base64"),
        (b'{"topic":"a","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deeply"),
    ],
)
def test_a_broken_line_is_reported_in_its_place_and_harms_no_other(tmp_path: Path, text: bytes, reason: str) -> None:
    path = text_file(tmp_path / "r", {"topic": "a", "value": 1}, text, {"topic": "a", "value": 2})
    before, broken, after = read_with_broken(path)
    assert isinstance(before, Line)
    assert isinstance(after, Line)
    assert (before.value, after.value) == (b"1", b"2")
    assert isinstance(broken, BrokenLine)
    assert (broken.path, broken.line_no, broken.raw) == (str(path), 2, text)
    assert reason in broken.reason


def test_empty_lines_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b'\xef\xbb\xbf{"topic":"a","value":{"n": 1}}\r\n\r\n  \n\n{"topic":"a","value":2}')
    assert [got.value for got in read(path)] == [b'{"n": 1}', b"2"]


def test_an_endless_line_is_broken_but_never_held_in_memory_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_files, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr("agents.recordings.MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(line_files, "_BLOCK_BYTES", 64)
    path = text_file(tmp_path / "r", {"topic": "a", "value": 1}, b"x" * 100_000, {"topic": "a", "value": 2})
    first, broken, last = read_with_broken(path)
    assert isinstance(broken, BrokenLine)
    assert (broken.line_no, broken.reason) == (2, "longer than 1000 bytes")
    assert len(broken.raw) <= 1001
    assert [first, last] == [line(b"1", topic="a", timestamp=None, key=None),
                             line(b"2", topic="a", timestamp=None, key=None, offset=1)]  # fmt: skip


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 2**18])
def test_it_does_not_matter_where_blocks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(line_files, "_BLOCK_BYTES", block_bytes)
    lines = [line(b'{"n":"%s"}' % (b"x" * n), offset=n) for n in range(30)]
    assert read(written(tmp_path / "r", lines)) == lines


# ---------------------------------------------------------------- merging


def test_recordings_are_merged_by_the_largest_timestamp_so_far(tmp_path: Path) -> None:
    one = written(
        tmp_path / "one",
        [
            line(b'"one at 1"', timestamp=1),
            line(b'"one at 5"', timestamp=5),
            line(b'"one at 2, behind 5"', timestamp=2),
            line(b'"one without, behind 5"', timestamp=None),
            line(b'"one at 9"', timestamp=9),
        ],
    )
    two = written(
        tmp_path / "two",
        [
            line(b'"two without"', timestamp=None),
            line(b'"two at 1"', timestamp=1),
            line(b'"two at 5"', timestamp=5),
            line(b'"two at 6"', timestamp=6),
        ],
    )
    assert [json.loads(got.value or b"") for got in read(one, two)] == [
        "two without",
        "one at 1",
        "two at 1",
        "one at 5",
        "one at 2, behind 5",
        "one without, behind 5",
        "two at 5",
        "two at 6",
        "one at 9",
    ]


@given(st.lists(st.lists(st.none() | st.integers(0, 50), max_size=8), min_size=1, max_size=4))
def test_merging_loses_nothing_and_keeps_each_files_order(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[int | None]]
) -> None:
    folder = tmp_path_factory.mktemp("merged")
    paths = [
        written(
            folder / str(index),
            [line(topic=str(index), offset=n, timestamp=timestamp) for n, timestamp in enumerate(timestamps)],
        )
        for index, timestamps in enumerate(files)
    ]
    merged = read(*paths)
    for index, timestamps in enumerate(files):
        own = [got for got in merged if got.topic == str(index)]
        assert [got.offset for got in own] == list(range(len(timestamps)))
        assert [got.timestamp for got in own] == timestamps
    if all(timestamps == sorted(t for t in timestamps if t is not None) for timestamps in files):
        everything = [got.timestamp for got in merged]
        assert everything == sorted(t for t in everything if t is not None)


def test_a_broken_line_goes_with_the_line_before_it(tmp_path: Path) -> None:
    one = text_file(
        tmp_path / "one", {"topic": "a", "timestamp": 5, "value": 1}, b"broken",
        {"topic": "a", "timestamp": 9, "value": 2},
    )  # fmt: skip
    two = text_file(tmp_path / "two", {"topic": "b", "timestamp": 7, "value": 1})
    kinds = [got.topic if isinstance(got, Line) else "broken" for got in read_with_broken(one, two)]
    assert kinds == ["a", "broken", "b", "a"]


# ---------------------------------------------------------------- bare topic files


def test_topic_files_are_merged_by_event_time(tmp_path: Path) -> None:
    impressions = text_file(
        tmp_path / "impressions",
        {"event_time": 1000},
        b"  not json  ",
        {"event_time": "1970-01-01T00:00:03Z"},
        {"event_time": 2000},
        {"event_time": True},
        {"event_time": 5000},
    )
    clicks = text_file(tmp_path / "clicks", {"@timestamp": "1970-01-01T00:00:02.500Z"}, {"event_time": 4000.0})
    got = list(read_topic_files({"impressions": [impressions], "clicks": [clicks]}))
    assert [(one.topic, one.partition, one.offset, one.timestamp, one.key) for one in got] == [
        ("impressions", 0, 0, 1000, None),
        ("impressions", 0, 1, 1000, None),
        ("clicks", 0, 0, 2500, None),
        ("impressions", 0, 2, 3000, None),
        ("impressions", 0, 3, 2000, None),
        ("impressions", 0, 4, 2000, None),
        ("clicks", 0, 1, 4000, None),
        ("impressions", 0, 5, 5000, None),
    ]
    assert got[1].value == b"not json"


def test_event_time_counts_before_logstashs_timestamp(tmp_path: Path) -> None:
    path = text_file(tmp_path / "t", {"@timestamp": "1970-01-01T00:00:09Z", "event_time": 1})
    assert [got.timestamp for got in read_topic_files({"clicks": [path]})] == [1]


def test_one_impossible_time_does_not_hold_back_the_rest_of_its_file(tmp_path: Path) -> None:
    one = text_file(tmp_path / "one", {"event_time": 1}, {"event_time": 10**15}, {"event_time": 2})
    two = text_file(tmp_path / "two", {"event_time": 3})
    got = read_topic_files({"a": [one], "b": [two]}, latest_ms=10**14)
    assert [(line.topic, line.timestamp) for line in got] == [("a", 1), ("a", 1), ("a", 2), ("b", 3)]


def test_a_topic_may_have_several_files(tmp_path: Path) -> None:
    one = text_file(tmp_path / "one", {"event_time": 1}, {"event_time": 3})
    two = tmp_path / "two.gz"
    two.write_bytes(gzip.compress(b'{"event_time":2}'))
    got = list(read_topic_files({"clicks": [one, two]}))
    assert [(line.offset, line.timestamp) for line in got] == [(0, 1), (1, 2), (2, 3)]
