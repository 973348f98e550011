"""Serving and drift rows of a partition of the windows agent: when they are final, and what is left of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from agents.metrics import Metrics
from agents.partition_state import Changes
from agents.transports.batch import Batch, Section
from agents.windows_state import WindowsSetting, WindowsState
from tables.distances import distances
from tables.drift_policy import DriftPolicy
from tables.feature_bins import NumericBins
from tables.feature_counts import pack_counts
from tables.join_policy import JoinPolicy
from tables.partials import INFERENCES, JOIN, FeatureRow, Partial, PartialRow, ServingRow, encode_partial
from tables.reference import FeatureReference, Reference, ReferenceBook
from tables.serving import PackedCounts, ServingCounts
from tests.oracle import MINUTE
from tests.tables.streams import T0

HORIZON = 5
POLICY = DriftPolicy(horizon_ms=HORIZON * MINUTE)
AGE = FeatureReference("age", NumericBins((20.0,)), (10, 10, 0, 0))
REFERENCE = Reference("home", None, (AGE,), 1, "test")
NEWER = Reference("home", None, (FeatureReference("age", NumericBins((30.0,)), (10, 10, 0, 0)),), 2, "test")

FINAL = 11 * MINUTE  # so long after its start a window is final


def new_state(*references: Reference, book: ReferenceBook | None = None) -> WindowsState:
    return WindowsState(
        2,
        WindowsSetting(
            JoinPolicy(), lambda: (), "partials", "windows", "alerts", "dead", Metrics(), lambda: False,
            references=book or ReferenceBook(references), drift_policy=lambda _: POLICY,
        ),
    )  # fmt: skip


def seen(minute: int, low: int, high: int, reference: Reference = REFERENCE, model: str = "home") -> FeatureRow:
    """So many of age up to 20 and above."""
    counts = pack_counts(np.array([low, high, 0, 0]))
    return FeatureRow(model, "v1", T0 + minute * MINUTE, reference.bins_id, counts)


def served(minute: int, requests: int) -> ServingRow:
    return ServingRow("home", "v1", T0 + minute * MINUTE, ServingCounts(requests).pack())


class Speaker:
    """One partition of one group."""

    def __init__(self, group: int, source: int = 0, of: int = 1) -> None:
        self.place: dict[str, Any] = {"group": group, "source": source, "of": of}
        self.number = 0

    def says(
        self, watermark: int, *rows: FeatureRow | ServingRow | PartialRow, idle: bool = False, epoch: int = 7
    ) -> bytes:
        self.number += 1
        kinds: dict[str, Any] = {
            "rows": [row for row in rows if isinstance(row, PartialRow)],
            "serving": [row for row in rows if isinstance(row, ServingRow)],
            "features": [row for row in rows if isinstance(row, FeatureRow)],
        }
        return encode_partial(
            Partial(epoch=epoch, number=self.number, watermark=watermark, idle=idle, **kinds, **self.place)
        )


def take(state: WindowsState, *values: bytes, first: int = 0) -> None:
    offsets = range(first, first + len(values))
    state.apply(Batch(2, (Section("partials", offsets, values, offsets.stop),)), {})


def rows_of(changes: Changes | None, kind: str) -> list[dict[str, Any]]:
    assert changes is not None
    rows = [orjson.loads(message.value or b"") for message in changes.before if message.topic == "windows"]
    assert all(row["final"] for row in rows)
    return [row for row in rows if row["kind"] == kind]


def psi_rows(changes: Changes | None) -> list[tuple[int, int]]:
    """(minute, n) of the rows of kind `drift`, once for all methods."""
    rows = rows_of(changes, "drift")
    return [((row["window_start"] - T0) // MINUTE, row["n"]) for row in rows if row["method"] == "psi"]


def test_drift_waits_for_both_groups_serving_and_ctr_for_their_own() -> None:
    state, join, inferences = new_state(REFERENCE), Speaker(JOIN), Speaker(INFERENCES)
    take(state, join.says(T0, PartialRow("home", "v1", T0, 3, 1), seen(0, 3, 0)))
    take(state, inferences.says(T0, served(0, 4), seen(0, 0, 4)), first=1)
    take(state, join.says(T0 + FINAL), first=2)
    changes = state.changes(1, 1)
    assert len(rows_of(changes, "ctr")) == 1
    assert rows_of(changes, "serving") == rows_of(changes, "drift") == []
    take(state, inferences.says(T0 + FINAL), first=3)
    changes = state.changes(1, 2)
    assert [(row["requests"], row["window_start"]) for row in rows_of(changes, "serving")] == [(4, T0)]
    [expected] = [d for d in distances(AGE, np.array([3, 4, 0, 0]), POLICY) if d.method == "psi"]
    [row] = [row for row in rows_of(changes, "drift") if row["method"] == "psi"]
    assert (row["value"], row["n"], row["horizon_s"]) == (expected.value, 7, HORIZON * 60)


def test_a_silent_group_holds_no_drift_back_and_half_a_silent_one_does() -> None:
    state, join = new_state(REFERENCE), Speaker(JOIN)
    one, other = Speaker(INFERENCES, 0, 2), Speaker(INFERENCES, 1, 2)
    take(state, join.says(T0, seen(0, 3, 0)), one.says(T0, idle=True), other.says(T0), join.says(T0 + FINAL))
    assert rows_of(state.changes(1, 1), "drift") == []
    take(state, other.says(T0, idle=True), first=4)
    assert psi_rows(state.changes(1, 2)) == [(0, 3)]
    # It wakes up: what it still has to say of that window comes too late for drift, and its own rows are untouched.
    take(state, one.says(T0, served(0, 4), seen(0, 0, 4)), first=5)
    take(state, one.says(T0 + FINAL), other.says(T0 + FINAL), first=6)
    changes = state.changes(1, 3)
    assert rows_of(changes, "drift") == []
    assert [row["requests"] for row in rows_of(changes, "serving")] == [4]


def test_a_row_covers_the_horizon_up_to_its_end_and_no_more() -> None:
    state, join, inferences = new_state(REFERENCE), Speaker(JOIN), Speaker(INFERENCES)
    # Powers of two, so that a sum tells which minutes are in it; minute 3 has no events and no row.
    minutes = [0, 1, 2, 4, 5, 6, 7]
    take(state, inferences.says(T0, idle=True))
    take(state, *(join.says(T0, seen(m, 2**m, 0)) for m in minutes), join.says(T0 + 60 * MINUTE), first=1)
    bits = {m: sum(2**k for k in minutes if m - HORIZON < k <= m) for m in minutes}
    assert psi_rows(state.changes(1, 1)) == list(bits.items())


def test_a_zombie_and_repeats_change_nothing() -> None:
    state, join, inferences = new_state(REFERENCE), Speaker(JOIN), Speaker(INFERENCES)
    zombie = inferences.says(T0 + MINUTE, served(0, 99), seen(0, 99, 99), epoch=6)
    owner = inferences.says(T0, served(0, 4), seen(0, 0, 4))
    take(state, join.says(T0, idle=True), owner, owner, zombie, inferences.says(T0 + FINAL), zombie, owner)
    changes = state.changes(1, 1)
    assert [row["requests"] for row in rows_of(changes, "serving")] == [4]
    assert psi_rows(changes) == [(0, 4)]


@pytest.mark.parametrize("newer_first", [True, False])
def test_while_a_reference_is_replaced_only_its_own_bins_count(newer_first: bool) -> None:
    state, inferences = new_state(NEWER), Speaker(INFERENCES)
    one, other = Speaker(JOIN, 0, 2), Speaker(JOIN, 1, 2)
    # One worker has the new reference already, the other one has not.
    words = [one.says(T0, seen(0, 1, 2, NEWER)), other.says(T0, seen(0, 10, 20, REFERENCE))]
    take(state, inferences.says(T0, idle=True), *(words if newer_first else reversed(words)))
    take(state, one.says(T0 + FINAL), other.says(T0 + FINAL), first=3)
    assert psi_rows(state.changes(1, 1)) == [(0, 3)]


@pytest.mark.parametrize(
    "broken",
    [
        FeatureRow("home", "v1", T0, REFERENCE.bins_id, b"\0\0\0"),
        FeatureRow("home", "v1", T0, REFERENCE.bins_id, b"\0\0\0\0" * 3),
        ServingRow(
            "home", "v1", T0, PackedCounts(1, 0, msgspec.structs.replace(ServingCounts().pack().latency, gaps=[1]))
        ),
    ],
)
def test_what_cannot_be_from_a_partition_is_a_dead_letter_and_harms_nobody(broken: FeatureRow | ServingRow) -> None:
    state, join, inferences = new_state(REFERENCE), Speaker(JOIN), Speaker(INFERENCES)
    take(state, join.says(T0, seen(0, 1, 1)), inferences.says(T0, served(0, 4)), join.says(T0, broken))
    take(state, join.says(T0 + FINAL), inferences.says(T0 + FINAL), first=3)
    changes = state.changes(1, 1)
    assert changes is not None
    assert psi_rows(changes) == [(0, 2)]
    assert [row["requests"] for row in rows_of(changes, "serving")] == [4]
    [letter] = [orjson.loads(message.value or b"") for message in changes.before if message.topic == "dead"]
    assert letter["reason"].startswith("not_a_partial: ")


class Store:
    """What a checkpoint leaves behind."""

    def __init__(self) -> None:
        self.chunks: dict[str, bytes] = {}
        self.state = b""

    def save(self, changes: Changes) -> None:
        for name in changes.drop:
            self.chunks.pop(name, None)
        for name, data in changes.append.items():
            assert name not in self.chunks, "every chunk is replaced as a whole"
            self.chunks[name] = data
        self.state = msgspec.msgpack.encode(changes.state)

    def restored(self, *references: Reference) -> WindowsState:
        state = new_state(*references)
        state.restore(msgspec.msgpack.decode(self.state, strict=False), dict(self.chunks))
        return state


def random_words(rng: random.Random, minutes: int) -> Iterable[bytes]:
    """Three partitions of each group, each with a minute of its own as its time."""
    speakers = [(group, Speaker(group, source, 3)) for group in (JOIN, INFERENCES) for source in range(3)]
    for minute in range(minutes):
        rng.shuffle(speakers)
        for group, speaker in speakers:
            for told in rng.sample(range(max(0, minute - 9), minute + 1), min(minute + 1, rng.randrange(3))):
                low, high = rng.randrange(5), rng.randrange(1, 5)
                own = served(told, low + high) if group == INFERENCES else PartialRow("home", "v1", T0, 1, 0)
                yield speaker.says(T0 + minute * MINUTE, seen(told, low, high), own)
            yield speaker.says(T0 + minute * MINUTE)


@pytest.mark.parametrize("seed", range(5))
def test_a_checkpoint_at_any_moment_changes_no_row_and_leaves_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)
    words = [*random_words(rng, 40)]
    undisturbed = new_state(REFERENCE)
    take(undisturbed, *words)
    expected = undisturbed.changes(1, 1)

    state, store, most = new_state(REFERENCE), Store(), 0
    found: list[dict[str, Any]] = []
    for offset, word in enumerate(words):
        take(state, word, first=offset)
        if rng.random() < 0.1 or offset == len(words) - 1:
            changes = state.changes(1, offset)
            assert changes is not None
            found += [orjson.loads(message.value or b"") for message in changes.before]
            store.save(changes)
            most = max(most, len(store.chunks))
            if rng.random() < 0.5:
                state = store.restored(REFERENCE)
    assert expected is not None
    assert found == [orjson.loads(message.value or b"") for message in expected.before]
    assert len(rows_of(expected, "drift")) > 80
    # Windows that are open, of three kinds, the minutes of the horizon, and the days.
    assert 20 < most <= 3 * 12 + HORIZON + 2

    # An hour later nothing of it is left but what was counted in the day.
    for group in (JOIN, INFERENCES):
        take(
            state,
            *(Speaker(group, n, 3).says(T0 + 100 * MINUTE, epoch=8) for n in range(3)),
            first=len(words) + 3 * group,
        )
    later = state.changes(1, len(words))
    assert later is not None
    store.save(later)
    assert set(store.chunks) <= {"days"}


def test_a_reference_that_changes_between_two_lives_begins_its_horizon_anew() -> None:
    state, store, join = new_state(REFERENCE), Store(), Speaker(JOIN)
    take(state, Speaker(INFERENCES).says(T0, idle=True), join.says(T0, seen(0, 1, 0), seen(1, 2, 0)))
    take(state, join.says(T0 + FINAL), first=2)
    changes = state.changes(1, 1)
    assert changes is not None
    assert psi_rows(changes) == [(0, 1)]
    store.save(changes)
    state = store.restored(NEWER)
    take(state, join.says(T0 + FINAL, seen(2, 4, 0, NEWER)), join.says(T0 + FINAL + 2 * MINUTE), first=3)
    assert psi_rows(state.changes(1, 2)) == [(2, 4)]


def test_a_reference_that_is_replaced_while_a_worker_runs_begins_its_horizon_anew() -> None:
    book = ReferenceBook([REFERENCE])
    state, store, join = new_state(book=book), Store(), Speaker(JOIN)
    take(state, Speaker(INFERENCES).says(T0, idle=True), join.says(T0, seen(0, 1, 0), seen(1, 2, 0)))
    take(state, join.says(T0 + FINAL), first=2)
    assert psi_rows(state.changes(1, 1)) == [(0, 1)]

    book.replace([NEWER])
    # Minute 1 was told in the old bins, and then again in the new ones of which less is known; minute 2 is all new.
    take(state, join.says(T0 + FINAL, seen(1, 1, 0, NEWER), seen(2, 4, 0, NEWER)), first=3)
    take(state, join.says(T0 + FINAL + 2 * MINUTE), first=4)
    changes = state.changes(1, 2)
    assert changes is not None
    assert psi_rows(changes) == [(1, 1), (2, 5)]
    store.save(changes)
    state = store.restored(NEWER)
    take(state, join.says(T0 + FINAL, seen(3, 8, 0, NEWER)), join.says(T0 + FINAL + 3 * MINUTE), first=5)
    assert psi_rows(state.changes(1, 3)) == [(3, 13)]


def test_damaged_chunks_are_found_when_they_are_read() -> None:
    state, store, join = new_state(REFERENCE), Store(), Speaker(JOIN)
    take(state, join.says(T0, seen(0, 1, 0), seen(1, 2, 0)), Speaker(INFERENCES).says(T0, served(1, 2), idle=True))
    take(state, join.says(T0 + FINAL), first=2)
    changes = state.changes(1, 1)
    assert changes is not None
    store.save(changes)
    assert {name.partition(":")[0] for name in store.chunks} == {"features", "serving", "past", "days"}
    whole = dict(store.chunks)
    for name, data in whole.items():
        for damage in (data[:-1], b"\xc1", b"\x91\x01", data + b"\0"):
            store.chunks = {**whole, name: damage}
            with pytest.raises((ValueError, KeyError, TypeError)):
                store.restored(REFERENCE)
