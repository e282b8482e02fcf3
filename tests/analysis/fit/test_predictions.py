"""Predictive intervals hold new studies at their level: on simulated curves, and on real ones left out one by one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.fit.estimate import fit_hyperbola
from bcrit.search_spaces import InputError

# Median epochs to target by batch size: MLPerf Training reference convergence points, Apache-2.0,
# github.com/mlcommons/logging, mlperf_logging/rcp_checker (training_2.0.0 and 5.x; steps are epochs / batch size).
REAL = {
    "resnet": (
        [1632, 3264, 4096, 8192, 13056, 32768, 49152, 58880, 65536, 67840],
        [35, 35, 40, 42, 45.5, 56, 68, 80, 85, 86],
    ),
    "bert": (
        [256, 448, 1536, 3072, 4096, 4608, 6144, 6912, 8192, 8704, 12288, 13056, 16384],
        [2.546, 2.408, 2.789, 2.753, 2.839, 2.811, 3.318, 3.622, 4.178, 4.243, 4.443, 4.618, 5.494],
    ),
    "retinanet": ([256, 320, 512, 768, 1024, 1280, 2048, 2560, 4096], [4, 4, 5, 5, 6, 7, 8, 9, 15]),
    "llama31_8b": ([16, 32, 64, 96, 128], [1.597, 1.843, 2.335, 2.724, 3.441]),
}
B = 2.0 ** np.arange(2, 10)


def table(batch: np.ndarray, steps: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"batch_size": batch, "steps": steps})


def test_real_studies_that_were_left_out_lie_within_about_as_often_as_they_should() -> None:
    inside = []
    for sizes, epochs in REAL.values():
        batch = np.array(sizes, dtype=float)
        steps = 1e6 * np.array(epochs) / batch
        for i in range(batch.size):
            others = np.arange(batch.size) != i
            (found,) = fit_hyperbola(table(batch[others], steps[others]), level=0.9).predict_studies([batch[i]])
            assert found.steps_low is not None and found.steps_high is not None
            inside.append(found.steps_low <= steps[i] <= found.steps_high)
    assert len(inside) == 37
    assert 0.85 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_new_studies_on_a_true_hyperbola_lie_within_at_the_level(noise: float) -> None:
    rng, inside = np.random.default_rng(9), []
    for _ in range(100):
        errors = rng.normal(0, noise, B.size + 1)
        fit = fit_hyperbola(table(B, 20 * (1 + 64 / B) * np.exp(errors[1:])), level=0.9)
        (found,) = fit.predict_studies([90.0])
        new = 20 * (1 + 64 / 90) * math.exp(errors[0])
        assert found.steps_low is not None and found.steps_high is not None
        inside.append(found.steps_low <= new <= found.steps_high)
    assert 0.81 <= np.mean(inside) <= 0.98  # 0.9 and three Monte-Carlo standard errors


def test_a_new_study_scatters_more_than_the_curve_and_more_so_outside() -> None:
    fit = fit_hyperbola(table(B, 20 * (1 + 64 / B) * np.exp(np.random.default_rng(1).normal(0, 0.05, B.size))))
    inside, outside = fit.predict_studies([64, 65536])
    assert None not in (inside.steps_low, inside.curve_low, inside.curve_high, inside.steps_high)
    assert inside.steps_low < inside.curve_low < inside.steps < inside.curve_high < inside.steps_high  # type: ignore[operator]
    assert (inside.extrapolated, outside.extrapolated) == (False, True)
    assert inside.examples == pytest.approx(64 * inside.steps)
    band = fit.predict([64.0]).iloc[0]
    assert (inside.curve_low, inside.curve_high) == pytest.approx((band["steps_low"], band["steps_high"]))


def test_two_studies_give_a_number_without_interval() -> None:
    (found,) = fit_hyperbola(table(B[[0, 7]], 20 * (1 + 64 / B[[0, 7]]))).predict_studies([64])
    assert found.steps == pytest.approx(40)
    assert found.steps_low is None and found.curve_high is None


@pytest.mark.parametrize("size", [0.0, -4.0, math.nan, math.inf])
def test_a_batch_size_that_is_none_is_refused(size: float) -> None:
    fit = fit_hyperbola(table(B, 20 * (1 + 64 / B)))
    with pytest.raises(InputError, match="must be a positive number"):
        fit.predict_studies([size])
