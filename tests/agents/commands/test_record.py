"""`tidemark record`, on a real broker."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from agents.commands.main import main
from agents.commands.record import parse_when
from agents.recordings import BrokenLine, Line, read_recording
from deploy.stack import KafkaCluster
from tables.errors import ConfigError

NOON = 1_777_636_800_000
"""2026-05-01T12:00:00Z."""


def lines_of(path: Path) -> list[Line]:
    broken: list[BrokenLine] = []
    lines = list(read_recording([path], on_broken=broken.append))
    assert broken == []
    return lines


def test_topics_and_partitions_are_merged_in_order_of_arrival(
    kafka: KafkaCluster,
    topic_prefix: str,
    produce: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    impressions, clicks = f"{topic_prefix}impressions", f"{topic_prefix}clicks"
    kafka.create_topics({impressions: 3, clicks: 2})
    dice = random.Random(7)
    # Enough, and large enough, that no partition comes in a single fetch.
    sent = []
    for index in range(4_000):
        topic, partitions = dice.choice([(impressions, 3), (impressions, 3), (clicks, 2)])
        value = json.dumps({"index": index, "padding": "x" * 1_500}).encode()
        sent.append((topic, dice.randrange(partitions), NOON + index, value))
    produce(sent)

    out = tmp_path / "shop.jsonl.zst"
    arguments = ["--topic", impressions, "--topic", clicks, "--broker", kafka.url, "--out", str(out)]
    assert main(["record", *arguments]) == 0
    lines = lines_of(out)
    assert [(line.topic, line.partition, line.timestamp, line.value) for line in lines] == sent
    assert lines[-1].offset == sum(line[:2] == sent[-1][:2] for line in sent) - 1
    said = capsys.readouterr().err
    assert re.fullmatch(rf"recorded 4,000 records of {impressions}, {clicks} in \S+ s \(\S+/s\)\n", said)


def test_a_partition_keeps_its_order_whatever_its_timestamps(
    kafka: KafkaCluster, topic_prefix: str, produce: Callable[..., None], tmp_path: Path
) -> None:
    topic = f"{topic_prefix}clicks"
    kafka.create_topics({topic: 2})
    produce(
        [
            (topic, 0, NOON + 5, b"1"),
            (topic, 0, NOON + 1, b"2"),
            (topic, 1, NOON + 3, b"3"),
            (topic, 0, NOON + 9, b"4"),
        ]
    )
    out = tmp_path / "r.jsonl"
    main(["record", "--topic", topic, "--broker", kafka.url, "--out", str(out)])
    assert [line.value for line in lines_of(out)] == [b"3", b"1", b"2", b"4"]


def test_since_and_until_cut_at_kafkas_timestamps(
    kafka: KafkaCluster, topic_prefix: str, produce: Callable[..., None], tmp_path: Path
) -> None:
    topic = f"{topic_prefix}clicks"
    kafka.create_topics({topic: 2})
    produce([(topic, index % 2, NOON + index * 1000, b"%d" % index) for index in range(10)])
    out = tmp_path / "r.jsonl"

    def recorded(*window: str) -> list[int]:
        arguments = ["--topic", topic, "--broker", kafka.url, "--out", str(out), *window]
        assert main(["record", *arguments]) == 0
        return [int(line.value or b"-1") for line in lines_of(out)]

    assert recorded("--since", "2026-05-01T12:00:03Z") == [3, 4, 5, 6, 7, 8, 9]
    assert recorded("--until", "2026-05-01T14:00:03+02:00") == [0, 1, 2]
    assert recorded("--since", str(NOON + 2000), "--until", str(NOON + 8000)) == [2, 3, 4, 5, 6, 7]
    assert recorded("--since", "2099-01-01T00:00:00Z") == []
    # From before the first to after the last.
    assert recorded("--since", "2000-01-01T00:00:00Z", "--until", "2099-01-01T00:00:00Z") == list(range(10))


def test_a_topic_that_ends_in_a_transaction_ends(kafka: KafkaCluster, topic_prefix: str, tmp_path: Path) -> None:
    topic = f"{topic_prefix}clicks"
    kafka.create_topics({topic: 1})

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{topic_prefix}writer")
        async with producer, producer.transaction():
            await producer.send_and_wait(topic, b"{}", partition=0)

    asyncio.run(send())
    out = tmp_path / "r.jsonl"
    # The last offset is the end of the transaction, which is no record.
    assert main(["record", "--topic", topic, "--broker", kafka.url, "--out", str(out)]) == 0
    assert len(lines_of(out)) == 1


def test_an_empty_topic_is_an_empty_recording(kafka: KafkaCluster, topic_prefix: str, tmp_path: Path) -> None:
    topic = f"{topic_prefix}clicks"
    kafka.create_topics({topic: 2})
    out = tmp_path / "r.jsonl"
    assert main(["record", "--topic", topic, "--broker", kafka.url, "--out", str(out)]) == 0
    assert out.read_bytes() == b""


def test_an_unknown_topic_is_named_with_the_nearest_and_no_file_is_touched(
    kafka: KafkaCluster, topic_prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topics({f"{topic_prefix}clicks": 1})
    out = tmp_path / "r.jsonl"
    out.write_text("older\n")
    assert main(["record", "--topic", f"{topic_prefix}clics", "--broker", kafka.url, "--out", str(out)]) == 1
    assert f"no topic {topic_prefix}clics; did you mean {topic_prefix}clicks?" in capsys.readouterr().err
    assert out.read_text() == "older\n"


def test_an_output_that_cannot_be_written_is_a_failure_in_one_line(
    kafka: KafkaCluster, topic_prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topics({f"{topic_prefix}clicks": 1})
    arguments = [
        "--topic",
        f"{topic_prefix}clicks",
        "--broker",
        kafka.url,
        "--out",
        str(tmp_path / "no" / "f"),
    ]
    assert main(["record", *arguments]) == 1
    assert capsys.readouterr().err.startswith("tidemark: error: cannot write ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1h", NOON - 3_600_000),
        ("-1h30m", NOON - 5_400_000),
        ("1777636800000", NOON),
        ("2026-05-01T12:00:00Z", NOON),
        ("2026-05-01T14:00:00.250+02:00", NOON + 250),
    ],
)
def test_times_are_read(text: str, expected: int) -> None:
    assert parse_when(text, NOON, "--since") == expected


@pytest.mark.parametrize("text", ["", "soon", "-", "-x", "-90", "1h", "2026-05-01", "12:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--since: expected a time such as .*, got "):
        parse_when(text, NOON, "--since")


def test_an_end_before_the_beginning_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--topic", "clicks", "--out", "never", "--since", "-1h", "--until", "-2h"]
    assert main(["record", *arguments]) == 2
    assert capsys.readouterr().err == "tidemark: error: --until: expected a time after --since, got -2h\n"
