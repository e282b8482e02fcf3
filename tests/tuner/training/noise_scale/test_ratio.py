"""Fieller's interval: its coverage in simulation, its definition by brute force, and when there is none."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from bcrit.tuner.training.noise_scale.ratio import Ratio, b_simple, fieller, of_quadratic, unbiased_pair
from bcrit.tuner.workloads.noisy_quadratic import MOMENTS, NoisyQuadratic


def of_blocks(blocks: NDArray[np.float64], level: float = 0.95) -> Ratio:
    covariance = np.cov(blocks, rowvar=False) / len(blocks)
    return fieller(blocks.mean(axis=0), covariance, len(blocks), level, "|G|^2")


def draw(rng: np.random.Generator, n: int, denominator: float) -> NDArray[np.float64]:
    """Blocks whose ratio is 40 / denominator and whose entries are correlated."""
    noise = rng.normal(size=(n, 2)) @ np.array([[6.0, -0.4], [0.0, 0.8]])
    return np.asarray(noise + [40.0, denominator])


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


def test_it_prints_what_a_reader_wants_to_know() -> None:
    assert str(fieller(np.array([40.0, 2.0]), np.eye(2) * 1e-4, 20, 0.95, "|G|^2")) == "20 (95 %: 19.8 ... 20.2)"
    loose = str(fieller(np.array([40.0, -2.0]), np.eye(2), 20, 0.95, "|G|^2"))
    assert loose.startswith("not resolved (at least") and "|G|^2 = -2 +- 1 is significantly negative" in loose


@pytest.mark.parametrize("n", [0, 1, 9])
def test_too_few_blocks_are_said_and_a_numerator_that_may_be_zero_bounds_nothing_from_below(n: int) -> None:
    found = b_simple(np.ones((n, 2)))
    assert not found.resolved and f"{n} blocks are too few" in found.reason
    loose = fieller(np.array([1.0, 0.1]), np.diag([4.0, 1.0]), 20, 0.95, "|G|^2")
    assert loose.low == 0.0 and not loose.resolved


Array = NDArray[np.float64]


def pair_of(gradients: Array, sizes: list[int], n_examples: int | None = None) -> tuple[float, float]:
    """From the examples' gradients (rows, dimensions), cut into micro-batches of these sizes."""
    parts = np.split(gradients, np.cumsum(sizes)[:-1])
    weighted = sum(len(part) * float(np.sum(part.mean(axis=0) ** 2)) for part in parts)
    whole = float(np.sum(gradients.mean(axis=0) ** 2))
    return unbiased_pair(weighted, whole, len(gradients), len(parts), n_examples)


@pytest.mark.parametrize(
    "sizes", [[4, 4], [1] * 8, [16, 16, 16, 16], [1, 5, 2], [3, 30]], ids=lambda sizes: "-".join(map(str, sizes))
)
def test_the_pair_is_unbiased_for_gaussian_gradients(sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes))
    g, factor = rng.normal(size=5), rng.normal(size=(5, 5))
    draws = [pair_of(g + rng.normal(size=(sum(sizes), 5)) @ factor, sizes) for _ in range(3000)]
    means, errors = np.mean(draws, axis=0), np.std(draws, axis=0) / len(draws) ** 0.5
    assert np.all(np.abs(means - [np.sum(factor**2), g @ g]) < 4 * errors)


def test_at_equal_sizes_it_is_the_average_over_all_pairs_of_micro_batches() -> None:
    parts = np.random.default_rng(0).normal(size=(5, 3))  # mean gradients of 5 micro-batches of 7 examples
    tr_sigma, g_sq = unbiased_pair(7 * np.sum(parts**2), np.sum(parts.mean(axis=0) ** 2), 35, 5)
    pairs = list(itertools.combinations(parts, 2))
    assert g_sq == pytest.approx(np.mean([a @ b for a, b in pairs]), rel=1e-12)
    assert tr_sigma == pytest.approx(np.mean([7 / 2 * np.sum((a - b) ** 2) for a, b in pairs]), rel=1e-12)


