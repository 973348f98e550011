"""What the simulated shop goes through: models, visitors, and how both change over a run."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tables.errors import ConfigError

#: The values of the feature `gender`, in the order of `Phase.genders`.
GENDERS = ("F", "M", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """One model of the shop; all shares are relative to those of its siblings."""

    model_id: str
    #: Version -> share of the model's requests.
    versions: Mapping[str, float]
    #: Share of the shop's requests.
    traffic: float
    #: Clicked (user, item) pairs over shown ones.
    ctr: float
    #: Fewest and most items that one request shows; (0, 0) for a model that shows none.
    slate: tuple[int, int] = (5, 10)
    #: Share of promoted items among those shown: the model's choice, whatever the visitors want.
    promoted: float = 0.1
    latency_median_ms: float = 40.0
    #: Sigma of the log-normal latency.
    latency_spread: float = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Appeal:
    """How likely each kind of visitor is to click each kind of item, relative to one another."""

    returning_ordinary: float = 1.0
    returning_promoted: float = 1.0
    new_ordinary: float = 1.0
    new_promoted: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the run with an unchanging mix of visitors."""

    name: str
    #: Share of the run's length; those of a scenario sum to 1.
    share: float
    #: Requests relative to the rate asked for.
    traffic: float = 1.0
    #: Share of requests by new users.
    new_users: float = 0.2
    #: Share of requests by each of GENDERS.
    genders: tuple[float, float, float] = (0.55, 0.37, 0.08)
    #: Model id -> click-through rate, for the models that leave their usual one.
    ctr: Mapping[str, float] = field(default_factory=dict)
    appeal: Appeal = Appeal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Trouble in the serving of one model. What is shown and clicked meanwhile stays as it would have been."""

    name: str
    model_id: str
    #: Where it begins and how long it lasts, as shares of the run's length.
    start: float
    length: float
    #: Times the usual latency.
    slowness: int = 1
    #: Share of requests that fail beside the usual ones; only for a model that shows no items.
    errors: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Everything that a real shop's topics hold beside clean events; 0 switches a kind off."""

    #: The longest time from an event to its arrival. Together with redelivery it stays under 5 s.
    jitter_ms: int = 4000
    #: Share of events that are delivered twice.
    duplicates: float = 0.01
    #: Broken records per good one.
    broken: float = 0.0005
    #: Impressions and clicks that come 15 to 20 minutes after their event time, per timely one.
    hopelessly_late: float = 0.0002
    #: Share of clicks that arrive up to 2 s before their impression does.
    early_clicks: float = 0.01
    #: Clicks made more than 10 minutes after the impression, per click in time.
    clicks_after_window: float = 0.01
    #: Clicks on items that no model showed, per click on one that was.
    stray_clicks: float = 0.01


#: Clean events that arrive in the instant they happen.
SILENCE = Noise(
    jitter_ms=0,
    duplicates=0.0,
    broken=0.0,
    hopelessly_late=0.0,
    early_clicks=0.0,
    clicks_after_window=0.0,
    stray_clicks=0.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A shop and what happens to it."""

    name: str
    summary: str
    models: tuple[ModelProfile, ...]
    phases: tuple[Phase, ...]
    #: The run is placed so that phase `anchor_phase` begins at `anchor`.
    anchor: datetime
    anchor_phase: int = 0
    incidents: tuple[Incident, ...] = ()
    noise: Noise = Noise()
    #: True: clicks are spread evenly over each model version's impressions, so that every minute's CTR is
    #: close to the one wanted, however small the traffic. False: impressions are clicked independently, as in
    #: life.
    even_clicks: bool = False
    click_delay_median_ms: int = 8000
    #: Sigma of the log-normal delay from impression to click; 1.05 puts 95 % of clicks within 45 s.
    click_delay_spread: float = 1.05
    items: int = 2000
    #: The pool of visitors grows with the rate: so many for each impression a second.
    users_per_rate: int = 1000
    #: Share of requests that fail, and show nothing.
    failures: float = 0.002


_MODELS = (
    ModelProfile(
        model_id="recommender-home",
        versions={"v3": 1.0},
        traffic=0.60,
        ctr=0.08,
        latency_median_ms=45.0,
    ),
    ModelProfile(
        model_id="search-ranking",
        versions={"v7": 0.9, "v8": 0.1},
        traffic=0.22,
        ctr=0.11,
        latency_median_ms=70.0,
        latency_spread=0.5,
    ),
    ModelProfile(
        model_id="recommender-cart",
        versions={"v1": 1.0},
        traffic=0.13,
        ctr=0.09,
        latency_median_ms=30.0,
    ),
    ModelProfile(
        model_id="price-estimator",
        versions={"v2": 1.0},
        traffic=0.05,
        ctr=0.0,
        slate=(0, 0),
        latency_median_ms=12.0,
        latency_spread=0.3,
    ),
)

_USUAL = Appeal(returning_ordinary=1.1, returning_promoted=1.2, new_ordinary=0.5, new_promoted=1.4)

_STEADY = Scenario(
    name="steady",
    summary="an ordinary day: nothing changes, and nothing should be reported",
    models=_MODELS,
    phases=(Phase(name="steady", share=1.0, appeal=_USUAL),),
    anchor=datetime(2026, 4, 20, 9, 0, tzinfo=UTC),
)

# The home recommender weighs "promoted" too low: it goes on showing 10 % promoted items to visitors half of
# whom have come for just these. Gender moves by a PSI of 0.21, the share of new users by one of 0.42.
_MAY_DAY = Scenario(
    name="may-day",
    summary="a promotion at 10:00 brings new users, and the home recommender's CTR falls from 8 % to 4 %; "
    "when it is over, prices fail and search is slow",
    models=_MODELS,
    phases=(
        Phase(name="before", share=1 / 3, appeal=_USUAL),
        Phase(
            name="promotion",
            share=1 / 3,
            traffic=1.5,
            new_users=0.5,
            genders=(0.34, 0.48, 0.18),
            ctr={"recommender-home": 0.04},
            appeal=Appeal(
                returning_ordinary=1.4,
                returning_promoted=3.0,
                new_ordinary=0.2,
                new_promoted=3.0,
            ),
        ),
        Phase(name="after", share=1 / 3, appeal=_USUAL),
    ),
    anchor=datetime(2026, 5, 1, 10, 0, tzinfo=UTC),
    anchor_phase=1,
    # After the promotion, whose story is to be told alone. In half an hour: 10:11 to 10:14, and 10:12 to 10:18.
    incidents=(
        Incident(name="failing-prices", model_id="price-estimator", start=21 / 30, length=3 / 30, errors=0.3),
        Incident(name="slow-search", model_id="search-ranking", start=22 / 30, length=6 / 30, slowness=5),
    ),
    even_clicks=True,
)

SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in (_STEADY, _MAY_DAY)}


def scenario_named(name: str) -> Scenario:
    """Return the scenario called `name`; raises ConfigError, listing the known ones, if there is none."""
    try:
        return SCENARIOS[name]
    except KeyError:
        near = difflib.get_close_matches(name, SCENARIOS, n=1)
        hint = f", did you mean {near[0]}" if near else ""
        raise ConfigError(f"unknown scenario {name!r}{hint}; known are {', '.join(SCENARIOS)}") from None
