"""References of the shop's models: the features of the day before, when nothing was wrong yet."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeAlias

import msgspec
import numpy as np

from agents.simulation.events import EventTexts
from agents.simulation.scenarios import Scenario
from agents.simulation.serving import Serving
from agents.simulation.traffic import Traffic
from tables.feature_bins import Value
from tables.reference import Reference
from tables.reference_building import build_reference

IMPRESSIONS = 200_000
"""About so many are shown meanwhile, which is a seventh of it in requests: half a second's work."""
DAY_MS = 86_400_000

PREDICTION = "prediction"
_LEFT_OUT = "hour"
"""One part of a day never has the hours of another: it would drift on the best of days."""

Features: TypeAlias = dict[str, Value]


class _Inference(msgspec.Struct):
    model_id: str
    features: Features
    prediction: float | None = None


_decode = msgspec.json.Decoder(_Inference).decode


def references_of_day_before(scenario: Scenario, rate: float, seed: int, start_ms: int) -> tuple[Reference, ...]:
    """One reference a model, for all its versions: inferences of the first phase as it was a day before `start_ms`.

    Impressions have no say: they repeat the features of their request, and would only seem to be more evidence.
    """
    draws, answers = (np.random.Generator(np.random.PCG64(each)) for each in np.random.SeedSequence((seed, 1)).spawn(2))
    traffic = Traffic(scenario, rate, draws)
    begin_ms = start_ms - DAY_MS
    requests, _, _ = traffic.draw(scenario.phases[0], begin_ms, begin_ms + round(IMPRESSIONS / rate * 1000))
    texts = EventTexts(scenario, traffic.variants, seed)
    _, heads, features = texts.describe_requests(requests)
    answered = Serving(traffic.variants, (), answers).answer(requests)
    rows: defaultdict[str, list[Features]] = defaultdict(list)
    for event in texts.inferences(requests, answered, heads, features):
        inference = _decode(event)
        rows[inference.model_id].append(inference.features | {PREDICTION: inference.prediction})
    return tuple(
        build_reference(
            {name: [row.get(name) for row in rows[model_id]] for name in set().union(*rows[model_id]) - {_LEFT_OUT}},
            model_id=model_id,
            model_version=None,
            created_at_ms=start_ms,
            source="the simulated shop a day before",
        )
        for model_id in sorted(rows)
    )
