"""Spaces with conditional dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.search_spaces.space import SearchSpace

SPACE = SearchSpace.model_validate(
    {
        "lr": "log from 0.001 to 1",
        "momentum": 0.9,
        "schedule": {"constant": None, "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": 0.5}},
    }
)


def test_the_axes_are_the_searched_dimensions_with_their_addresses() -> None:
    assert list(SPACE.axes) == ["lr", "schedule", "schedule.linear.end_factor"]


@given(seed=st.integers(0, 2**32 - 1))
def test_every_sample_is_contained_and_survives_the_scaled_coordinates(seed: int) -> None:
    point = SPACE.sample(np.random.default_rng(seed))
    assert SPACE.contains(point)
    assert SPACE.clip(point) == point
    again = SPACE.from_unit(SPACE.to_unit(point))
    assert again == pytest.approx(point)


def test_conditional_hyperparameters_exist_only_under_their_option() -> None:
    units = {"lr": 0.5, "schedule.linear.end_factor": 0.25}
    assert set(SPACE.from_unit({**units, "schedule": 0.1})) == {"lr", "momentum", "schedule"}
    linear = SPACE.from_unit({**units, "schedule": 0.9})
    assert (linear["end_factor"], linear["decay_fraction"], linear["momentum"]) == (0.25, 0.5, 0.9)


@pytest.mark.parametrize(
    "point",
    [
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 2.0, "momentum": 0.9, "schedule": "constant"},
        {"lr": 0.1, "momentum": 0.8, "schedule": "constant"},
        {"lr": 0.1, "momentum": 0.9, "schedule": "constant", "end_factor": 0.5},
        {"lr": 0.1, "momentum": 0.9, "schedule": "cosine"},
    ],
    ids=["missing", "outside", "not the fixed value", "of another option", "unknown option"],
)
def test_points_that_are_not_of_the_space_are_not_contained(point: dict[str, object]) -> None:
    assert not SPACE.contains(point)


def test_widening_changes_one_box_and_leaves_the_original_alone() -> None:
    wider = SPACE.widen("lr", "high", 1.0)
    assert wider.box("lr").high == pytest.approx(1000) and SPACE.box("lr").high == 1
    inner = SPACE.widen("schedule.linear.end_factor", "high", 0.5)
    assert inner.box("schedule.linear.end_factor").high == 1.5


def test_a_choice_has_no_box() -> None:
    with pytest.raises(KeyError, match="only numeric dimensions have a box"):
        SPACE.box("schedule")
