"""A tiny classifier, and run folders filled by training it for real, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.tuner.dispatch import limits_of
from bcrit.tuner.ledger import Ledger, trial_row
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Trial, as_row
from bcrit.tuner.workloads.registry import load_workload
from bcrit.tuner.workloads.supervised import SupervisedWorkload

HERE = "tests.tuner.landscape.small"


class Blobs(SupervisedWorkload):
    """Two clouds of points in the plane and a network with 17 weights."""

    hyperparameters = ("width",)

    def model(self, settings: Settings) -> nn.Module:
        width = int(settings.number("width", 3))
        return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))

    def train_data(self) -> Examples:
        return _blobs(64, seed=1)

    def validation_data(self) -> Examples:
        return _blobs(32, seed=2)


class Unsteady(Blobs):
    """Its loss is random in evaluation mode too."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) * (1 + 0.01 * torch.rand(()))


def _blobs(n: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 2
    return torch.randn(n, 2, generator=generator) + 2.0 * targets[:, None], targets


def experiment(**more: Any) -> Experiment:
    given: Mapping[str, Any] = {
        "workload": f"{HERE}:Blobs",
        "optimizer": "sgd",
        "batch_sizes": [4, 16],
        "target": "val_loss < 0.3",
        "space": {"lr": "log from 0.1 to 2"},
        "budget": {"steps": 150},
        "search": {"protocol": "sobol", "trials": 3, "stopping": "none"},
        "boundary": {"max_rounds": 0},
        "confirm": {"points": 1, "seeds": 2},
    }
    return Experiment.model_validate({**given, **more})


def filled(path: Path, spec: Experiment, at_most: int = 10**9) -> RunFolder:
    """The folder of a run to its end, or of its first trials."""
    folder, workload = RunFolder.at(path), load_workload(spec.workload.name, spec.workload.options)
    folder.write_experiment(spec)
    protocol, ledger = PerStudyProtocol(spec), Ledger.open(folder, spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the experiment's resources say; more add in another order
    for _ in range(at_most):
        proposal = protocol.next_trial(ledger.records, ())
        if proposal is None:
            break
        settings = Settings(proposal.batch_size, proposal.seed, spec.optimizer, proposal.hyperparameters)
        limits = limits_of(proposal, spec.resolution)
        trial = Trial(lambda settings=settings: workload.begin(settings), spec.target, limits)  # type: ignore[misc]
        while trial.ending is None:
            ledger.measured(as_row(m, proposal.trial_id, proposal.batch_size) for m in trial.advance(60))
        ledger.finished(trial_row(proposal, trial.ending))
    ledger.close()
    torch.set_num_threads(threads)
    return folder
