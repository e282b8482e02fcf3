"""Budgets: what users may give, and the default grid."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.budgets.resources import N_BUDGETS, Resource, default_budgets, read_budgets, that_count
from bcrit.search_spaces.problems import InputError


def trials(*rows: tuple[int, int], seconds: float = 36.0) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["batch_size", "steps"]).assign(stage="search", outcome="exhausted")
    return frame.assign(examples=frame["batch_size"] * frame["steps"], train_seconds=seconds * frame["steps"])


def test_given_budgets_are_sorted_and_only_those() -> None:
    found = read_budgets({Resource.STEPS: [9, 3, 9], Resource.EXAMPLES: [], Resource.HOURS: [0.5]})
    assert found == {Resource.STEPS: (3, 9), Resource.HOURS: (0.5,)}


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_no_positive_number_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="--hours: a budget is a positive number"):
        read_budgets({Resource.HOURS: [value]})


def test_the_largest_default_budget_is_one_that_every_study_used() -> None:
    table = trials((8, 1600), (8, 100), (16, 800), (32, 400))
    found = default_budgets(table, np.zeros(len(table), dtype=bool))
    assert {resource: budgets[-1] for resource, budgets in found.items()} == {
        "steps": 400,
        "examples": 12_000,
        "hours": 4,
    }
    assert all(len(budgets) == N_BUDGETS and list(budgets) == sorted(budgets) for budgets in found.values())


def test_where_trials_stop_at_the_target_the_second_study_to_reach_ends_the_grid() -> None:
    table = trials((8, 1600), (8, 900), (16, 500), (32, 400))
    found = default_budgets(table, np.array([False, True, True, False]))
    assert found[Resource.STEPS][-1] == 400
    found = default_budgets(table, np.array([False, True, True, True]))
    assert found[Resource.STEPS][-1] == 400 and found[Resource.EXAMPLES][-1] == 8000


def test_re_runs_count_only_where_nothing_was_searched() -> None:
    table = trials((8, 1600), (8, 90), (16, 800), (16, 70), (32, 50))
    table["stage"] = ["search", "confirm", "search", "confirm", "confirm"]
    table["outcome"] = ["reached", "reached", "failed", "reached", "reached"]
    assert that_count(table).tolist() == [True, False, False, True, True]


def test_re_runs_that_stop_at_the_target_do_not_end_the_grid_of_a_search_that_goes_on() -> None:
    table = trials((8, 1600), (8, 90), (16, 800), (16, 70))
    table["stage"] = ["search", "confirm"] * 2
    assert default_budgets(table, np.array([False, True] * 2))[Resource.STEPS][-1] == 800


def test_one_study_or_no_time_has_no_budgets() -> None:
    assert default_budgets(trials((8, 100)), np.array([False])) == {}
    assert Resource.HOURS not in default_budgets(trials((8, 100), (16, 90), seconds=0), np.array([False, False]))


def test_very_few_steps_stay_whole_and_positive() -> None:
    assert default_budgets(trials((8, 2), (16, 3)), np.array([False, False]))[Resource.STEPS] == (1.0, 2.0)
