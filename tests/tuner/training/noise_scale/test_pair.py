"""The pair against exact expectations: closed forms, Gaussian draws, and every split of a small data set."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from bcrit.tuner.training.noise_scale.ratio import two_batches, unbiased_pair

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
    expected = two_batches(float(squares.mean()), whole, b, k * b, n_examples=100)
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


def test_one_micro_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 micro-batches or ranks, but it has 1"):
        unbiased_pair(1.0, 1.0, 8, 1)


def test_batch_sizes_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="b_small < b_big must hold, but b_small=8 and b_big=8"):
        two_batches(1.0, 1.0, 8, 8)


def test_a_batch_larger_than_the_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="it has 8 rows and n_examples=5"):
        unbiased_pair(1.0, 1.0, 8, 2, n_examples=5)
