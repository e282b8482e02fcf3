"""Rows of a tracker's runs: what is a search, what repeats it, and which seed it had."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.logged import LoggedRun, import_logged, measurements_of, stages
from bcrit.analysis.exchange.run import Notes
from tests.analysis.exchange.planted import READING, curve


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), max_size=12))
def test_every_repeat_names_the_first_run_of_its_point(points: list[tuple[int, int]]) -> None:
    found = stages(points)
    for i, (stage, first) in enumerate(found):
        assert first is None or (points[first] == points[i] and points.index(points[i]) == first)
        assert (stage == "confirm") == (first is not None)
        alone = {point for point in points if point[0] == points[i][0]} == {points[i]}
        if stage == "search":
            assert points.index(points[i]) == i
        if alone and points.count(points[i]) > 1:
            assert stage == "confirm"


def test_seeds_that_are_no_whole_numbers_are_numbered() -> None:
    log = pd.DataFrame(curve(16), columns=["step", "val_loss"], dtype=float)
    seeds = [7, "8", "x", None, 2.5, 10**30]
    runs = [LoggedRun(str(i), {"batch_size": 16, "lr": 0.1, "seed": seed}, log) for i, seed in enumerate(seeds)]
    trials = import_logged(runs, READING, "test", "there", Notes()).trials()
    assert trials["seed"].to_pylist() == [7, 8, 2, 3, 4, 5]


def test_runs_without_an_evaluation_have_no_table_of_measurements() -> None:
    row = {"trial_id": "a", "batch_size": 4}
    assert measurements_of([row], [pd.DataFrame({"step": [], "train_seconds": []})]) == []
