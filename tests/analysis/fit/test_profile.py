from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from analysis.fit.profile import Profile, interval, minimise

X = np.log(2.0 ** np.arange(3, 11))


def noisy(seed: int, noise: float = 0.1, u: float = math.log(100)) -> Profile:
    rng = np.random.default_rng(seed)
    y = math.log(50) + np.logaddexp(0, u - X) + rng.normal(0, noise, X.size)
    return Profile(X, y, np.ones(X.size, dtype=bool))


@given(st.integers(0, 10_000))
def test_the_profile_agrees_with_a_general_least_squares_solver(seed: int) -> None:
    profile = noisy(seed)
    u = minimise(profile)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return np.asarray(profile.log_steps - np.logaddexp(parameters[0], parameters[1] - X))

    twin = optimize.least_squares(residuals, [math.log(50), math.log(5000)], xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    curve = profile.curve(u)
    assert [math.log(curve.s_min), math.log(curve.e_min)] == pytest.approx(list(twin), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_ends_of_the_interval_have_the_residual_sum_of_the_f_threshold(seed: int) -> None:
    profile = noisy(seed)
    u = minimise(profile)
    freedom = X.size - 2
    threshold = 1 + special.stdtrit(freedom, 0.975) ** 2 / freedom

    def rss(at: float) -> float:
        return float(((profile.log_steps - profile.offset(at) - profile.solve(at)[0]) ** 2).sum())

    for end in interval(profile, u, 0.95):
        assert rss(end) / rss(u) == pytest.approx(threshold)


def test_the_slope_is_the_derivative_of_the_censored_deviance() -> None:
    full = noisy(3)
    profile = Profile(X, full.log_steps, np.arange(X.size) > 1)
    u, step = math.log(70), 1e-5
    numeric = float(profile.deviance(u + step) - profile.deviance(u - step)) / (2 * step)
    sigma = float(profile.solve(u)[1])
    assert 2 * profile.slope(u) / sigma**2 == pytest.approx(numeric, rel=1e-5)


def test_one_method_serves_the_limits_of_the_curve() -> None:
    ones = np.ones(X.size, dtype=bool)
    assert minimise(Profile(X, 10 - X, ones)) == math.inf
    assert minimise(Profile(X, 0 * X + 4, ones)) == -math.inf
    assert minimise(Profile(X, 0.3 * X, ones)) == -math.inf


def test_an_end_is_open_where_the_data_do_not_reach_the_knee() -> None:
    left, right = noisy(1, 0.05, math.log(50_000)), noisy(1, 0.05, math.log(0.1))
    low, high = interval(left, minimise(left), 0.95)
    assert math.log(2000) < low and high == math.inf
    low, high = interval(right, minimise(right), 0.95)
    assert low == -math.inf and high < math.log(4)
