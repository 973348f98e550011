"""The simulated shop: the records of its topics in order of arrival, the same for the same arguments."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from agents.recordings import Line
from agents.simulation.deliveries import TOPICS, Deliveries, Delivery
from agents.simulation.events import EventTexts
from agents.simulation.scenarios import Phase, Scenario
from agents.simulation.serving import Serving, Trouble
from agents.simulation.traffic import Traffic
from tables.errors import ConfigError

#: Impressions a second; a second's events are in memory at once.
MAX_RATE = 100_000
#: A year.
MAX_MINUTES = 527_040

_MINUTE_MS = 60_000
_STEP_MS = 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """A phase of the scenario in event time, [start_ms, end_ms)."""

    phase: Phase
    start_ms: int
    end_ms: int


class Shop:
    """One run of a scenario: `rate` impressions a second of event time, for `minutes`.

    It starts where the scenario's anchor puts it, or at `start_ms`. Raises ConfigError for arguments that
    make no run.
    """

    def __init__(
        self,
        scenario: Scenario,
        rate: float,
        seed: int,
        minutes: float,
        start_ms: int | None = None,
        *,
        partitions: int = 4,
    ) -> None:
        for name, number, most in (("rate", rate, MAX_RATE), ("minutes", minutes, MAX_MINUTES)):
            if not 0 < number <= most:  # NaN neither
                raise ConfigError(f"{name} must be a number above 0, at most {most:,}, got {number:g}")
        if seed < 0:
            raise ConfigError(f"seed must be an integer from 0, got {seed}")
        if partitions < 1:
            raise ConfigError(f"partitions must be an integer from 1, got {partitions}")
        self.scenario = scenario
        self._rate = rate
        self._seed = seed
        self._partitions = partitions
        #: The phases in event time; impressions happen from `start_ms` up to `end_ms`.
        self.stages = _place(scenario, minutes, start_ms)
        self.start_ms = self.stages[0].start_ms
        self.end_ms = self.stages[-1].end_ms
        #: The scenario's incidents in event time.
        self.troubles = tuple(
            Trouble(incident, self._at(incident.start), self._at(incident.start + incident.length))
            for incident in scenario.incidents
        )

    def _at(self, share: float) -> int:
        return self.start_ms + round((self.end_ms - self.start_ms) * share)

    def slices(self, slice_ms: int = _STEP_MS) -> Iterator[list[Line]]:
        """Yield the records that arrive in each `slice_ms` from the start, in order of arrival; may be empty.

        `Line.timestamp` is the arrival. After `end_ms` nothing more is shown, but slices go on until the last
        click has arrived: those to come count for what was shown before. How the run is sliced does not
        change its records, and every call starts it anew.
        """
        if slice_ms < 1:
            raise ConfigError(f"slice_ms must be an integer from 1, got {slice_ms}")
        boundary = self.start_ms + slice_ms
        arrived: list[Line] = []
        for until_ms, lines in self._steps():
            for line in lines:
                while line.timestamp is not None and line.timestamp >= boundary:
                    yield arrived
                    arrived = []
                    boundary += slice_ms
                arrived.append(line)
            while until_ms >= boundary:
                yield arrived
                arrived = []
                boundary += slice_ms
        if arrived:
            yield arrived

    def _steps(self) -> Iterator[tuple[int, list[Line]]]:
        """Yield the end of each step (ms) and the lines that arrive in it."""
        # One more stream leaves those before it as they are.
        draws, noise, answers, repeats = (
            np.random.Generator(np.random.PCG64(seeds)) for seeds in np.random.SeedSequence(self._seed).spawn(4)
        )
        traffic = Traffic(self.scenario, self._rate, draws)
        texts = EventTexts(self.scenario, traffic.variants, self._seed)
        serving = Serving(traffic.variants, self.troubles, answers)
        deliveries = Deliveries(self.scenario, texts, self._partitions, noise, repeats)
        # Steps here, so that what arrives in a step is complete once it has been drawn.
        waiting: defaultdict[int, list[Delivery]] = defaultdict(list)
        offsets: defaultdict[tuple[int, int], int] = defaultdict(int)
        start_ms = self.start_ms
        step = 0
        until_ms = start_ms
        while until_ms < self.end_ms or waiting:
            from_ms, until_ms = until_ms, until_ms + _STEP_MS
            for stage in self.stages:
                first, last = max(from_ms, stage.start_ms), min(until_ms, stage.end_ms)
                if first < last:
                    requests, impressions, clicks = traffic.draw(stage.phase, first, last)
                    for delivery in deliveries.deliver(requests, serving.answer(requests), impressions, clicks):
                        waiting[(delivery[0] - start_ms) // _STEP_MS].append(delivery)
            lines = []
            for arrival, _, topic, partition, key, value in sorted(waiting.pop(step, ())):
                source = topic, partition
                lines.append(Line(TOPICS[topic], partition, offsets[source], arrival, key, value))
                offsets[source] += 1
            yield until_ms, lines
            step += 1


def _place(scenario: Scenario, minutes: float, start_ms: int | None) -> tuple[Stage, ...]:
    """Lay the phases out in event time, boundaries on whole milliseconds."""
    length = minutes * _MINUTE_MS
    ends = [round(length * sum(phase.share for phase in scenario.phases[: n + 1])) for n in range(len(scenario.phases))]
    edges = [0, *ends]
    if start_ms is None:
        start_ms = round(scenario.anchor.timestamp() * 1000) - edges[scenario.anchor_phase]
    return tuple(
        Stage(phase, start_ms + first, start_ms + last)
        for phase, (first, last) in zip(scenario.phases, pairwise(edges), strict=True)
    )
