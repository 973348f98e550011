"""How events reach Kafka: when, where, how often, and in what state."""

from collections.abc import Iterator
from itertools import count

import numpy as np

from agents.simulation.events import BREAKAGES, EventTexts, break_event
from agents.simulation.scenarios import Scenario
from agents.simulation.serving import Answers
from agents.simulation.traffic import Clicks, Impressions, Requests
from agents.simulation.visitors import Ints, partitions_of

#: The topics of the shop; a Delivery names its own by index.
TOPICS = ("impressions", "clicks", "inferences")
_IMPRESSIONS, _CLICKS, _INFERENCES = range(3)

#: Arrival (ms), running number, index in TOPICS, partition, key, value. Sorting gives the order of arrival.
Delivery = tuple[int, int, int, int, bytes, bytes]

# The watermark waits 5 s for stragglers; everything but the hopelessly late comes within that.
_LAST_ARRIVAL_MS = 4900
_WINDOW_MS = 600_000
_MINUTE_MS = 60_000
_STRAY_ITEMS = 500


class Deliveries:
    """Turns what was drawn into deliveries, adding the scenario's noise.

    Noise has random numbers of its own: switching a kind off leaves visitors and models as they were. So have
    inferences that come twice (`repeats`), so that they leave impressions and clicks as they were.
    """

    def __init__(
        self,
        scenario: Scenario,
        texts: EventTexts,
        partitions: int,
        random: np.random.Generator,
        repeats: np.random.Generator,
    ) -> None:
        self._noise = scenario.noise
        self._items = scenario.items
        self._texts = texts
        self._partitions = partitions
        self._random = random
        self._repeats = repeats
        self._numbers = count()

    def deliver(self, requests: Requests, answers: Answers, impressions: Impressions, clicks: Clicks) -> list[Delivery]:
        """Return the deliveries of all three topics, in no particular order."""
        shown_at = requests.time[impressions.request]
        impression_delays = self._delays(len(shown_at))
        clicked_at = shown_at[clicks.impression] + clicks.delay_ms
        click_delays = self._delays(len(clicked_at))

        early = self._pick(len(clicked_at), self._noise.early_clicks)
        after_ms = self._random.integers(100, 1500, len(early))
        clicked_at[early] = shown_at[clicks.impression[early]] + after_ms
        click_delays[early] = 0
        impression_delays[clicks.impression[early]] = after_ms + self._random.integers(1, 2000, len(early))

        visits = _Visits(self._texts, requests, impressions, self._partitions)
        inference_delays = self._delays(len(requests.time))
        inferences = list(self._inferences(visits, requests, answers, inference_delays))
        deliveries = inferences.copy()
        deliveries += self._impressions(visits, shown_at, impression_delays)
        deliveries += self._clicks(visits, shown_at, clicks, clicked_at, click_delays)
        broken = self._pick(len(deliveries), self._noise.broken)
        breakages = self._random.integers(0, BREAKAGES, len(broken))
        for index, breakage in zip(broken.tolist(), breakages.tolist(), strict=True):
            arrival, _, topic, partition, key, value = deliveries[index]
            broken_value = break_event(value, breakage)
            deliveries.append((arrival, next(self._numbers), topic, partition, key, broken_value))
        deliveries += self._redeliver(inferences, inference_delays, self._repeats)
        return deliveries

    def _inferences(self, visits: "_Visits", requests: Requests, answers: Answers, delays: Ints) -> Iterator[Delivery]:
        arrivals = requests.time + delays
        events = self._texts.inferences(requests, answers, visits.heads, visits.features)
        rows = zip(arrivals.tolist(), visits.partitions, visits.user_ids, events, strict=True)
        for arrival, partition, user_id, event in rows:
            yield arrival, next(self._numbers), _INFERENCES, partition, user_id, event

    def _impressions(self, visits: "_Visits", shown_at: Ints, delays: Ints) -> Iterator[Delivery]:
        arrivals = shown_at + delays
        deliveries = [
            (arrival, next(self._numbers), _IMPRESSIONS, *visits.impression(row, time))
            for row, (arrival, time) in enumerate(zip(arrivals.tolist(), shown_at.tolist(), strict=True))
        ]
        yield from deliveries
        yield from self._redeliver(deliveries, delays, self._random)
        late = self._pick(len(deliveries), self._noise.hopelessly_late)
        earlier = shown_at[late] - self._random.integers(15 * _MINUTE_MS, 20 * _MINUTE_MS, len(late))
        for row, time in zip(late.tolist(), earlier.tolist(), strict=True):
            yield deliveries[row][0], next(self._numbers), _IMPRESSIONS, *visits.impression(row, time)

    def _clicks(
        self, visits: "_Visits", shown_at: Ints, clicks: Clicks, clicked_at: Ints, delays: Ints
    ) -> Iterator[Delivery]:
        random, noise = self._random, self._noise
        arrivals = clicked_at + delays
        rows = zip(clicks.impression.tolist(), arrivals.tolist(), clicked_at.tolist(), strict=True)
        deliveries = [(arrival, next(self._numbers), _CLICKS, *visits.click(row, time)) for row, arrival, time in rows]
        yield from deliveries
        yield from self._redeliver(deliveries, delays, self._random)

        late = self._pick(len(deliveries), noise.hopelessly_late)
        earlier = clicked_at[late] - random.integers(15 * _MINUTE_MS, 20 * _MINUTE_MS, len(late))
        for index, time in zip(late.tolist(), earlier.tolist(), strict=True):
            row = int(clicks.impression[index])
            yield deliveries[index][0], next(self._numbers), _CLICKS, *visits.click(row, time)

        after_window = self._pick(len(deliveries), noise.clicks_after_window)
        shown = random.integers(0, max(len(shown_at), 1), len(after_window))
        times = shown_at[shown] + _WINDOW_MS + random.integers(1, 5 * _MINUTE_MS, len(shown))
        for row, time in zip(shown.tolist(), times.tolist(), strict=True):
            yield time, next(self._numbers), _CLICKS, *visits.click(row, time)

        stray = self._pick(len(deliveries), noise.stray_clicks)
        times = clicked_at[stray] + random.integers(0, _MINUTE_MS, len(stray))
        items = random.integers(self._items, self._items + _STRAY_ITEMS, len(stray))
        for index, time, item in zip(stray.tolist(), times.tolist(), items.tolist(), strict=True):
            row = int(clicks.impression[index])
            yield time, next(self._numbers), _CLICKS, *visits.click(row, time, item)

    def _redeliver(self, deliveries: list[Delivery], delays: Ints, random: np.random.Generator) -> Iterator[Delivery]:
        again = _pick(random, len(deliveries), self._noise.duplicates)
        later = random.integers(1, _LAST_ARRIVAL_MS - delays[again])
        for index, wait in zip(again.tolist(), later.tolist(), strict=True):
            arrival, _, topic, partition, key, value = deliveries[index]
            yield arrival + wait, next(self._numbers), topic, partition, key, value

    def _delays(self, size: int) -> Ints:
        """Draw transport delays: mostly a few milliseconds, one in ten over a second."""
        uniform = self._random.random(size)
        cubes = uniform * uniform * uniform
        fourth = cubes * cubes
        delays: Ints = (fourth * fourth * self._noise.jitter_ms).astype(np.int64)
        return delays

    def _pick(self, size: int, share: float) -> Ints:
        return _pick(self._random, size, share)


