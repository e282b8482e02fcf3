"""Spaces of studies made elsewhere hold for their points, or say what was changed."""

from __future__ import annotations

import pytest

from bcrit.analysis.exchange.batch_science import axis_of
from bcrit.analysis.exchange.exports import configs_of
from bcrit.analysis.exchange.run import Notes, common_space, fitted, interval
from bcrit.search_spaces.dimensions import Fixed, Linear, Log
from bcrit.search_spaces.space import SearchSpace

SPACE = SearchSpace.model_validate(
    {"lr": "log from 0.01 to 1", "m": "reverse_log from 0 to 0.9", "n": "integer from 1 to 4", "c": "choice of a, b"}
)


@pytest.mark.parametrize(
    ("scale", "low", "high"), [("log", 0.0, 1.0), ("reverse_log", 0.5, 1.0)], ids=["log", "reverse"]
)
def test_a_scale_that_its_ends_do_not_allow_is_linear_and_said(scale: str, low: float, high: float) -> None:
    notes = Notes()
    assert interval(scale, low, high, "8: lr", notes) == Linear(low=low, high=high)
    assert "taken as linear" in notes.sentences()[0]


def test_equal_ends_are_a_fixed_value() -> None:
    assert interval("log", 0.5, 0.5, "", Notes()) == Fixed(value=0.5)


def test_a_space_keeps_what_all_points_have() -> None:
    notes = Notes()
    points: list[dict[str, float | str | None]] = [
        {"lr": 0.1, "m": 0.5, "n": 2, "c": "a"},
        {"lr": 0.2, "m": None, "n": 9, "c": "z"},
    ]
    space = fitted(SPACE.root, points, "batch size 8", notes)
    assert list(space.root) == ["lr", "n", "c"]
    assert all(space.to_unit(point) for point in points)
    assert "'m' is left out" in notes.sentences()[0] and "'c'" in notes.sentences()[1]


def test_the_common_space_is_as_wide_as_the_widest() -> None:
    other = SearchSpace.model_validate({"lr": "log from 0.1 to 5", "m": "linear from 0 to 1", "c": "choice of b, d"})
    common = common_space([SPACE, other])
    assert common.root["lr"] == Log(low=0.01, high=5)
    assert list(common.root) == ["lr", "c"] and list(common.axes["c"].options) == ["a", "b", "d"]  # type: ignore[union-attr]
    assert common_space([]).axes == {}


def test_configurations_out_and_back_are_the_same_dimensions() -> None:
    configs = configs_of(SPACE)
    assert {name: axis_of(name, config, "", Notes()) for name, config in configs.items()} == SPACE.root


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({}, "describe no dimension"),
        ({"type": "DISCRETE", "feasible_points": []}, "describe no dimension"),
        ({"type": "DOUBLE", "min_value": 0.0, "max_value": float("inf")}, "describe no dimension"),
        (
            {"type": "DOUBLE", "min_value": 0.0, "max_value": 1.0, "scale": "CUBIC"},
            "not known, taken as linear: 'CUBIC'",
        ),
    ],
    ids=["empty", "no points", "infinite", "unknown scale"],
)
def test_what_a_configuration_does_not_tell_is_said(config: dict[str, object], note: str) -> None:
    notes = Notes()
    axis_of("x", config, "batch size 8", notes)
    assert any(note in sentence for sentence in notes.sentences())
