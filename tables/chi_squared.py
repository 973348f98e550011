"""Quantiles of the chi-squared distribution; SciPy has them too, for 110 MB."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def chi_squared_quantiles(probability: float, most: int) -> NDArray[np.float64]:
    """Quantiles for 0, 1, ..., `most` degrees of freedom, shape (most + 1,), not to be written to; 0 for none."""
    quantiles = np.array([0.0, *(quantile(probability, freedom) for freedom in range(1, most + 1))])
    quantiles.setflags(write=False)
    return quantiles


def quantile(probability: float, freedom: int) -> float:
    """Where the distribution function reaches `probability` (0.5 <= p < 1), relative error under 1e-12.

    Newton's method on the closed form of the upper tail for whole degrees of freedom, from the cube of Wilson and
    Hilferty (1931).
    """
    spread = 2 / (9 * freedom)
    x = freedom * (1 - spread + NormalDist().inv_cdf(probability) * math.sqrt(spread)) ** 3
    for _ in range(50):
        tail, density = _tail_and_density(x, freedom)
        step = (tail - (1 - probability)) / density
        x = max(x + step, x / 2)
        if abs(step) <= 1e-14 * x:
            break
    return x


def _tail_and_density(x: float, freedom: int) -> tuple[float, float]:
    """P(X > x) and the density at x: Abramowitz & Stegun 26.4.4 and 26.4.5, by Q(a + 1) = Q(a) + y**a e**-y / a!."""
    y = x / 2
    a = 0.5 if freedom % 2 else 1.0
    tail = math.erfc(math.sqrt(y)) if freedom % 2 else math.exp(-y)
    while a < freedom / 2:
        tail += math.exp(a * math.log(y) - y - math.lgamma(a + 1))
        a += 1
    return tail, math.exp((a - 1) * math.log(y) - y - math.lgamma(a)) / 2
