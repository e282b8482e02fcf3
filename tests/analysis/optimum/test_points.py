from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.optimum.points import seed_noise, study_points
from tests.analysis.optimum.surface import LR, bowl, searched, spec


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    usual = {"batch_size": 8, "stage": "search", "repeats": None, "lr": 0.1, "outcome": "reached", "steps": 100}
    return pd.DataFrame(
        [{**usual, "steps_to_target": np.nan, "trial_id": f"t{i}", **row} for i, row in enumerate(rows)]
    )


def again(repeats: str, steps: float, trained: int = 100) -> dict[str, Any]:
    outcome = "reached" if math.isfinite(steps) else "exhausted"
    steps_to_target = steps if math.isfinite(steps) else np.nan
    return {"stage": "confirm", "repeats": repeats, "outcome": outcome, "steps_to_target": steps_to_target} | {
        "steps": trained
    }


def test_a_re_run_point_has_the_median_of_its_seeds_and_any_other_its_own_trial() -> None:
    trials = frame(
        {"steps_to_target": 50}, {"steps_to_target": 70}, again("t0", 60), again("t0", 80), again("t0", math.inf)
    )
    points = study_points(trials, 8)
    assert points.steps.tolist() == [80, 70]


def test_what_a_point_without_steps_needs_more_than_is_how_far_it_was_trained_or_infinity() -> None:
    trials = frame(
        {"outcome": "capped", "steps": 40},
        {"outcome": "diverged", "steps": 3},
        {"outcome": "failed", "steps": 0},
        {"steps_to_target": 50},
    )
    points = study_points(trials, 8)
    assert points.longer_than[:2].tolist() == [40, math.inf] and math.isnan(points.longer_than[2])
    assert (len(points.rows), points.n_set_aside) == (3, 1)


def test_seeds_of_a_point_without_a_search_trial_are_a_point() -> None:
    trials = frame({"outcome": "capped"}, again("elsewhere", 60), again("elsewhere", 70), again("elsewhere", math.inf))
    points = study_points(trials, 8)
    assert points.steps[1] == 70 and len(points.rows) == 2
    only = study_points(frame(again("elsewhere", math.inf, 90), again("elsewhere", math.inf, 70)), 8)
    assert math.isnan(only.steps[0]) and only.longer_than[0] == 80


def test_the_seed_noise_is_pooled_over_points() -> None:
    trials = searched(spec(LR), bowl(lambda b: 0.5), np.random.default_rng(0), noise=0.1, seeds=5)
    noise = seed_noise(trials)
    assert noise.freedom == 8 * 3 * 4
    assert noise.log_sd == pytest.approx(0.1, rel=0.2)


def test_without_two_seeds_of_a_point_the_noise_is_not_known() -> None:
    trials = frame({"steps_to_target": 50}, again("t0", 60), again("t0", math.inf))
    noise = seed_noise(trials)
    assert (noise.log_sd, noise.freedom, noise.n_unreached) == (None, 0, 1)
