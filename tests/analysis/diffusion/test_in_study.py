"""The movement of the weights in a run's studies: its law, its speed, in words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.analyze import analyze
from analysis.diffusion.in_study import weight_movement
from tests.analysis.probed_runs import SIZES, probed_run


def test_a_movement_with_log_t_is_found_at_every_batch_size(tmp_path: Path) -> None:
    movement = analyze(probed_run(tmp_path / "run", ["weight_distance"])).weight_distance
    assert movement is not None
    assert [(found.batch_size, found.law) for found in movement.movements] == [(size, "log") for size in SIZES]
    assert movement.movements[0].log.slope == pytest.approx(3.0)
    assert movement.slopes is not None and movement.slopes.exponent == pytest.approx(0.0, abs=1e-3)
    assert movement.sentences[0].startswith("The weights move away from their start with log t at 4 of 4 batch sizes.")
    assert "Under log t their speed goes with the batch size to the power" in movement.sentences[1]
    assert len(movement.sentences) == 2 + len(SIZES)


def test_too_few_measurements_say_so_in_words() -> None:
    rows = pd.DataFrame({"trial_id": ["a"] * 3, "batch_size": 8, "step": [1, 2, 3], "weight_distance": [1.0, 2.0, 3.0]})
    movement = weight_movement(rows)
    assert movement is not None and movement.movements == () and movement.slopes is None
    assert movement.sentences[0].startswith("At no batch size is it identified")
    assert "cannot be told apart from 3 measurements" in movement.sentences[-1]


def test_without_distances_there_is_nothing() -> None:
    rows = pd.DataFrame({"trial_id": ["a"], "batch_size": [8], "step": [0], "weight_distance": [0.0]})
    assert weight_movement(rows) is None
