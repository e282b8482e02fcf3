from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from bcrit.analysis.optimum.near_optimal import NearOptimal, near_optimal_sets
from bcrit.analysis.sensitivity.share import near_optimal_share
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.optimum.surface import LR, PLANE, Steps, bowl, searched, spec, tables
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
    return experiment, near_optimal_sets(*tables(trials, experiment))[0][0]


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
        assert share.n_unknown > share.n_worse and share.n_inside + share.n_worse + share.n_unknown == 40
        held += share.low <= true_share(experiment, BOWL, found) <= share.high
    assert held >= 3


def test_nothing_reached_or_too_little_known_gives_no_share() -> None:
    for analysis in (runs.partly(()), runs.partly((8,))):
        found = near_optimal_sets(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)[0][0]
        share = near_optimal_share(found)
        assert (share.value, share.low, share.high, share.known) == (None, 0.0, 1.0, False)


def test_the_same_study_gives_the_same_share_and_any_share_lies_in_its_interval() -> None:
    _, found = study(PLANE, BOWL, 5)
    share = near_optimal_share(found)
    assert share == near_optimal_share(found)
    assert share.value is not None and 0 <= share.low <= share.value <= share.high <= 1


def test_14_000_trials_take_seconds_and_give_the_true_share() -> None:
    rng, n = np.random.default_rng(0), 14_000
    analysis = runs.usual(batch_sizes=(8,))
    trials = analysis.trials.iloc[[-1] * n].reset_index(drop=True)
    trials["stage"], trials["repeats"] = "search", None
    trials["trial_id"] = [f"t{i}" for i in range(n)]
    trials["lr"], trials["momentum"] = 10 ** rng.uniform(-2, 1, n), 1 - 10 ** rng.uniform(-2, 0, n)
    distance = np.log(trials["lr"] / 0.3) ** 2 + np.log((1 - trials["momentum"]) / 0.1) ** 2
    trials["steps_to_target"] = 100 * (1 + 0.2 * distance)
    studies = analysis.studies.assign(steps=100.0, best_trial=trials["trial_id"][distance.idxmin()])
    found = near_optimal_sets(trials, studies, analysis.boundary, analysis.experiment)[0][0]
    began = time.process_time()
    share = near_optimal_share(found)
    assert time.process_time() - began < 4
    within = (found.limit / 100 - 1) / 0.2
    assert share.value == pytest.approx(math.pi * within / (math.log(1000) * math.log(100)), abs=0.01)
