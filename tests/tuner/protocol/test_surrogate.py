"""The Gaussian process of the joint search, against the formulas written out."""

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from bcrit.search_spaces.dimensions import Log
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.space import Point, SearchSpace
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.protocol import surrogate
from bcrit.tuner.protocol.surrogate import Inputs, Surrogate, distance
from bcrit.tuner.training.settings import learning_rate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(14, 3))
Y = np.sin(X[:, 0]) + 0.3 * X[:, 1] + 0.02 * RNG.normal(size=14)
ONES = np.ones(14)


def naive(a: np.ndarray, b: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Matern 5/2 with amplitude^2, a constant of variance 1 and a linear part, one pair at a time."""
    found = np.empty((len(a), len(b)))
    for i, u in enumerate(a):
        for j, v in enumerate(b):
            r = math.sqrt(5 * sum(((u - v) / np.exp(theta[:3])) ** 2))
            found[i, j] = math.exp(2 * theta[3]) * (1 + r + r * r / 3) * math.exp(-r) + 1 + 0.09 * u @ v
    return found


def test_the_posterior_is_that_of_the_formulas() -> None:
    theta = np.array([0.1, -0.2, 0.3, math.log(0.6), math.log(0.05)])
    new = RNG.normal(size=(4, 3))
    noisy = naive(X, X, theta) + np.diag(np.full(14, 0.05**2) + 1e-8)
    cross = naive(new, X, theta)
    mean, sd = Surrogate(X, Y, ONES, theta).predict(new)
    assert mean == pytest.approx(Y.mean() + cross @ np.linalg.solve(noisy, Y - Y.mean()))
    assert sd**2 == pytest.approx(np.diag(naive(new, new, theta) - cross @ np.linalg.solve(noisy, cross.T)))


def test_the_fit_is_at_a_minimum_of_the_negative_log_posterior() -> None:
    theta = Surrogate.fitted(X, Y, ONES)

    def loss(at: np.ndarray) -> float:
        noisy = naive(X, X, at) + np.diag(math.exp(2 * at[4]) * ONES + 1e-8)
        z = (at - np.r_[0, 0, 0, math.log(0.5), math.log(0.04)]) / np.r_[0.35, 0.35, 0.35, 0.7, surrogate._NOISE_SD]
        centred = Y - Y.mean()
        return float(0.5 * (centred @ np.linalg.solve(noisy, centred) + np.linalg.slogdet(noisy)[1] + z @ z))

    assert np.abs(approx_fprime(theta, loss, 1e-6)).max() < 0.02
    assert loss(theta) < min(loss(theta + 0.05 * step) for step in (*np.eye(5), *-np.eye(5)))


@pytest.mark.parametrize(
    ("direction", "threshold", "first", "value", "expected"),
    [
        (Direction.MINIMIZE, 0.1, 2.3, 0.2, math.log(2)),
        (Direction.MAXIMIZE, 0.9, 0.1, 0.8, math.log(2)),
        (Direction.MAXIMIZE, 500.0, 20.0, 20.0, 3.0),
        (Direction.MINIMIZE, -1.0, 0.0, -0.5, 1.5),
    ],
    ids=["loss", "accuracy", "return", "loss below 0"],
)
def test_the_distance_of_a_metric_from_its_target(
    direction: Direction, threshold: float, first: float, value: float, expected: float
) -> None:
    target = Target(metric="m", threshold=threshold, direction=direction)
    assert distance(target, first, value) == pytest.approx(expected)
    assert distance(target, first, threshold) == pytest.approx(0, abs=1e-9)


def test_progress_is_the_sum_of_the_effective_rates_and_temperature_is_per_example() -> None:
    spec = parse_experiment(
        {
            "workload": "noisy_quadratic",
            "batch_sizes": [8, 16],
            "target": "risk < 0.1",
            "space": {
                "lr": "log from 0.01 to 1",
                "momentum": "reverse_log from 0 to 0.99",
                "schedule": "choice of constant, linear",
            },
            "budget": {"steps": 100},
        },
        "test",
    )
    inputs = Inputs(spec.space, "momentum")
    point: Point = {"lr": 0.1, "momentum": 0.0, "schedule": "constant"}
    row, twice = (inputs.of(8, point, point, steps)[0] for steps in (50, 100))
    assert row[-1] == pytest.approx(math.log(0.1 * 50) / 2) and twice[-1] - row[-1] == pytest.approx(math.log(2) / 2)
    heavy: Point = {"lr": 0.01, "momentum": 0.9, "schedule": "constant"}  # of the same effective rate
    begun = inputs.of(8, heavy, heavy, 50)[0]
    assert begun[-3] == pytest.approx(row[-3])
    velocities = [0.01 * (1 - 0.9 ** (step + 1)) / (1 - 0.9) for step in range(50)]  # under a gradient of 1
    assert begun[-1] == pytest.approx(math.log(sum(velocities)) / 2, abs=0.03) and begun[-1] < row[-1] - 0.05
    assert inputs.of(8, heavy, heavy, 50, np.array([1.0, 2.0]))[1] == pytest.approx(inputs.of(8, heavy, heavy, 100)[0])
    falling: Point = {"lr": 0.1, "momentum": 0.0, "schedule": "linear", "end_factor": 0.0, "decay_fraction": 1.0}
    halved = inputs.of(8, falling, {**falling, "decay_steps": 50}, 50)[0]
    assert halved[-1] == pytest.approx(row[-1] + math.log(0.5) / 2, abs=0.05)
    assert inputs.of(16, point, point, 50)[0][-3] == pytest.approx(row[-3] - math.log(2) / 3)


@pytest.mark.parametrize(("end", "decay"), [(1.0, 1.0), (0.05, 1.0), (0.05, 0.8), (0.0, 1.0), (0.3, 0.75), (0.1, 1.2)])
def test_the_end_of_a_schedule_is_the_noise_that_it_leaves_in_a_stiff_direction(end: float, decay: float) -> None:
    space = SearchSpace.model_construct(root={"lr": Log(low=0.01, high=1)})
    point: Point = {"lr": 0.1, "schedule": "linear", "end_factor": end, "decay_steps": round(3000 * decay)}
    rates = np.array([learning_rate(point, step) for step in range(3000)]) / 0.1
    noise, curvature = 0.0, surrogate._STIFF / 2 / rates.sum()
    for rate in rates:
        noise = (1 - curvature * rate) ** 2 * noise + 2 * curvature * rate**2  # 1 at a constant rate of 1
    found = 3 * Inputs(space, "sgd").of(8, point, point, 3000)[0][-2]
    assert found == pytest.approx(math.log(noise), abs=0.15)


def test_a_process_of_trials_that_are_alike_stands_an_amplitude_that_leaves_nothing_but_rounding() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(12, 2)), 12, axis=0) + rng.normal(scale=1e-9, size=(144, 2))
    theta = np.log([1.0, 1.0, 6000.0, 1e-6])
    model = Surrogate(x, np.sin(x[:, 0]), np.ones(len(x)), theta)
    assert np.isfinite(model.mean(x)).all() and np.abs(model.mean(x) - np.sin(x[:, 0])).max() < 0.01
