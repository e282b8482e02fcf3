"""Runs with a plan: a fixed one is today's run to the bit, others count what they use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from bcrit.search_spaces.options import Probes
from bcrit.tuner.training.batch_schedule import BatchPlan, ByNoise, Fixed, Ramp, TunedRates
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from tests.tuner.landscape.small import Blobs

PLAIN = Settings(
    12, 3, "momentum", {"lr": 0.3, "momentum": 0.9, "schedule": "linear", "end_factor": 0.1, "decay_steps": 9}
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def begin(plan: BatchPlan | None, settings: Settings = PLAIN) -> SupervisedRun:
    return Blobs().begin(replace(settings, batches=plan))


def curve(run: SupervisedRun, steps: int = 15) -> list[Mapping[str, float]]:
    found = []
    for _ in range(steps):
        run.train(1)
        found.append(run.evaluate())
    return found


def test_a_fixed_plan_is_the_plain_run_to_the_bit() -> None:
    """Batches of 12 of 64 examples: over three epochs, of which each leaves 4 out."""
    assert curve(begin(BatchPlan(Fixed(12)))) == curve(begin(None))


def test_a_fixed_plan_with_its_tuned_rate_is_the_plain_run_to_the_bit() -> None:
    constant = replace(PLAIN, hyperparameters={"lr": 0.3, "momentum": 0.9})
    table = TunedRates((6, 12, 24), (0.1, 0.3, 0.4))
    assert curve(begin(BatchPlan(Fixed(12), table), constant)) == curve(begin(None, constant))


def test_micro_batches_change_the_curve_by_rounding_only() -> None:
    ours, plain = curve(begin(BatchPlan(Fixed(12), None, micro_batch=3))), curve(begin(None))
    assert ours != plain
    assert [m["val_loss"] for m in ours] == pytest.approx([m["val_loss"] for m in plain], rel=1e-4)


def test_a_ramp_uses_the_examples_that_it_says() -> None:
    run = begin(BatchPlan(Ramp(((0, 4), (3, 20)))))
    seen = []
    for _ in range(5):
        run.train(1)
        assert run.progress is not None
        seen.append((run.progress.examples, run.progress.batch_size))
    assert seen == [(4, 4), (8, 4), (12, 4), (32, 20), (52, 20)] and begin(None).progress is None


def test_a_plan_by_noise_knows_its_noise_scale_and_depends_on_its_settings_alone() -> None:
    plan = BatchPlan(ByNoise(4.0, 4, 32), TunedRates((4, 32), (0.1, 0.4)), micro_batch=2)
    runs = [begin(plan), begin(plan)]
    for run in runs:
        run.train(10)
    runs[0].evaluate()
    for run in runs:
        run.train(10)
    first, second = (run.progress for run in runs)
    assert first == second and first is not None and first.noise_scale is not None and first.noise_scale > 0
    assert runs[0].evaluate() == runs[1].evaluate()


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"optimizer": "extrap_sgd", "hyperparameters": {"lr": 0.1, "extrapolation_lr": 0.1}}, "extrap_sgd"),
        ({"probes": Probes(measure=("noise_scale",))}, "probes"),
        ({"hyperparameters": {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.9}}, "ema_decay"),
    ],
    ids=["extrapolation", "probes", "averaged weights"],
)
def test_what_needs_one_batch_size_is_refused(more: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"batch sizes cannot change along a run with {name}"):
        begin(BatchPlan(Fixed(8)), replace(PLAIN, **more))
