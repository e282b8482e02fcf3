"""What every workload promises, checked on each of ours."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from bcrit.tuner.workloads.protocol import Workload
from bcrit.tuner.workloads.registry import WORKLOADS, load_workload
from tests.scripted import ExactHyperbola
from tests.tuner.workloads.files import write_idx, write_text

_FOLDER = tempfile.TemporaryDirectory()  # gone at the end of the process
_PLACE = Path(_FOLDER.name)
write_idx(_PLACE / "pictures", n=80)
write_text(_PLACE / "words.txt", lines=60)
_PICTURES, _WORDS = (
    {"source": str(_PLACE / name), "cache": str(_PLACE / "cache")} for name in ("pictures", "words.txt")
)

MADE = {
    "image_classifier": load_workload("image_classifier", {"data": _PICTURES, "model": "fc_8"}),
    "language_model": load_workload(
        "language_model",
        {"data": _WORDS, "model": {"name": "lstm", "embedding": 4, "hidden": 8}, "sequence_length": 8},
    ),
    "autoencoder": load_workload(
        "autoencoder",
        {"data": _PICTURES, "model": {"name": "vae", "filters": [2], "hidden": 4, "code": 2}},
    ),
    "digits_mlp": load_workload("digits_mlp", {}),
    "policy_gradient": load_workload(
        "policy_gradient", {"rollout_length": 4, "evaluation_episodes": 2, "evaluation_steps": 50}
    ),
    "noisy_quadratic": load_workload("noisy_quadratic", {"dimensions": 20, "evaluation_noise": 0.1, "seed_noise": 0.1}),
    "scripted": load_workload("tests.scripted:ExactHyperbola", {}),
}
LINEAR: dict[str, Value] = {"lr": 0.05, "momentum": 0.9, "schedule": "linear", "end_factor": 0.1, "decay_steps": 10}


def test_every_built_in_workload_is_checked_here() -> None:
    assert set(WORKLOADS) < set(MADE)


@pytest.mark.parametrize("optimizer", NoisyQuadratic.optimizers)
@pytest.mark.parametrize("workload", MADE.values(), ids=MADE)
class TestContract:
    def settings(self, optimizer: str, seed: int = 1) -> Settings:
        return Settings(32, seed, optimizer, LINEAR)

    def test_evaluation_gives_the_declared_metrics_as_numbers(self, workload: Workload, optimizer: str) -> None:
        metrics = workload.begin(self.settings(optimizer)).evaluate()
        assert set(metrics) == set(workload.metrics)
        assert all(type(value) is float and math.isfinite(value) for value in metrics.values())

    def test_the_same_settings_give_the_same_curve(self, workload: Workload, optimizer: str) -> None:
        curves = []
        for chunks in ([1] * 12, [5, 7], [5, 7]):
            run = workload.begin(self.settings(optimizer))
            for chunk in chunks:
                run.train(chunk)
                run.evaluate()
            curves.append(run.evaluate())
        assert curves[0] == curves[1] == curves[2]

    def test_runs_do_not_share_anything(self, workload: Workload, optimizer: str) -> None:
        first, second = (workload.begin(self.settings(optimizer)) for _ in range(2))
        first.train(3)
        workload.begin(self.settings(optimizer, seed=2)).train(2)
        second.train(3)
        assert first.evaluate() == second.evaluate()


def test_the_scripted_workload_is_the_one_imported() -> None:
    assert isinstance(MADE["scripted"], ExactHyperbola)
