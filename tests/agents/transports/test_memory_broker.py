"""The embedded broker itself: offsets, keys, arrival, taps, and how it forgets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from agents.transports.consumer import Position
from agents.transports.memory import MemoryProducer
from agents.transports.memory_broker import MemoryBroker, Record
from tests.agents.transports.members import Member, until

CLICKS = TP("clicks", 0)
# From the tests of Kafka's Java client.
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    yield MemoryBroker.of("broker-test")
    MemoryBroker.forget("broker-test")


class Reader:
    """As much of a consumer as the broker looks at."""

    def __init__(self, group: str, *topics: str) -> None:
        self.group = group
        self.topics = frozenset(topics)
        self.positions: dict[TP, int] = {}


def member(group: str, *topics: str) -> Any:
    return Reader(group, *topics)


@pytest.mark.parametrize("partitions", [1, 3, 4, 12])
def test_a_key_goes_where_kafkas_clients_send_it(partitions: int) -> None:
    broker = MemoryBroker(partitions)
    for key, hashed in JAVA_MURMUR2.items():
        assert broker.partition_for("clicks", key) == (hashed & 0x7FFF_FFFF) % partitions
        broker.append("clicks", key, b"")
        assert broker.read(TP("clicks", broker.partition_for("clicks", key)), 0, 100)[-1].key == key


def test_offsets_count_each_partition_and_arrivals_count_all() -> None:
    broker = MemoryBroker(partitions=2)
    appended = [broker.append(topic, None, b"", partition) for topic, partition in [("a", 0), ("b", 0), ("a", 1)] * 3]
    assert [record.offset for record in appended] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [record.arrival for record in appended] == list(range(9))
    assert broker.read(TP("a", 1), 1, 1) == [appended[5]]
    assert broker.read(TP("a", 1), 0, 10, before_arrival=8) == [appended[2], appended[5]]
    assert (broker.begin_offset(TP("a", 0)), broker.end_offset(TP("a", 0))) == (0, 3)


def test_a_topic_keeps_its_partitions_and_has_no_others() -> None:
    broker = MemoryBroker(partitions=4)
    broker.create_topic("clicks", 2)
    broker.create_topic("clicks", 8)
    assert (broker.partitions_of("clicks"), broker.partitions_of("new")) == (2, 4)
    for partition in (-1, 2):
        with pytest.raises(ValueError, match=f"topic clicks has 2 partitions, got partition {partition}"):
            broker.append("clicks", None, b"", partition)


def test_a_tap_hears_a_topic_from_now_on_in_the_order_of_arrival() -> None:
    broker = MemoryBroker(partitions=2)
    broker.append("clicks", None, b"before", 0)
    heard: list[tuple[TP, Record]] = []
    broker.tap("clicks", lambda tp, record: heard.append((tp, record)))
    sent = [(TP("clicks", partition), broker.append("clicks", b"k", b"v", partition)) for partition in (1, 0, 1)]
    broker.append("impressions", None, b"other", 0)
    assert heard == sent


def test_without_readers_memory_is_bounded() -> None:
    broker = MemoryBroker(partitions=1, keep_records=5_000)
    longest = 0
    for number in range(50_000):
        broker.append("windows", None, b"%d" % number)
        longest = max(longest, broker.end_offset(TP("windows", 0)) - broker.begin_offset(TP("windows", 0)))
    assert longest <= 5_000 * 1.5
    assert [record.value for record in broker.read(TP("windows", 0), 49_999, 5)] == [b"49999"]


def test_what_all_subscribed_groups_have_committed_is_forgotten() -> None:
    broker = MemoryBroker(partitions=1)
    broker.join(member("join", "clicks"))
    for _ in range(10_000):
        broker.append("clicks", None, b"")
    broker.commit("join", {CLICKS: Position(9_000)})
    assert broker.begin_offset(CLICKS) == 9_000


def test_a_group_that_has_left_holds_nothing_back() -> None:
    broker = MemoryBroker(partitions=1)
    gone = member("gone", "clicks")
    broker.join(gone)
    broker.commit("gone", {CLICKS: Position(0)})
    broker.leave(gone)
    broker.join(member("join", "clicks"))
    for _ in range(10_000):
        broker.append("clicks", None, b"")
    broker.commit("join", {CLICKS: Position(10_000)})
    assert broker.begin_offset(CLICKS) == 10_000


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 3_000)),
            st.tuples(st.sampled_from(["join", "windows"]), st.floats(0, 1)),
        ),
        max_size=25,
    )
)
def test_nothing_is_lost_that_a_subscribed_group_has_not_committed(steps: list[tuple[str, float]]) -> None:
    broker = MemoryBroker(partitions=1, keep_records=100)
    committed = {"join": 0, "windows": 0}
    for group in committed:
        broker.join(member(group, "clicks"))
    for what, number in steps:
        if what == "append":
            for _ in range(int(number)):
                broker.append("clicks", None, b"")
        else:
            end = broker.end_offset(CLICKS)
            committed[what] += int((end - committed[what]) * number)
            broker.commit(what, {CLICKS: Position(committed[what])})
        assert broker.begin_offset(CLICKS) <= min(committed.values())
        for offset in committed.values():
            kept = broker.read(CLICKS, offset, 1 << 30)
            assert [record.offset for record in kept] == list(range(offset, broker.end_offset(CLICKS)))


def test_readers_see_how_much_is_left() -> None:
    broker = MemoryBroker(partitions=1)
    reader = member("join", "clicks")
    broker.join(reader)
    reader.positions = {CLICKS: 2}
    for _ in range(5):
        broker.append("clicks", None, b"")
    assert broker.backlog() == 3


async def test_the_producer_says_where_a_record_went(broker: MemoryBroker) -> None:
    broker.create_topic("clicks", 8)
    app = Member("memory://broker-test", "group", ["clicks"])
    producer = app.producer
    assert isinstance(producer, MemoryProducer)

    told = await producer.send_and_wait("clicks", b"abc", b"value", None, 1.5, None)

    partition = (JAVA_MURMUR2[b"abc"] & 0x7FFF_FFFF) % 8
    assert (told.topic, told.partition, told.offset, told.timestamp) == ("clicks", partition, 0, 1500)
    assert broker.read(TP("clicks", partition), 0, 1)[0].value == b"value"
    assert producer.key_partition("clicks", b"abc") == TP("clicks", partition)
    assert (await (await producer.send("clicks", b"abc", None, None, None, None))).offset == 1


async def test_a_round_is_a_slice_of_the_order_of_arrival(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.transports.memory.ROUND_RECORDS", 10)
    for topic in ("clicks", "impressions"):
        broker.create_topic(topic, 1)
    for number in range(30):
        broker.append("impressions" if number % 3 else "clicks", None, b"%d" % number)
    app = Member("memory://broker-test", "group", ["clicks", "impressions"])
    await app.start()
    await until(lambda: sum(batch.records for batch in app.batches) == 30)
    await app.stop()

    columns: list[Any] = [section.arrival for batch in app.batches for section in batch.sections]
    arrivals = [arrival for column in columns for arrival in column.tolist()]
    rounds = [sorted(arrivals[at : at + 10]) for at in range(0, 30, 10)]
    assert rounds == [list(range(at, at + 10)) for at in range(0, 30, 10)]


def test_brokers_of_other_names_share_nothing(broker: MemoryBroker) -> None:
    assert MemoryBroker.of("broker-test") is broker
    assert MemoryBroker.of("broker-test-2") is not broker
    MemoryBroker.forget("broker-test-2")
