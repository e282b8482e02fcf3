"""Best values within budgets: the same as looking at each trial's curve."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.budgets.best_within import BestWithin
from bcrit.analysis.budgets.resources import Resource
from bcrit.analysis.records.one_pass import Chunk, read_measurements
from bcrit.search_spaces.target import Direction
from tests.analysis.folders import SECONDS, Made, experiment, write_run

BUDGETS = {Resource.STEPS: (3.0, 5.0, 9.0), Resource.EXAMPLES: (20.0, 40.0), Resource.HOURS: (4 * SECONDS / 3600, 1.0)}
BATCH = np.array([4.0, 8.0, 16.0])
VALUES = st.one_of(st.floats(-3, 3), st.just(math.nan))


def naive(curve: list[tuple[int, float]], batch_size: float, resource: Resource, budget: float, best: str) -> float:
    per_step = {Resource.STEPS: 1.0, Resource.EXAMPLES: batch_size, Resource.HOURS: SECONDS / 3600}[resource]
    seen = [v for s, v in curve if s > 0 and s * per_step <= budget and not math.isnan(v)]
    return (min if best == "minimize" else max)(seen, default=math.nan)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=11), min_size=1, max_size=3), st.sampled_from(list(Direction)))
def test_the_curve_looked_at_is_the_naive_twin(curves: list[list[float]], direction: Direction) -> None:
    rows = [(trial, step, value) for trial, curve in enumerate(curves) for step, value in enumerate(curve)]
    trial, step, value = (np.array(column) for column in zip(*rows, strict=True))
    starts = np.flatnonzero(np.diff(trial, prepend=-1))
    chunk = Chunk(trial, starts, step, np.maximum(step - 1, 0), value.astype(float), SECONDS * step)
    found = BestWithin.of(BUDGETS, direction, BATCH[: len(curves)])
    found.take(chunk)
    for resource, budgets in BUDGETS.items():
        values = found.value(resource)
        for number, curve in enumerate(curves):
            for place, budget in enumerate(budgets):
                expected = naive(list(enumerate(curve)), BATCH[number], resource, budget, direction)
                assert values[number, place] == pytest.approx(expected, nan_ok=True)


def test_a_budget_is_inside_its_limit_and_trials_may_straddle_parts(tmp_path: Path) -> None:
    runs = {"a": Made(8, [(0, 0.1), (3, 2.0), (5, 1.0)]), "b": Made(8, [(2, 3.0), (4, 4.0), (10, 0.5)])}
    folder = write_run(tmp_path / "run", experiment([8]), runs, parts=4)
    found = BestWithin.of(BUDGETS, Direction.MINIMIZE, np.array([8.0, 8.0]))
    read_measurements(folder, ["a", "b"], "loss", [found], timed=True)
    assert found.value(Resource.STEPS).tolist() == [[2.0, 1.0, 1.0], [3.0, 3.0, 3.0]]
    assert found.value(Resource.EXAMPLES)[0].tolist() == [pytest.approx(math.nan, nan_ok=True), 1.0]
    assert found.value(Resource.HOURS)[1].tolist() == [3.0, 0.5]
    found.forget(np.array([1]))
    assert np.isnan(found.value(Resource.STEPS)[1]).all() and found.value(Resource.STEPS)[0, 0] == 2.0


def test_time_that_was_not_recorded_is_in_no_budget() -> None:
    found = BestWithin.of({Resource.HOURS: (1.0,)}, Direction.MINIMIZE, np.array([8.0]))
    one = np.array([0])
    found.take(Chunk(one, one, np.array([1]), one, np.array([2.0]), np.array([math.nan])))
    assert np.isnan(found.value(Resource.HOURS)).all()
    spent = Resource.HOURS.spent(pd.DataFrame({"train_seconds": [0.0, 7200.0]}))
    assert spent.tolist() == [pytest.approx(math.nan, nan_ok=True), 2.0]
