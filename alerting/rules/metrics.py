"""The metrics that rules can name: of which rows, in which unit, and how a sentence calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

from alerting.rules.reading import LEVELS, Kind

#: What a metric's parentheses take: nothing, `latency`, or the name of a feature.
Argument = Literal["", "latency", "FEATURE"]

MOST_DECIMALS: Final = 6
"""With which any number is told."""

_PLAIN: Final[Mapping[str, Decimal]] = MappingProxyType({"": Decimal(1)})


@dataclass(frozen=True, slots=True)
class Unit:
    """How thresholds of a metric are written and values are told; readings hold plain numbers, from 0."""

    expected: str
    """What to write, for the one who has written something else."""
    suffixes: Mapping[str, Decimal]
    """What may follow a threshold, and what the number before it is then multiplied by."""
    greatest: int = 10**15
    is_whole: bool = False
    shown_as: str = ""
    """What follows a value that is told."""
    scale: int = 1
    """What a value that is told is multiplied by."""
    decimals: int = 0
    """How many of them are told at least."""

    def decimals_beside(self, value: float, threshold: float) -> int:
        """How many to tell `value` with beside `threshold`: "5.0 %, below 5 %" would read as a mistake."""
        shown, limit, decimals = value * self.scale, threshold * self.scale, self.decimals
        while decimals < MOST_DECIMALS and value != threshold and round(shown, decimals) == round(limit, decimals):
            decimals += 1
        return decimals


RATIO: Final = Unit(
    "a threshold from 0 to 1 or from 0% to 100%",
    {"": Decimal(1), "%": Decimal("0.01")},
    greatest=1,
    shown_as=" %",
    scale=100,
    decimals=1,
)
#: With 99.95 % told as 100.0 % it would look as if nothing had failed.
FINE_RATIO: Final = replace(RATIO, decimals=2)
COUNT: Final = Unit("a whole number from 0", _PLAIN, is_whole=True)
RATE: Final = Unit("a number from 0", _PLAIN, decimals=1)
#: In milliseconds.
LATENCY: Final = Unit(
    "a time with its unit, such as 500ms or 0.5s", {"ms": Decimal(1), "s": Decimal(1000)}, shown_as=" ms"
)
DISTANCE: Final = Unit("a number from 0, such as 0.2", _PLAIN, decimals=2)
BOUNDED_DISTANCE: Final = Unit("a number from 0 to 1, such as 0.2", _PLAIN, greatest=1, decimals=2)
#: Written and told as a word of LEVELS.
LEVEL: Final = Unit(f"{', '.join(LEVELS[:-1])} or {LEVELS[-1]}", {}, greatest=len(LEVELS) - 1)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a window row."""

    kind: Kind
    title: str
    unit: Unit
    minimum: int
    """Rows that a rule wants behind the value where it says nothing else."""
    argument: Argument = ""

    @property
    def is_tally(self) -> bool:
        """Whether it grows with the traffic; of several minutes each then counts once, whatever came in it."""
        return self.unit in (COUNT, RATE)


#: What `drop` and `rise` give, whatever the metric: a share of what was before. Nothing falls by more than all.
DROP: Final = replace(RATIO, expected="a share of what was before, such as 10%")
RISE: Final = replace(DROP, greatest=10**15)

#: Below this many impressions chance alone moves a 5 % CTR by a fifth of its value (one standard deviation).
_IMPRESSIONS: Final = 500
#: Where 1 % of requests fail as a rule, two minutes in a row of so many show more than 5 % once in four days. A greater
#: minimum would be quieter, and blind to small models that are down.
_REQUESTS: Final = 50
#: Without drift, 99 % of windows stay under a PSI of chi2.ppf(0.99, bins - 1) / n: 0.025 for 12 bins, 0.08 for 52.
_RECORDS: Final = 1000
#: A count is judged however small it is: that is what it says.
_NONE: Final = 0

METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "ctr": Metric("ctr", "CTR", RATIO, _IMPRESSIONS),
        "impressions": Metric("ctr", "Impression count", COUNT, _NONE),
        "clicks": Metric("ctr", "Click count", COUNT, _NONE),
        "error_rate": Metric("serving", "Error rate", RATIO, _REQUESTS),
        "availability": Metric("serving", "Availability", FINE_RATIO, _REQUESTS),
        "errors": Metric("serving", "Error count", COUNT, _NONE),
        "requests": Metric("serving", "Request count", COUNT, _NONE),
        "qps": Metric("serving", "QPS", RATE, _NONE),
        "p50": Metric("serving", "P50 latency", LATENCY, _REQUESTS, "latency"),
        "p95": Metric("serving", "P95 latency", LATENCY, _REQUESTS, "latency"),
        "p99": Metric("serving", "P99 latency", LATENCY, _REQUESTS, "latency"),
        "max": Metric("serving", "Maximum latency", LATENCY, _REQUESTS, "latency"),
        "psi": Metric("drift", "PSI", DISTANCE, _RECORDS, "FEATURE"),
        "ks": Metric("drift", "KS", BOUNDED_DISTANCE, _RECORDS, "FEATURE"),
        "kl": Metric("drift", "KL", DISTANCE, _RECORDS, "FEATURE"),
        "js": Metric("drift", "JS", BOUNDED_DISTANCE, _RECORDS, "FEATURE"),
        "drift": Metric("drift", "Drift", LEVEL, _RECORDS, "FEATURE"),
    }
)


def written(name: str) -> str:
    """The metric as an expression has it: `ctr`, `p95(latency)`, `psi(FEATURE)`."""
    argument = METRICS[name].argument
    return f"{name}({argument})" if argument else name
