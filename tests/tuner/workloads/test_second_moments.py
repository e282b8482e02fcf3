"""The recursions against their naive twins: the published ones, dense covariances, and sampled runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from bcrit.tuner.workloads.second_moments import MOMENTS, Vector


def step(optimizer: str, moments: Vector, lr: float, momentum: float, h: Vector, n: Vector) -> Vector:
    matrix, noise = MOMENTS[optimizer](lr, momentum, h, n)
    return np.asarray(np.einsum("ijd,jd->id", matrix, moments) + noise)


def start(optimizer: str, x: Vector) -> Vector:
    moments = np.zeros((1 if optimizer == "sgd" else 3, len(x)))
    moments[0] = x
    return moments


def update(optimizer: str, x: Vector, v: Vector, g: Vector, lr: float, momentum: float) -> tuple[Vector, Vector]:
    """One update of PyTorch's SGD."""
    if optimizer == "sgd":
        return x - lr * g, v
    v = momentum * v + g
    return x - lr * (v if optimizer == "momentum" else g + momentum * v), v


def test_the_noisy_quadratic_names_the_optimizers_that_have_moments_and_no_other() -> None:
    assert NoisyQuadratic.optimizers == tuple(MOMENTS)


rates = st.lists(st.floats(0.01, 1.9), min_size=1, max_size=30)


@given(optimizer=st.sampled_from(sorted(MOMENTS)), rates=rates, momentum=st.floats(0, 0.99), h=st.floats(0, 1))
def test_moments_are_the_covariance_of_the_linear_map(
    optimizer: str, rates: list[float], momentum: float, h: float
) -> None:
    # Columns of the map are what one update does to (x, v, xi) = unit vectors; covariance S' = F S F^T + n e e^T.
    moments, covariance, n = start(optimizer, np.array([1.7])), np.diag([1.7, 0.0]), 0.3
    for lr in rates:
        x, v, xi = np.eye(3)
        x_next, v_next = update(optimizer, x, v, h * x + xi, lr, momentum)
        linear, noise = np.array([x_next[:2], v_next[:2]]), np.array([x_next[2], v_next[2]])
        covariance = linear @ covariance @ linear.T + n * np.outer(noise, noise)
        moments = step(optimizer, moments, lr, momentum, np.array([h]), np.array([n]))
    expected = [covariance[0, 0], covariance[0, 1], covariance[1, 1]]
    assert moments[:, 0].tolist() == pytest.approx(expected[: len(moments)], rel=1e-9, abs=1e-9 * covariance.max())


def test_at_a_constant_rate_the_heavy_ball_is_the_published_recursion() -> None:
    # Zhang et al. 2019, appendix: there the velocity is u = -lr v.
    lr, mu, n = 0.7, 0.8, np.array([0.2, 0.05])
    h = np.array([1.0, 0.1])
    z, noise = lr * h, lr**2 * n
    a, u, m = np.ones(2), np.zeros(2), np.zeros(2)
    moments = start("momentum", np.ones(2))
    for _ in range(50):
        a, u, m = (
            (1 - z) ** 2 * a + mu**2 * u + 2 * (1 - z) * mu * m + noise,
            z**2 * a + mu**2 * u - 2 * z * mu * m + noise,
            -z * (1 - z) * a + mu**2 * u + (1 - 2 * z) * mu * m + noise,
        )
        moments = step("momentum", moments, lr, mu, h, n)
        np.testing.assert_allclose(moments, [a, -m / lr, u / lr**2], rtol=1e-12)


@pytest.mark.parametrize("optimizer", MOMENTS)
def test_moments_agree_with_sampled_runs_under_a_changing_rate(optimizer: str) -> None:
    rng = np.random.default_rng(0)
    h, n, runs = np.array([1.0, 0.2]), np.array([0.5, 0.1]), 200_000
    x, v = rng.standard_normal((runs, 2)), np.zeros((runs, 2))
    moments = start(optimizer, np.ones(2))
    for lr in (0.4, 0.4, 0.3, 0.1, 0.05, 0.2):
        x, v = update(optimizer, x, v, h * x + np.sqrt(n) * rng.standard_normal((runs, 2)), lr, 0.8)
        moments = step(optimizer, moments, lr, 0.8, h, n)
    samples = np.stack([x * x, x * v, v * v])[: len(moments)]  # (moment, run, dimension)
    error = samples.std(axis=1) / runs**0.5
    np.testing.assert_array_less(np.abs(samples.mean(axis=1) - moments), 4 * error)
