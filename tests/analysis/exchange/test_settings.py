"""Hyperparameter columns of one type, under names that are ours and different."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.arrow_tables import to_arrow
from bcrit.analysis.exchange.run import Notes, one_type, our_names, setting_columns, trial_row
from bcrit.search_spaces.tables import TRIALS

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
