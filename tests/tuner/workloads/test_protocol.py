"""What every workload promises, checked on each of ours."""

from __future__ import annotations

import math

import pytest

from search_spaces.dimensions import Value
from search_spaces.presets import OPTIMIZERS
from tests.scripted import ExactHyperbola
from tuner.training.settings import Settings
from tuner.workloads.protocol import Workload
from tuner.workloads.registry import WORKLOADS, load_workload

MADE = {
    "digits_mlp": load_workload("digits_mlp", {}),
    "noisy_quadratic": load_workload("noisy_quadratic", {"dimensions": 20, "evaluation_noise": 0.1, "seed_noise": 0.1}),
    "scripted": load_workload("tests.scripted:ExactHyperbola", {}),
}
LINEAR: dict[str, Value] = {"lr": 0.05, "momentum": 0.9, "schedule": "linear", "end_factor": 0.1, "decay_steps": 10}


def test_every_built_in_workload_is_checked_here() -> None:
    assert set(WORKLOADS) < set(MADE)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
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
