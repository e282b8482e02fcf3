from __future__ import annotations

import math

import pandas as pd

from bcrit.analysis.optimum.near_optimal import near_optimal_sets
from bcrit.analysis.optimum.whole_numbers import as_whole, whole_names
from tests.analysis.optimum.surface import spec
from tests.analysis.report import runs


def test_whole_names_are_those_declared_those_recorded_and_lengths_in_steps() -> None:
    experiment = spec({"lr": "log from 0.001 to 10", "width": "integer from 4 to 64"})
    trials = pd.DataFrame({"lr": [0.1, 0.2], "width": [4.0, math.nan], "depth": [1, 2], "on": [True, False]})
    names = whole_names(trials, experiment)
    assert {"width", "depth", "decay_steps"} <= names and not {"lr", "on"} & names


def test_only_whole_values_become_whole_numbers() -> None:
    point = as_whole({"width": 32.0, "depth": 2.5, "lr": 1.0, "kind": "a"}, frozenset({"width", "depth", "kind"}))
    assert point == {"width": 32, "depth": 2.5, "lr": 1.0, "kind": "a"}
    assert isinstance(point["width"], int) and isinstance(point["lr"], float)


def test_a_study_without_a_best_point_leaves_the_widths_of_the_others_whole() -> None:
    analysis = runs.partly((8, 16, 32), space={"lr": 0.1, "width": "integer from 4 to 64"})
    assert analysis.studies["width"].dtype == float  # what pandas makes of a column with a gap
    points = analysis.hyperparameters
    assert points and all(isinstance(point["width"], int) for point in points.values())
    sets, _ = near_optimal_sets(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)
    assert all(isinstance(found.best["width"], int) for found in sets if found.reached)
