"""The plane is chosen by the space, and a box is where its trials are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bcrit.analysis.report.trial_axes import coordinates, outline
from bcrit.analysis.studies.steps_to_target import searched_spaces
from bcrit.search_spaces.space import SearchSpace
from tests.analysis.report import runs

SPACES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "lr and momentum": (runs.PLANE, ["lr / (1 − momentum)", "1 − momentum"]),
    "lr": ({"lr": "log from 0.1 to 1", "momentum": 0.9}, ["lr"]),
    "momentum": ({"lr": 0.1, "momentum": "reverse_log from 0 to 0.9"}, ["1 − momentum"]),
    "the first two of three": ({k: "linear from 0 to 1" for k in "abc"}, ["a", "b"]),
    "conditional ones where there are no others": ({"a": {"x": {}, "y": {"z": "linear from 0 to 1"}}}, ["z"]),
    "conditional ones give way": ({"a": {"x": {"z": "linear from 0 to 1"}}, "b": "log from 1 to 2"}, ["b"]),
    "no number": ({"a": "choice of x, y"}, []),
}


@pytest.mark.parametrize(("space", "titles"), SPACES.values(), ids=SPACES)
def test_the_axes_fit_the_space(space: dict[str, Any], titles: list[str]) -> None:
    assert [coordinate.title for coordinate in coordinates(SearchSpace.model_validate(space))] == titles


def test_an_outline_encloses_the_points_of_its_box() -> None:
    space = SearchSpace.model_validate(runs.PLANE)
    plane = coordinates(space)
    x, y = (np.log(line) for line in outline(space, plane))
    rng = np.random.default_rng(0)
    for point in (space.sample(rng) for _ in range(50)):
        px, py = (np.log(coordinate.of(point)) for coordinate in plane)
        assert y.min() - 1e-9 <= py <= y.max() + 1e-9
        # lr, the sum of the two logarithms, bounds the box along the diagonal.
        assert (x + y).min() - 1e-9 <= px + py <= (x + y).max() + 1e-9
    assert (x[0], y[0]) == pytest.approx((x[-1], y[-1]))


def test_a_box_of_one_coordinate_is_a_span() -> None:
    space = SearchSpace.model_validate({"lr": "log from 0.1 to 10"})
    (line,) = outline(space, coordinates(space))
    assert list(line) == pytest.approx([0.1, 10])


def test_widened_boxes_follow_the_table_of_edges() -> None:
    analysis = runs.widened()
    first, second = (space.box("lr") for space in searched_spaces(analysis.experiment, analysis.boundary, 8))
    assert (first.low, first.high) == (0.01, 10.0)
    assert second.low == first.low
    assert second.high == analysis.boundary["widened_to"].iloc[0]
