from __future__ import annotations

import numpy as np

from bcrit.analysis.diffusion.movement import Law, Movement, fit_movement
from bcrit.analysis.diffusion.slopes import SlopeLaw, fit_slopes

STEPS = np.unique(np.rint(10 ** np.linspace(0, 4, 41)))


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
    assert falling.exponent_low < -0.5 < falling.exponent_high < -0.4
    assert level.exponent_low < 0 < level.exponent_high and falling.n_batch_sizes == 4


def test_batch_sizes_that_move_otherwise_are_left_out_of_the_slopes() -> None:
    found = fit_slopes([moved(8, 2), moved(16, 2, "sqrt"), moved(32, 2, "sqrt")])
    assert found == "The slopes need three batch sizes whose weights move with log t; there is 1."
