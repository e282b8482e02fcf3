"""The sides of a comparison: their numbers, effort and step times, the same of a run and of its table, and labels."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.questions.compare.sides import Side, StepsTable, cautions, named, side_of
from bcrit.analysis.run import Run
from tests.analysis.questions.compare import made_up

RUN = side_of(made_up.run())


def test_a_run_has_the_fits_numbers_with_intervals_and_its_effort_counts_every_trial_and_step() -> None:
    fit, run = RUN.fit, RUN.run
    assert fit is not None and run is not None and RUN.step_times is not None
    for name, estimate in RUN.estimates.items():
        assert estimate.value == getattr(fit, name) and not estimate.why
        assert (estimate.low, estimate.high) == pytest.approx(fit.interval(name))
    spent = {"trials": len(run.trials), "steps": run.trials["steps"].sum()}
    assert RUN.effort == {**spent, "fewest": 2, "most": 2}


def test_a_table_of_a_runs_steps_has_the_runs_numbers() -> None:
    table = side_of(StepsTable("steps.csv", RUN.studies[["batch_size", "steps"]]))
    assert table.estimates == RUN.estimates
    assert (table.target, table.effort, table.step_times, table.stem) == (None, None, None, "steps")


def of_table(**columns: Any) -> Side:
    return side_of(StepsTable("steps.csv", pd.DataFrame(columns)))


def test_repeats_of_a_table_give_an_interval_and_unreached_rows_stay_with_how_far_they_were_trained() -> None:
    studies = of_table(batch_size=[8, 8, 8, 64], steps=[90.0, 100.0, 130.0, 40.0]).studies
    assert studies["steps"].tolist() == [100, 40]
    assert (studies["steps_low"][0], studies["steps_high"][0], studies["steps_level"][0]) == (90, 130, 0.75)
    assert math.isnan(studies["steps_low"][1])
    found = of_table(batch_size=[8, 16, 32], steps=[np.nan, 50.0, 30.0], max_steps=[500, np.nan, np.nan])
    assert (len(found.reached), found.range, found.studies["max_steps"][0]) == (2, (16.0, 32.0), 500)


def test_what_a_table_lacks_is_known() -> None:
    single = of_table(batch_size=[8.0], steps=[3.0])
    assert single.estimates == {} and single.fit is None and "only one did" in str(single.no_fit)
    rows = made_up.steps_table(100, 64).assign(step_seconds=[0.1, *[np.nan] * 8])  # step times need two batch sizes
    assert side_of(StepsTable("steps.csv", rows)).step_times is None
    assert side_of(StepsTable("steps.csv", rows.assign(step_seconds=0.1))).step_times is not None
    flat = of_table(batch_size=[8, 16, 32, 64], steps=[10, 11, 10.5, 11])  # the limit of a curve is no value
    assert flat.estimates["e_min"].value is None and flat.estimates["b_crit"].value is None
    assert flat.estimates["b_crit"].why == "not identified"


RUNS = {
    "sgd": made_up.run("a", "sgd"),
    "momentum": made_up.run("b", "momentum"),
    "stricter": made_up.run("a", "sgd", seed=1, target="loss < 0.5"),
    "other model": made_up.run("c", "sgd", seed=1, workload={"name": "net", "width": 8}),
    "again": made_up.run("a", "sgd", seed=1),
    "renamed": made_up.run("z", "sgd", seed=1),
}
TABLE = made_up.table("some/steps", 100, 64)


def labels(*sources: Run | StepsTable) -> list[str]:
    return [run.label for run in named([side_of(source) for source in sources])]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["sgd", "momentum"], ["sgd", "momentum"]),
        (["sgd", "stricter"], ["loss < 1", "loss < 0.5"]),
        (["sgd", "other model"], ["toy", "net width 8"]),
        (["sgd", "momentum", "stricter"], ["sgd, loss < 1", "momentum, loss < 1", "sgd, loss < 0.5"]),
        (["sgd", "renamed"], ["a", "z"]),
        (["sgd", "again"], ["a (a-sgd-0)", "a (a-sgd-1)"]),
        (["sgd", "again", "momentum"], ["sgd (a, a-sgd-0)", "sgd (a, a-sgd-1)", "momentum"]),
    ],
    ids=lambda value: " and ".join(value),
)
def test_a_label_says_what_differs(names: list[str], expected: list[str]) -> None:
    assert labels(*(RUNS[name] for name in names)) == expected


def test_a_table_is_called_by_its_file() -> None:
    assert labels(RUNS["sgd"], TABLE) == ["a", "steps"]
    assert labels(TABLE, made_up.table("other/steps", 50, 64)) == ["steps (some/steps.csv)", "steps (other/steps.csv)"]


@settings(max_examples=20)
@given(st.lists(st.sampled_from([*RUNS, "table"]), min_size=2, max_size=6))
def test_labels_are_unique_and_not_empty_even_for_the_same_run_twice(names: list[str]) -> None:
    found = labels(*(TABLE if name == "table" else RUNS[name] for name in names))
    assert len(set(found)) == len(found) == len(names) and all(found)


def test_labels_and_values_with_commas_can_be_told_apart() -> None:
    sides = [made_up.labelled(name, made_up.run(**made_up.PLAIN, trials=n)) for name, n in (("t, 12", 2), ("d", 4))]
    assert "(search trials a batch size: t, 12: 2; d: 4)" in cautions(sides)[0]
