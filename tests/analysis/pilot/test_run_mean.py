"""The mean of a noise scale along runs is the critical batch size of the theory."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.noise_scale.pooled import PooledScale
from bcrit.analysis.pilot.run_mean import run_mean


def runs(steps: list[float], scale: list[float], factors: tuple[float, ...] = (1.0,)) -> pd.DataFrame:
    """One run for each factor on its scale; |G|^2 falls along the runs."""
    return pd.DataFrame(
        [
            {"trial_id": f"r{r}", "step": s, "n": n * factor / (1 + s), "d": 1 / (1 + s)}
            for r, factor in enumerate(factors)
            for s, n in zip(steps, scale, strict=True)
        ]
    )


def mean(frame: pd.DataFrame, batch_size: float = 64) -> PooledScale:
    return run_mean(frame, "n", "d", batch_size)


@pytest.mark.parametrize("batch_size", [1, 64, 10_000])
def test_a_constant_scale_is_its_own_mean_at_any_batch_size(batch_size: float) -> None:
    found = mean(runs([0, 1, 3, 40], [80.0] * 4), batch_size)
    assert found.value == pytest.approx(80) and found.n_runs == 1
    assert (found.low, found.high, found.reason) == (None, None, "one run has no interval")


@pytest.mark.parametrize("batch_size", [8, 64, 1024])
def test_a_growing_scale_gives_e_min_over_s_min_whatever_the_batch_size(batch_size: float) -> None:
    s = np.linspace(0, 100, 20_001)  # progress; s_min = 100, e_min = int (10 + 2 s) ds = 11,000
    scale = 10 + 2 * s
    steps = np.concatenate([[0], np.cumsum(np.diff(s) * (1 + (scale[1:] + scale[:-1]) / 2 / batch_size))])
    kept = slice(None, None, 100)
    found = mean(runs(list(steps[kept]), list(scale[kept])), batch_size)
    assert found.value == pytest.approx(110, rel=1e-3)


def test_it_is_a_ratio_of_averages() -> None:
    frame = runs([0, 10], [50.0, 50.0], (1.0, 1.0))
    frame.loc[frame["trial_id"] == "r1", ["n", "d"]] *= 3.0  # a run whose gradient is larger counts for more
    frame.loc[frame["trial_id"] == "r0", "n"] *= 2.0
    assert mean(frame).value == pytest.approx((100 * 1 + 50 * 3) / 4)


def test_the_interval_is_the_jackknife_s_over_runs() -> None:
    found = mean(runs([0, 10], [50.0, 50.0], (0.8, 1.0, 1.2)))
    left_out = np.log([50 * 1.1, 50 * 1.0, 50 * 0.9])
    half = 4.302653 * math.sqrt(2 / 3 * np.sum((left_out - left_out.mean()) ** 2))
    assert found.value == pytest.approx(50)
    assert found.low == pytest.approx(50 * math.exp(-half)) and found.high == pytest.approx(50 * math.exp(half))


def test_runs_that_end_at_different_steps_share_their_end() -> None:
    frame = pd.concat([runs([0, 10, 30], [40.0, 40.0, 40.0]), runs([0, 10, 50], [40.0, 40.0, 40.0], (1.0,))])
    frame["trial_id"] = ["a"] * 3 + ["b"] * 3
    assert mean(frame).value == pytest.approx(40)


def test_a_place_without_a_positive_gradient_is_passed_over() -> None:
    frame = runs([0, 5, 10], [50.0, 50.0, 50.0])
    frame.loc[frame["step"] == 5, "d"] = -1.0
    assert mean(frame).value == pytest.approx(50)


def test_an_end_without_a_positive_gradient_is_not_resolved() -> None:
    frame = runs([0, 5, 10], [50.0, 50.0, 50.0])
    frame.loc[frame["step"] == 10, "d"] = -1.0
    found = mean(frame)
    assert found.value is None and "noise hides the gradient" in found.reason


def test_what_hangs_on_one_run_has_no_interval() -> None:
    frame = runs([0, 10], [50.0, 50.0], (1.0, 1.0))
    frame.loc[(frame["trial_id"] == "r1") & (frame["step"] == 10), "d"] = -0.01
    found = mean(frame)
    assert found.value is not None and found.low is None and found.reason == "it hangs on a single run"
