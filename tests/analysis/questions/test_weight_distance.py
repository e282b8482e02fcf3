"""The movement of the weights: its law at a batch size, its speed by batch size, and what a run says of them."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bcrit.analysis.questions.weight_distance import (
    Law,
    Movement,
    SlopeLaw,
    ask,
    fit_movement,
    fit_slopes,
    weight_movement,
)
from bcrit.analysis.report import Answer, Plot, Rows
from bcrit.analysis.run import Run
from tests.analysis.probed_runs import SIZES, probed_run, steps_at

Floats = npt.NDArray[np.float64]
STEPS = np.unique(np.rint(10 ** np.linspace(0, 4, 41)))


def run(law: Law, slope: float = 2.0, noise: float = 0.0, seed: int = 0, rho: float = 0.0) -> tuple[Floats, Floats]:
    """1 + slope g(t), with noise as a share of the range whose neighbours correlate by rho."""
    exact = 1 + slope * (np.log(STEPS) if law == "log" else np.sqrt(STEPS))
    drawn = np.random.default_rng(seed).standard_normal(len(STEPS))
    for i in range(1, len(drawn)):
        drawn[i] = rho * drawn[i - 1] + math.sqrt(1 - rho**2) * drawn[i]
    return STEPS, exact + noise * np.ptp(exact) * drawn


def fitted(batch_size: int, *runs: tuple[npt.ArrayLike, npt.ArrayLike]) -> Movement:
    movement = fit_movement(batch_size, runs)
    assert isinstance(movement, Movement)
    return movement


@pytest.mark.parametrize("law", ["log", "sqrt"])
@pytest.mark.parametrize("noise", [0.0, 0.02], ids=["exact", "noisy"])
def test_the_law_that_was_put_in_comes_out(law: Law, noise: float) -> None:
    found = fitted(8, *(run(law, noise=noise, seed=seed) for seed in range(4)))
    line = found.log if law == "log" else found.sqrt
    assert found.law == law and line is not None and (found.aic_difference > 0) == (law == "log")
    assert line.slope.value == pytest.approx(2, rel=1e-6 + noise) and line.slope.holds(line.slope.value or 0.0)
    assert line.intercept == pytest.approx(1, abs=1e-6 + 10 * noise * (1 if law == "log" else 10))
    assert line.misfit <= max(1.5 * noise, 1e-6)
    assert (found.n_runs, found.n_points) == (4, 4 * len(STEPS))
    assert f"grows with {law} t" in found.reason


@pytest.mark.parametrize("runs", [1, 4])
def test_the_interval_of_the_slope_covers_it(runs: int) -> None:
    inside = 0
    for trial in range(300):
        line = fitted(8, *(run("log", noise=0.03, seed=10 * trial + k, rho=0.5) for k in range(runs))).log
        inside += line.slope.holds(2)
    assert 0.86 <= inside / 300 <= 0.99  # 95 % between runs; one correlated run knows less about itself


def test_a_movement_that_is_neither_is_not_identified() -> None:
    found = fitted(8, (STEPS, STEPS.astype(float)))
    assert found.law is None
    assert "neither log t nor sqrt t" in found.reason


def test_noise_that_hides_the_difference_is_not_identified() -> None:
    """The truth is halfway between the laws, so a verdict would be chance; AIC alone gives one in 3 of 10 cases."""
    short = STEPS[(STEPS >= 10) & (STEPS <= 100)]
    exact = np.log(short) / np.ptp(np.log(short)) + np.sqrt(short) / np.ptp(np.sqrt(short))
    noises = (0.06 * np.random.default_rng(seed).standard_normal(len(short)) for seed in range(200))
    found = [fitted(8, (short, exact + noise)) for noise in noises]
    assert sum(movement.law is None for movement in found) > 0.75 * len(found)
    assert any("which chance may explain" in movement.reason for movement in found)


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


def moved(batch_size: int, slope: float, law: Law = "log") -> Movement:
    """1 % of noise about 1 + slope g(t)."""
    exact = 1 + slope * (np.log(STEPS) if law == "log" else np.sqrt(STEPS))
    noise = 0.01 * np.ptp(exact) * np.random.default_rng(batch_size).standard_normal(len(STEPS))
    found = fit_movement(batch_size, [(STEPS, exact + noise)])
    assert isinstance(found, Movement) and found.law == law
    return found


def test_slopes_of_one_learning_rate_fall_and_of_a_scaled_one_do_not() -> None:
    sizes = (16, 64, 256, 1024)
    falling = fit_slopes([moved(b, 2 * (b / 16) ** -0.5) for b in sizes])
    level = fit_slopes([moved(b, 2) for b in sizes])
    assert isinstance(falling, SlopeLaw) and isinstance(level, SlopeLaw)
    assert falling.exponent.holds(-0.5) and not falling.exponent.holds(-0.4) and falling.n_batch_sizes == 4
    assert level.exponent.holds(0)


def test_batch_sizes_that_move_otherwise_are_left_out_of_the_slopes() -> None:
    found = fit_slopes([moved(8, 2), moved(16, 2, "sqrt"), moved(32, 2, "sqrt")])
    assert found == "The slopes need three batch sizes whose weights move with log t; there is 1."


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    found = ask(Run(probed_run(tmp_path_factory.mktemp("run") / "run", ["weight_distance"])))
    assert isinstance(found, Answer)
    return found


def test_a_movement_with_log_t_is_found_at_every_batch_size(answer: Answer) -> None:
    movements, slopes = answer.facts["movements"], answer.facts["slopes"]
    assert [(found["batch_size"], found["law"]) for found in movements] == [(size, "log") for size in SIZES]
    assert movements[0]["log"]["slope"] == pytest.approx(3.0)
    assert slopes["exponent"] == pytest.approx(0.0, abs=1e-3)
    laws, speeds, *each = answer.sentences
    assert laws.startswith("The weights move away from their start with log t at 4 of 4 batch sizes.")
    assert "Under log t their speed goes with the batch size to the power" in speeds and len(each) == len(SIZES)
    (rows,) = (part for part in answer.parts if isinstance(part, Rows))
    assert [row[1] for row in rows.table.rows] == ["log"] * len(SIZES)


def test_one_line_a_batch_size_as_far_as_all_runs_went(answer: Answer) -> None:
    (plot,) = (part for part in answer.parts if isinstance(part, Plot))
    assert plot.figure["layout"]["xaxis"]["type"] == "log"
    assert len(plot.figure["data"]) == len(SIZES)
    for trace, batch_size in zip(plot.figure["data"], SIZES, strict=True):
        assert trace["x"][0] == 1 and 29 <= trace["x"][-1] <= steps_at(batch_size)
        assert len(trace["x"]) <= 60


def test_a_run_without_probes_has_none(tmp_path: Path) -> None:
    assert "it takes 'weight_distance' in 'probes.measure'" in str(ask(Run(probed_run(tmp_path / "run", ()))))


def test_too_few_measurements_say_so_in_words() -> None:
    rows = pd.DataFrame({"trial_id": ["a"] * 3, "batch_size": 8, "step": [1, 2, 3], "weight_distance": [1.0, 2.0, 3.0]})
    movements, slopes, said = weight_movement(rows, {})
    assert not movements and slopes is None
    assert said[0].startswith("At no batch size is it identified")
    assert "cannot be told apart from 3 measurements" in said[-1]


@pytest.mark.parametrize(
    ("power", "words"),
    [(0.0, ", lr being the same at all; Hoffer"), (0.5, ", and lr to the power 0.5; Hoffer"), (None, "); Hoffer")],
    ids=["one for all", "root", "not known"],
)
def test_how_lr_went_with_the_batch_size_is_told(power: float | None, words: str) -> None:
    steps = [2**k for k in range(12)]
    rows = pd.concat(
        pd.DataFrame({"trial_id": f"b{size}", "batch_size": size, "step": steps, "weight_distance": np.log1p(steps)})
        for size in SIZES
    )
    rates = {} if power is None else {size: 0.1 * size**power for size in SIZES}
    assert words in weight_movement(rows, rates)[2][1]


def test_speeds_are_told_where_no_law_is_followed_too() -> None:
    steps = np.unique(np.geomspace(1, 1000, 40).astype(int))
    bent = (np.log(steps) / 7) ** 2 + np.sin(2 * np.log(steps))  # no straight line in log t, nor in sqrt t
    rows = pd.concat(
        pd.DataFrame({"trial_id": f"b{size}", "batch_size": size, "step": steps, "weight_distance": bent / size**0.5})
        for size in SIZES
    )
    _, slopes, (_, speeds, *_) = weight_movement(rows, {})
    assert slopes is None
    assert speeds.startswith("The slopes need three batch sizes whose weights move with log t; there are 0.")
    assert "Read as log t all the same, their speed goes with the batch size to the power -0.5" in speeds
