"""A partition of inferences, and the features of one of impressions: what they tell, keep, and begin again from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from agents.feature_intake import FeatureIntake
from agents.inference_state import InferenceSetting, InferenceState, InferenceTopics
from agents.input_state import InputState
from agents.join_state import JoinSetting, JoinState, JoinTopics
from agents.metrics import Metrics
from agents.partition_state import Changes, Outgoing
from agents.transports.batch import Batch, Section
from tables.feature_bins import CategoryBins, NumericBins
from tables.feature_counts import unpack_counts
from tables.join_policy import JoinPolicy
from tables.partials import INFERENCES, JOIN, FeatureRow, Partial, ServingRow, decode_partial
from tables.reference import FeatureReference, Reference, ReferenceBook
from tables.watermark import UNKNOWN
from tests.agents.shop_lines import event_json, topic_of
from tests.feature_oracle import Counts, feature_counts, serving_rows
from tests.oracle import MINUTE, ArrivalOracle, Arrivals, Event, Impression, Inference, Key
from tests.tables.streams import T0

POLICY = JoinPolicy()
AGE = FeatureReference("age", NumericBins((20.0, 40.0)), (1, 2, 3, 0, 0))
CITY = FeatureReference("city", CategoryBins(("Kyiv", "Bern")), (1, 2, 0, 0))
SCORE = FeatureReference("prediction", NumericBins((0.5,)), (1, 2, 0, 0))
REFERENCE = Reference("home", None, (AGE, CITY, SCORE), 1, "test")
OTHER_BINS = Reference("home", None, (AGE, CITY), 2, "test")
HOME = ("home", "v1")


def new_inferences(*references: Reference, clock_ms: int = 0, policy: JoinPolicy = POLICY) -> InferenceState:
    intake = FeatureIntake(ReferenceBook(references))
    topics = InferenceTopics("inferences", "partials", "dead")
    setting = InferenceSetting(policy, topics, lambda: T0 + 10**9, Metrics(), lambda: 1, lambda: 1, intake)
    return InferenceState(3, setting, clock_ms)


def new_join(*references: Reference, clock_ms: int = 0) -> JoinState:
    intake = FeatureIntake(ReferenceBook(references), "impressions")
    topics = JoinTopics("impressions", "clicks", "partials", "dead")
    setting = JoinSetting(POLICY, topics, bytes(16), lambda: T0 + 10**9, Metrics(), lambda: 1, lambda: 1, intake)
    return JoinState(3, setting, clock_ms)


@dataclass
class Partition:
    """A state with the store that it is checkpointed to, and everything that it has told."""

    state: InputState[Any]
    chunks: dict[str, bytes] = field(default_factory=dict)
    saved: bytes = b""
    told: list[Partial] = field(default_factory=list)
    offsets: Counter[str] = field(default_factory=Counter)
    checkpoints: int = 0

    def take(self, *events: Event | Inference | bytes, topic: str = "inferences") -> None:
        for event in events:
            name, value = (topic, event) if isinstance(event, bytes) else (topic_of(event), event_json(event))
            offset = self.offsets[name]
            self.offsets[name] += 1
            self.state.apply(Batch(3, (Section(name, range(offset, offset + 1), [value], offset + 1),)), {})

    def checkpoint(self) -> Changes | None:
        self.checkpoints += 1
        changes = self.state.changes(epoch=7, number=self.checkpoints)
        if changes is not None:
            for name in changes.drop:
                self.chunks.pop(name, None)
            for name, data in changes.append.items():
                self.chunks[name] = self.chunks.get(name, b"") + data
            self.saved = msgspec.msgpack.encode(changes.state)
            self.told += partials(changes.after)
        return changes

    def move_to(self, state: InputState[Any]) -> None:
        """Another worker begins where the last checkpoint was."""
        state.restore(msgspec.msgpack.decode(self.saved, strict=False), dict(self.chunks))
        self.state = state


def partials(messages: Sequence[Outgoing]) -> list[Partial]:
    return [decode_partial(message.value or b"") for message in messages if message.topic == "partials"]


def features_told(told: Sequence[Partial]) -> dict[Key, FeatureRow]:
    """The last word on each model and minute."""
    return {((row.model_id, row.model_version), row.window_start): row for partial in told for row in partial.features}


def served_told(told: Sequence[Partial]) -> dict[Key, ServingRow]:
    return {((row.model_id, row.model_version), row.window_start): row for partial in told for row in partial.serving}


def end_to_end(counts: Mapping[Key, Counts], reference: Reference) -> dict[Key, list[int]]:
    return {key: [n for f in reference.features for n in vectors[f.name]] for key, vectors in counts.items()}


def random_inference(rng: random.Random, time: int) -> Inference:
    features = rng.choice(["null", "{}", '{"age": 30}', '{"age": 18, "city": "Bern"}', '{"city": "Oslo", "age": "x"}'])
    model = rng.choice([HOME, ("home", "v2"), ("price", "")])
    return Inference(
        time, model, rng.choice([None, 1.5, 80.0]), rng.choice([None, "error"]), rng.choice([None, 1]), features
    )


def random_impression(rng: random.Random, time: int) -> Impression:
    user, item = f"u{rng.randrange(3)}", f"i{rng.randrange(3)}"
    return Impression(user, item, time, HOME, random_inference(rng, time).features)


def streams(rng: random.Random) -> Iterator[int]:
    """Event times of forty minutes, some of them late."""
    now = T0
    while now < T0 + 40 * MINUTE:
        now += rng.randrange(20_000)
        yield max(T0, now - rng.choice([0, 0, 0, 3_000, 4 * MINUTE, 14 * MINUTE]))


def first_open_after(told: Sequence[Partial], group: int) -> Iterator[tuple[int, Partial]]:
    """Each partial with the first window that was open when it came."""
    first_open = POLICY.first_open(UNKNOWN)
    for partial in told:
        assert partial.group == group
        yield first_open, partial
        first_open = max(first_open, POLICY.first_open(partial.watermark))


@pytest.mark.parametrize("seed", range(8))
def test_inferences_are_counted_once_through_any_number_of_lives(seed: int) -> None:
    rng = random.Random(seed)
    partition = Partition(new_inferences(REFERENCE))
    oracle = Arrivals[Inference](sides=(Inference,))
    dead, most_chunks = 0, 0
    for time in streams(rng):
        event = random_inference(rng, time)
        partition.take(event)
        oracle.arrive(event, 0)
        if rng.random() < 0.3:
            changes = partition.checkpoint()
            assert changes is not None
            dead += len(changes.before)
            most_chunks = max(most_chunks, len(partition.chunks))
            if rng.random() < 0.2:
                partition.move_to(new_inferences(REFERENCE))
    partition.state.finish()
    last = partition.checkpoint()
    assert last is not None

    assert dead + len(last.before) == len(oracle.late) > 0
    rows = served_told(partition.told)
    expected = serving_rows(oracle.accepted)
    assert {
        key: (row.counts.requests, row.counts.errors, sum(row.counts.latency.counts)) for key, row in rows.items()
    } == {
        key: (fields["requests"], fields["errors"], fields["latency_ms"]["count"]) for key, fields in expected.items()
    }
    counts = {key: unpack_counts(row.counts).tolist() for key, row in features_told(partition.told).items()}
    assert counts == end_to_end(feature_counts(oracle.accepted, [REFERENCE]), REFERENCE)
    for first_open, partial in first_open_after(partition.told, INFERENCES):
        starts = [row.window_start for row in partial.serving] + [row.window_start for row in partial.features]
        assert min(starts, default=first_open) >= first_open
    # Windows are open for a minute and ten more, less the watermark's delay; each has one chunk of each kind.
    assert 0 < most_chunks <= 2 * 12
    assert partition.chunks == {}


@pytest.mark.parametrize("seed", range(8))
def test_the_features_of_impressions_are_counted_once_through_any_number_of_lives(seed: int) -> None:
    rng = random.Random(seed)
    partition = Partition(new_join(REFERENCE))
    oracle = ArrivalOracle()
    for time in streams(rng):
        event = random_impression(rng, time)
        partition.take(event)
        oracle.arrive(event, 0)
        if rng.random() < 0.3:
            # Without clicks the watermark stands still; the tick takes them for idle.
            partition.state.tick(partition.state.clock_ms, UNKNOWN)
            assert partition.checkpoint() is not None
            if rng.random() < 0.2:
                partition.move_to(new_join(REFERENCE))
    partition.state.finish()
    assert partition.checkpoint() is not None
    counts = {key: unpack_counts(row.counts).tolist() for key, row in features_told(partition.told).items()}
    expected = end_to_end(feature_counts(oracle.accepted, [REFERENCE]), REFERENCE)
    # Impressions have no prediction: nothing is counted in its bins.
    assert counts == expected
    assert not any(np.array(list(counts.values()))[:, -SCORE.bins.width :].ravel())
    for first_open, partial in first_open_after(partition.told, JOIN):
        starts = [row.window_start for row in partial.rows] + [row.window_start for row in partial.features]
        assert min(starts, default=first_open) >= first_open
    assert partition.chunks == {}


def test_what_was_counted_in_other_bins_is_not_added_to() -> None:
    partition = Partition(new_inferences(REFERENCE))
    adult = Inference(T0, HOME, features='{"age": 30}')
    partition.take(adult, adult)
    partition.checkpoint()
    partition.move_to(new_inferences(OTHER_BINS))
    partition.take(adult)
    partition.checkpoint()
    row = features_told(partition.told)[HOME, T0]
    assert row.bins == OTHER_BINS.bins_id
    assert unpack_counts(row.counts).tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert served_told(partition.told)[HOME, T0].counts.requests == 3, "requests have nothing to do with it"


def test_without_a_reference_no_feature_is_kept() -> None:
    partition = Partition(new_inferences())
    partition.take(Inference(T0, HOME, features='{"age": 30}', prediction=1))
    partition.checkpoint()
    assert features_told(partition.told) == {}
    assert len(partition.chunks) == 1


def reasons(changes: Changes | None) -> list[str]:
    assert changes is not None
    return [orjson.loads(message.value or b"")["reason"].partition(":")[0] for message in changes.before]


def test_where_there_is_no_room_for_another_model_its_records_are_dead_letters_and_count_nowhere() -> None:
    partition = Partition(new_inferences(REFERENCE, policy=JoinPolicy(max_models=1)))
    other = ("home", "v2")
    partition.take(Inference(T0, HOME, prediction=1), Inference(T0, other, prediction=1, features='{"age": 1}'))
    changes = partition.checkpoint()
    assert reasons(changes) == ["no_room"]
    assert served_told(partition.told).keys() == features_told(partition.told).keys() == {(HOME, T0)}


def test_a_silent_partition_goes_with_the_others_and_what_it_says_afterwards_may_be_late() -> None:
    partition = Partition(new_inferences(REFERENCE))
    partition.take(Inference(T0, HOME))
    partition.state.tick(15_000, T0 + 60 * MINUTE)
    assert partition.state.watermark == T0 - POLICY.out_of_orderness_ms, "not silent for long enough"
    partition.state.tick(15_001, T0 + 60 * MINUTE)
    assert (partition.state.watermark, partition.state.idle) == (T0 + 60 * MINUTE, True)
    partition.checkpoint()
    assert (partition.told[-1].watermark, partition.told[-1].idle) == (T0 + 60 * MINUTE, True)
    assert partition.told[-1].idle_for_ms == 15_001
    partition.take(Inference(T0, HOME))
    assert reasons(partition.checkpoint()) == ["late"]
    assert partition.chunks == {}


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x93", b"\x91\x01", b"\xff" * 9])
def test_a_damaged_chunk_is_found_when_it_is_read(damage: bytes) -> None:
    adult = '{"age": 30}'
    cases: list[tuple[Callable[[Reference], InputState[Any]], Event | Inference]] = [
        (new_inferences, Inference(T0, HOME, features=adult)),
        (new_join, Impression("u", "i", T0, HOME, adult)),
    ]
    for state, event in cases:
        partition = Partition(state(REFERENCE))
        partition.take(event)
        partition.checkpoint()
        for name in partition.chunks:
            damaged = {**partition.chunks, name: damage or partition.chunks[name][:-1]}
            with pytest.raises((ValueError, KeyError, TypeError)):
                state(REFERENCE).restore(msgspec.msgpack.decode(partition.saved), damaged)


def test_records_read_again_to_rebuild_are_counted_as_before_and_are_no_dead_letters_again() -> None:
    rng = random.Random(1)
    lost = Partition(new_inferences(REFERENCE))
    events: list[Inference | bytes] = [random_inference(rng, time) for time in streams(rng)]
    events[50:50] = [b"no json"]
    cut = len(events) * 2 // 3
    lost.take(*events[:cut])
    changes = lost.checkpoint()
    assert changes is not None
    begin = changes.rebuild["inferences"]
    assert 0 < begin < cut

    rebuilt = Partition(new_inferences(REFERENCE))
    rebuilt.state.restore_time(msgspec.msgpack.decode(msgspec.msgpack.encode(changes.rebuild_state)))
    values = [event if isinstance(event, bytes) else event_json(event) for event in events[begin:cut]]
    rebuilt.state.apply(Batch(3, (Section("inferences", range(begin, cut), values, cut),)), {"inferences": cut})
    rebuilt.state.rebuilt()
    again = rebuilt.checkpoint()
    assert again is not None
    assert again.before == ()

    # From here both say the same of all that is not final.
    first_open = POLICY.first_open(lost.state.watermark)
    before = {key: row for key, row in served_told(lost.told).items() if key[1] >= first_open}
    assert served_told(rebuilt.told) == before != {}
    kept = {key: row for key, row in features_told(lost.told).items() if key[1] >= first_open}
    assert features_told(rebuilt.told) == kept != {}
