"""Averages along training: against naive twins, and the interval's coverage where steps remember each other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from bcrit.tuner.training.noise_scale.ratio import b_simple, moving_average


def steps(rng: np.random.Generator, n: int, memory: float) -> NDArray[np.float64]:
    """Pairs about (300, 2), each an autoregression of order one with skewed innovations."""
    noise = (1 - memory**2) ** 0.5 * (rng.exponential(size=(n, 2)) - 1.0)
    series = lfilter([1.0], [1.0, -memory], noise, axis=0)
    return series * [150.0, 3.0] + [300.0, 2.0]


@pytest.mark.parametrize(("n", "memory"), [(500, 0.0), (1000, 0.8)], ids=["independent", "correlated steps"])
def test_the_interval_covers_92_to_98_of_100(n: int, memory: float) -> None:
    rng = np.random.default_rng(n)
    found = [b_simple(steps(rng, n, memory)) for _ in range(600)]
    assert 0.92 < np.mean([r.low <= 150.0 <= (r.high or np.inf) for r in found]) < 0.98


def test_it_is_the_ratio_of_the_averages_and_not_the_average_of_ratios() -> None:
    series = np.column_stack([np.full(40, 6.0), np.tile([1.0, 3.0], 20)])
    assert b_simple(series).value == pytest.approx(3.0)
    assert np.mean(series[:, 0] / series[:, 1]) == pytest.approx(4.0)


def test_steps_that_are_not_finite_are_set_aside_and_counted() -> None:
    series = steps(np.random.default_rng(0), 100, 0.0)
    spoilt = series.copy()
    spoilt[[3, 50]] = [[np.inf, 1.0], [np.nan, np.nan]]
    found, expected = b_simple(spoilt), b_simple(np.delete(series, [3, 50], axis=0))
    assert found.n_set_aside == 2
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_steps_are_not_resolved(n: int) -> None:
    found = b_simple(np.ones((n, 2)))
    assert not found.resolved and f"{n} blocks are too few" in found.reason


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95])
def test_the_moving_average_has_no_trace_of_its_beginning(decay: float) -> None:
    series = np.random.default_rng(0).normal(size=(30, 2))
    series[[0, 7]] = np.nan
    averages = moving_average(series, decay)
    assert np.isnan(averages[0]).all()
    for t in range(1, 30):
        seen = [i for i in range(t + 1) if i not in (0, 7)]
        weights = np.array([decay ** (t - i) for i in seen])
        if weights.sum() > 0:
            np.testing.assert_allclose(averages[t], weights @ series[seen] / weights.sum(), rtol=1e-9, atol=1e-12)


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="0 <= decay < 1 must hold, but decay=1"):
        moving_average(np.ones((3, 2)), 1.0)
