from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.optimum.near_optimal import NearOptimal
from bcrit.analysis.sensitivity.share import embed, near_optimal_share
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.optimum.surface import LR, PLANE, Steps, bowl, large_study, one, searched, spec
from tests.analysis.report import runs

BOWL = bowl(lambda batch_size: 0.1, others=0.3, curvature=0.15)
LINE = bowl(lambda batch_size: 0.1, curvature=0.15)


def true_share(experiment: Experiment, steps: Steps, found: NearOptimal) -> float:
    rng = np.random.default_rng(9)
    points = [experiment.space.sample(rng) for _ in range(3000)]
    return float(np.mean([steps(found.batch_size, point) <= found.limit for point in points]))


def study(space: Mapping[str, Any], steps: Steps, seed: int, **more: Any) -> tuple[Experiment, NearOptimal]:
    experiment = spec(space, (64,))
    trials = searched(experiment, steps, np.random.default_rng(seed), **more)
    return experiment, one(trials, experiment)


@pytest.mark.parametrize(("space", "steps", "off"), [(LR, LINE, 0.03), (PLANE, BOWL, 0.06)], ids=["line", "plane"])
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_share_of_a_known_surface_comes_out(
    space: dict[str, str], steps: Steps, off: float, adaptive: bool
) -> None:
    errors = []
    for seed in range(3):
        experiment, found = study(space, steps, seed, adaptive=adaptive, early=False, trials=60)
        share = near_optimal_share(found)
        assert share.value is not None
        errors.append(share.value - true_share(experiment, steps, found))
    assert np.mean(errors) == pytest.approx(0, abs=off)


def test_the_interval_holds_the_truth_where_most_trials_were_cut_off() -> None:
    held = 0
    for seed in range(4):
        experiment, found = study(PLANE, BOWL, seed, noise=0.05)
        share = near_optimal_share(found)
        assert found.counts[2] > found.counts[1] and sum(found.counts) == 40
        held += share.holds(true_share(experiment, BOWL, found))
    assert held >= 3


def test_nothing_reached_or_too_little_known_gives_no_share() -> None:
    for analysis in (runs.partly(()), runs.partly((8,))):
        assert near_optimal_share(analysis.sets.studies[0]) == Estimate(None, 0.0, 1.0)


def test_the_same_study_gives_the_same_share_and_any_share_lies_in_its_interval() -> None:
    _, found = study(PLANE, BOWL, 5)
    share = near_optimal_share(found)
    assert share == near_optimal_share(found)
    assert share.value is not None and share.low is not None and share.high is not None
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_14_000_trials_take_seconds_and_give_the_true_share() -> None:
    def steps(at: pd.DataFrame) -> Any:
        return 100 * (1 + 0.2 * (np.log(at["lr"] / 0.3) ** 2 + np.log((1 - at["momentum"]) / 0.1) ** 2))

    found = large_study(0, steps).sets.studies[0]
    began = time.process_time()
    share = near_optimal_share(found)
    assert time.process_time() - began < 4
    within = (found.limit / 100 - 1) / 0.2
    assert share.value == pytest.approx(math.pi * within / (math.log(1000) * math.log(100)), abs=0.01)


SCHEDULED = {
    **LR,
    "schedule": {"constant": None, "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": 0.5}},
}


def test_points_and_draws_share_a_cube_in_which_an_absent_hyperparameter_stands_in_the_middle() -> None:
    experiment = spec(SCHEDULED, (8,))
    trials = searched(experiment, bowl(lambda b: 0.5), np.random.default_rng(0))
    found = one(trials, experiment)
    points, draws = embed(found, 1024)
    assert points.shape == (40, 4) and draws.shape == (1024, 4)
    assert (points >= 0).all() and (points <= 1).all()
    constant = (found.points.rows["schedule"] == "constant").to_numpy()
    assert (points[constant, 1] == 0.5).all() and not (points[~constant, 1] == 0.5).any()
    drawn = Counter(map(tuple, np.round(draws[:, 2:], 3)))
    assert sorted(drawn.values()) == pytest.approx([512, 512], abs=8)
    assert draws[:, 0].mean() == pytest.approx(0.5, abs=0.01)


def test_two_options_are_as_far_apart_as_the_ends_of_a_box() -> None:
    experiment = spec({**LR, "flavour": "choice of sweet, sour, salty"}, (8,))
    trials = searched(experiment, bowl(lambda b: 0.5), np.random.default_rng(0))
    _, draws = embed(one(trials, experiment), 64)
    distances = {round(float(np.linalg.norm(a - b)), 6) for a in draws[:, 1:] for b in draws[:, 1:]}
    assert distances == {0.0, 1.0}
