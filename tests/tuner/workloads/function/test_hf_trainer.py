"""The example around the Trainer of Hugging Face: a short trial in its own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcrit.search_spaces.load import read_yaml
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Measurement, Trial
from bcrit.tuner.workloads.function.workload import TrainingFunction, start

pytest.importorskip("transformers", reason="pip install transformers accelerate")
pytest.importorskip("accelerate", reason="pip install transformers accelerate")
ROOT = Path(__file__).parents[4]


def test_the_trainer_s_curve_falls_on_the_grid_and_repeats_itself() -> None:
    experiment = check_experiment(read_yaml((ROOT / "examples/hf_trainer.yaml").read_text(), "hf"), "hf")
    settings, limits = Settings(64, 5, "own", {"lr": 0.01}), Limits(12, False, (), 0.5)
    curves: list[list[Measurement]] = []
    for _ in range(2):
        function = TrainingFunction(experiment.workload.name, {})
        trial = Trial(
            lambda: start(function, str(ROOT), settings, "val_loss", limits, experiment.resources, 60),  # noqa: B023
            experiment.target,
            limits,
        )
        made: list[Measurement] = []
        while trial.ending is None:
            made += trial.advance(60)
        assert trial.ending.message is None
        curves.append(made)
    assert [m.step for m in curves[0]] == [0, 1, 2, 3, 4, 6, 9, 12]
    assert curves[0][-1].metrics["val_loss"] < 0.8 * curves[0][0].metrics["val_loss"]
    assert [m.metrics for m in curves[0]] == [m.metrics for m in curves[1]]
