import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.optimum.coordinates import EFFECTIVE, Coordinate, as_whole, study_axes, values_of, whole_names
from bcrit.search_spaces.presets import Scale
from tests.analysis.optimum.surface import BARE, PLANE, spec
from tests.analysis.report import runs

NO_EDGES = pd.DataFrame({"batch_size": [], "round": [], "dimension": [], "side": [], "widened_to": []})


@pytest.mark.parametrize("scale", ["log", "reverse_log", "linear"])
@given(share=st.floats(0, 1))
def test_the_scaled_coordinate_rises_with_the_value_and_turns_back_into_it(scale: Scale, share: float) -> None:
    coordinate = Coordinate("x", scale, 0.1, 0.9)
    value = 0.1 + 0.8 * share
    assert coordinate.unscaled(float(coordinate.scaled(value))) == pytest.approx(value)
    assert coordinate.scaled(0.2) < coordinate.scaled(0.8)
    assert coordinate.unit(np.array([0.1, 0.9])) == pytest.approx([0, 1])


def test_a_value_that_its_scale_does_not_reach_is_not_a_number() -> None:
    assert math.isnan(float(Coordinate("lr", "log", 0.1, 1).scaled(0.0)))
    assert math.isnan(float(Coordinate("momentum", "reverse_log", 0, 0.9).scaled(1.0)))


def test_the_effective_learning_rate_spans_the_corners_of_the_box() -> None:
    search = pd.DataFrame({"lr": [0.1], "momentum": [0.5]})
    axes = study_axes(spec(PLANE), NO_EDGES, 4, search)
    assert [c.name for c in axes.coordinates] == [EFFECTIVE, "lr", "momentum"]
    assert [c.name for c in axes.decoupled] == [EFFECTIVE, "momentum"]
    assert axes.effective is not None
    assert [axes.effective.low, axes.effective.high] == pytest.approx([0.001, 10 / 0.01])
    assert values_of({"lr": 0.1, "momentum": 0.5}, EFFECTIVE) == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("changes", "summed"),
    [
        ({"optimizer": "nesterov"}, True),
        ({"optimizer": "muon"}, False),
        ({"optimizer": "own"}, True),
        ({"optimizer": "Nesterov, as logged", "imported": {"format": "csv", "source": "x"}}, True),
        ({"optimizer": "Muon", "imported": {"format": "csv", "source": "x"}}, False),
    ],
    ids=str,
)
def test_there_is_an_effective_learning_rate_only_where_the_velocity_is_a_sum(
    changes: dict[str, Any], summed: bool
) -> None:
    search = pd.DataFrame({"lr": [0.1, 0.2], "momentum": [0.5, 0.6]})
    axes = study_axes(spec(PLANE, **changes), NO_EDGES, 4, search)
    assert ([c.name for c in axes.decoupled] == [EFFECTIVE, "momentum"]) == summed
    assert [c.name for c in axes.numeric] == ["lr", "momentum"]


def test_the_box_is_the_one_that_was_searched_last() -> None:
    edges = pd.DataFrame([{"batch_size": 4, "round": 0, "dimension": "lr", "side": "high", "widened_to": 30.0}])
    search = pd.DataFrame({"lr": [0.1], "momentum": [0.5]})
    by_name = {c.name: c for c in study_axes(spec(PLANE), edges, 4, search).numeric}
    assert (by_name["lr"].low, by_name["lr"].high) == (0.001, 30.0)


def test_a_hyperparameter_under_several_options_stands_once_with_the_span_of_its_boxes() -> None:
    schedule = {"constant": None, "linear": {"end_factor": "linear from 0.2 to 1"}, "cosine": {}}
    experiment = spec({**PLANE, "schedule": schedule})
    search = pd.DataFrame({"lr": [0.1], "momentum": [0.5], "schedule": ["linear"], "end_factor": [0.5]})
    axes = study_axes(experiment, NO_EDGES, 4, search)
    found = next(c for c in axes.numeric if c.name == "end_factor")
    assert (found.low, found.high, found.conditional) == (0.0, 1.0, True)
    assert axes.parents["end_factor"] == ("schedule", ("linear", "cosine"))
    assert axes.choices == {"schedule": ("constant", "linear", "cosine")}


def test_without_a_declared_space_the_range_of_the_trials_is_the_box() -> None:
    search = pd.DataFrame(
        {"lr": [0.1, 0.4], "momentum": [0.0, 0.9], "width": [3, 4], "same": [1.0, 1.0], "kind": ["a", "b"]}
    )
    axes = study_axes(BARE, NO_EDGES, 4, search)
    assert [(c.name, c.scale, c.low, c.high) for c in axes.numeric] == [
        ("lr", "log", 0.1, 0.4),
        ("momentum", "reverse_log", 0.0, 0.9),
        ("width", "linear", 3.0, 4.0),
    ]
    assert axes.choices == {"kind": ("a", "b")} and not axes.declared


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
    assert all(isinstance(found.best["width"], int) for found in analysis.sets.reached)
