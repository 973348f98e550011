"""Quantiles of the chi-squared distribution, beside SciPy's."""

from __future__ import annotations

import pytest
from scipy.stats import chi2

from tables.chi_squared import chi_squared_quantiles, quantile


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.99, 0.999, 1 - 1.2e-7])
def test_quantiles_are_those_of_scipy(probability: float) -> None:
    for freedom in [*range(1, 60), 102, 10_001]:
        assert quantile(probability, freedom) == pytest.approx(chi2.ppf(probability, freedom), rel=1e-12)


def test_the_statistic_and_the_p_value_of_deequ_belong_together() -> None:
    # Its chi2 test of six categories: CategoricalDistanceTest, "with missing bin values".
    assert quantile(1 - 3.3640191298478506e-5, 5) == pytest.approx(28.175042782458068, rel=1e-11)


def test_a_table_starts_with_no_freedom_at_all() -> None:
    table = chi_squared_quantiles(0.99, 9)

    assert table.shape == (10,)
    assert table[0] == 0
    assert table[9] == pytest.approx(21.665994333461924, rel=1e-12)  # as every printed table has it
    assert not table.flags.writeable
