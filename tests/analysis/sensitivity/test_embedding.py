from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bcrit.analysis.optimum.near_optimal import near_optimal_sets
from bcrit.analysis.sensitivity.embedding import embed
from tests.analysis.optimum.surface import LR, bowl, searched, spec, tables

SCHEDULED = {
    **LR,
    "schedule": {"constant": None, "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": 0.5}},
}


def test_points_and_draws_share_a_cube_in_which_an_absent_hyperparameter_stands_in_the_middle() -> None:
    experiment = spec(SCHEDULED, (8,))
    trials = searched(experiment, bowl(lambda b: 0.5), np.random.default_rng(0))
    found = near_optimal_sets(*tables(trials, experiment))[0][0]
    cube = embed(found, 1024)
    assert cube.points.shape == (40, 4) and cube.draws.shape == (1024, 4)
    assert cube.usable.all() and (cube.points >= 0).all() and (cube.points <= 1).all()
    constant = (found.points.rows["schedule"] == "constant").to_numpy()
    assert (cube.points[constant, 1] == 0.5).all() and not (cube.points[~constant, 1] == 0.5).any()
    drawn = Counter(map(tuple, np.round(cube.draws[:, 2:], 3)))
    assert sorted(drawn.values()) == pytest.approx([512, 512], abs=8)
    assert cube.draws[:, 0].mean() == pytest.approx(0.5, abs=0.01)


def test_two_options_are_as_far_apart_as_the_ends_of_a_box() -> None:
    experiment = spec({**LR, "flavour": "choice of sweet, sour, salty"}, (8,))
    trials = searched(experiment, bowl(lambda b: 0.5), np.random.default_rng(0))
    cube = embed(near_optimal_sets(*tables(trials, experiment))[0][0], 64)
    distances = {round(float(np.linalg.norm(a - b)), 6) for a in cube.draws[:, 1:] for b in cube.draws[:, 1:]}
    assert distances == {0.0, 1.0}
