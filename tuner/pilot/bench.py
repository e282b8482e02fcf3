"""What all runs of a pilot share: the workload, the batch size, and the point that they train at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from bcrit.search_spaces.dimensions import Fixed
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import Point
from bcrit.tuner.check_model import why_no_scale
from bcrit.tuner.pilot.point import hyperparameters, pilot_point
from bcrit.tuner.training.device import prepare_gpu
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.protocol import OpenWorkload, our_loop
from bcrit.tuner.workloads.registry import load_training

_SHARE: Final = 8  # the pilot's batch is at most an eighth of the training set; chosen: far from the whole of it


@dataclass(frozen=True)
class Bench:
    """Where a pilot runs.

    Attributes:
        experiment: checked.
        workload: what is trained.
        batch_size: of the pilot.
        point: all hyperparameters; the learning rate's is replaced.
        gpus: that a run is given here.
    """

    experiment: Experiment
    workload: OpenWorkload
    batch_size: int
    point: Point
    gpus: float

    @property
    def horizon(self) -> int:
        """Optimizer updates that the experiment's budget allows."""
        return self.experiment.budget.max_steps(self.batch_size)

    @property
    def momentum(self) -> float:
        """Of the point; 0 where it has none."""
        value = self.point.get("momentum", 0.0)
        return float(value) if isinstance(value, int | float) else 0.0

    def settings(self, lr: float, seed: int, probes: Probes | None = None) -> Settings:
        """Of a run."""
        given = hyperparameters(self.experiment, self.batch_size, {**self.point, "lr": lr})
        optimizer, execution = self.experiment.optimizer, self.experiment.execution
        return Settings(self.batch_size, seed, optimizer, given, execution, self.gpus, probes or Probes())

    def fits(self, batch_size: int) -> bool:
        """Whether the workload can make batches of this size, and local batches divide them."""
        local = self.experiment.space.root.get("local_batch_size")
        if isinstance(local, Fixed) and batch_size > int(local.value) and batch_size % int(local.value):
            return False
        try:
            self.workload.rows(batch_size)
        except ValueError:
            return False
        return True


def prepare(experiment: Experiment, where: str, batch_size: int | None) -> Bench:
    """Make ready, and set PyTorch's threads as in the study's trials.

    Args:
        experiment: checked.
        where: its file, for messages.
        batch_size: of the pilot; None = the middle of the experiment's.

    Returns:
        The bench.

    Raises:
        InputError: the workload's gradient noise cannot be measured, or there is not one learning rate to look for.
    """
    workload = _workload(experiment, where)
    if "lr" not in experiment.space.root:
        rule = "a pilot looks for one learning rate, which must stand in 'space' itself"
        raise InputError(where, [f"'space': {rule}, but 'lr' stands under the options of a choice; fix the choice"])
    gpus = experiment.resources.gpus if torch.cuda.is_available() else 0.0
    if gpus:
        prepare_gpu(gpus)
    torch.set_num_threads(max(1, int(experiment.resources.cpus)))
    chosen = batch_size or middle(experiment.batch_sizes, workload.n_examples)
    return Bench(experiment, workload, chosen, pilot_point(experiment.space_at(chosen)), gpus)


def middle(batch_sizes: Sequence[int], n_examples: int | None) -> int:
    """The batch size nearest to their geometric middle, of those that are at most an eighth of the training set.

    Example:
        >>> middle([4, 8, 16, 32, 64], n_examples=None), middle([4, 8, 16, 32, 64], n_examples=100)
        (16, 8)

    Args:
        batch_sizes: of the experiment, rising.
        n_examples: size of the training set; None = unlimited.

    Returns:
        The smallest where all are larger.
    """
    wanted = math.sqrt(batch_sizes[0] * batch_sizes[-1])
    small = [b for b in batch_sizes if n_examples is None or b * _SHARE <= n_examples] or batch_sizes[:1]
    return min(small, key=lambda b: (round(abs(math.log(b / wanted)), 9), b))


def _workload(experiment: Experiment, where: str) -> OpenWorkload:
    """What is trained, if its gradient noise can be measured.

    Raises:
        InputError: it cannot.
    """
    name, remedy = experiment.workload.name, "choose the batch sizes by hand; `bcrit tune --plan` says what they cost"
    workload = load_training(name, experiment.workload.options)
    if not our_loop(workload):
        rule = "a pilot measures gradient noise, which takes a workload whose updates our own loop makes"
        raise InputError(where, [f"'workload': {rule}, but '{name}' computes them itself; {remedy}"])
    why = why_no_scale(workload, experiment, remedy)
    if why is not None:
        raise InputError(where, [f"'workload': the gradient noise of '{name}' cannot be measured: {why}"])
    return workload


__all__ = ["Bench", "middle", "prepare"]
