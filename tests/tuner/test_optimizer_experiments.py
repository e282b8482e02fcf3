"""Experiments as a user writes them, from YAML to the end of a trial, on the handwritten digits."""

import pytest
import torch

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.presets import OPTIMIZERS
from bcrit.tuner.check import check_experiment
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.training.trial import Limits, Measurement, Trial
from bcrit.tuner.workloads.registry import load_workload

HEAD = "workload: digits_mlp\nbatch_sizes: [32, 64]\nbudget: {steps: 40}\n"
EXPERIMENTS = {
    "adamw, warm-up and cosine": """
        target: val_loss < 0.01
        optimizer: AdamW
        space:
          lr: log from 3e-3 to 3e-2
          beta1: reverse_log from 0.5 to 0.95
          beta2: reverse_log from 0.9 to 0.999
          weight_decay: log from 1e-3 to 1
          schedule: {cosine: {warmup_fraction: linear from 0.05 to 0.2, end_factor: 0}}
    """,
    "momentum and WSD": """
        target: val_loss < 0.01
        optimizer: momentum
        space: {lr: log from 0.05 to 0.5, momentum: reverse_log from 0 to 0.9, schedule: wsd, weight_decay: 1e-4}
    """,
    "extrapolated SGD": """
        target: val_loss < 0.01
        optimizer: extrap_sgd
        space:
          lr: log from 0.1 to 1
          extrapolation: choice of past, fresh
          extrapolation_lr: log from 0.01 to 0.5
          local_batch_size: 16
    """,
    "averaged weights": """
        target: val_loss_ema < 0.01
        optimizer: rmsprop
        space: {lr: log from 1e-3 to 1e-2, alpha: 0.9, ema_decay: reverse_log from 0.5 to 0.95, warmup_steps: 5}
    """,
    "muon and drops": """
        target: val_loss < 0.01
        optimizer: muon
        space: {lr: log from 0.02 to 0.2, weight_decay: 0.1, schedule: step}
    """,
}
DIGITS = load_workload("digits_mlp", {})


def read(name: str) -> Experiment:
    text = HEAD + "\n".join(line.removeprefix(" " * 8) for line in EXPERIMENTS[name].splitlines())
    return check_experiment(read_yaml(text, name), name)


def proposal(experiment: Experiment, unit: float = 0.5) -> Proposal:
    point = experiment.space.from_unit(dict.fromkeys(experiment.space.axes, unit))
    return Proposal("t", 64, Stage.SEARCH, 0, 0, None, 3, point, 40, 40)


def curve(experiment: Experiment, unit: float = 0.5) -> list[Measurement]:
    proposed = proposal(experiment, unit)
    settings = Settings(64, proposed.seed, experiment.optimizer, proposed.hyperparameters)
    trial = Trial(lambda: DIGITS.begin(settings), experiment.target, Limits(40, False, (), 0.2))
    made: list[Measurement] = []
    while trial.ending is None:
        made += trial.advance(0)
    assert trial.ending.outcome is Outcome.EXHAUSTED, trial.ending.message
    return made


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_same_settings_give_the_same_bits_in_a_process_that_ran_others(name: str) -> None:
    experiment = read(name)
    first = curve(experiment)
    for other in EXPERIMENTS:
        curve(read(other), unit=0.2)
    torch.rand(3)
    again = curve(experiment)
    assert [(m.step, m.metrics) for m in first] == [(m.step, m.metrics) for m in again]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_training_gets_somewhere(name: str) -> None:
    metric, made = read(name).target.metric, curve(read(name))
    assert made[-1].metrics[metric] < 0.5 * made[0].metrics[metric]


def test_shares_become_steps() -> None:
    found = proposal(read("momentum and WSD")).hyperparameters
    assert found["warmup_steps"] == 2 and found["decay_steps"] == round(40 * float(found["decay_fraction"]))


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "adadelta", "adafactor", "adamax", "asgd", "radam", "rprop"])
def test_every_optimizer_trains_and_repeats_itself(optimizer: str) -> None:
    hyperparameters = {"lr": 0.003, "momentum": 0.9, "extrapolation_lr": 0.01, "local_batch_size": 32}
    ends = []
    for chunks in ([20], [7, 13]):
        run = DIGITS.begin(Settings(64, 1, optimizer, hyperparameters))
        begun = run.evaluate()["val_loss"]
        for chunk in chunks:
            run.train(chunk)
        ends.append(run.evaluate())
    assert ends[0] == ends[1]
    assert ends[0]["val_loss"] < begun


@pytest.mark.parametrize(("kind", "gradients"), [("past", 1), ("fresh", 2)])
def test_a_run_says_how_many_gradients_of_each_example_an_update_takes(kind: str, gradients: int) -> None:
    run = DIGITS.begin(Settings(64, 1, "extrap_sgd", {"lr": 0.1, "extrapolation_lr": 0.1, "extrapolation": kind}))
    assert isinstance(run, SupervisedRun)
    assert run.gradients_per_example == gradients


def test_averaging_changes_no_other_metric() -> None:
    plain = DIGITS.begin(Settings(64, 1, "sgd", {"lr": 0.3}))
    averaged = DIGITS.begin(Settings(64, 1, "sgd", {"lr": 0.3, "ema_decay": 0.9}))
    for _ in range(3):
        plain.train(5)
        averaged.train(5)
        metrics = averaged.evaluate()
        assert {name: metrics[name] for name in ("val_loss", "val_accuracy")} == plain.evaluate()
        assert set(metrics) == {"val_loss", "val_accuracy", "val_loss_ema", "val_accuracy_ema"}
        assert metrics["val_loss_ema"] != metrics["val_loss"]
