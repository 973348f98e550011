"""How often drift is seen where there is none, and where there is some: `python -m benchmarks.drift_calibration`.

References are drawn and built as people build them; windows are drawn from the same population, straight into the bins,
whose true shares are known. Random, with a seed: everybody gets the same table.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from tables.distances import Comparison
from tables.drift_policy import DEFAULT_POLICY, METHODS, Method
from tables.feature_bins import Bins, CategoryBins, Counts, NumericBins, Value
from tables.reference import FeatureReference
from tables.reference_building import feature_reference

WINDOW_ROWS = (100, 300, 1_000, 10_000)
REFERENCES: Mapping[int, int] = {10_000: 20, 1_000_000: 2}
"""Rows of a reference -> how many such references are drawn for a line of the table."""
WINDOWS = 20_000
POWER_REFERENCE_ROWS = 86_000
POWER_REFERENCES = 5
POWER_WINDOW_ROWS = (3_000, 60_000)
_CHUNK = 500
"""Windows compared at once."""
_COLUMNS = 160


class Population(Protocol):
    """Where rows come from."""

    def draw(self, rng: np.random.Generator, rows: int) -> Sequence[Value]:
        """So many independent rows."""
        ...

    def shares(self, bins: Bins) -> NDArray[np.float64]:
        """Probability of each place of a count vector."""
        ...


@dataclass(frozen=True, slots=True)
class Numbers:
    """Some missing, some exactly zero, the others normal around `mean` with standard deviation 1."""

    mean: float = 0.0
    zero: float = 0.0
    missing: float = 0.0

    def draw(self, rng: np.random.Generator, rows: int) -> Sequence[Value]:
        """See Population."""
        values = rng.normal(self.mean, 1.0, rows)
        kind = rng.random(rows)
        values[kind < self.missing + self.zero] = 0.0
        values[kind < self.missing] = math.nan
        drawn: list[Value] = values.tolist()
        return drawn

    def shares(self, bins: Bins) -> NDArray[np.float64]:
        """See Population."""
        assert isinstance(bins, NumericBins)
        normal = NormalDist(self.mean)
        other = 1 - self.missing - self.zero
        below = [other * normal.cdf(edge) + self.zero * (edge >= 0) for edge in bins.edges]
        return np.array([*np.diff([0.0, *below, 1 - self.missing]), 0.0, self.missing])


@dataclass(frozen=True, slots=True)
class Categories:
    """Categories named by their rank, with these probabilities."""

    probabilities: tuple[float, ...]

    def draw(self, rng: np.random.Generator, rows: int) -> Sequence[Value]:
        """See Population."""
        return list(map(str, rng.choice(len(self.probabilities), rows, p=self.probabilities).tolist()))

    def shares(self, bins: Bins) -> NDArray[np.float64]:
        """See Population."""
        assert isinstance(bins, CategoryBins)
        places = [bins.index_of(str(rank)) for rank in range(len(self.probabilities))]
        shares = np.zeros(bins.width)
        np.add.at(shares, places, self.probabilities)
        return shares


def zipf(categories: int) -> Categories:
    """Probability inverse to the rank, as brands, cities and search terms have it."""
    weights = 1 / np.arange(1, categories + 1)
    return Categories(tuple((weights / weights.sum()).tolist()))


POPULATIONS: Mapping[str, Population] = {
    "normal, 10 bins": Numbers(),
    "3 of 5 zero, 2 % missing": Numbers(mean=3.0, zero=0.6, missing=0.02),
    "yes or no, 20 %": Categories((0.8, 0.2)),
    "20 categories, Zipf": zipf(20),
    "5,000 categories, Zipf": zipf(5_000),
}

SHIFTS: Mapping[str, tuple[Population, Population]] = {
    "new users 20 % -> 50 %": (Categories((0.8, 0.2)), Categories((0.5, 0.5))),
    "gender, true PSI 0.213": (Categories((0.57, 0.40, 0.03)), Categories((0.345, 0.625, 0.03))),
    "mean by 0.5 standard deviations": (Numbers(), Numbers(mean=0.5)),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """Shares of the windows, 0 to 1; without the methods that do not apply."""

    above_critical: Mapping[Method, float]
    minor: Mapping[Method, float]
    """Called minor or severe."""
    severe: Mapping[Method, float]
    rule_of_thumb: float
    """PSI of 0.1 or more whatever the number of rows, empty bins filled with a share of 0.0001."""


def references_of(
    population: Population, rows: int, references: int, rng: np.random.Generator
) -> list[FeatureReference]:
    """So many references of `rows` rows each."""
    return [feature_reference("x", population.draw(rng, rows)) for _ in range(references)]


def watch(
    references: Sequence[FeatureReference],
    population: Population,
    rows: int,
    *,
    windows: int,
    rng: np.random.Generator,
) -> Seen:
    """Compare `windows` windows of `rows` rows each, dealt out evenly among the references."""
    compared, above, minor, severe = Counter[Method](), Counter[Method](), Counter[Method](), Counter[Method]()
    by_thumb = 0
    for reference in references:
        shares = population.shares(reference.bins)
        for _ in range(windows // len(references) // _CHUNK):
            counts = rng.multinomial(rows, shares, size=_CHUNK)
            filled = _filled_psi(np.array(reference.counts), counts)
            by_thumb += int(np.count_nonzero(filled >= DEFAULT_POLICY.minor))
            for distances in Comparison([reference] * _CHUNK, DEFAULT_POLICY).distances(counts.ravel()):
                for distance in distances:
                    compared[distance.method] += 1
                    above[distance.method] += distance.value > distance.critical
                    minor[distance.method] += distance.level != "none"
                    severe[distance.method] += distance.level == "severe"
    above_critical, called_minor, called_severe = (
        {method: counted[method] / n for method, n in compared.items()} for counted in (above, minor, severe)
    )
    return Seen(above_critical, called_minor, called_severe, by_thumb / compared["psi"])


def calibration(rng: np.random.Generator) -> Table:
    """Windows without drift."""
    methods = [f"{method} > critical" for method in METHODS] + [f"{method} minor+" for method in METHODS]
    table = _table("No drift: % of the windows", "population", "reference", "window", "PSI >= 0.1", *methods)
    for name, population in POPULATIONS.items():
        for reference_rows, references in REFERENCES.items():
            built = references_of(population, reference_rows, references, rng)
            for rows in WINDOW_ROWS:
                seen = watch(built, population, rows, windows=WINDOWS, rng=rng)
                called = _percents(seen.above_critical) + _percents(seen.minor)
                table.add_row(name, f"{reference_rows:,}", f"{rows:,}", _percent(seen.rule_of_thumb), *called)
    return table


def power(rng: np.random.Generator) -> Table:
    """Windows of nothing but shifted rows."""
    methods = [f"{method} minor+" for method in METHODS] + [f"{method} severe" for method in METHODS]
    table = _table("Drift: % of the windows", "shift", "reference", "window", *methods)
    for name, (before, after) in SHIFTS.items():
        built = references_of(before, POWER_REFERENCE_ROWS, POWER_REFERENCES, rng)
        for rows in POWER_WINDOW_ROWS:
            seen = watch(built, after, rows, windows=WINDOWS, rng=rng)
            called = _percents(seen.minor) + _percents(seen.severe)
            table.add_row(name, f"{POWER_REFERENCE_ROWS:,}", f"{rows:,}", *called)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift_calibration", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    rng = np.random.default_rng(parser.parse_args(arguments).seed)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _COLUMNS)
    with Console(stderr=True).status("Drawing windows, half a minute"):
        tables = calibration(rng), power(rng)
    console.print(*tables)


def _filled_psi(reference: Counts, current: Counts) -> NDArray[np.float64]:
    """PSI as it is mostly computed: a share of 0 is replaced by 0.0001."""
    q, p = (np.maximum(side / side.sum(axis=-1, keepdims=True), 0.0001) for side in (reference, current))
    terms = np.where((reference == 0) & (current == 0), 0.0, (p - q) * np.log(p / q))
    return np.asarray(terms.sum(axis=-1))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", padding=(0, 0))
    for place, column in enumerate(columns):
        table.add_column(
            column, justify="right" if place else "left", no_wrap=not place, width=None if place < 4 else 9
        )
    return table


def _percents(shares: Mapping[Method, float]) -> list[str]:
    return [_percent(shares[method]) if method in shares else "-" for method in METHODS]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


if __name__ == "__main__":
    main()
