"""What is called drift."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from tables import distances
from tables.drift_policy import DEFAULT_POLICY, METHODS, DriftPolicy, Method, equivalent
from tables.errors import ConfigError
from tables.feature_bins import Counts


@pytest.mark.parametrize(
    ("psi", "critical", "level"),
    [
        (0.0999, 0.01, "none"),
        (0.1, 0.01, "minor"),
        (0.1999, 0.01, "minor"),
        (0.2, 0.01, "severe"),
        # However great: as much comes about by chance with so few rows.
        (0.2, 0.2, "none"),
        (0.9, 1.1, "none"),
        (0.1, 0.0999, "minor"),
    ],
)
def test_a_level_needs_size_and_significance(psi: float, critical: float, level: str) -> None:
    assert DEFAULT_POLICY.level("psi", psi, critical) == level


def test_thresholds_can_be_moved() -> None:
    policy = DriftPolicy(minor=0.05, severe=0.5)

    assert [policy.level("psi", psi, 0.0) for psi in (0.04, 0.05, 0.49, 0.5)] == ["none", "minor", "minor", "severe"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_its_level_at_the_shift_where_psi_does(method: Method) -> None:
    for psi, level in ((0.1, "minor"), (0.2, "severe")):
        threshold = equivalent(method, psi)
        assert DEFAULT_POLICY.level(method, threshold, 0.0) == level
        assert DEFAULT_POLICY.level(method, math.nextafter(threshold, 0), 0.0) != level


@pytest.mark.parametrize("psi", [0.1, 0.2])
def test_thresholds_of_the_methods_stand_for_one_shift(psi: float) -> None:
    # A normal distribution whose mean moves by d standard deviations has PSI d**2. In 200 fine bins:
    d = math.sqrt(psi)
    normal = NormalDist()
    edges = [normal.inv_cdf(k / 200) for k in range(1, 200)]

    def counts(mean: float) -> Counts:
        below = [0.0, *(NormalDist(mean).cdf(edge) for edge in edges), 1.0]
        return np.round(np.diff(below) * 10**12).astype(np.int64)

    reference, current = counts(0.0), counts(d)
    assert distances.psi(reference, current) == pytest.approx(psi, rel=0.01)
    assert distances.ks(reference, current) == pytest.approx(equivalent("ks", psi), rel=0.01)
    assert distances.kl(reference, current) == pytest.approx(equivalent("kl", psi), rel=0.01)
    assert distances.js(reference, current) == pytest.approx(equivalent("js", psi), rel=0.02)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minor": 0.0}, "0 < minor <= severe"),
        ({"minor": 0.3}, "0 < minor <= severe"),
        ({"severe": math.nan}, "0 < minor <= severe"),
        ({"horizon_ms": 90_000}, "whole minutes"),
        ({"horizon_ms": 0}, "whole minutes"),
        ({"confidence": 1.0}, "less than 1"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DriftPolicy(**values)
