"""Merging what several partitions say of the same windows, through every kind of repetition, restart and loss."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.join_policy import WINDOW_MS, JoinPolicy
from tables.partials import INFERENCES, JOIN, Partial, PartialRow, decode_partial, encode_partial
from tables.sources import Sources
from tables.watermark import END, UNKNOWN
from tables.window_kinds import CTR, CtrCounts
from tables.window_merge import Merged, WindowMerge
from tests.tables.streams import T0

POLICY = JoinPolicy(attribution_ms=2 * WINDOW_MS)
MODELS = [("home", "v1"), ("home", "v2"), ("search", "")]
SOURCES = 3

Key = tuple[int, tuple[str, str]]
Counts = tuple[int, int]


@dataclass
class Partition:
    """A join partition: its counts grow while their window is open to it, and it may be restarted at any time."""

    number: int
    rng: random.Random
    epoch: int = 100
    checkpoint: int = 0
    part: int = 0
    watermark: int = T0 - WINDOW_MS
    counts: dict[Key, Counts] = field(default_factory=dict)
    told_last: list[Partial] = field(default_factory=list)
    before: list[Partial] = field(default_factory=list)
    """All that was ever said: any of it may come again from an owner who has been replaced."""

    def open_keys(self) -> list[Key]:
        return [key for key in self.counts if key[0] >= POLICY.first_open(self.watermark)]

    def say(self, keys: list[Key]) -> list[Partial]:
        rows = [PartialRow(*model, start, *self.counts[start, model]) for start, model in keys]
        cut = self.rng.randrange(len(rows) + 1)
        parts = [rows[:cut], rows[cut:]] if self.rng.random() < 0.3 else [rows]
        told = []
        for part in parts:
            head = self.number, SOURCES, self.epoch, self.checkpoint, self.watermark
            told.append(Partial(*head, part, self.part))
            self.part += 1
        self.told_last += told
        self.before += told
        return told

    def write_checkpoint(self) -> None:
        self.checkpoint += 1
        self.part = 0
        self.told_last = []

    def go_on(self) -> list[Partial]:
        """A checkpoint later."""
        self.write_checkpoint()
        changed: list[Key] = []
        newest = max(T0, self.watermark) // WINDOW_MS * WINDOW_MS
        for _ in range(self.rng.randrange(4)):
            start = newest + self.rng.choice([-2, -1, 0, 0, 1]) * WINDOW_MS
            if start < max(T0, POLICY.first_open(self.watermark)):
                continue
            key = start, self.rng.choice(MODELS)
            shown, clicked = self.counts.get(key, (0, 0))
            shown += self.rng.randrange(1, 5)
            self.counts[key] = shown, min(shown, clicked + self.rng.randrange(3))
            changed.append(key)
        told = self.say(sorted(set(changed)))
        self.watermark += self.rng.choice([0, 1_000, 20_000, 70_000])
        return told + self.say([])

    def restart(self) -> list[Partial]:
        """The new owner repeats the last words of the old one, and then says all that is open once more."""
        again = list(self.told_last)
        self.epoch += self.rng.randrange(1, 5)
        self.write_checkpoint()
        return again + self.say(self.open_keys())

    def end(self) -> list[Partial]:
        self.write_checkpoint()
        self.watermark = END
        return self.say([])


@dataclass
class Talk:
    """What all partitions say, in the order of the topic, and what must come of it."""

    messages: list[bytes]
    expected: dict[Key, Counts]


def talk(rng: random.Random, length: int) -> Talk:
    partitions = [Partition(number, random.Random(rng.random())) for number in range(SOURCES)]
    messages: list[Partial] = []
    for _ in range(length):
        partition = rng.choice(partitions)
        what = rng.random()
        if what < 0.75:
            messages += partition.go_on()
        elif what < 0.87:
            messages += partition.restart()
        elif partition.before:
            first = rng.randrange(len(partition.before))
            messages += partition.before[first : first + 3]  # a zombie speaks again
    for partition in partitions:
        messages += partition.end()
    expected: dict[Key, Counts] = {}
    for partition in partitions:
        for key, (shown, clicked) in partition.counts.items():
            total, clicks = expected.get(key, (0, 0))
            expected[key] = total + shown, clicks + clicked
    return Talk([encode_partial(message) for message in messages], expected)


Row = Merged[CtrCounts]


class CtrMerge:
    """Sources and windows together, with a store of checkpoints."""

    def __init__(self) -> None:
        self.sources = Sources()
        self.windows = WindowMerge(CTR, POLICY)
        self.chunks: dict[str, bytes] = {}

    @property
    def watermark(self) -> int:
        return self.sources.watermark(JOIN)

    def merge(self, partial: Partial, offset: int) -> bool:
        if not self.sources.hear(partial, offset):
            return False
        for row in partial.rows:
            counts = CtrCounts(row.impressions, row.clicks)
            source = partial.group, partial.source
            self.windows.put(row.window_start, (row.model_id, row.model_version), source, counts, offset)
        return True

    def take_final(self) -> list[Row]:
        return self.windows.take_final(self.watermark)

    def take_changed(self) -> list[Row]:
        return self.windows.take_changed()

    def rebuild_offset(self, next_offset: int) -> int:
        return min([*self.sources.offsets(), *self.windows.offsets()], default=next_offset)


def counts_of(rows: list[Row]) -> dict[Key, Counts]:
    counts = {(row.window_start, row.model): (row.value.impressions, row.value.clicks) for row in rows}
    assert len(counts) == len(rows), "a window was told twice"
    return counts


def stored(merge: CtrMerge) -> bytes:
    append, drop = merge.windows.take_changes()
    kept = {name: data for name, data in merge.chunks.items() if name not in drop}
    merge.chunks = kept | append
    return msgspec.msgpack.encode([merge.sources.state(), merge.windows.state(), merge.chunks])


def restored(state: bytes) -> CtrMerge:
    merge = CtrMerge()
    sources, windows, chunks = msgspec.msgpack.decode(state)
    merge.sources.restore(sources)
    merge.windows.restore(windows, chunks)
    merge.chunks = chunks
    return merge


seeds = st.integers(0, 2**32)


@given(seeds, st.integers(0, 60))
def test_every_window_is_final_once_with_the_last_words_of_all_partitions(seed: int, length: int) -> None:
    rng = random.Random(seed)
    said = talk(rng, length)
    merge, final = CtrMerge(), list[Row]()
    for offset, message in enumerate(said.messages):
        merge.merge(decode_partial(message), offset)
        final += merge.take_final()
        if rng.random() < 0.2:
            merge = restored(stored(merge))
    assert counts_of(final) == said.expected
    assert all(row.final for row in final)
    ends = [row.window_start for row in final]
    assert ends == sorted(ends)
    assert merge.windows.open_windows == 0


@given(seeds, st.integers(0, 60))
def test_going_on_from_an_older_checkpoint_tells_the_same_again(seed: int, length: int) -> None:
    rng = random.Random(seed)
    said = talk(rng, length)
    merge, final = CtrMerge(), dict[Key, Counts]()
    backup, at, offset = stored(merge), 0, 0
    crashes = 3
    while offset < len(said.messages):
        merge.merge(decode_partial(said.messages[offset]), offset)
        for key, counts in counts_of(merge.take_final()).items():
            assert final.setdefault(key, counts) == counts
        offset += 1
        if rng.random() < 0.3:
            backup, at = stored(merge), offset
        elif crashes and rng.random() < 0.1:
            crashes -= 1
            merge, offset = restored(backup), at
    assert final == said.expected


@given(seeds, st.integers(1, 60))
def test_without_any_checkpoint_reading_again_rebuilds_the_open_windows(seed: int, length: int) -> None:
    rng = random.Random(seed)
    said = talk(rng, length)
    merge, final = CtrMerge(), list[Row]()
    lost_at = rng.randrange(len(said.messages))
    for offset in range(lost_at):
        merge.merge(decode_partial(said.messages[offset]), offset)
        final += merge.take_final()
    begin, first_open = merge.rebuild_offset(lost_at), merge.windows.first_open

    merge = CtrMerge()
    merge.windows.first_open = first_open
    for offset in range(begin, len(said.messages)):
        merge.merge(decode_partial(said.messages[offset]), offset)
        if offset >= lost_at:
            final += merge.take_final()
    assert counts_of(final) == said.expected


@given(seeds, st.integers(0, 60))
def test_rows_told_meanwhile_lead_up_to_the_final_ones(seed: int, length: int) -> None:
    rng = random.Random(seed)
    said = talk(rng, length)
    merge, shown, final = CtrMerge(), dict[Key, Counts](), dict[Key, Counts]()
    for offset, message in enumerate(said.messages):
        merge.merge(decode_partial(message), offset)
        rows = merge.take_final()
        assert not {row.window_start for row in rows} & {start for start, _ in final}
        final |= counts_of(rows)
        if rng.random() < 0.4:
            changed = merge.take_changed()
            assert not any(row.final for row in changed)
            for key, counts in counts_of(changed).items():
                assert key not in final
                assert shown.get(key) != counts  # a repetition is no change
                shown[key] = counts
            assert merge.take_changed() == []
    for key, (impressions, clicks) in shown.items():
        assert impressions <= final[key][0] and clicks <= final[key][1]


@given(seeds, st.integers(0, 60), st.sampled_from([0, 1_000, WINDOW_MS, 2 * WINDOW_MS]))
def test_a_window_matures_once_when_the_watermark_has_left_it_behind(seed: int, length: int, settle_ms: int) -> None:
    rng = random.Random(seed)
    said = talk(rng, length)
    merge, matured = CtrMerge(), list[Row]()
    since = merge.windows.first_open
    for offset, message in enumerate(said.messages):
        merge.merge(decode_partial(message), offset)
        rows, since = merge.windows.mature(merge.watermark, settle_ms, since)
        assert all(row.window_end + settle_ms <= merge.watermark for row in rows)
        matured += rows
        merge.take_final()
        if rng.random() < 0.2:
            merge = restored(stored(merge))
    told = counts_of(matured)
    assert [row.window_end for row in matured] == sorted(row.window_end for row in matured)
    # A window of which nobody had said anything when it matured is not judged; one that settles as late as
    # attribution does is judged by its final numbers.
    assert told.keys() <= said.expected.keys()
    if settle_ms == POLICY.attribution_ms:
        assert told == said.expected


# -- one thing at a time


def partial(
    source: int = 0, *, of: int = 1, epoch: int = 1, number: int = 1, watermark: int = T0, **shown: int
) -> Partial:
    rows = [PartialRow(model, "", T0, impressions, 0) for model, impressions in shown.items()]
    return Partial(source, of, epoch, number, watermark, rows)


def impressions(merge: CtrMerge) -> dict[str, int]:
    return {row.model[0]: row.value.impressions for row in copy.deepcopy(merge).take_changed()}


def test_a_partial_replaces_what_its_partition_said_and_adds_to_the_others() -> None:
    merge = CtrMerge()
    for said in (partial(0, home=5), partial(1, home=7), partial(0, number=2, home=6)):
        assert merge.merge(said, 0)
    assert impressions(merge) == {"home": 13}


@pytest.mark.parametrize(("epoch", "number", "part"), [(1, 9, 9), (2, 4, 9), (2, 5, 1)])
def test_who_has_been_replaced_is_not_heard(epoch: int, number: int, part: int) -> None:
    merge = CtrMerge()
    merge.merge(Partial(0, 1, 2, 5, T0, [PartialRow("home", "", T0, 5, 0)], 2), 0)
    assert not merge.merge(Partial(0, 1, epoch, number, END, [PartialRow("home", "", T0, 99, 0)], part), 1)
    assert (impressions(merge), merge.watermark) == ({"home": 5}, T0)


def test_what_changed_before_a_restart_is_told_after_it() -> None:
    merge = CtrMerge()
    merge.merge(partial(home=5, search=7), 0)
    assert [row.value.impressions for row in restored(stored(merge)).take_changed()] == [5, 7]


def test_nothing_is_final_before_all_partitions_have_spoken() -> None:
    merge = CtrMerge()
    merge.merge(partial(0, of=2, watermark=END, home=5), 0)
    assert merge.take_final() == []
    merge.merge(partial(1, of=2, watermark=T0 + WINDOW_MS + POLICY.attribution_ms - 1), 1)
    assert merge.take_final() == []
    merge.merge(partial(1, of=2, number=2, watermark=T0 + WINDOW_MS + POLICY.attribution_ms), 2)
    assert merge.take_final() == [Merged(("home", ""), T0, CtrCounts(5, 0), final=True)]


def test_what_is_said_of_a_final_window_is_not_heard() -> None:
    merge = CtrMerge()
    merge.merge(partial(home=5, watermark=END), 0)
    assert len(merge.take_final()) == 1
    merge.merge(partial(number=2, home=6, watermark=END), 1)
    assert (merge.take_final(), merge.take_changed(), merge.windows.open_windows) == ([], [], 0)


def test_a_row_of_no_impressions_has_no_ctr() -> None:
    assert CtrCounts(0, 0).ctr is None
    assert CtrCounts(8, 2).ctr == 0.25


def test_a_group_that_is_wholly_idle_does_not_hold_the_other_back() -> None:
    sources = Sources()
    sources.hear(Partial(0, 1, 1, 1, T0), 0)
    assert sources.slowest() == UNKNOWN  # nobody knows yet how far the inferences are

    sources.hear(Partial(0, 2, 1, 1, UNKNOWN, group=INFERENCES, idle=True), 1)
    assert sources.slowest() == UNKNOWN  # one of two partitions has spoken
    sources.hear(Partial(1, 2, 1, 1, UNKNOWN, group=INFERENCES, idle=True), 2)
    assert sources.slowest() == T0

    sources.hear(Partial(1, 2, 1, 2, T0 - 5, group=INFERENCES), 3)  # awake again
    assert sources.slowest() == UNKNOWN  # its other partition is not that far
    sources.hear(Partial(0, 2, 1, 2, T0 - 7, group=INFERENCES, idle=True), 4)
    assert (sources.slowest(), sources.watermark(JOIN)) == (T0 - 7, T0)


def test_a_group_is_silent_for_as_long_as_the_last_of_its_partitions_to_fall_silent() -> None:
    sources = Sources()
    sources.hear(Partial(0, 2, 1, 1, T0, idle=True, idle_for_ms=90_000), 0)
    assert sources.idle_for_ms(JOIN) == 0  # the other one has not spoken
    sources.hear(Partial(1, 2, 1, 1, T0), 1)
    assert sources.idle_for_ms(JOIN) == 0
    sources.hear(Partial(1, 2, 1, 2, T0, idle=True, idle_for_ms=20_000), 2)
    again = Sources()
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(sources.state())))
    assert again.idle_for_ms(JOIN) == sources.idle_for_ms(JOIN) == 20_000
    assert sources.idle_for_ms(INFERENCES) == 0
    sources.hear(Partial(0, 2, 1, 2, T0), 3)
    assert sources.idle_for_ms(JOIN) == 0


@pytest.mark.parametrize("data", [encode_partial(partial(home=5))[:-1], b"", b"\xc0", b"{}"])
def test_what_is_no_partial_is_told_as_such(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_partial(data)


# -- what is judged before it is final

SETTLE = WINDOW_MS
MODEL = MODELS[0]


def moments(rng: random.Random) -> list[tuple[int, Counts]]:
    """What one partition knows of the first window at the minute marks of its time."""
    shown = clicked = 0
    told = []
    for minute in range(1, 6):
        shown, clicked = shown + rng.randrange(3), clicked + rng.randrange(2)
        told.append((T0 + minute * WINDOW_MS, (shown, min(shown, clicked))))
    return told


@given(seed=st.integers(0, 2**32), restart=st.integers(0, 20))
def test_a_window_is_judged_by_what_each_partition_knew_when_its_own_time_had_come(seed: int, restart: int) -> None:
    rng = random.Random(seed)
    sources = [moments(rng) for _ in range(SOURCES)]
    # At the mark T0 + 2 min the window is a minute old: each partition's second word counts, whatever came after it.
    expected = CtrCounts(*map(sum, zip(*(told[1][1] for told in sources), strict=True)))
    merge = WindowMerge(CTR, JoinPolicy())
    merge.settles = (SETTLE,)
    marks = [UNKNOWN] * SOURCES
    said = [0] * SOURCES
    since, judged = merge.first_open, list[Merged[CtrCounts]]()
    kept: dict[str, bytes] = {}
    for step in range(5 * SOURCES):
        source = rng.choice([number for number in range(SOURCES) if said[number] < 5])
        mark, counts = sources[source][said[source]]
        said[source] += 1
        merge.put(T0, MODEL, (JOIN, source), CtrCounts(*counts), step, marks[source])
        marks[source] = mark
        found, since = merge.mature(min(marks), SETTLE, since)
        judged += found
        append, drop = merge.take_changes()
        kept = {name: data for name, data in kept.items() if name not in drop} | append
        if step == restart:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(merge.state()))
            merge = WindowMerge(CTR, JoinPolicy())
            merge.settles = (SETTLE,)
            merge.restore(state, kept)
    assert judged == [Merged(MODEL, T0, expected, final=False)]
    assert merge.state()["early"] == []


def test_a_model_that_was_not_known_in_time_is_not_judged() -> None:
    merge = WindowMerge(CTR, JoinPolicy())
    merge.settles = (SETTLE,)
    merge.put(T0, MODEL, (JOIN, 0), CtrCounts(5, 1), 0, since=T0 + 2 * WINDOW_MS)
    found, _ = merge.mature(T0 + 3 * WINDOW_MS, SETTLE, merge.first_open)
    assert found == []
    assert merge.of_model(MODEL) == {T0: CtrCounts(5, 1)}
