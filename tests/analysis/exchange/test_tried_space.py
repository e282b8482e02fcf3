"""The box around what was tried holds everything that was tried."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.run import one_type, tried_space
from bcrit.search_spaces.dimensions import Fixed
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.space import SearchSpace

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
