from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from analysis.fit.lack_of_fit import FALSE_ALARM_RATE, lack_of_fit
from analysis.fit.profile import Profile, minimise

X = np.log(2.0 ** np.arange(-4, 4))


def verdict(y: np.ndarray, x: np.ndarray = X) -> tuple[bool, float | None]:
    profile = Profile(x, y, np.ones(x.size, dtype=bool))
    u = minimise(profile)
    return lack_of_fit(x, y - profile.offset(u) - profile.solve(u)[0], u)


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_true_hyperbolas_are_flagged_at_the_stated_rate(noise: float) -> None:
    rng, n = np.random.default_rng(5), 400
    flags = [verdict(np.logaddexp(0, -X) + rng.normal(0, noise, X.size))[0] for _ in range(n)]
    assert sum(flags) <= stats.binom.ppf(0.999, n, FALSE_ALARM_RATE)
    assert sum(flags) >= stats.binom.ppf(0.001, n, FALSE_ALARM_RATE)


@pytest.mark.parametrize("p", [0.5, 1.4, 3.0, 10.0])
def test_other_knees_are_flagged_at_low_noise(p: float) -> None:
    y = np.logaddexp(0, -p * X) / p + np.random.default_rng(1).normal(0, 0.01, X.size)
    assert verdict(y)[0]


def test_exact_and_rounded_curves_are_not_flagged() -> None:
    steps = 1000 * (1 + np.exp(-X))
    assert not verdict(np.log(steps))[0]
    assert not verdict(np.log(np.round(steps)))[0]
    assert not verdict(np.log(np.round(steps, 9)))[0]


def test_steps_that_rise_with_the_batch_size_are_flagged() -> None:
    assert verdict(0.5 * X + np.random.default_rng(1).normal(0, 0.03, X.size))[0]


def test_steps_that_fall_faster_than_one_over_b_are_flagged() -> None:
    assert verdict(-1.5 * X + np.random.default_rng(1).normal(0, 0.03, X.size))[0]


def test_too_few_studies_give_no_verdict() -> None:
    assert lack_of_fit(X[:3], np.array([0.1, -0.2, 0.1]), 0.0) == (False, None)


def test_the_added_variable_is_the_p_norms_derivative_at_the_hyperbola() -> None:
    z, step = X, 1e-6
    curves = [np.logaddexp(0, p * z) / p for p in (1 - step, 1 + step)]
    assert (curves[1] - curves[0]) / (2 * step) == pytest.approx(z * special.expit(z) - np.logaddexp(0, z), abs=1e-8)
    assert math.isfinite(float(z[0]))
