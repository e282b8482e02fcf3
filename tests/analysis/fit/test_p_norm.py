from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special

from bcrit.analysis.fit.p_norm import PNorm, fit_p_norm
from bcrit.analysis.fit.profile import Profile

B = 2.0 ** np.arange(2, 12)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.4, 3.0])
def test_the_curve_that_was_put_in_comes_back(p: float) -> None:
    truth = PNorm(s_min=70, b_crit=123, p=p, rms_log_residual=0)
    found = fit_p_norm(np.log(B), np.log(truth.steps(B)))
    assert found is not None
    assert (found.s_min, found.b_crit, found.p) == pytest.approx((70, 123, p), rel=1e-6)
    assert found.rms_log_residual < 1e-8


@pytest.mark.parametrize("p", [0.5, 1.0, 1.4, 3.0])
def test_steps_and_examples_double_where_they_say(p: float) -> None:
    curve = PNorm(s_min=70, b_crit=123, p=p, rms_log_residual=0)
    assert curve.steps(curve.s_doubles_at) == pytest.approx(2 * 70)
    assert curve.e_doubles_at * curve.steps(curve.e_doubles_at) == pytest.approx(2 * 70 * 123)


def test_at_the_crossing_of_its_asymptotes_it_is_two_to_the_one_over_p() -> None:
    assert PNorm(1, 10, 2, 0).steps(10) == pytest.approx(math.sqrt(2))  # reference section 7


def test_three_studies_or_a_knee_out_of_sight_give_none() -> None:
    assert fit_p_norm(np.log(B[:3]), np.log(10 / B[:3])) is None
    assert fit_p_norm(np.log(B), np.log(10 / B)) is None


def naive(x: np.ndarray, y: np.ndarray, reached: np.ndarray) -> float:
    """The smallest deviance by a general minimiser over all four parameters."""

    def deviance(q: np.ndarray) -> float:
        p, sigma = math.exp(q[2]), math.exp(q[3])
        z = (y - q[0] - np.logaddexp(0, p * (q[1] - x)) / p) / sigma
        return float(np.where(reached, 2 * q[3] + z**2, -2 * special.log_ndtr(-z)).sum())

    starts = [np.array([math.log(70), math.log(123), log_p, math.log(0.05)]) for log_p in (0.0, 0.5, 1.0)]
    return min(float(optimize.minimize(deviance, start, method="Powell", tol=1e-12).fun) for start in starts)


@pytest.mark.parametrize("seed", range(4))
def test_bounds_enter_the_likelihood(seed: int) -> None:
    x = np.log(B)
    y = np.log(PNorm(70, 123, 1.4, 0).steps(B)) + np.random.default_rng(seed).normal(0, 0.05, B.size)
    reached = B > 10
    y[~reached] = y[2] + (0.0, 1.0, 2.0, -1.0)[seed]
    found = fit_p_norm(x, y, reached)
    assert found is not None
    profile = Profile(x, y, reached, found.p)
    assert float(profile.deviance(math.log(found.b_crit))) == pytest.approx(naive(x, y, reached), abs=1e-4)


def test_bounds_make_a_sharp_knee_less_uncertain() -> None:
    rng, alone, joined = np.random.default_rng(3), [], []
    x = np.log(B)
    for _ in range(40):
        y = np.log(PNorm(1, 64, 1.4, 0).steps(B)) + rng.normal(0, 0.1, B.size)
        reached = y < math.log(6)
        bounded = np.where(reached, y, math.log(6))
        both = fit_p_norm(x[reached], y[reached]), fit_p_norm(x, bounded, reached)
        if both[0] is not None and both[1] is not None:
            alone.append(math.log(both[0].b_crit / 64))
            joined.append(math.log(both[1].b_crit / 64))
    assert np.std(joined) < np.std(alone)
    assert abs(np.median(joined)) < 0.1
