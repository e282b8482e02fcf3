from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bcrit.analysis.fit.lack_of_fit import FALSE_ALARM_RATE, bend, directions, lack_of_fit
from bcrit.analysis.fit.profile import Profile, minimise

X = np.log(2.0 ** np.arange(-4, 4))


def verdict(y: np.ndarray, x: np.ndarray = X) -> tuple[bool, float | None]:
    profile = Profile(x, y, np.ones(x.size, dtype=bool))
    u = minimise(profile)
    residuals = y - profile.offset(u) - profile.solve(u)[0]
    found = bend(x, residuals, u)
    return lack_of_fit(found, float(np.sqrt((residuals**2).mean()))), None if found is None else found.p_value


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
    assert bend(X[:3], np.array([0.1, -0.2, 0.1]), 0.0) is None
    assert not lack_of_fit(None, 0.1)


def test_the_added_variable_is_the_p_norms_derivative_at_the_hyperbola() -> None:
    step = 1e-6
    curves = [np.logaddexp(0, -p * X) / p for p in (1 - step, 1 + step)]
    assert directions(X, 0.0)[1] == pytest.approx((curves[1] - curves[0]) / (2 * step), abs=1e-8)


def test_the_p_value_is_that_of_the_f_statistic_of_two_nested_regressions() -> None:
    residuals = np.random.default_rng(3).normal(0, 0.05, X.size)
    model, added = directions(X, 0.3)
    without, with_bend = (
        float(np.linalg.lstsq(columns, residuals, rcond=None)[1][0])
        for columns in (model, np.column_stack([model, added]))
    )
    freedom = X.size - 3
    found = bend(X, residuals, 0.3)
    assert found is not None and found.freedom == freedom
    assert found.share_left == pytest.approx(with_bend / without)
    statistic = (without - with_bend) / (with_bend / freedom)
    assert found.p_value == pytest.approx(stats.f.sf(statistic, 1, freedom))


@pytest.mark.parametrize(("p", "noise", "least"), [(1.4, 0.03, 0.9), (2.0, 0.1, 0.45), (0.6, 0.03, 0.95)])
def test_the_power_is_what_the_docstring_says(p: float, noise: float, least: float) -> None:
    rng, n = np.random.default_rng(6), 200
    flags = [verdict(np.logaddexp(0, -p * X) / p + rng.normal(0, noise, X.size))[0] for _ in range(n)]
    assert np.mean(flags) >= least