@pytest.mark.parametrize("k", [2, 3, 8])
def test_micro_batches_of_one_size_are_the_published_two_batch_formula(k: int) -> None:
    squares, whole, b = np.random.default_rng(k).uniform(2, 3, size=k), 1.7, 6
    # McCandlish et al. 2018, eq. A.2, and G of a data set of 100.
    tr_sigma = (float(squares.mean()) - whole) / (1 / b - 1 / (k * b))
    expected = (tr_sigma, whole - tr_sigma * (1 / (k * b) - 1 / 100))
    assert unbiased_pair(b * float(squares.sum()), whole, k * b, k, 100) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sizes", [[2, 2], [1, 2, 1], [3, 3]], ids=str)
def test_without_replacement_it_is_exact_over_all_orders_of_a_data_set(sizes: list[int]) -> None:
    data = np.random.default_rng(1).normal(size=(6, 3)) + 0.3
    orders = [list(order) for order in itertools.permutations(range(6), sum(sizes))]
    g, tr_sigma = data.mean(axis=0), float(np.trace(np.cov(data, rowvar=False)))  # divisor N - 1
    of_data = np.mean([pair_of(data[order], sizes, n_examples=6) for order in orders], axis=0)
    of_population = np.mean([pair_of(data[order], sizes) for order in orders], axis=0)
    np.testing.assert_allclose(of_data, [tr_sigma, g @ g], rtol=1e-10)
    np.testing.assert_allclose(of_population, [tr_sigma, g @ g - tr_sigma / 6], rtol=1e-10, atol=1e-12)
    # The scales as ratios of these expectations.
    assert 1 / (of_data[0] / of_data[1]) == pytest.approx(of_population[1] / of_population[0] + 1 / 6)


def test_a_batch_larger_than_the_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="it has 8 rows and n_examples=5"):
        unbiased_pair(1.0, 1.0, 8, 2, n_examples=5)


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


def test_steps_that_are_not_finite_are_set_aside_and_counted() -> None:
    series = steps(np.random.default_rng(0), 100, 0.0)
    spoilt = series.copy()
    spoilt[[3, 50]] = [[np.inf, 1.0], [np.nan, np.nan]]
    found, expected = b_simple(spoilt), b_simple(np.delete(series, [3, 50], axis=0))
    assert found.n_set_aside == 2
    assert found.value == pytest.approx(expected.numerator / expected.denominator), "of averages, not of ratios"
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


@pytest.mark.parametrize("batch_size", [1.0, 8.0, 300.0])
def test_one_step_of_the_workload_gains_most_at_the_best_learning_rate_that_the_scale_gives(batch_size: float) -> None:
    workload = NoisyQuadratic(dimensions=30, noise_exponent=0.4, start=2.0)
    h, m = workload.spectrum, workload.start
    exact = of_quadratic(h, workload.noise, m)
    best = exact.lr_max / (1 + exact.b_noise / batch_size)

    def risk(lr: float) -> float:
        matrix, noise = MOMENTS["sgd"](lr, 0.0, h, workload.noise / batch_size)
        return 0.5 * float(h @ (matrix[0, 0] * m + noise[0]))

    gain = exact.g_sq**2 / (2 * exact.g_h_g) / (1 + exact.b_noise / batch_size)
    assert 0.5 * float(h @ m) - risk(best) == pytest.approx(gain, rel=1e-9)
    assert risk(best) < min(risk(0.99 * best), risk(1.01 * best))
    assert np.isclose(exact.b_simple, workload.noise.sum() / np.sum(h**2 * m))


@pytest.mark.parametrize(("freedom", "noted"), [(2.2, True), (30.0, False)])
def test_a_sample_without_a_variance_says_so_and_others_do_not(freedom: float, noted: bool) -> None:
    chance, n = np.random.default_rng(0), 16
    gradients = 1.0 + chance.standard_t(freedom, size=(1000, n, 3))
    pairs = unbiased_pair((gradients**2).sum((1, 2)), (gradients.mean(1) ** 2).sum(1), n, n)
    found = b_simple(np.stack(pairs, axis=1))
    assert ("a very heavy tail (index 1." in str(found)) is noted is bool(found.note)
