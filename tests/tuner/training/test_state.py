"""A run that was cut off anywhere and went on in another process makes the bits of one that was not."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution, Probes
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.presets import EXTRAPOLATIONS, OPTIMIZERS
from bcrit.tuner.checkpoints import _digest, packed_state, unpacked_state
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.training.batch_schedule import BatchPlan, ByNoise
from bcrit.tuner.training.optimizers import class_of, parameters_of
from bcrit.tuner.training.reported import tensors
from bcrit.tuner.training.settings import DECAYS, Resumable, Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.digits import DigitsMLP
from bcrit.tuner.workloads.layers import GhostBatchNorm
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic

STEPS = 25
PROPOSAL = Proposal("b16", 16, Stage.SEARCH, 0, 0, None, 7, {"lr": 0.01}, budget_steps=STEPS, max_steps=STEPS)
SCHEDULE = {"schedule": "cosine", "end_factor": 0.1, "decay_steps": 20}
PARAMETERS = {"end_factor": 0.1, "decay_steps": 14, "stable_share": 0.5, "drops": 3, "drop_factor": 0.3}


def _theirs() -> set[str]:
    classes = (found for found in vars(torch.optim).values() if isinstance(found, type))
    names = {found.__name__.lower() for found in classes if issubclass(found, torch.optim.Optimizer)}
    return names - {"optimizer", "lbfgs", "sparseadam"}


ALL = sorted({*OPTIMIZERS, *_theirs()})


def model(settings: Settings) -> nn.Module:
    layers = [nn.Linear(5, 8), GhostBatchNorm(8, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.Linear(8, 2)]
    return nn.Sequential(*layers)


def begun(settings: Settings) -> SupervisedRun:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(90, 5, generator=generator)
    data = inputs, (inputs.sum(dim=1) > 0).long()
    return SupervisedRun(settings, model, nn.functional.cross_entropy, score, data, data)


def score(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
    return {"val_loss": nn.functional.cross_entropy(outputs, targets).item()}


def settings(optimizer: str, more: Mapping[str, Any], **others: Any) -> Settings:
    given = {"lr": 0.01, **{name: 0.9 for name in parameters_of(optimizer).needed if name != "lr"}, **more}
    return Settings(16, 7, optimizer, given, **others)


def assert_goes_on(given: Settings, cut: int, begin: Any = begun) -> None:
    """What is trained in one go, and with a cut after so many updates, through the bytes of a checkpoint."""
    whole, first, second = (begin(given) for _ in range(3))
    assert isinstance(first, Resumable)
    whole.train(STEPS)
    first.train(cut)
    content = packed_state(first.state() or {}, PROPOSAL)
    first.train(1)
    second.evaluate()
    state = unpacked_state(content, PROPOSAL)
    assert state is not None
    second.load(state)
    second.train(STEPS - cut)
    assert second.evaluate() == whole.evaluate()
    if isinstance(whole, SupervisedRun):
        assert all(torch.equal(a, b) for a, b in zip(tensors(whole.model), tensors(second.model), strict=True))
        assert whole.probe(last=True) == second.probe(last=True) and whole.progress == second.progress
    assert _digest(whole.state()) == _digest(second.state())


@pytest.mark.parametrize("optimizer", ALL)
def test_every_optimizer_goes_on(optimizer: str) -> None:
    assert class_of(optimizer)
    assert_goes_on(settings(optimizer, SCHEDULE), random.Random(optimizer).randrange(STEPS))


@pytest.mark.parametrize("optimizer", ALL)
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    more = {"lr": 0.003, "extrapolation_lr": 0.01, "local_batch_size": 32}
    run = DigitsMLP().begin(replace(settings(optimizer, more), batch_size=64))
    begun = run.evaluate()["val_loss"]
    run.train(20)
    assert run.evaluate()["val_loss"] < begun


@pytest.mark.parametrize("schedule", ["constant", *DECAYS])
def test_every_schedule_goes_on(schedule: str) -> None:
    parameters = {**PARAMETERS, "first_drop": 0.5, "warmup_steps": 4}
    for cut in random.Random(schedule).sample(range(STEPS), 3):
        assert_goes_on(settings("momentum", {"schedule": schedule, **parameters}), cut)


@pytest.mark.parametrize("average", [{"ema_decay": 0.9}, {"ema_examples": 100}], ids=str)
@pytest.mark.parametrize("cut", [0, 3, 24])
def test_averages_go_on(average: Mapping[str, float], cut: int) -> None:
    assert_goes_on(settings("adam", average), cut)


@pytest.mark.parametrize("kind", EXTRAPOLATIONS)
def test_every_extrapolation_goes_on(kind: str) -> None:
    extrapolated = {"extrapolation": kind, "extrapolation_lr": 0.01, "local_batch_size": 8}
    assert_goes_on(settings("extrap_momentum", extrapolated), 11)


def test_pieces_decay_and_probes_go_on() -> None:
    probes = Probes(measure=("weight_distance",))
    given = settings("momentum", {"decoupled_weight_decay": 0.1}, execution=Execution(micro_batch=8), probes=probes)
    assert_goes_on(given, 7)


def test_a_batch_size_that_follows_the_noise_goes_on() -> None:
    plan = BatchPlan(ByNoise(exchange_rate=20.0, low=8, high=64), micro_batch=4)
    assert_goes_on(settings("sgd", {}, batches=plan), 9)


def test_what_memory_divided_stays_divided() -> None:
    run, other = begun(settings("sgd", {})), begun(settings("sgd", {}))
    run._gradient.rows = 4  # type: ignore[union-attr]
    other.load(run.state())
    assert other.micro_batch == 4


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_the_exact_model_goes_on(optimizer: str) -> None:
    workload = NoisyQuadratic(dimensions=9, evaluation_noise=0.1)
    assert_goes_on(settings(optimizer, SCHEDULE), 8, workload.begin)
    plan = BatchPlan(ByNoise(exchange_rate=20.0, low=8, high=64))
    assert_goes_on(settings(optimizer, SCHEDULE, batches=plan), 8, workload.begin)
