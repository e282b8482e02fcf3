"""Crossings of many targets in one pass: the same as the one rule, trial by trial."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.one_pass import Chunk
from analysis.targets.crossings import Crossings, crossings, in_order
from search_spaces.target import Direction, Target
from tests.analysis.folders import Run, experiment, write_run

VALUES = st.one_of(st.integers(0, 6).map(float), st.just(math.nan), st.just(math.inf), st.just(-math.inf))
CURVES = st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=5)


def targets(direction: Direction, *thresholds: float) -> list[Target]:
    return [Target(metric="loss", threshold=threshold, direction=direction) for threshold in thresholds]


def chunks(curves: list[list[float]], first_step: int, cut: int) -> list[Chunk]:
    """Every curve's first `cut` evaluations, then the rest."""
    found = []
    for part in (slice(0, cut), slice(cut, None)):
        rows = [
            (trial, first_step + 3 * place, 0 if place == 0 else first_step + 3 * (place - 1), value)
            for trial, curve in enumerate(curves)
            for place, value in list(enumerate(curve))[part]
        ]
        if rows:
            trial, step, before, value = (np.array(column) for column in zip(*rows, strict=True))
            starts = np.concatenate([[0], np.flatnonzero(np.diff(trial)) + 1])
            found.append(Chunk(trial, starts, step, before, value.astype(float), None))
    return found


@settings(max_examples=300, deadline=None)
@given(CURVES, st.sampled_from(list(Direction)), st.sampled_from([0, 3]), st.integers(0, 12))
def test_the_one_rule_is_the_naive_twin(
    curves: list[list[float]], direction: Direction, first_step: int, cut: int
) -> None:
    found = Crossings.of(targets(direction, 2.0, 3.0, 3.5, 5.0), len(curves))
    for chunk in chunks(curves, first_step, cut):
        found.take(chunk)
    for trial, curve in enumerate(curves):
        evaluations = [(first_step + 3 * place, value) for place, value in enumerate(curve)]
        for column, target in enumerate(found.targets):
            twin = target.first_crossing(evaluations)
            expected = (math.nan, math.nan) if twin is None else (twin.steps, twin.steps_low)
            assert (found.steps[trial, column], found.steps_low[trial, column]) == pytest.approx(expected, nan_ok=True)
        counted = [value for step, value in evaluations if step > 0 and not math.isnan(value)]
        best = (min if direction is Direction.MINIMIZE else max)(counted, default=math.nan)
        assert found.best[trial] == pytest.approx(best, nan_ok=True)


def test_targets_stand_in_order_of_strictness_without_repeats() -> None:
    down = in_order(targets(Direction.MINIMIZE, 1.0, 3.0, 2.0, 3.0))
    assert [target.threshold for target in down] == [3.0, 2.0, 1.0]
    up = in_order(targets(Direction.MAXIMIZE, 1.0, 3.0, 2.0))
    assert [target.threshold for target in up] == [1.0, 2.0, 3.0]


def test_a_trial_may_straddle_parts_and_jump_over_several_targets(tmp_path: Path) -> None:
    runs = {
        "a": Run(8, [(0, 5.0), (2, 4.0), (4, 0.5)]),
        "b": Run(8, [(0, 0.1), (1, 9.0), (5, 2.5), (6, 1.5)]),
    }
    folder = write_run(tmp_path / "run", experiment([8]), runs, parts=3)
    trials = pd.DataFrame({"trial_id": ["a", "b"]})
    found = crossings(folder, trials, targets(Direction.MINIMIZE, 3.0, 2.0, 1.0))
    assert found.steps.tolist() == [[4, 4, 4], [5, 6, pytest.approx(math.nan, nan_ok=True)]]
    assert found.steps_low.tolist() == [[2, 2, 2], [1, 5, pytest.approx(math.nan, nan_ok=True)]]
    assert found.best.tolist() == [0.5, 1.5]
    assert found.at(targets(Direction.MINIMIZE, 2.0)[0]) == 1


def test_rows_that_come_in_the_wrong_order_make_no_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curves = {f"t{n}": [(s, float(rng.random())) for s in range(1, 40)] for n in range(5)}
    trials = pd.DataFrame({"trial_id": list(curves)})
    wanted = targets(Direction.MINIMIZE, 0.5, 0.1, 0.02)
    good = write_run(tmp_path / "good", experiment([8]), {name: Run(8, curve) for name, curve in curves.items()})
    spec = experiment([8])
    bad = write_run(tmp_path / "bad", spec, {name: Run(8, curve[20:]) for name, curve in curves.items()})
    from search_spaces.tables import MEASUREMENTS
    from tests.analysis.folders import measurement

    rows = [measurement(n, Run(8, c), s, v, spec) | {"loss": v} for n, c in curves.items() for s, v in c[:20]]
    bad.append(MEASUREMENTS, rows, 1)
    one, two = crossings(good, trials, wanted), crossings(bad, trials, wanted)
    np.testing.assert_array_equal(one.steps, two.steps)
    np.testing.assert_array_equal(one.steps_low, two.steps_low)
    np.testing.assert_array_equal(one.best, two.best)
