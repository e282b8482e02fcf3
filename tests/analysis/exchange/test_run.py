"""What a source yields fits beside ours: names, types, spaces, notes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.batch_science import axis_of
from bcrit.analysis.exchange.exports import configs_of
from bcrit.analysis.exchange.run import (
    Notes,
    common_space,
    experiment_name,
    fitted,
    hyperparameter_names,
    interval,
    metric_names,
    one_type,
    our_names,
    setting_columns,
    trial_row,
    tried_space,
)
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.search_spaces.dimensions import Fixed, Linear, Log
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

ANY = st.lists(
    st.sampled_from(["lr", "learning_rate", "opt/lr", "a.b", "a_b", "steps", "step", "decay_steps", "x", "Momentum"])
)


@given(source=ANY)
def test_names_differ_from_each_other_and_from_columns(source: list[str]) -> None:
    names = hyperparameter_names(source)
    assert list(names) == list(dict.fromkeys(source))
    assert len(set(names.values())) == len(names)
    assert not set(names.values()) & {*TRIALS.names, *MEASUREMENTS.names, "decay_steps"}
    assert not any("." in name for name in names.values())


def test_a_learning_rate_is_called_lr_whatever_its_spelling() -> None:
    assert hyperparameter_names(["learning_rate", "momentum"]) == {"learning_rate": "lr", "momentum": "momentum"}
    assert hyperparameter_names(["base_lr", "lr"]) == {"base_lr": "base_lr", "lr": "lr"}
    assert hyperparameter_names(["optimizer/lr", "wd"]) == {"optimizer/lr": "lr", "wd": "wd"}
    assert hyperparameter_names(["alpha", "lr"], {"alpha": "lr"})["alpha"] == "lr"


def test_a_metric_keeps_its_name_unless_it_is_a_column_of_ours() -> None:
    assert metric_names(["val/error", "examples"]) == {"val/error": "val/error", "examples": "examples_in_source"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sqlite:///a/study.db", "study"),
        ("runs/my run (2).csv", "my-run-2"),
        ("/x/../..", "other"),
        ("", "other"),
        ("a/" + "x" * 300, "x" * 100),
        ("<b>", "b"),
    ],
)
def test_a_folder_s_name_is_plain(source: str, name: str) -> None:
    assert experiment_name(source, "other") == name


Value = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text('ab é<"\n', max_size=5))


@settings(deadline=None)
@given(st.lists(Value, min_size=1, max_size=8))
def test_a_column_of_anything_fits_into_a_table(values: list[Any]) -> None:
    column = one_type(values)
    assert len({type(value) for value in column if value is not None}) <= 1
    assert all(not (isinstance(value, float) and not math.isfinite(value)) for value in column)
    table = to_arrow(TRIALS, [trial_row(str(i), 1, number=i, x=value) for i, value in enumerate(column)])
    assert table["x"].null_count == sum(value is None for value in column)


def test_numbers_that_no_table_holds_become_texts() -> None:
    assert one_type([float("inf"), 1.0]) == ["inf", "1.0"]
    assert one_type([2**70, 1]) == [str(2**70), "1"]
    assert one_type([float("nan"), 1]) == [None, 1]


def test_settings_that_no_run_has_are_no_columns() -> None:
    assert setting_columns([{"a": None, "b": 1}, {"a": None, "b": 2}], Notes()) == {"b": [1, 2]}
    assert setting_columns([], Notes()) == {}


def test_names_keep_clear_of_ours() -> None:
    names = our_names(["opt/learning_rate", "schedule", "steps", "decay_steps", "a.b"])
    assert names["opt/learning_rate"] == "lr" and names["schedule"] == "lr_schedule" and names["a.b"] == "a_b"
    assert not set(names.values()) & (set(TRIALS.names) | {"decay_steps", "schedule"})
    assert our_names(["schedule", "lr_schedule"])["lr_schedule"] == "lr_schedule"
    assert our_names(["x"], {"x": "lr"}) == {"x": "lr"}


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


Values = st.one_of(
    st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=6),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6),
    st.lists(st.text('ab é<"\n', max_size=6), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=1, max_size=6),
)


@settings(deadline=None)
@given(values=Values, name=st.sampled_from(["x", "lr", "momentum", "schedule_"]), share=st.integers(1, 6))
def test_every_value_lies_in_the_box_and_has_a_coordinate(values: list[Any], name: str, share: int) -> None:
    column = one_type(values)
    whole = tried_space({name: column})
    for space, tried in ((whole, column), (tried_space({name: column[:share]}, whole), column[:share])):
        dimension = space.root[name]
        for value in tried:
            assert dimension.contains(value)
            assert isinstance(dimension, Fixed) or 0 <= dimension.to_unit(value) <= 1


@pytest.mark.parametrize(
    ("name", "values", "scale"),
    [
        ("lr", [0.001, 0.1], "log"),
        ("width", [16, 256], "log"),
        ("layers", [1, 2, 4], "integer"),
        ("dropout", [0.0, 0.5], "linear"),
        ("momentum", [0.0, 0.9], "reverse_log"),
        ("act", ["relu", "tanh"], "choice"),
        ("wd", [0.1, 0.1], "fixed"),
    ],
)
def test_scales_are_those_that_people_choose(name: str, values: list[Any], scale: str) -> None:
    assert tried_space({name: values}).root[name].scale == scale


def test_what_some_trials_lack_is_no_dimension() -> None:
    assert tried_space({"x": [1, None], "y": []}).root == {}


def test_texts_that_look_like_a_dimension_are_read_back_as_texts() -> None:
    space = tried_space({"x": ["log from 0.1 to 1"] * 2, "y": ["linear from 0 to 1", "choice of a, b"]})
    again = SearchSpace.model_validate(read_yaml(str(space.model_dump(mode="json")), "here"))
    assert again == space


def test_a_study_keeps_the_scale_of_all_studies() -> None:
    whole = tried_space({"lr": [0.001, 1.0]})
    assert tried_space({"lr": [0.1, 0.2]}, whole).root["lr"].scale == "log"
