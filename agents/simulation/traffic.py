"""Draws what happens in a stretch of a phase, as columns: requests, what they show, and what is clicked."""

from dataclasses import dataclass

import numpy as np

from agents.simulation.scenarios import Appeal, Phase, Scenario
from agents.simulation.visitors import (
    MAX_USERS,
    PROMOTED_EVERY,
    Floats,
    Ints,
    items_by_popularity,
    lognormal_quantiles,
    popular_ranks,
)

#: Values of `Requests.status`.
OK, ERROR, TIMEOUT = range(3)
STATUSES = ("ok", "error", "timeout")

#: When a request is given up, in tenths of a millisecond.
TIMEOUT_TENTHS = 20_000
#: Zipf exponents 1/2 for visitors and 2/3 for items, see `popular_ranks`.
_VISITOR_SKEW, _ITEM_SKEW = 2, 3


@dataclass(frozen=True, slots=True)
class Requests:
    """One row a request to a model; `variant` indexes `Traffic.variants`, `gender` GENDERS."""

    time: Ints
    variant: Ints
    user: Ints
    new: Ints
    gender: Ints
    #: Of the model in ordinary times, see `Serving` for the others.
    latency_tenths: Ints
    status: Ints
    #: Predicted click-through rate, or price in cents, in units of 1e-4.
    prediction: Ints


@dataclass(frozen=True, slots=True)
class Impressions:
    """One row an item shown; `request` is a row of Requests."""

    request: Ints
    item: Ints
    #: From 1.
    position: Ints


@dataclass(frozen=True, slots=True)
class Clicks:
    """One row a click within the attribution window; `impression` is a row of Impressions."""

    impression: Ints
    delay_ms: Ints


@dataclass(frozen=True, slots=True)
class Variant:
    """A version of a model."""

    model_index: int
    model_id: str
    version: str
    shows_items: bool


