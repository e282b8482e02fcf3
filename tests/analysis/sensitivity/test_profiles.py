from __future__ import annotations

import numpy as np
import pytest

from bcrit.analysis.optimum.near_optimal import near_optimal_sets
from bcrit.analysis.sensitivity.profiles import profile
from tests.analysis.optimum.surface import PLANE, bowl, searched, spec, tables


def test_a_profile_is_the_least_of_each_bin_and_counts_every_point() -> None:
    experiment = spec(PLANE, (8,))
    trials = searched(experiment, bowl(lambda b: 0.05, others=0.2), np.random.default_rng(0), noise=0.05)
    found = near_optimal_sets(*tables(trials, experiment))[0][0]
    for coordinate in found.axes.coordinates:
        mine = profile(found, coordinate)
        assert mine.n.sum() == len(found.points.rows)
        assert mine.n_reached.sum() == np.isfinite(found.points.steps).sum()
        assert np.nanmin(mine.ratio) == pytest.approx(np.nanmin(found.points.steps) / found.steps)
        assert (np.isnan(mine.ratio) == (mine.n_reached == 0)).all()
        assert mine.high[:-1] == pytest.approx(mine.low[1:]) and (mine.high > mine.low).all()


def test_a_profile_over_a_declared_dimension_spans_its_box() -> None:
    experiment = spec(PLANE, (8,))
    trials = searched(experiment, bowl(lambda b: 0.05), np.random.default_rng(0))
    found = near_optimal_sets(*tables(trials, experiment))[0][0]
    mine = profile(found, next(c for c in found.axes.numeric if c.name == "lr"))
    assert (mine.low[0], mine.high[-1]) == (pytest.approx(0.001), pytest.approx(10))
