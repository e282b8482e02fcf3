from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bcrit.analysis.numbers.estimate import Floats, straight_line

X = np.arange(200.0)


def test_the_line_is_that_of_least_squares() -> None:
    y = 3 - 0.5 * X + np.random.default_rng(0).standard_normal(200)
    fit, other = straight_line(X, y), stats.linregress(X, y)
    assert (fit.slope, fit.intercept) == pytest.approx((other.slope, other.intercept), rel=1e-9)
    assert fit.slope_error() == pytest.approx(other.stderr, rel=1e-9)
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


def test_exact_points_still_have_the_rounding_that_they_are_given() -> None:
    fit = straight_line(X, 2 + X, rounding=1e-5)
    assert fit.slope == pytest.approx(1) and fit.squares == pytest.approx(2e-8)


@given(seed=st.integers(0, 10**6), n=st.integers(3, 12))
def test_with_weights_it_is_the_textbooks(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x: Floats = np.arange(n, dtype=float) * math.log(2.0)
    y, weight = rng.normal(size=n), rng.uniform(1, 25, n)
    design = np.column_stack([np.ones(n), x])
    inverse = np.linalg.inv(design.T @ (weight[:, None] * design))
    beta = inverse @ design.T @ (weight * y)
    scale = float((weight * (y - design @ beta) ** 2).sum()) / (n - 2)
    found = straight_line(x, y, weight)
    assert (found.intercept, found.slope) == pytest.approx(tuple(beta), abs=1e-9)
    assert found.slope_error() == pytest.approx(math.sqrt(scale * inverse[1, 1]))
    assert found.slope_error(least=1.0) == pytest.approx(math.sqrt(max(scale, 1.0) * inverse[1, 1]))
    half = float(stats.t.ppf(0.975, n - 2)) * found.slope_error()
    within = found.slope_within(0.95)
    assert (within.low, within.high) == pytest.approx((found.slope - half, found.slope + half))


def test_two_points_have_no_interval() -> None:
    found = straight_line(np.array([1.0, 2.0]), np.array([3.0, 5.0])).slope_within()
    assert (found.value, found.low, found.high) == (2.0, None, None)
