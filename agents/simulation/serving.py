"""How the models answer what they are asked: in what time, with what success, and from which features.

It has random numbers of its own: impressions and clicks do not change with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.simulation.scenarios import Incident
from agents.simulation.traffic import ERROR, OK, TIMEOUT, TIMEOUT_TENTHS, Requests, Variant
from agents.simulation.visitors import UNKNOWN, Ints, affinities_of, devices_of

#: Highest value of `Answers.score`.
MAX_SCORE = 1000


@dataclass(frozen=True, slots=True)
class Answers:
    """One row a row of Requests; UNKNOWN where there is no value."""

    latency_tenths: Ints
    status: Ints
    #: Indexes DEVICES.
    device: Ints
    #: In thousandths.
    affinity: Ints
    #: The model's own rating of what it found, in thousandths.
    score: Ints


@dataclass(frozen=True, slots=True)
class Trouble:
    """An incident of the scenario in event time, [start_ms, end_ms)."""

    incident: Incident
    start_ms: int
    end_ms: int


class Serving:
    """Answers the requests of a run."""

    def __init__(self, variants: Sequence[Variant], troubles: Sequence[Trouble], random: np.random.Generator) -> None:
        self._troubles = troubles
        self._random = random
        self._variants_of = {
            trouble.incident.model_id: [
                index for index, variant in enumerate(variants) if variant.model_id == trouble.incident.model_id
            ]
            for trouble in troubles
        }

    def answer(self, requests: Requests) -> Answers:
        """Return what comes back for each request."""
        random, size = self._random, len(requests.time)
        latency, status = requests.latency_tenths.copy(), requests.status.copy()
        chance = random.random(size)
        # A client that gave up did not always say how long it had waited.
        latency[(status == TIMEOUT) & (chance < 0.5)] = UNKNOWN
        for trouble in self._troubles:
            hit = (trouble.start_ms <= requests.time) & (requests.time < trouble.end_ms) & (status == OK)
            hit &= np.isin(requests.variant, self._variants_of[trouble.incident.model_id])
            latency[hit] = np.minimum(latency[hit] * trouble.incident.slowness, TIMEOUT_TENTHS)
            status[hit & (chance < trouble.incident.errors)] = ERROR
        score = random.integers(0, MAX_SCORE // 2, size) + random.integers(0, MAX_SCORE // 2, size)
        return Answers(latency, status, devices_of(requests.user), affinities_of(requests.user), score)
