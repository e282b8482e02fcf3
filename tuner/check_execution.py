"""Whether an experiment's `execution` and GPUs mean anything to its workload, and fit its model and batch sizes."""

from __future__ import annotations

import torch

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Execution
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.tuner.training.micro_batches import division_problem
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.policy_gradient import PolicyGradient
from bcrit.tuner.workloads.supervised import SupervisedWorkload


def execution_problems(workload: object, name: str, experiment: Experiment) -> list[str]:
    """What is wrong with `execution` and `resources.gpus`.

    A workload that computes its updates itself would not read the section, so one that says anything is refused.

    Args:
        workload: what is trained: a workload, or whatever else the experiment names.
        name: the workload's.
        experiment: valid but for this.

    Returns:
        One sentence a problem.
    """
    problems = []
    if experiment.resources.gpus > 1 and (our_loop(workload) or isinstance(workload, PolicyGradient)):
        problems.append(
            f"'resources.gpus': workload '{name}' trains on one GPU or a share of one, but gpus is "
            f"{experiment.resources.gpus:g}; write 1, and more trials run at once"
        )
    if not our_loop(workload):
        said = [key for key, value in experiment.execution if value != getattr(Execution(), key)]
        return problems + [
            f"'execution.{key}': workload '{name}' computes its updates itself and would not read it; remove it"
            for key in said
        ]
    assert isinstance(workload, SupervisedWorkload)  # says `our_loop`
    return problems + _division_problems(workload, experiment)


def our_loop(workload: object) -> bool:
    """Whether our own training loop makes the workload's updates."""
    return isinstance(workload, SupervisedWorkload) and type(workload).begin is SupervisedWorkload.begin


def _division_problems(workload: SupervisedWorkload, experiment: Experiment) -> list[str]:
    """Why batches cannot be computed in pieces of `micro_batch` rows; the model is made to see its layers."""
    rows = experiment.execution.micro_batch
    if rows is None:
        return []
    sizes = [workload.rows(batch_size) for batch_size in experiment.batch_sizes]
    if rows >= max(sizes):
        return []
    space = experiment.space
    point = dict.fromkeys(STEPS_OF.values(), 1) | space.from_unit(dict.fromkeys(space.axes, 0.0))
    with torch.random.fork_rng(devices=[]):
        model = workload.model(Settings(experiment.batch_sizes[-1], 0, experiment.optimizer, point))
    problem = division_problem(model, max(sizes), rows, workload.divisible)
    return [] if problem is None else [f"'execution.micro_batch': {problem}"]
