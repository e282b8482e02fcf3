"""The scripted workload keeps its promises, on which the end-to-end tests rely."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.search_spaces.target import Target
from bcrit.tuner.training.settings import Settings
from tests.scripted import ExactHyperbola

TARGET = Target.model_validate("loss < 1")


def settings(batch_size: int, lr: float, momentum: float = 0.9) -> Settings:
    return Settings(batch_size, seed=0, optimizer="momentum", hyperparameters={"lr": lr, "momentum": momentum})


def first_hit(workload: ExactHyperbola, chosen: Settings) -> int | None:
    run = workload.begin(chosen)
    for step in range(5000):
        if TARGET.reached(run.evaluate()["loss"]):
            return step
        run.train(1)
    return None


@pytest.mark.parametrize("batch_size", [1, 16, 64, 100_000])
def test_the_best_point_reaches_the_target_at_the_hyperbola(batch_size: int) -> None:
    workload = ExactHyperbola(s_min=40, b_crit=64)
    expected = round(40 * (1 + 64 / batch_size))
    assert first_hit(workload, settings(batch_size, workload.lr_best(batch_size))) == expected


@given(steps=st.floats(1, 4000), lr=st.floats(1e-3, 10), momentum=st.floats(0, 0.99), batch_size=st.integers(1, 10**6))
def test_the_target_is_first_reached_at_the_promised_step(
    steps: float, lr: float, momentum: float, batch_size: int
) -> None:
    workload = ExactHyperbola(s_min=steps, lr=lr, diverges_at=math.inf)
    chosen = settings(batch_size, 0.3 * lr, momentum)
    run = workload.begin(chosen)
    run.train(workload.steps(chosen) - 1)
    assert not TARGET.reached(run.evaluate()["loss"])
    run.train(1)
    assert TARGET.reached(run.evaluate()["loss"])


def test_steps_grow_on_both_sides_of_the_best_point() -> None:
    workload = ExactHyperbola()
    best = workload.lr_best(64)
    in_lr = [workload.steps(settings(64, best * factor)) for factor in (0.25, 0.5, 1, 2, 4)]
    in_momentum = [workload.steps(settings(64, best, momentum)) for momentum in (0.5, 0.8, 0.9, 0.95, 0.99)]
    for steps in (in_lr, in_momentum):
        assert steps[0] > steps[1] > steps[2] < steps[3] < steps[4]


def test_a_rate_that_is_too_high_diverges_after_the_first_update() -> None:
    workload = ExactHyperbola(diverges_at=4)
    run = workload.begin(settings(64, 4.01 * workload.lr_best(64)))
    assert math.isfinite(run.evaluate()["loss"])
    run.train(1)
    assert run.evaluate()["loss"] == math.inf


def test_without_momentum_only_the_rate_counts() -> None:
    workload = ExactHyperbola(s_min=50, b_crit=64)
    assert workload.steps(Settings(64, 0, "sgd", {"lr": workload.lr_best(64)})) == 100
