"""What the agents rely on, told on both transports."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from faust.types import TP

from agents.transports.batch import Sending
from agents.transports.consumer import FETCH_TIMEOUT_S, Layout, Position
from tests.agents.transports.conftest import Join
from tests.agents.transports.members import QUIET_S, Broker, Member, until


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


@pytest.fixture
def clicks(topic_prefix: str) -> TP:
    return TP(f"{topic_prefix}clicks", 0)


@pytest.fixture
def impressions(topic_prefix: str) -> TP:
    return TP(f"{topic_prefix}impressions", 0)


@pytest.fixture
def group(topic_prefix: str) -> str:
    return f"{topic_prefix}group"


# -- what is delivered


async def test_all_that_was_fetched_from_a_partition_is_one_message(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(1, clicks.topic)
    await broker.produce(clicks, [b"1", None, b"", b"{"], keys=[b"u1", b"u2", None, b"u1"])

    member = await join(group, [clicks.topic])

    await until(lambda: member.taken)
    [batch] = member.batches
    [section] = batch.sections
    assert (batch.partition, batch.records, len(section)) == (0, 4, 4)
    assert (section.topic, list(section.offsets), section.next_offset) == (clicks.topic, [0, 1, 2, 3], 4)
    assert list(section.values) == [b"1", None, b"", b"{"]
    assert (member.taken[0].topic, member.taken[0].offset, member.taken[0].key) == (clicks.topic, 3, None)


async def test_records_sent_together_go_where_their_keys_say_and_keep_their_order(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(4, clicks.topic)
    member = await join(group, [clicks.topic])
    producer: Any = await member.maybe_start_producer()
    # More than one of Kafka's batches for a partition, one record larger than a batch, and one without a key.
    said: list[Sending] = [(clicks.topic, b"u%d" % (n % 7), b"%d" % n + bytes(200), None) for n in range(1_000)]
    said += [(clicks.topic, b"u0", b"large" + bytes(100_000), None), (clicks.topic, None, b"here", 2)]

    await asyncio.gather(*await producer.send_all(said))

    await until(lambda: sum(batch.records for batch in member.batches) == len(said))
    expected: dict[int, list[bytes | None]] = {partition: [] for partition in range(4)}
    for topic, key, value, partition in said:
        expected[producer.key_partition(topic, key).partition if partition is None else partition].append(value)
    assert sum(map(bool, expected.values())) > 1
    for number, values in expected.items():
        assert [value for _, value in member.records(clicks._replace(partition=number))] == values


async def test_records_of_a_partition_keep_their_order(broker: Broker, join: Join, group: str, clicks: TP) -> None:
    await broker.create(2, clicks.topic)
    member = await join(group, [clicks.topic])
    other = clicks._replace(partition=1)
    for round_ in range(5):
        await broker.produce(clicks, numbered(round_ * 100, 100))
        await broker.produce(other, numbered(round_ * 10, 10))

    await until(lambda: len(member.offsets(clicks)) >= 500 and len(member.offsets(other)) >= 50)

    assert member.records(clicks) == list(enumerate(numbered(0, 500)))
    assert member.records(other) == list(enumerate(numbered(0, 50)))
    ends = [section.next_offset for batch in member.batches for section in batch.sections if batch.partition == 0]
    assert ends == sorted(set(ends))


async def test_co_partitioned_topics_are_delivered_together_and_others_by_themselves(
    broker: Broker, join: Join, group: str, clicks: TP, impressions: TP, topic_prefix: str
) -> None:
    alone = TP(f"{topic_prefix}alone", 0)
    topics = [clicks.topic, impressions.topic, alone.topic]
    layout = Layout((frozenset(topics[:2]),), held=frozenset(topics))
    await broker.create(2, *topics)
    for topic in topics:
        await broker.produce(TP(topic, 0), numbered(0, 3))
        await broker.produce(TP(topic, 1), numbered(0, 2))
    member = await join(group, topics, layout)

    await member.kept.release({TP(topic, partition): 0 for topic in topics for partition in (0, 1)})

    await until(lambda: sum(batch.records for batch in member.batches) == 15)
    told = {(batch.partition, tuple(section.topic for section in batch.sections)) for batch in member.batches}
    assert told == {
        (0, (clicks.topic, impressions.topic)),
        (1, (clicks.topic, impressions.topic)),
        (0, (alone.topic,)),
        (1, (alone.topic,)),
    }


async def test_a_section_alone_is_delivered_when_its_partner_has_nothing(
    broker: Broker, join: Join, group: str, clicks: TP, impressions: TP
) -> None:
    topics = [clicks.topic, impressions.topic]
    await broker.create(1, *topics)
    member = await join(group, topics, Layout((frozenset(topics),)))

    await broker.produce(impressions, [b"shown"])

    await until(lambda: member.taken)
    assert [section.topic for section in member.batches[0].sections] == [impressions.topic]


async def test_partitions_of_one_number_meet_at_one_member(
    broker: Broker, join: Join, group: str, clicks: TP, impressions: TP
) -> None:
    topics = [clicks.topic, impressions.topic]
    await broker.create(5, *topics)
    members = [await join(group, topics), await join(group, topics)]

    def shares() -> list[set[int]]:
        return [{tp.partition for tp in member.kept.assignment()} for member in members]

    await until(lambda: all(shares()) and not set.intersection(*shares()))
    assert set.union(*shares()) == {0, 1, 2, 3, 4}
    for member, share in zip(members, shares(), strict=True):
        assert member.kept.assignment() == {TP(topic, number) for topic in topics for number in share}


# -- hold and release


async def test_nothing_is_fetched_before_release_and_then_exactly_from_there(
    broker: Broker, join: Join, group: str, clicks: TP, impressions: TP
) -> None:
    await broker.create(1, clicks.topic, impressions.topic)
    await broker.produce(clicks, numbered(0, 10))
    await broker.produce(impressions, numbered(0, 10))
    member = await join(group, [clicks.topic, impressions.topic], Layout(held=frozenset([clicks.topic])))

    await until(lambda: member.offsets(impressions) == list(range(10)))
    await asyncio.sleep(QUIET_S)
    assert member.offsets(clicks) == []
    assert member.kept.is_held(clicks)
    assert not member.kept.is_held(impressions)

    await member.kept.release({clicks: 4})
    await broker.produce(clicks, numbered(10, 1))

    await until(lambda: len(member.offsets(clicks)) == 7)
    assert member.records(clicks) == list(enumerate(numbered(0, 11)))[4:]


async def test_batches_fetched_before_a_hold_are_told_by_their_incarnation(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(1, clicks.topic)
    await broker.produce(clicks, numbered(0, 5))
    member = await join(group, [clicks.topic], Layout(held=frozenset([clicks.topic])))
    first_holding = member.kept.incarnation(clicks)
    await member.kept.release({clicks: 0})
    await until(lambda: member.taken)

    member.kept.hold([clicks])
    assert member.kept.in_flight(clicks) == 0
    await broker.produce(clicks, numbered(5, 1))
    await asyncio.sleep(QUIET_S)
    assert member.offsets(clicks) == [0, 1, 2, 3, 4]
    await member.kept.release({clicks: 2})
    await until(lambda: len(member.offsets(clicks)) == 9)

    assert member.offsets(clicks)[5:] == [2, 3, 4, 5]
    stale, *fresh = member.batches
    assert stale.incarnation == first_holding < member.kept.incarnation(clicks)
    assert {batch.incarnation for batch in fresh} == {member.kept.incarnation(clicks)}


async def test_a_batch_fetched_before_a_hold_cannot_be_acknowledged_after_it(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(1, clicks.topic)
    await broker.produce(clicks, numbered(0, 5))
    member = await join(group, [clicks.topic], Layout(held=frozenset([clicks.topic])))
    await member.kept.release({clicks: 0})
    await until(lambda: member.taken)
    member.kept.hold([clicks])
    await member.kept.release({clicks: 2})
    await until(lambda: len(member.taken) == 2)

    stale, fresh = member.taken
    assert not member.kept.ack(stale)  # it ends where the fresh one does
    assert member.kept.in_flight(clicks) == 3
    assert member.kept.ack(fresh)
    assert member.kept.in_flight(clicks) == 0


@pytest.mark.parametrize("offset", [0, 100])
async def test_an_offset_that_is_not_there_any_more_means_the_oldest_one(
    broker: Broker, join: Join, group: str, clicks: TP, offset: int
) -> None:
    await broker.create(1, clicks.topic)
    await broker.produce(clicks, numbered(0, 10))
    await broker.drop_before(clicks, 6)
    member = await join(group, [clicks.topic], Layout(held=frozenset([clicks.topic])))
    assert await member.kept.begin_offsets([clicks]) == {clicks: 6}

    await member.kept.release({clicks: offset})

    await until(lambda: len(member.offsets(clicks)) >= 4)
    assert member.records(clicks) == [(number, b"%d" % number) for number in (6, 7, 8, 9)]


async def test_at_end_is_asked_of_the_broker_now(
    broker: Broker, join: Join, group: str, clicks: TP, impressions: TP
) -> None:
    topics = [clicks.topic, impressions.topic]
    await broker.create(1, *topics)
    await broker.produce(clicks, numbered(0, 3))
    member = await join(group, topics, Layout(held=frozenset(topics)))
    await member.kept.release({clicks: 0, impressions: 0})
    await until(lambda: len(member.offsets(clicks)) == 3)
    elsewhere = TP("elsewhere", 7)
    assert await member.kept.at_end([clicks, impressions, elsewhere]) == {clicks, impressions}

    member.kept.stalled = True
    await asyncio.sleep(FETCH_TIMEOUT_S + 0.1)  # lets the fetch that is under way end
    await broker.produce(clicks, numbered(3, 1))
    assert await member.kept.at_end([clicks, impressions]) == {impressions}
    assert await member.kept.end_offsets([clicks, impressions]) == {clicks: 4, impressions: 0}
    assert len(member.offsets(clicks)) == 3

    member.kept.stalled = False
    await until(lambda: len(member.offsets(clicks)) == 4)
    assert await member.kept.at_end([clicks]) == {clicks}
    ends: list[int | None] = [member.kept.highwater(tp) for tp in (clicks, elsewhere)]
    assert ends == [4, None]
    assert member.kept.topic_partitions(clicks.topic) == 1


# -- commits


async def test_another_member_reads_the_positions_and_their_notes(
    broker: Broker, join: Join, group: str, clicks: TP, impressions: TP
) -> None:
    topics = [clicks.topic, impressions.topic]
    await broker.create(1, *topics)
    await broker.produce(clicks, numbered(0, 10))
    member = await join(group, topics, Layout(held=frozenset(topics)))
    assert await member.kept.committed_positions([clicks, impressions]) == {}

    member.kept.will_commit({clicks: Position(3, "soon replaced")})
    member.kept.will_commit({clicks: Position(7, '{"note": "é"}')})
    assert await member.kept.commit()
    assert not await member.kept.commit()  # there is nothing new
    await member.stop()

    next_member = await join(group, topics, Layout(held=frozenset(topics)))
    assert await next_member.kept.committed_positions([clicks, impressions]) == {clicks: Position(7, '{"note": "é"}')}
    stranger = await join(f"{group}-other", topics, Layout(held=frozenset(topics)))
    assert await stranger.kept.committed_positions([clicks]) == {}


async def test_acknowledgements_out_of_order_commit_only_what_is_done_from_the_beginning(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(1, clicks.topic)
    member = await join(group, [clicks.topic])
    for round_ in range(3):
        await broker.produce(clicks, numbered(round_ * 10, 10))
        await until(lambda end=round_ * 10 + 10: len(member.offsets(clicks)) == end)  # type: ignore[misc]
    done = {batch.sections[0].next_offset: message for message, batch in zip(member.taken, member.batches, strict=True)}
    assert set(done) >= {10, 20, 30}

    async def committed() -> int | None:
        await member.kept.commit()
        position = (await member.kept.committed_positions([clicks])).get(clicks)
        return None if position is None else position.offset

    for end, message in done.items():
        if 10 < end <= 20:
            assert member.kept.ack(message)
    assert await committed() is None
    assert member.kept.in_flight(clicks) == 20
    for end, message in done.items():
        if end <= 10:
            assert member.kept.ack(message)
    assert await committed() == 20
    assert not member.kept.ack(member.taken[0])  # twice is once
    assert member.kept.in_flight(clicks) == 10

    await member.stop()
    next_member = await join(group, [clicks.topic])
    await until(lambda: next_member.taken)
    assert next_member.offsets(clicks) == list(range(20, 30))


async def test_what_is_acknowledged_is_committed_without_being_asked(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(1, clicks.topic)
    await broker.produce(clicks, numbered(0, 5))
    member = await join(group, [clicks.topic], acks=True)
    await until(lambda: member.taken)
    async with asyncio.timeout(30):
        while await member.kept.committed_positions([clicks]) != {clicks: Position(5)}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# -- back-pressure


async def test_too_much_in_flight_stops_the_fetching_of_that_partition_until_it_is_done(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    other = clicks._replace(partition=1)
    await broker.create(2, clicks.topic)
    await broker.produce(clicks, numbered(0, 150))
    member = await join(group, [clicks.topic], Layout(max_in_flight=100))
    await until(lambda: member.kept.in_flight(clicks) == 150)

    await broker.produce(clicks, numbered(150, 10))
    await broker.produce(other, numbered(0, 10))
    await until(lambda: len(member.offsets(other)) == 10)
    await asyncio.sleep(QUIET_S)
    assert len(member.offsets(clicks)) == 150

    for message in member.taken:
        member.kept.ack(message)
    await until(lambda: len(member.offsets(clicks)) == 160)
    assert member.kept.in_flight(clicks) == 10


async def test_while_stalled_nothing_is_fetched(broker: Broker, join: Join, group: str, clicks: TP) -> None:
    await broker.create(1, clicks.topic)
    member = await join(group, [clicks.topic])
    member.kept.stalled = True
    await asyncio.sleep(FETCH_TIMEOUT_S + 0.1)  # lets the fetch that is under way end

    await broker.produce(clicks, numbered(0, 3))
    await asyncio.sleep(QUIET_S)
    assert not member.taken

    member.kept.stalled = False
    await until(lambda: member.offsets(clicks) == [0, 1, 2])


# -- rebalances


async def test_a_member_that_joins_makes_everybody_give_up_everything(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    partitions = [clicks._replace(partition=number) for number in range(4)]
    await broker.create(4, clicks.topic)
    for tp in partitions:
        await broker.produce(tp, numbered(0, 5))
    first = await join(group, [clicks.topic])
    await until(lambda: sum(batch.records for batch in first.batches) == 20)
    before, generation = list(first.taken), first.consumer_generation_id

    second = await join(group, [clicks.topic])
    await until(lambda: len(first.kept.assignment()) == len(second.kept.assignment()) == 2)

    assert first.revocations == 1
    await until(lambda: first.consumer_generation_id > generation)
    assert not any(first.kept.ack(message) for message in before)
    assert not await first.kept.commit()
    # Nothing was done, so both read their shares from the beginning, the first one for the second time.
    for member, times in ((first, 2), (second, 1)):
        for tp in member.kept.assignment():
            await until(lambda member=member, tp=tp, n=times: member.offsets(tp) == [0, 1, 2, 3, 4] * n)  # type: ignore[misc]
            assert member.kept.in_flight(tp) == 5

    await second.stop()
    await until(lambda: len(first.kept.assignment()) == 4)
    assert first.revocations == 2
    assert first.kept.assignment() == set(partitions)


async def test_held_partitions_are_held_again_by_every_assignment(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    topics, layout = [clicks.topic], Layout(held=frozenset([clicks.topic]))
    await broker.create(2, clicks.topic)
    first = await join(group, topics, layout)
    holding = first.kept.incarnation(clicks)
    await first.kept.release({clicks: 0, clicks._replace(partition=1): 0})

    await join(group, topics, layout)

    await until(lambda: len(first.assignments) == 2)
    [kept] = first.kept.assignment()
    assert first.kept.is_held(kept)
    assert first.kept.incarnation(kept) > holding


async def test_nothing_is_lost_while_members_come_and_go(broker: Broker, join: Join, group: str, clicks: TP) -> None:
    partitions = [clicks._replace(partition=number) for number in range(4)]
    await broker.create(4, clicks.topic)
    members: list[Member] = [await join(group, [clicks.topic], acks=True)]
    produced, going = [0], True

    async def keep_producing() -> None:
        while going:
            for tp in partitions:
                await broker.produce(tp, [b"%d" % produced[0]])
            produced[0] += 1
            await asyncio.sleep(0.002)

    producing = asyncio.create_task(keep_producing())
    members.append(await join(group, [clicks.topic], acks=True))
    members.append(await join(group, [clicks.topic], acks=True))
    await members[0].stop()
    await asyncio.sleep(0.5)
    going = False
    await producing

    def seen(tp: TP) -> set[int]:
        return {offset for member in members for offset in member.offsets(tp)}

    await until(lambda: all(len(seen(tp)) == produced[0] for tp in partitions), seconds=15)


# -- giving up


async def test_what_is_drained_at_the_end_is_committed(broker: Broker, join: Join, group: str, clicks: TP) -> None:
    layout = Layout(held=frozenset([clicks.topic]))
    await broker.create(1, clicks.topic)
    member = await join(group, [clicks.topic], layout)

    async def drain() -> None:
        member.kept.will_commit({clicks: Position(0, "drained")})

    member.kept.before_drain = drain
    await member.stop()

    next_member = await join(group, [clicks.topic], layout)
    assert await next_member.kept.committed_positions([clicks]) == {clicks: Position(0, "drained")}


async def test_agents_that_do_not_drain_do_not_hold_up_the_end(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(1, clicks.topic)
    member = await join(group, [clicks.topic], Layout(held=frozenset([clicks.topic]), drain_timeout_s=0.3))
    member.kept.will_commit({clicks: Position(0, "before")})
    drains = []

    async def hang() -> None:
        drains.append(1)
        await asyncio.sleep(3600)

    member.kept.before_drain = hang
    started = time.monotonic()
    await member.stop()

    assert len(drains) == 1
    assert time.monotonic() - started < 30
    next_member = await join(group, [clicks.topic])
    assert (await next_member.kept.committed_positions([clicks]))[clicks].note == "before"


async def test_agents_that_do_not_drain_do_not_hold_up_a_rebalance(
    broker: Broker, join: Join, group: str, clicks: TP
) -> None:
    await broker.create(2, clicks.topic)
    first = await join(group, [clicks.topic], Layout(drain_timeout_s=0.3))

    async def hang() -> None:
        await asyncio.sleep(3600)

    first.kept.before_drain = hang
    second = await join(group, [clicks.topic])
    await until(lambda: len(first.assignments) == 2, seconds=5)
    assert [len(member.kept.assignment()) for member in (first, second)] == [1, 1]