class _Visits:
    """The requests of one step and their impressions, ready to be written as events."""

    def __init__(self, texts: EventTexts, requests: Requests, impressions: Impressions, partitions: int) -> None:
        self._texts = texts
        self.user_ids, self.heads, self.features = texts.describe_requests(requests)
        self.partitions: list[int] = partitions_of(requests.user, partitions).tolist()
        self._request: list[int] = impressions.request.tolist()
        self._item: list[int] = impressions.item.tolist()
        self._position: list[int] = impressions.position.tolist()

    def impression(self, row: int, time: int) -> tuple[int, bytes, bytes]:
        """Return partition, key and value of the impression in `row`, as if shown at `time`."""
        request = self._request[row]
        value = self._texts.impression(
            self.heads[request], self.features[request], time, self._item[row], self._position[row]
        )
        return self.partitions[request], self.user_ids[request], value

    def click(self, row: int, time: int, item: int | None = None) -> tuple[int, bytes, bytes]:
        """Return partition, key and value of a click on `item`, or on what the impression in `row` showed."""
        request = self._request[row]
        user_id = self.user_ids[request]
        value = self._texts.click(user_id, time, self._item[row] if item is None else item)
        return self.partitions[request], user_id, value


def _pick(random: np.random.Generator, size: int, share: float) -> Ints:
    """Pick each of `size` rows with probability `share`."""
    picked: Ints = np.flatnonzero(random.random(size) < share)
    return picked
