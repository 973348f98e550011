"""Inferences are good or bad as the judge says, one by one."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.inference_decoding import decode_inferences
from agents.transports.batch import Batch, Section
from tables.models import ModelIndex
from tables.serving import STATUSES
from tests.judge import judge_inference
from tests.mutations import MUTATIONS, encode, event
from tests.tables.streams import T0

NOW = T0 + 10**9

Value = bytes | None


@st.composite
def records(draw: st.DrawFn) -> list[Value]:
    rng = random.Random(draw(st.integers(0, 2**32)))
    values: list[Value] = []
    for mutated in draw(st.lists(st.booleans(), max_size=12)):
        body = event(rng, "inferences", T0 + rng.randrange(10**6))
        values.append(rng.choice(MUTATIONS)(rng, body, NOW) if mutated else encode(body))
    return values


@given(records())
def test_the_judge_says_the_same(values: list[Value]) -> None:
    section = Section("inferences", range(100, 100 + len(values)), values, 100 + len(values))
    models = ModelIndex(100)
    found = decode_inferences(Batch(3, (section,)), models, NOW)
    faults = {bad.offset: bad.reason.partition(":")[0] for bad in found.bad}
    offsets = found.offsets().tolist()
    assert sorted([*offsets, *faults]) == list(section.offsets)
    for offset, value in enumerate(values, 100):
        verdict = judge_inference(value, NOW)
        assert faults.get(offset, "") == verdict.fault, (value, verdict)
        if verdict.event is not None:
            row = offsets.index(offset)
            latency = float("nan") if verdict.event.latency_ms is None else verdict.event.latency_ms
            assert found.time[row] == verdict.event.time
            assert models.name(int(found.model[row])) == verdict.event.model
            assert STATUSES[found.status[row]] == (verdict.event.status or "ok")
            np.testing.assert_equal(found.latency_ms[row], latency)
