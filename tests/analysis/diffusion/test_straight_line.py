from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bcrit.analysis.diffusion.straight_line import straight_line, t_quantile

X = np.arange(200.0)


def test_the_line_is_that_of_least_squares() -> None:
    y = 3 - 0.5 * X + np.random.default_rng(0).standard_normal(200)
    fit, other = straight_line(X, y), stats.linregress(X, y)
    assert (fit.slope, fit.intercept) == pytest.approx((other.slope, other.intercept), rel=1e-9)
    assert math.sqrt(fit.rss / 198 / fit.spread) == pytest.approx(other.stderr, rel=1e-9)
    np.testing.assert_allclose(fit.residuals, y - other.intercept - other.slope * X, atol=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_correlated_points_count_as_fewer(rho: float) -> None:
    counts = []
    for seed in range(50):
        noise = np.random.default_rng(seed).standard_normal(200)
        for i in range(1, 200):
            noise[i] = rho * noise[i - 1] + math.sqrt(1 - rho**2) * noise[i]
        counts.append(straight_line(X, noise).independent)
    assert np.median(counts) == pytest.approx(
        200 * (1 - rho) / (1 + rho), rel=0.25
    )  # the estimate of rho is biased low


def test_points_that_alternate_count_as_they_are() -> None:
    assert straight_line(X, (-1.0) ** X).independent == 200


def test_exact_points_still_have_the_rounding_of_single_precision() -> None:
    fit = straight_line(X, 2 + X)
    assert fit.slope == pytest.approx(1) and 0 < math.sqrt(fit.rss / 200) < 1e-4


def test_the_quantile_is_students() -> None:
    assert t_quantile(9, 0.95) == pytest.approx(2.262157, rel=1e-6)
