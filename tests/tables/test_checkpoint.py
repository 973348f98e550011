"""What every checkpoint store promises, told on every kind of Redis."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tables.checkpoint import CheckpointStore, Scope
from tables.errors import FellBehind, Fenced
from tables.redis_store import RedisStore

JOIN = Scope("join", 3)
NOON = 1_700_000_000_000

OpenStore = Callable[..., Awaitable[RedisStore]]


@pytest.fixture
async def store(store_url: str, open_store: OpenStore) -> CheckpointStore:
    return await open_store(store_url)


@pytest.fixture
async def other_worker(store_url: str, open_store: OpenStore) -> CheckpointStore:
    return await open_store(store_url)


@pytest.fixture
def base(namespace: str) -> str:
    """What the keys of the scope start with."""
    return f"tidemark:{{{namespace}:join:3}}:"


async def forget_everything(redis: Any, base: str) -> None:
    await put_back(redis, base, {})


async def copy_of(redis: Any, base: str) -> dict[bytes, bytes]:
    """The scope as a backup, or a replica that lags, would have it."""
    return {key: await redis.dump(key) async for key in redis.scan_iter(match=f"{base}*")}


async def put_back(redis: Any, base: str, older: dict[bytes, bytes]) -> None:
    async for key in redis.scan_iter(match=f"{base}*"):
        await redis.delete(key)
    for key, dump in older.items():
        await redis.restore(key, 60_000, dump)


async def test_the_first_claim_finds_nothing(store: CheckpointStore) -> None:
    found = await store.claim(JOIN, NOON)

    assert (found.head, dict(found.chunks), found.complete) == (None, {}, True)
    assert (found.lease.scope, found.lease.epoch, found.lease.number) == (JOIN, NOON, 0)


async def test_what_was_saved_is_what_the_next_owner_loads(
    store: CheckpointStore, other_worker: CheckpointStore
) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"\x00offsets 10\xff", append={"10:00": b"aaaa", "10:01": b"bb"})
    await store.save(lease, b"offsets 20", append={"10:01": b"BB\n", "10:02": b"", "10:03": b"\x00\r\n"})
    await store.save(lease, b"offsets 30", drop=["10:00", "never there"])
    assert lease.number == 3

    found = await other_worker.claim(JOIN, NOON + 1)

    assert found.head == b"offsets 30"
    assert found.chunks == {"10:01": b"bbBB\n", "10:03": b"\x00\r\n"}
    assert found.complete
    assert found.lease.number == 3


async def test_scopes_do_not_meet(store: CheckpointStore) -> None:
    scopes = [Scope("join", 3), Scope("join", 33), Scope("windows", 3)]
    for scope in scopes:
        lease = (await store.claim(scope, NOON)).lease
        await store.save(lease, repr(scope).encode(), append={"rows": scope.agent.encode()})

    for scope in scopes:
        found = await store.claim(scope, NOON)
        assert (found.head, found.chunks["rows"]) == (repr(scope).encode(), scope.agent.encode())


async def test_a_chunk_that_is_dropped_and_appended_is_replaced(store: CheckpointStore) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"rows": b"old", "same": b"stays"})
    await store.save(lease, b"2", append={"rows": b"new!"}, drop=["rows"])

    found = await store.claim(JOIN, NOON)
    assert found.chunks == {"rows": b"new!", "same": b"stays"}
    assert found.complete


@pytest.mark.parametrize("size", [65_471, 65_472, 65_473, 9_000_000])
async def test_large_chunks_and_many_small_ones_come_back_in_order(store: CheckpointStore, size: int) -> None:
    large = bytes(range(251)) * (size // 251 + 1)
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"0", append={"large": large[:size], "small": b"0,"})
    for number in range(1, 70):  # more than one slice of a chunk that is loaded
        await store.save(lease, b"%d" % number, append={"small": b"%d," % number})

    found = await store.claim(JOIN, NOON)

    assert found.complete
    assert found.chunks["large"] == large[:size]
    assert found.chunks["small"] == b"".join(b"%d," % number for number in range(70))


async def test_epochs_follow_the_clock_and_grow_even_when_it_stands_still(store: CheckpointStore) -> None:
    clocks = [NOON, NOON, NOON - 60_000, NOON + 60_000]
    epochs = [(await store.claim(JOIN, now)).lease.epoch for now in clocks]
    assert epochs == [NOON, NOON + 1, NOON + 2, NOON + 60_000]


async def test_a_zombie_is_fenced_and_leaves_no_trace(store: CheckpointStore, other_worker: CheckpointStore) -> None:
    zombie = (await store.claim(JOIN, NOON)).lease
    await store.save(zombie, b"1", append={"rows": b"a"})

    # The worker is paused; its partition moves on, and the new owner has not even saved yet.
    owner = (await other_worker.claim(JOIN, NOON)).lease
    with pytest.raises(Fenced, match="join/3"):
        await store.save(zombie, b"zombie", append={"rows": b"Z"}, drop=["rows"])
    await other_worker.save(owner, b"2", append={"rows": b"b"})
    with pytest.raises(Fenced):
        await store.save(zombie, b"zombie", append={"rows": b"Z"})

    assert zombie.number == 1
    found = await store.claim(JOIN, NOON)
    assert (found.head, found.chunks) == (b"2", {"rows": b"ab"})


async def test_an_old_claim_in_the_same_worker_is_fenced_too(store: CheckpointStore) -> None:
    before = (await store.claim(JOIN, NOON)).lease
    await store.claim(JOIN, NOON)
    with pytest.raises(Fenced):
        await store.save(before, b"1")


async def test_a_save_whose_reply_got_lost_is_repeated_without_harm(store: CheckpointStore) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    for number in (1, 2, 3):
        unanswered = copy.copy(lease)
        await store.save(unanswered, b"%d" % number, append={"rows": b"%d" % number})
        await store.save(lease, b"%d" % number, append={"rows": b"%d" % number})
        assert lease.number == number

    found = await store.claim(JOIN, NOON)
    assert (found.lease.number, found.chunks, found.complete) == (3, {"rows": b"123"}, True)


async def test_a_repeat_with_other_arguments_does_not_pass_for_saved(store: CheckpointStore) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(copy.copy(lease), b"offsets 10", append={"rows": b"a"})

    with pytest.raises(FellBehind):
        await store.save(lease, b"offsets 20", append={"rows": b"ab"})

    found = await store.claim(JOIN, NOON)
    assert (found.head, found.chunks) == (b"offsets 10", {"rows": b"a"})


async def test_a_request_that_arrives_after_its_repeat_and_the_next_one_does_nothing(
    store: CheckpointStore,
) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    slow_on_the_wire = copy.copy(lease)
    await store.save(lease, b"1", append={"rows": b"a"})
    await store.save(lease, b"2", append={"rows": b"b"})

    with pytest.raises(FellBehind):
        await store.save(slow_on_the_wire, b"1", append={"rows": b"a"})

    assert (await store.claim(JOIN, NOON)).chunks == {"rows": b"ab"}


async def test_an_emptied_store_is_noticed(store: CheckpointStore, redis: Any, base: str) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await forget_everything(redis, base)
    with pytest.raises(FellBehind, match="holds nothing"):  # even before anything was saved
        await store.save(lease, b"1")

    lease = (await store.claim(JOIN, NOON + 1)).lease
    await store.save(lease, b"1", append={"rows": b"a"})
    await forget_everything(redis, base)
    with pytest.raises(FellBehind, match="holds nothing"):
        await store.save(lease, b"2", append={"rows": b"b"})

    assert lease.number == 1
    assert (await store.claim(JOIN, NOON + 2)).head is None


async def test_an_older_copy_of_the_store_is_noticed_and_can_be_gone_on_from(
    store: CheckpointStore, redis: Any, base: str
) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"rows": b"a"})
    backup = await copy_of(redis, base)
    await store.save(lease, b"2", append={"rows": b"b"})
    await store.save(lease, b"3", append={"rows": b"c"})
    await put_back(redis, base, backup)

    with pytest.raises(FellBehind, match=r"checkpoint 4 .* holds checkpoint 1"):
        await store.save(lease, b"4", append={"rows": b"d"})

    found = await store.claim(JOIN, NOON + 1)
    assert (found.head, found.chunks, found.lease.number) == (b"1", {"rows": b"a"}, 1)
    await store.save(found.lease, b"2 again", append={"rows": b"bcd"})
    assert (await store.claim(JOIN, NOON)).chunks == {"rows": b"abcd"}


@pytest.mark.parametrize("rebuilt_from", [0, 41])
async def test_a_copy_from_between_claim_and_first_save_is_no_empty_store(
    store: CheckpointStore, redis: Any, base: str, rebuilt_from: int
) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    lease.number = rebuilt_from
    backup = await copy_of(redis, base)
    await store.save(lease, b"1", append={"rows": b"a"})
    await put_back(redis, base, backup)

    with pytest.raises(FellBehind, match="holds checkpoint 0"):
        await store.save(lease, b"2", append={"rows": b"b"})


async def test_a_copy_from_before_the_claim_fences_nobody_but_lets_nobody_write(
    store: CheckpointStore, other_worker: CheckpointStore, redis: Any, base: str
) -> None:
    before = (await store.claim(JOIN, NOON)).lease
    await store.save(before, b"1")
    backup = await copy_of(redis, base)
    after = (await other_worker.claim(JOIN, NOON)).lease
    await put_back(redis, base, backup)

    with pytest.raises(FellBehind):
        await other_worker.save(after, b"2")


async def test_a_rebuilt_scope_may_keep_its_numbering(store: CheckpointStore) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    lease.number = 41
    unanswered = copy.copy(lease)
    await store.save(unanswered, b"rebuilt", append={"rows": b"all"})
    await store.save(lease, b"rebuilt", append={"rows": b"all"})
    assert lease.number == 42

    found = await store.claim(JOIN, NOON)
    assert (found.lease.number, found.chunks) == (42, {"rows": b"all"})


async def test_numbers_may_be_skipped_but_not_used_twice(store: CheckpointStore) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"7", number=7)
    with pytest.raises(ValueError, match="checkpoint 7 cannot follow checkpoint 7"):
        await store.save(lease, b"7 again", number=7)
    await store.save(lease, b"9", number=9)
    assert (await store.claim(JOIN, NOON)).lease.number == 9


@pytest.mark.parametrize("damage", ["expired", "half lost"])
async def test_a_damaged_chunk_makes_the_snapshot_incomplete_until_it_is_replaced(
    store: CheckpointStore, redis: Any, base: str, damage: str
) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"10:00": b"aa", "10:01": b"bb"})
    await store.save(lease, b"2", append={"10:00": b"AA"})
    await (redis.delete if damage == "expired" else redis.rpop)(f"{base}chunk:10:00")

    found = await store.claim(JOIN, NOON)
    assert not found.complete
    assert found.head == b"2"
    assert found.chunks == {"10:00": b"" if damage == "expired" else b"aa", "10:01": b"bb"}

    await store.save(found.lease, b"rebuilt", append={"10:00": b"aaAA"}, drop=found.chunks)
    found = await store.claim(JOIN, NOON)
    assert (found.head, found.chunks, found.complete) == (b"rebuilt", {"10:00": b"aaAA"}, True)


async def test_a_chunk_lost_while_it_is_written_is_noticed_at_the_next_append(
    store: CheckpointStore, redis: Any, base: str
) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"rows": b"a"})
    await redis.delete(f"{base}chunk:rows")

    with pytest.raises(FellBehind, match="chunk:rows"):
        await store.save(lease, b"2", append={"other": b"x", "rows": b"b"})

    found = await store.claim(JOIN, NOON)
    assert (found.head, found.chunks, found.complete) == (b"1", {"rows": b""}, False)


async def test_chunks_left_over_from_a_lost_head_are_not_appended_to(
    store: CheckpointStore, redis: Any, base: str
) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.save(lease, b"1", append={"rows": b"old"})
    await redis.delete(f"{base}head")

    lease = (await store.claim(JOIN, NOON + 1)).lease
    await store.save(lease, b"rebuilt", append={"rows": b"all"})

    found = await store.claim(JOIN, NOON)
    assert (found.chunks, found.complete) == ({"rows": b"all"}, True)


async def test_hints_are_shared_by_all_workers(store: CheckpointStore, other_worker: CheckpointStore) -> None:
    assert await store.hints("watermarks") == {}

    await store.hint("watermarks", "impressions/0", b"100")
    await other_worker.hint("watermarks", "impressions/1", b"\xff")
    await other_worker.hint("watermarks", "impressions/0", b"200")
    await store.hint("elsewhere", "x", b"1")

    assert await store.hints("watermarks") == {"impressions/0": b"200", "impressions/1": b"\xff"}


async def test_a_store_can_be_closed_and_opened_again(store: CheckpointStore) -> None:
    lease = (await store.claim(JOIN, NOON)).lease
    await store.close()
    await store.open()
    await store.ping()
    await store.save(lease, b"1")
