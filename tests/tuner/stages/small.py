"""A tiny classifier, and run folders filled by training it for real, without Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcrit.analysis.records.run_folder import RunFolder, checkpoint
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.tuner.checkpoints import kept, packed
from bcrit.tuner.dispatch import limits_of, settings_of
from bcrit.tuner.ledger import Ledger, trial_row
from bcrit.tuner.protocol.proposal import Listed, Proposal, Proposals
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from bcrit.tuner.session import Stopped, set_lost_aside
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.reported import Reported
from bcrit.tuner.training.settings import Run, Settings
from bcrit.tuner.training.trial import Trial, as_row
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.launch import start
from bcrit.tuner.workloads.protocol import Workload
from bcrit.tuner.workloads.registry import load_training
from bcrit.tuner.workloads.supervised import SupervisedWorkload

HERE = "tests.tuner.stages.small"
QUADRATIC: Mapping[str, Any] = {
    "workload": {"name": "noisy_quadratic", "options": {"dimensions": 100}},
    "batch_sizes": [2, 8, 32, 128],
    "target": "risk < 0.2",
    "space": {"lr": "log from 0.05 to 1.9"},
    "budget": {"steps": 400, "examples": 2000},
    "search": {"protocol": "sobol", "trials": 12, "stopping": "none"},
    "confirm": {"points": 1, "seeds": 1},
}


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
    """The folder of a run to its end, or of its first trials, one after the other."""
    folder = RunFolder.at(path)
    folder.write_experiment(spec)
    falls = not isinstance(load_training(spec.workload.name, spec.workload.options), TrainingFunction)
    _run(PerStudyProtocol(spec, horizon_falls=falls), Ledger.open(folder, spec), spec, at_most)
    return folder


class InProcess:
    """Trains what is wanted beside the study of a run, as `session.training_beside` does, in this process."""

    def __init__(self, folder: RunFolder, at_most: int = 10**9) -> None:
        self.folder, self.at_most = folder, at_most
        self.trained: list[Proposal] = []

    def __call__(self, proposals: Sequence[Proposal]) -> None:
        spec, left = self.folder.read_experiment(), self.at_most - len(self.trained)
        set_lost_aside(self.folder, spec, proposals)
        ledger = Ledger.open(self.folder, spec, stages=tuple(Stage))
        self.trained += _run(Listed(proposals), ledger, spec, left)
        if Listed(proposals).next_trial(ledger.records, ()) is not None:
            raise Stopped


def _run(protocol: Proposals, ledger: Ledger, spec: Experiment, at_most: int) -> list[Proposal]:
    """Train what a protocol proposes, one after the other."""
    training, made = load_training(spec.workload.name, spec.workload.options), list[Proposal]()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the experiment's resources say; more add in another order
    while len(made) < at_most and (proposal := protocol.next_trial(ledger.records, ())) is not None:
        begun = list[Run | Reported]()

        def begin(proposal: Proposal = proposal, begun: list[Run | Reported] = begun) -> Run | Reported:
            begun.append(_begun(training, proposal, spec, ledger.folder))
            return begun[0]

        trial = Trial(begin, spec.target, limits_of(proposal, spec))
        while trial.ending is None:
            ledger.measured(as_row(m, proposal.trial_id, proposal.batch_size) for m in trial.advance(60))
        if proposal.keep and begun and not isinstance(begun[0], Reported):
            ledger.keep(checkpoint(proposal.trial_id), packed(begun[0], proposal))
        ledger.finished(trial_row(proposal, trial.ending))
        made.append(proposal)
    ledger.close()
    torch.set_num_threads(threads)
    return made


def _begun(
    training: Workload | TrainingFunction, proposal: Proposal, spec: Experiment, folder: RunFolder
) -> Run | Reported:
    settings = settings_of(proposal, spec, 0.0)
    if isinstance(training, TrainingFunction):
        limits = limits_of(proposal, spec)
        budget = proposal.budget_steps
        return start(training, str(Path.cwd()), settings, spec.target.metric, limits, spec.resources, budget)
    return training.begin(replace(settings, start=kept(folder, proposal.start) if proposal.start else None))
