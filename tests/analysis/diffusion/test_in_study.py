"""The movement of the weights in a run's studies: its law, its speed, in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.diffusion.in_study import weight_movement
from bcrit.analysis.run import Run
from tests.analysis.probed_runs import SIZES, probed_run


def test_a_movement_with_log_t_is_found_at_every_batch_size(tmp_path: Path) -> None:
    movement = Run(probed_run(tmp_path / "run", ["weight_distance"])).weight_distance
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


@pytest.mark.parametrize(
    ("power", "words"),
    [(0.0, ", lr being the same at all; Hoffer"), (0.5, ", and lr to the power 0.5; Hoffer"), (None, "); Hoffer")],
    ids=["one for all", "root", "not known"],
)
def test_how_lr_went_with_the_batch_size_is_told(power: float | None, words: str) -> None:
    steps = [2**k for k in range(12)]
    rows = pd.concat(
        pd.DataFrame({"trial_id": f"b{size}", "batch_size": size, "step": steps, "weight_distance": np.log1p(steps)})
        for size in SIZES
    )
    rates = None if power is None else {size: 0.1 * size**power for size in SIZES}
    movement = weight_movement(rows, rates)
    assert movement is not None and words in movement.sentences[1]


def test_speeds_are_told_where_no_law_is_followed_too() -> None:
    steps = np.unique(np.geomspace(1, 1000, 40).astype(int))
    bent = (np.log(steps) / 7) ** 2 + np.sin(2 * np.log(steps))  # no straight line in log t, nor in sqrt t
    rows = pd.concat(
        pd.DataFrame({"trial_id": f"b{size}", "batch_size": size, "step": steps, "weight_distance": bent / size**0.5})
        for size in SIZES
    )
    movement = weight_movement(rows)
    assert movement is not None and movement.slopes is None
    assert movement.sentences[1].startswith(
        "The slopes need three batch sizes whose weights move with log t; there are 0."
    )
    assert "Read as log t all the same, their speed goes with the batch size to the power -0.5" in movement.sentences[1]
