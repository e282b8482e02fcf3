"""What a source yields fits beside ours: names, types, spaces, notes."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.exports import axis_of, configs_of
from bcrit.analysis.exchange.run import (
    Notes,
    common_space,
    experiment_name,
    fitted,
    hyperparameter_names,
    interval,
    listed,
    metric_names,
    one_type,
    our_names,
    setting_columns,
    trial_row,
    tried_space,
    uniform,
)
from bcrit.search_spaces.dimensions import Fixed, Linear, Log
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

WORDS = ["lr", "learning_rate", "opt/lr", "a.b", "a_b", "steps", "step", "decay_steps", "x", "Momentum", "schedule"]


@settings(deadline=None)
@given(source=st.lists(st.sampled_from(WORDS)))
def test_names_differ_from_each_other_and_from_columns(source: list[str]) -> None:
    for names in (hyperparameter_names(source), our_names(source)):
        assert list(names) == list(dict.fromkeys(source))
        assert len(set(names.values())) == len(names)
        assert not set(names.values()) & {*TRIALS.names, *MEASUREMENTS.names, "decay_steps"}
        assert not any("." in name for name in names.values())
    assert "schedule" not in names.values()


@pytest.mark.parametrize(
    ("source", "given_names", "names"),
    [
        (["learning_rate", "momentum"], {}, ["lr", "momentum"]),
        (["base_lr", "lr"], {}, ["base_lr", "lr"]),
        (["optimizer/lr", "wd"], {}, ["lr", "wd"]),
        (["alpha", "lr"], {"alpha": "lr"}, ["lr", "lr_in_source"]),
        (["opt/learning_rate", "schedule", "steps"], {}, ["lr", "lr_schedule", "steps_in_source"]),
        (["schedule", "lr_schedule"], {}, ["schedule", "lr_schedule"]),
    ],
)
def test_a_learning_rate_is_called_lr_whatever_its_spelling(
    source: list[str], given_names: dict[str, str], names: list[str]
) -> None:
    assert list(our_names(source, given_names).values()) == names


def test_a_metric_keeps_its_name_unless_it_is_a_column_of_ours() -> None:
    assert metric_names(["val/error", "examples"]) == {"val/error": "val/error", "examples": "examples_in_source"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        *(("sqlite:///a/study.db", "study"), ("runs/my run (2).csv", "my-run-2"), ("/x/../..", "other")),
        *(("", "other"), ("a/" + "x" * 300, "x" * 100), ("<b>", "b")),
    ],
)
def test_a_folder_s_name_is_plain(source: str, name: str) -> None:
    assert experiment_name(source, "other") == name


def test_long_lists_of_long_names_stay_readable() -> None:
    assert listed([]) == "nothing"
    text = listed(["x" * 500] * 100)
    assert text.endswith(" and 60 more") and len(text) < 5000


def test_notes_add_up_and_keep_the_first_example() -> None:
    notes = Notes()
    for what, count, example in (("Left out", 2, "a"), ("Left out", 3, "b"), ("Nothing", 0, "c"), ("Once", 1, "d")):
        notes.add(what, count, example)
    notes.add("Assumed")
    assert notes.sentences() == ["Left out (5; the first: a)", "Once (1; d)", "Assumed"]


Cell = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text('ab é<"\n', max_size=5))


@settings(deadline=None)
@given(st.lists(Cell, min_size=1, max_size=8))
def test_a_column_of_anything_fits_into_a_table_and_a_box(values: list[Any]) -> None:
    column = one_type(values)
    assert len({type(value) for value in column if value is not None}) <= 1
    assert all(not (isinstance(value, float) and not math.isfinite(value)) for value in column)
    table = uniform([trial_row(str(i), 1, x=value) for i, value in enumerate(column)])
    assert table["x"].null_count == sum(value is None for value in column)


def test_numbers_that_no_table_holds_become_texts() -> None:
    assert one_type([float("inf"), 1.0]) == ["inf", "1.0"]
    assert one_type([2**70, 1]) == [str(2**70), "1"]
    assert one_type([float("nan"), 1]) == [None, 1]


def test_a_hyperparameter_that_is_a_number_here_and_a_word_there_is_a_word() -> None:
    table = uniform([trial_row("a", 4, x=1, y=1, z=True), trial_row("b", 4, x="one", y=0.5, z=False)])
    assert table["x"].to_pylist() == ["1", "one"] and table["y"].to_pylist() == [1.0, 0.5]
    assert table["z"].to_pylist() == [True, False]


def test_settings_that_no_run_has_are_no_columns() -> None:
    assert setting_columns([{"a": None, "b": 1}, {"a": None, "b": 2}], Notes()) == {"b": [1, 2]}
    assert setting_columns([], Notes()) == {}


SPACE = SearchSpace.model_validate(
    {"lr": "log from 0.01 to 1", "m": "reverse_log from 0 to 0.9", "n": "integer from 1 to 4", "c": "choice of a, b"}
)


@pytest.mark.parametrize(("scale", "low", "high"), [("log", 0.0, 1.0), ("reverse_log", 0.5, 1.0)], ids=["log", "rev"])
def test_a_scale_that_its_ends_do_not_allow_is_linear_and_said(scale: str, low: float, high: float) -> None:
    notes = Notes()
    assert interval(scale, low, high, "8: lr", notes) == Linear(low=low, high=high)
    assert "taken as linear" in notes.sentences()[0]
    assert interval(scale, 0.5, 0.5, "", Notes()) == Fixed(value=0.5)


def test_a_space_keeps_what_all_points_have() -> None:
    notes = Notes()
    points: list[dict[str, float | str | None]] = [
        {"lr": 0.1, "m": 0.5, "n": 2, "c": "a"},
        {"lr": 0.2, "m": None, "n": 9, "c": "z"},
    ]
    space = fitted(SPACE.root, points, "batch size 8", notes)
    assert list(space.root) == ["lr", "n", "c"] and all(space.to_unit(point) for point in points)
    assert "'m' is left out" in notes.sentences()[0] and "'c'" in notes.sentences()[1]


def test_the_common_space_is_as_wide_as_the_widest() -> None:
    other = SearchSpace.model_validate({"lr": "log from 0.1 to 5", "m": "linear from 0 to 1", "c": "choice of b, d"})
    common = common_space([SPACE, other])
    assert common.root["lr"] == Log(low=0.01, high=5)
    assert list(common.root) == ["lr", "c"] and list(common.axes["c"].options) == ["a", "b", "d"]  # type: ignore[union-attr]
    assert common_space([]).axes == {}


def test_configurations_out_and_back_are_the_same_dimensions() -> None:
    assert {name: axis_of(name, of, "", Notes()) for name, of in configs_of(SPACE).items()} == SPACE.root


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({}, "describe no dimension"),
        ({"type": "DISCRETE", "feasible_points": []}, "describe no dimension"),
        ({"type": "DOUBLE", "min_value": 0.0, "max_value": float("inf")}, "describe no dimension"),
        ({"min_value": 0.0, "max_value": 1.0, "scale": "CUBIC"}, "not known, taken as linear: 'CUBIC'"),
    ],
    ids=["empty", "no points", "infinite", "unknown scale"],
)
def test_what_a_configuration_does_not_tell_is_said(config: dict[str, object], note: str) -> None:
    notes = Notes()
    axis_of("x", config, "batch size 8", notes)
    assert any(note in sentence for sentence in notes.sentences())


@settings(deadline=None)
@given(
    values=st.one_of(
        *(
            st.lists(value, min_size=1, max_size=6)
            for value in (st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6), st.text('é<"\n'), st.booleans())
        )
    ),
    name=st.sampled_from(["x", "lr", "momentum", "schedule_"]),
    share=st.integers(1, 6),
)
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
        *(("lr", [0.001, 0.1], "log"), ("width", [16, 256], "log"), ("layers", [1, 2, 4], "integer")),
        *(("dropout", [0.0, 0.5], "linear"), ("momentum", [0.0, 0.9], "reverse_log")),
        *(("act", ["relu", "tanh"], "choice"), ("wd", [0.1, 0.1], "fixed")),
    ],
)
def test_scales_are_those_that_people_choose(name: str, values: list[Any], scale: str) -> None:
    assert tried_space({name: values}).root[name].scale == scale


def test_a_study_keeps_the_scale_of_all_studies_and_no_dimension_that_a_trial_lacks() -> None:
    assert tried_space({"lr": [0.1, 0.2]}, tried_space({"lr": [0.001, 1.0]})).root["lr"].scale == "log"
    assert tried_space({"x": [1, None], "y": []}).root == {}


def test_texts_that_look_like_a_dimension_are_read_back_as_texts() -> None:
    space = tried_space({"x": ["log from 0.1 to 1"] * 2, "y": ["linear from 0 to 1", "choice of a, b"]})
    assert SearchSpace.model_validate(read_yaml(str(space.model_dump(mode="json")), "here")) == space
