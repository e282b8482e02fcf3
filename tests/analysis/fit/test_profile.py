from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from bcrit.analysis.fit.profile import Profile, minimise

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


def test_two_straight_lines_are_the_limit_of_ever_sharper_knees() -> None:
    profile = noisy(4)
    corner, sharp = replace(profile, p=math.inf), replace(profile, p=1e4)
    at = np.array([-math.inf, 1.0, 4.5, 9.0, math.inf])
    assert corner.offset(at) == pytest.approx(sharp.offset(at), abs=1e-3)
    assert corner.deviance(at) == pytest.approx(sharp.deviance(at), abs=0.1)
