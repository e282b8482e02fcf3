from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from bcrit.analysis.diffusion.movement import Law, Movement, fit_movement

Floats = npt.NDArray[np.float64]
STEPS = np.unique(np.rint(10 ** np.linspace(0, 4, 41)))


def run(law: Law, slope: float = 2.0, noise: float = 0.0, seed: int = 0, rho: float = 0.0) -> tuple[Floats, Floats]:
    """1 + slope g(t), with noise as a share of the range whose neighbours correlate by rho."""
    exact = 1 + slope * (np.log(STEPS) if law == "log" else np.sqrt(STEPS))
    drawn = np.random.default_rng(seed).standard_normal(len(STEPS))
    for i in range(1, len(drawn)):
        drawn[i] = rho * drawn[i - 1] + math.sqrt(1 - rho**2) * drawn[i]
    return STEPS, exact + noise * np.ptp(exact) * drawn


def fitted(batch_size: int, *runs: tuple[npt.ArrayLike, npt.ArrayLike], last_step: float = math.inf) -> Movement:
    movement = fit_movement(batch_size, runs, last_step=last_step)
    assert isinstance(movement, Movement)
    return movement


@pytest.mark.parametrize("law", ["log", "sqrt"])
@pytest.mark.parametrize("noise", [0.0, 0.02], ids=["exact", "noisy"])
def test_the_law_that_was_put_in_comes_out(law: Law, noise: float) -> None:
    found = fitted(8, *(run(law, noise=noise, seed=seed) for seed in range(4)))
    line = found.line
    assert found.law == law and line is not None and (found.aic_difference > 0) == (law == "log")
    assert line.slope == pytest.approx(2, rel=1e-6 + noise)
    assert line.intercept == pytest.approx(1, abs=1e-6 + 10 * noise * (1 if law == "log" else 10))
    assert line.slope_low <= line.slope <= line.slope_high and line.misfit <= max(1.5 * noise, 1e-6)
    assert (found.n_runs, found.n_points) == (4, 4 * len(STEPS))
    assert f"grows with {law} t" in found.reason


@pytest.mark.parametrize("runs", [1, 4])
def test_the_interval_of_the_slope_covers_it(runs: int) -> None:
    inside = 0
    for trial in range(300):
        line = fitted(8, *(run("log", noise=0.03, seed=10 * trial + k, rho=0.5) for k in range(runs))).log
        inside += line.slope_low <= 2 <= line.slope_high
    assert 0.86 <= inside / 300 <= 0.99  # 95 % between runs; one correlated run knows less about itself


def test_a_movement_that_is_neither_is_not_identified() -> None:
    found = fitted(8, (STEPS, STEPS.astype(float)))
    assert found.law is None and found.line is None
    assert "neither log t nor sqrt t" in found.reason


def test_noise_that_hides_the_difference_is_not_identified() -> None:
    """The truth is halfway between the laws, so a verdict would be chance; AIC alone gives one in 3 of 10 cases."""
    short = STEPS[(STEPS >= 10) & (STEPS <= 100)]
    exact = np.log(short) / np.ptp(np.log(short)) + np.sqrt(short) / np.ptp(np.sqrt(short))
    noises = (0.06 * np.random.default_rng(seed).standard_normal(len(short)) for seed in range(200))
    found = [fitted(8, (short, exact + noise)) for noise in noises]
    assert sum(movement.law is None for movement in found) > 0.75 * len(found)
    assert any("which chance may explain" in movement.reason for movement in found)


def test_only_the_first_phase_counts_where_its_end_is_given() -> None:
    steps, distances = run("log")
    distances = np.where(steps > 1000, 50.0, distances)  # the learning rate fell, and so on
    assert fitted(8, (steps, distances)).law is None
    found = fitted(8, (steps, distances), last_step=1000)
    assert found.law == "log" and found.n_points == (steps <= 1000).sum()


def test_step_0_and_numbers_that_are_none_are_left_out() -> None:
    steps, distances = run("log")
    found = fitted(
        8, (np.append(0, steps), np.append(0.0, distances)), (steps, np.where(steps == 1, np.nan, distances))
    )
    assert found.law == "log" and found.n_points == 2 * len(steps) - 1


def test_too_little_is_said_in_a_sentence() -> None:
    assert fit_movement(8, []) == "Batch size 8: there is no run."
    assert "from 5 measurements of a run" in str(fit_movement(8, [(STEPS[:5], STEPS[:5])]))
    few = np.arange(100.0, 140.0)
    assert "span a factor 10" in str(fit_movement(8, [(few, few)]))
    assert "did not move" in str(fit_movement(8, [(STEPS, 0 * STEPS)]))