class Traffic:
    """The visitors of a scenario; the same seed always draws the same, on any machine.

    Only operations that are exact in IEEE arithmetic touch the random numbers, for that reason.
    """

    def __init__(self, scenario: Scenario, rate: float, random: np.random.Generator) -> None:
        self._scenario = scenario
        self._random = random
        self._requests_per_ms = rate / _items_per_request(scenario) / 1000
        self.variants = tuple(
            Variant(index, model.model_id, version, model.slate[1] > 0)
            for index, model in enumerate(scenario.models)
            for version in model.versions
        )
        self._variant_edges = _edges(
            [
                model.traffic * share / sum(model.versions.values())
                for model in scenario.models
                for share in model.versions.values()
            ]
        )
        self._model_of = np.array([variant.model_index for variant in self.variants])
        self._fewest_items = np.array([model.slate[0] for model in scenario.models])
        self._most_items = np.array([model.slate[1] for model in scenario.models])
        self._promoted = np.array([model.promoted for model in scenario.models])
        self._latencies = np.stack(
            [lognormal_quantiles(model.latency_median_ms * 10, model.latency_spread) for model in scenario.models]
        )
        self._click_delays = lognormal_quantiles(scenario.click_delay_median_ms, scenario.click_delay_spread).clip(
            1, 599_999
        )
        self._ordinary_items, self._promoted_items = items_by_popularity(scenario.items)
        self._pool_sizes = _pool_sizes(scenario, rate)
        self._pool_starts = np.concatenate(([0], np.cumsum(self._pool_sizes)[:-1]))
        # What is due but not a whole request or click yet.
        self._requests_due = 0.5
        self._clicks_due = [0.5] * len(self.variants)

    def draw(self, phase: Phase, start_ms: int, end_ms: int) -> tuple[Requests, Impressions, Clicks]:
        """Draw what is requested in [start_ms, end_ms), and what comes of it."""
        requests = self._draw_requests(phase, start_ms, end_ms)
        impressions = self._draw_impressions(requests)
        return requests, impressions, self._draw_clicks(phase, requests, impressions)

    def _draw_requests(self, phase: Phase, start_ms: int, end_ms: int) -> Requests:
        random = self._random
        self._requests_due += self._requests_per_ms * phase.traffic * (end_ms - start_ms)
        count = int(self._requests_due)
        self._requests_due -= count
        time = np.sort(random.integers(start_ms, end_ms, count))
        variant = np.searchsorted(self._variant_edges, random.random(count), side="right")
        new = (random.random(count) < phase.new_users).astype(np.int64)
        gender = np.searchsorted(_edges(phase.genders), random.random(count), side="right")
        pool = new * len(phase.genders) + gender
        user = self._pool_starts[pool] + popular_ranks(random.random(count), self._pool_sizes[pool], skew=_VISITOR_SKEW)
        model = self._model_of[variant]
        fate = random.random(count)
        failures = self._scenario.failures
        # A quarter of the failures time out.
        status = np.where(fate < failures / 4, TIMEOUT, np.where(fate < failures, ERROR, OK))
        latency = self._latencies[model, random.integers(0, self._latencies.shape[1], count)]
        latency = np.where(status == TIMEOUT, TIMEOUT_TENTHS, latency)
        prediction = random.integers(200, 1400, count)
        return Requests(time, variant, user, new, gender, latency, status, prediction)

    def _draw_impressions(self, requests: Requests) -> Impressions:
        random = self._random
        model = self._model_of[requests.variant]
        slate = random.integers(self._fewest_items[model], self._most_items[model] + 1)
        slate[requests.status != OK] = 0
        request = np.repeat(np.arange(len(slate)), slate)
        first = np.cumsum(slate) - slate
        position = np.arange(len(request)) - first[request] + 1
        promoted = random.random(len(request)) < self._promoted[model[request]]
        item = self._draw_items(promoted)
        again = _repeated(request * self._scenario.items + item)
        # Once is enough: a slate that still shows an item twice is rare, and happens in life too.
        item[again] = self._draw_items(promoted[again])
        return Impressions(request, item, position)

    def _draw_items(self, promoted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints:
        uniform = self._random.random(len(promoted))
        ordinary, special = self._ordinary_items, self._promoted_items
        ranks = popular_ranks(uniform, np.where(promoted, len(special), len(ordinary)), skew=_ITEM_SKEW)
        items = ordinary[ranks]
        items[promoted] = special[ranks[promoted]]
        return items

    def _draw_clicks(self, phase: Phase, requests: Requests, impressions: Impressions) -> Clicks:
        random = self._random
        promoted = (impressions.item % PROMOTED_EVERY == PROMOTED_EVERY - 1).astype(np.int64)
        appeal = _appeals(phase.appeal)[requests.new[impressions.request] * 2 + promoted]
        variant = requests.variant[impressions.request]
        chosen = []
        for index, of_variant in enumerate(self.variants):
            model = self._scenario.models[of_variant.model_index]
            shown = np.flatnonzero(variant == index)
            ctr = phase.ctr.get(model.model_id, model.ctr)
            if self._scenario.even_clicks:
                chosen.append(shown[self._spread_clicks(index, appeal[shown], ctr)])
            else:
                usual = _mean_appeal(phase, model.promoted)
                chosen.append(shown[random.random(len(shown)) < ctr / usual * appeal[shown]])
        clicked = np.sort(np.concatenate(chosen))
        delay = self._click_delays[random.integers(0, len(self._click_delays), len(clicked))]
        return Clicks(clicked, delay)

    def _spread_clicks(self, variant: int, appeal: Floats, ctr: float) -> Ints:
        """Choose as many as are due, by systematic sampling with probability proportional to appeal."""
        offset = self._random.random()
        if not len(appeal):
            return np.empty(0, dtype=np.int64)
        self._clicks_due[variant] += ctr * len(appeal)
        count = int(self._clicks_due[variant])
        reached = np.cumsum(appeal)
        places = (np.arange(count) + offset) * reached[-1] / max(count, 1)
        chosen = np.unique(np.searchsorted(reached, places, side="right").clip(0, len(appeal) - 1))
        self._clicks_due[variant] -= len(chosen)
        return chosen


def _items_per_request(scenario: Scenario) -> float:
    """Impressions that a request makes on average, over all models."""
    traffic = sum(model.traffic for model in scenario.models)
    return sum(model.traffic * sum(model.slate) / 2 for model in scenario.models) / traffic


def _pool_sizes(scenario: Scenario, rate: float) -> Ints:
    """Split the visitors into pools by (new, gender), each large enough for the phase that needs most of it.

    Too small a pool shows the same items to the same people again within minutes, and a click then counts for
    several impressions.
    """
    largest = [
        max((phase.new_users if new else 1 - phase.new_users) * phase.genders[gender] for phase in scenario.phases)
        for new in (False, True)
        for gender in range(3)
    ]
    users = min(max(rate * scenario.users_per_rate, 1000), (MAX_USERS - len(largest)) / sum(largest))
    return np.array([max(int(users * share), 1) for share in largest], dtype=np.int64)


def _edges(shares: tuple[float, ...] | list[float]) -> Floats:
    """Return where one share ends and the next begins on [0, 1), the last end left out."""
    total = sum(shares)
    edges: Floats = np.cumsum(np.array(shares) / total)[:-1]
    return edges


def _appeals(appeal: Appeal) -> Floats:
    return np.array([appeal.returning_ordinary, appeal.returning_promoted, appeal.new_ordinary, appeal.new_promoted])


def _mean_appeal(phase: Phase, promoted: float) -> float:
    new, appeal = phase.new_users, phase.appeal
    return (1 - new) * ((1 - promoted) * appeal.returning_ordinary + promoted * appeal.returning_promoted) + (
        new * ((1 - promoted) * appeal.new_ordinary + promoted * appeal.new_promoted)
    )


def _repeated(keys: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mark every occurrence of a key after its first."""
    _, first = np.unique(keys, return_index=True)
    again = np.ones(len(keys), dtype=np.bool_)
    again[first] = False
    return again
