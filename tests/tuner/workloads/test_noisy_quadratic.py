"""The recursions and the risk against their naive twins: the published ones, dense covariances, and sampled runs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.settings import Settings, learning_rate
from bcrit.tuner.workloads.noisy_quadratic import MOMENTS, NoisyQuadratic, Vector


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


CONSTANT: dict[str, Value] = {}
LINEAR: dict[str, Value] = {"schedule": "linear", "end_factor": 0.1, "decay_steps": 30}
schedules = pytest.mark.parametrize("schedule", [CONSTANT, LINEAR], ids=["constant", "linear"])


def settings(
    optimizer: str = "momentum",
    batch_size: int = 8,
    seed: int = 0,
    schedule: Mapping[str, Value] = CONSTANT,
    **others: float,
) -> Settings:
    return Settings(batch_size, seed, optimizer, {"lr": 0.3, "momentum": 0.9, **others, **schedule})


def risk(workload: NoisyQuadratic, chosen: Settings, chunks: list[int]) -> float:
    run = workload.begin(chosen)
    for chunk in chunks:
        run.train(chunk)
    return run.evaluate()["risk"]


@given(
    lr=st.floats(0.01, 1.9),
    batch_size=st.integers(1, 1000),
    steps=st.integers(0, 300),
    h=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    scale=st.floats(0, 10),
)
def test_sgd_is_the_closed_form(lr: float, batch_size: int, steps: int, h: list[float], scale: float) -> None:
    expected = 0.0
    for curvature in h:
        if curvature > 0:
            shrink = (1 - lr * curvature) ** (2 * steps)
            steady = lr * scale * curvature / (batch_size * curvature * (2 - lr * curvature))
            expected += 0.5 * curvature * (shrink * 1.5 + (1 - shrink) * steady)
    workload = NoisyQuadratic(spectrum=h, noise_scale=scale, start=1.5)
    assert risk(workload, settings("sgd", batch_size, lr=lr), [steps]) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_the_heavy_ball_settles_at_the_published_risk(batch_size: int) -> None:
    lr, mu, c = 0.2, 0.9, 0.7
    workload = NoisyQuadratic(spectrum=[0.5], noise=[c])
    expected = lr * c * (1 + mu) / (2 * batch_size * (1 - mu) * (2 + 2 * mu - lr * 0.5))
    assert risk(workload, settings(batch_size=batch_size, lr=lr, momentum=mu), [3000]) == pytest.approx(expected)


@schedules
@pytest.mark.parametrize("optimizer", MOMENTS)
def test_the_risk_is_the_mean_loss_of_sampled_runs(optimizer: str, schedule: dict[str, Value]) -> None:
    workload = NoisyQuadratic(dimensions=3, noise_exponent=0.5, noise_scale=2.0, start=[1.0, 2.0, 0.5])
    chosen = settings(optimizer, batch_size=4, schedule=schedule)
    rng = np.random.default_rng(1)
    shape = (100_000, 3)
    x, v = np.sqrt(workload.start) * rng.standard_normal(shape), np.zeros(shape)
    for t in range(25):
        lr = learning_rate(chosen.hyperparameters, t)
        g = workload.spectrum * x + np.sqrt(workload.noise / 4) * rng.standard_normal(shape)
        v = (0.0 if optimizer == "sgd" else 0.9) * v + g
        x = x - lr * (g + 0.9 * v if optimizer == "nesterov" else v)
    losses = 0.5 * (x**2 @ workload.spectrum)
    assert risk(workload, chosen, [25]) == pytest.approx(losses.mean(), abs=4 * losses.std() / len(losses) ** 0.5)


def test_the_noises_have_their_size_and_scope() -> None:
    def logs(sd: dict[str, float], seeds: range, steps: range) -> np.ndarray[Any, Any]:
        noisy, exact = NoisyQuadratic(dimensions=1, **sd), NoisyQuadratic(dimensions=1)  # type: ignore[arg-type]
        return np.array(
            [
                [math.log(risk(noisy, settings(seed=s), [t]) / risk(exact, settings(seed=s), [t])) for t in steps]
                for s in seeds
            ]
        )

    per_evaluation = logs({"evaluation_noise": 0.2}, range(20), range(20))
    assert per_evaluation.std() == pytest.approx(0.2, rel=0.15)
    assert per_evaluation.std(axis=0).min() > 0.1
    assert per_evaluation.std(axis=1).min() > 0.1
    per_run = logs({"seed_noise": 0.2}, range(200), range(2))
    assert per_run.std() == pytest.approx(0.2, rel=0.15)
    np.testing.assert_allclose(per_run[:, 0], per_run[:, 1], atol=1e-12)


@pytest.mark.parametrize("optimizer", MOMENTS)
def test_divergence_is_an_infinite_risk(optimizer: str) -> None:
    run = NoisyQuadratic(dimensions=3).begin(settings(optimizer, lr=50.0))
    run.train(2000)
    assert run.evaluate()["risk"] == math.inf


@pytest.mark.parametrize("optimizer", MOMENTS)
def test_without_noise_the_risk_falls_to_nothing_and_not_below(optimizer: str) -> None:
    run = NoisyQuadratic(spectrum=[1.0, 0.0], noise_scale=0.0).begin(settings(optimizer, lr=1.0, momentum=0.5))
    for _ in range(100):
        run.train(5)
        assert run.evaluate()["risk"] >= 0.0
    assert run.evaluate()["risk"] < 1e-12


def test_options_fill_in_the_model() -> None:
    default = NoisyQuadratic()
    assert len(default.spectrum) == 1000
    assert default.spectrum[9] == default.noise[9] == pytest.approx(0.1)
    other = NoisyQuadratic(dimensions=4, spectrum_exponent=2, noise_exponent=0, noise_scale=3, start=[4, 3, 2, 1])
    np.testing.assert_allclose(other.spectrum, [1, 1 / 4, 1 / 9, 1 / 16])
    np.testing.assert_allclose(other.noise, 3)
    np.testing.assert_allclose(other.start, [4, 3, 2, 1])
    np.testing.assert_allclose(NoisyQuadratic(spectrum=[2, 1], noise=[5, 6], noise_scale=0.5).noise, [2.5, 3])


def test_an_unknown_optimizer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no optimizer 'adam'; choose one of sgd, momentum, nesterov"):
        NoisyQuadratic().begin(settings("adam"))
