"""Crossings of many targets in one pass: the same as the one rule, trial by trial."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.records.one_pass import Chunk
from bcrit.analysis.targets.crossings import Crossings, crossings, in_order
from bcrit.search_spaces.target import Direction, Target
from tests.analysis.folders import Made, experiment, write_run

VALUES = st.one_of(st.integers(0, 6).map(float), st.sampled_from([None, math.nan, math.inf, -math.inf]))
CURVES = st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=5)


def targets(direction: Direction, *thresholds: float) -> list[Target]:
    return [Target(metric="loss", threshold=threshold, direction=direction) for threshold in thresholds]


def chunks(curves: list[list[float | None]], first_step: int, cut: int) -> list[Chunk]:
    """Every curve's first `cut` rows, then the rest; rows without a value are in no chunk."""
    found = []
    for part in (slice(0, cut), slice(cut, None)):
        rows = []
        for trial, curve in enumerate(curves):
            known = [first_step + 3 * place for place, value in enumerate(curve) if value is not None]
            for place, value in list(enumerate(curve))[part]:
                step = first_step + 3 * place
                if value is not None:
                    rows.append((trial, step, max((other for other in known if other < step), default=0), value))
        if rows:
            trials, steps, before, values = (np.array(column) for column in zip(*rows, strict=True))
            starts = np.concatenate([[0], np.flatnonzero(np.diff(trials)) + 1])
            found.append(Chunk(trials, starts, steps, before, values.astype(float), None))
    return found


@settings(max_examples=300, deadline=None)
@given(CURVES, st.sampled_from(list(Direction)), st.sampled_from([0, 3]), st.integers(0, 12))
def test_the_one_rule_is_the_naive_twin(
    curves: list[list[float | None]], direction: Direction, first_step: int, cut: int
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
        best = found.targets[0].best(evaluations)
        assert found.best[trial] == pytest.approx(math.nan if best is None else best, nan_ok=True)


def test_targets_stand_in_order_of_strictness_without_repeats() -> None:
    down = in_order(targets(Direction.MINIMIZE, 1.0, 3.0, 2.0, 3.0))
    assert [target.threshold for target in down] == [3.0, 2.0, 1.0]
    up = in_order(targets(Direction.MAXIMIZE, 1.0, 3.0, 2.0))
    assert [target.threshold for target in up] == [1.0, 2.0, 3.0]


def test_a_trial_may_straddle_parts_and_jump_over_several_targets(tmp_path: Path) -> None:
    runs = {
        "a": Made(8, [(0, 5.0), (2, 4.0), (4, 0.5)]),
        "b": Made(8, [(0, 0.1), (1, 9.0), (5, 2.5), (6, 1.5)]),
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
    good = write_run(tmp_path / "good", experiment([8]), {name: Made(8, curve) for name, curve in curves.items()})
    spec = experiment([8])
    bad = write_run(tmp_path / "bad", spec, {name: Made(8, curve[20:]) for name, curve in curves.items()})
    from bcrit.search_spaces.tables import MEASUREMENTS
    from tests.analysis.folders import measurement

    rows = [measurement(n, Made(8, c), s, v, spec) | {"loss": v} for n, c in curves.items() for s, v in c[:20]]
    bad.append(MEASUREMENTS, rows, 1)
    one, two = crossings(good, trials, wanted), crossings(bad, trials, wanted)
    np.testing.assert_array_equal(one.steps, two.steps)
    np.testing.assert_array_equal(one.steps_low, two.steps_low)
    np.testing.assert_array_equal(one.best, two.best)


def test_a_metric_that_is_measured_more_rarely_than_another_is_bounded_by_its_own_evaluations(tmp_path: Path) -> None:
    """train_loss every 2 steps, loss every 20: the loss crosses at 220 after 200, not after 218."""
    spec = experiment([8])
    folder = write_run(tmp_path / "run", spec, {"a": Made(8, [(1, 9.0)])})
    from bcrit.search_spaces.tables import MEASUREMENTS

    rows = [
        {"trial_id": "a", "step": s, "examples": 8 * s, "train_seconds": 0.0, "train_loss": 1.0}
        | ({"loss": 0.5 if s > 200 else 2.0} if s % 20 == 0 else {})
        for s in range(2, 302, 2)
    ]
    folder.append(MEASUREMENTS, rows, 1)
    found = crossings(folder, pd.DataFrame({"trial_id": ["a"]}), targets(Direction.MINIMIZE, 1.0))
    assert (found.steps.item(), found.steps_low.item()) == (220, 200)
