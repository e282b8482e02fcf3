"""The noise of a pilot's runs is that of the summary and the mean, and the temperature the latest that is known."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from bcrit.analysis.pilot.noise import run_noise
from bcrit.analysis.pilot.run_mean import run_mean
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.pilot.made_up import SPEC

EXPERIMENT = Experiment.model_validate(SPEC)


def rows(last_g_h_g: float = 0.01) -> list[dict[str, Any]]:
    """Two runs with B_simple 40 and 80, B_noise 20 and 60, lr_max = |G|^2 / G'HG = 2 and then more."""
    found = []
    for name, factor in (("a", 1.0), ("b", 1.1)):
        for step, n, g, hn, gh in ((0, 40, 1.0, 10, 0.5), (10, 40, 1.0, 10, 0.5), (20, 8, 0.1, 0.6, last_g_h_g)):
            found.append(
                {
                    **{"trial_id": name, "batch_size": 64, "step": step, "crossing": 20, "value": 1.0 - step / 40},
                    **{"tr_sigma": n * factor, "g_sq": g, "tr_h_sigma": hn * factor, "g_h_g": gh, "lr_effective": 1.0},
                }
            )
    return found


def test_means_and_summary_are_those_of_their_functions() -> None:
    found, frame = run_noise(rows(), EXPERIMENT, 64, 2), pd.DataFrame(rows())
    assert found.simple == run_mean(frame, "tr_sigma", "g_sq", 64)
    assert found.noise == run_mean(frame, "tr_h_sigma", "g_h_g", 64)
    assert found.scales is not None and found.scales.at_target is not None
    assert found.scales.at_target.simple.value == pytest.approx(80 * 1.05)


def test_the_temperature_is_the_latest_known() -> None:
    at_target = run_noise(rows(), EXPERIMENT, 64, 2).temperature
    assert at_target == pytest.approx((1 + 60 * 1.05 / 64) / 10)
    before = run_noise(rows(last_g_h_g=-0.01), EXPERIMENT, 64, 2).temperature
    assert before == pytest.approx((1 + 20 * 1.05 / 64) / 2)


def test_without_measurements_nothing_is_known() -> None:
    found = run_noise([], EXPERIMENT, 64, 3)
    assert found.scales is None and found.temperature is None
    assert found.simple.reason == "it could not be measured" and found.simple.n_runs == 3


def test_runs_that_never_crossed_have_no_scale_at_the_target() -> None:
    found = run_noise([{**row, "crossing": math.nan} for row in rows()], EXPERIMENT, 64, 2)
    assert found.scales is not None and found.scales.at_target is None and found.simple.value is not None
