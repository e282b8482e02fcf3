from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from bcrit.analysis.fit.censored import censored_normal, hazard, weight


def naive(values: np.ndarray, reached: np.ndarray) -> tuple[float, float]:
    """The same likelihood written out and given to a general minimiser."""

    def loss(parameters: np.ndarray) -> float:
        normal = stats.norm(parameters[0], np.exp(parameters[1]))
        return float(-normal.logpdf(values[reached]).sum() - normal.logsf(values[~reached]).sum())

    start = [values.mean(), np.log(values.std())]
    found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
    return float(found.x[0]), float(np.exp(found.x[1]))


@pytest.mark.parametrize("seed", range(10))
def test_the_newton_iteration_agrees_with_a_naive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(5, rng.choice([0.01, 1.0, 30.0]), 8)
    reached = np.arange(8) < rng.integers(3, 8)
    values[~reached] -= rng.exponential(size=(~reached).sum())
    mean, sigma = censored_normal(values, reached)
    assert (float(mean), float(sigma)) == pytest.approx(naive(values, reached), rel=1e-6)


def test_bounds_far_above_the_observations_are_no_trouble() -> None:
    values, reached = np.array([0.0, 1e-3, 2e-3, 50.0]), np.array([True, True, True, False])
    mean, sigma = censored_normal(values, reached)
    assert (float(mean), float(sigma)) == pytest.approx(naive(values, reached), rel=1e-5)


def test_the_hazard_is_right_in_both_tails() -> None:
    assert hazard(np.array([0.0, -50.0, 1e9])) == pytest.approx([np.sqrt(2 / np.pi), 0, 1e9])
    assert weight(np.array([0.0])) == pytest.approx([2 / np.pi])


def test_a_sample_that_differs_by_its_rounding_alone_has_no_spread_to_speak_of() -> None:
    mean, sigma = censored_normal(np.array([1.0, np.nextafter(1.0, 2.0), 0.9]), np.array([True, True, False]))
    assert float(mean) == pytest.approx(1.0) and 0 < float(sigma) < 1e-6
