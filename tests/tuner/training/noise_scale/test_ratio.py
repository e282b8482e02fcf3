"""Fieller's interval: its coverage in simulation, its definition by brute force, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from bcrit.tuner.training.noise_scale.ratio import Ratio, fieller, student


def of_blocks(blocks: NDArray[np.float64], level: float = 0.95) -> Ratio:
    covariance = np.cov(blocks, rowvar=False) / len(blocks)
    return fieller(blocks.mean(axis=0), covariance, len(blocks), level, "|G|^2")


def draw(rng: np.random.Generator, n: int, denominator: float) -> NDArray[np.float64]:
    """Blocks whose ratio is 40 / denominator and whose entries are correlated."""
    noise = rng.normal(size=(n, 2)) @ np.array([[6.0, -0.4], [0.0, 0.8]])
    return np.asarray(noise + [40.0, denominator])


@pytest.mark.parametrize("freedom", [9, 12, 19, 100])
@pytest.mark.parametrize("probability", [0.9, 0.95, 0.975, 0.995])
def test_the_quantile_of_t_is_scipys(freedom: int, probability: float) -> None:
    assert student(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-4)


@pytest.mark.parametrize("n_blocks", [10, 20])
@pytest.mark.parametrize("denominator", [1.0, 5.0], ids=["barely known", "well known"])
def test_the_interval_covers_as_often_as_it_says(n_blocks: int, denominator: float) -> None:
    rng = np.random.default_rng(n_blocks)
    found = [of_blocks(draw(rng, n_blocks, denominator)) for _ in range(4000)]
    truth = 40.0 / denominator
    covered = np.mean([r.low <= truth <= (np.inf if r.high is None else r.high) for r in found])
    assert 0.935 < covered < 0.965


def test_its_ends_are_where_the_difference_is_t_standard_errors() -> None:
    blocks = draw(np.random.default_rng(0), 15, 3.0)
    found = of_blocks(blocks, level=0.9)
    assert found.value is not None and found.high is not None
    for end in (found.low, found.high):
        differences = blocks[:, 0] - end * blocks[:, 1]
        t = differences.mean() / (differences.std(ddof=1) / 15**0.5)
        assert abs(t) == pytest.approx(stats.t.ppf(0.95, 14), rel=1e-4)
    assert found.low < found.value < found.high


def test_a_denominator_that_may_be_zero_gives_a_reason_and_a_lower_bound_that_holds() -> None:
    rng = np.random.default_rng(3)
    found = [of_blocks(draw(rng, 10, 0.2)) for _ in range(3000)]
    loose = [r for r in found if not r.resolved]
    assert len(loose) > 2000 and all(r.value is None and r.high is None for r in loose)
    assert all("significantly positive" in r.reason or "significantly negative" in r.reason for r in loose)
    assert np.mean([r.low <= 200.0 for r in found]) > 0.93
    assert np.median([r.low for r in loose]) > 20.0  # a bound that says something


def test_the_lower_bound_is_the_first_ratio_that_is_not_rejected() -> None:
    blocks = draw(np.random.default_rng(5), 12, 0.1)
    found = of_blocks(blocks)
    assert not found.resolved
    grid = np.linspace(0, 200, 20001)
    differences = blocks[:, :1] - grid * blocks[:, 1:]
    t = differences.mean(axis=0) / (differences.std(axis=0, ddof=1) / 12**0.5)
    assert found.low == pytest.approx(grid[np.argmax(t < stats.t.ppf(0.95, 11))], abs=0.02)


def test_a_numerator_that_may_be_zero_bounds_nothing_from_below() -> None:
    found = fieller(np.array([1.0, 0.1]), np.diag([4.0, 1.0]), 20, 0.95, "|G|^2")
    assert found.low == 0.0 and not found.resolved


def test_too_few_blocks_are_said() -> None:
    found = fieller(np.array([1.0, 1.0]), np.eye(2) * 1e-9, 9, 0.95, "|G|^2")
    assert found.value is None and "9 blocks are too few" in found.reason


def test_it_prints_what_a_reader_wants_to_know() -> None:
    assert str(fieller(np.array([40.0, 2.0]), np.eye(2) * 1e-4, 20, 0.95, "|G|^2")) == "20 (95 %: 19.8 ... 20.2)"
    loose = str(fieller(np.array([40.0, -2.0]), np.eye(2), 20, 0.95, "|G|^2"))
    assert loose.startswith("not resolved (at least") and "|G|^2 = -2 +- 1 is significantly negative" in loose
