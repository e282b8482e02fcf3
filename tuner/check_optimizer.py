"""Whether the optimizer of an experiment exists, fits the workload and takes what the space gives it."""

from __future__ import annotations

from bcrit.search_spaces.dimensions import Fixed
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import AVERAGING, OPTIMIZERS, OWN, SCHEDULES, STEPS_OF, WARMUP, Parameters
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.space_rules import missing_names
from bcrit.tuner.workloads.protocol import Workload


def optimizer_problems(workload: Workload, name: str, experiment: Experiment) -> list[str]:
    """What is wrong with the optimizer, and with the names in the space that nobody would read.

    Args:
        workload: what is trained. It may name the `optimizers` that it supports; then only those, and of them only the
            hyperparameters that they need, because it computes their updates itself.
        name: the workload's.
        experiment: valid but for this.

    Returns:
        One sentence a problem.
    """
    optimizer = experiment.optimizer
    own: tuple[str, ...] | None = getattr(workload, "optimizers", None)
    if own is not None and optimizer not in own:
        return [f"'optimizer': workload '{name}' knows {', '.join(own)}, but not {optimizer}; choose one of them"]
    if own is None and optimizer == OWN:
        names = ", ".join(OPTIMIZERS)
        return [f"'optimizer': own is for a training function of yours, which '{name}' is not; choose one of {names}"]
    try:
        parameters = _parameters(optimizer, own)
    except ValueError as error:
        return [f"'optimizer': {error}"]
    problems = _unknown_hyperparameters(workload, name, experiment, parameters)
    problems += _local_batch_problems(workload, experiment)
    if missing := missing_names(experiment.space, parameters.needed):
        problems.append(f"'space': optimizer '{optimizer}' needs {', '.join(missing)}; add it, searched or fixed")
    if not problems and own is None:
        problems += _refused_values(experiment)
    return problems


def averages(workload: object) -> bool:
    """Whether the workload's runs also measure averaged weights: those of our own training loops do."""
    from bcrit.tuner.workloads.policy_gradient import PolicyGradient  # they load PyTorch
    from bcrit.tuner.workloads.supervised import SupervisedWorkload

    return isinstance(workload, SupervisedWorkload | PolicyGradient)


def _parameters(optimizer: str, own: tuple[str, ...] | None) -> Parameters:
    if own is not None:
        return Parameters(OPTIMIZERS[optimizer].needed if optimizer in OPTIMIZERS else ("lr",))
    from bcrit.tuner.training.optimizers import parameters_of  # it loads PyTorch

    return parameters_of(optimizer)


def _unknown_hyperparameters(
    workload: Workload, name: str, experiment: Experiment, parameters: Parameters
) -> list[str]:
    """Names in the space that nobody would read: a misspelt one must not be searched for days."""
    known = {"schedule", *WARMUP, *parameters.names, *workload.hyperparameters}
    known |= {parameter for schedule in SCHEDULES.values() for parameter in schedule}
    names = {hyperparameter(address) for address in experiment.space.addresses}
    if names & set(AVERAGING) and averages(workload):
        known |= set(AVERAGING)
    return [
        f"'space.{unknown}': neither optimizer '{experiment.optimizer}' nor workload '{name}' has this hyperparameter; "
        f"those it can have are {', '.join(sorted(known))}"
        for unknown in sorted(names - known)
    ]


def _local_batch_problems(workload: Workload, experiment: Experiment) -> list[str]:
    """Why the workload cannot make local batches of this size (part of a sequence, or of a ghost batch)."""
    from bcrit.tuner.workloads.supervised import SupervisedWorkload  # it loads PyTorch

    local = experiment.space.root.get("local_batch_size")
    if not isinstance(local, Fixed) or not isinstance(workload, SupervisedWorkload):
        return []
    if int(local.value) >= max(experiment.batch_sizes):
        return []
    try:
        workload.rows(int(local.value))
    except ValueError as error:
        return [f"'space.local_batch_size': {error}"]
    return []


def _refused_values(experiment: Experiment) -> list[str]:
    """What PyTorch says to the two opposite corners of the space, on a model with two small layers."""
    from torch import nn

    from bcrit.tuner.training.settings import Settings
    from bcrit.tuner.training.stepper import build_stepper

    space, problems = experiment.space, []
    for corner in (0.0, 1.0):
        point = space.from_unit(dict.fromkeys(space.axes, corner))
        settings = Settings(
            experiment.batch_sizes[0], 0, experiment.optimizer, dict.fromkeys(STEPS_OF.values(), 1) | point
        )
        try:
            build_stepper(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), settings)
        except (ValueError, TypeError) as error:
            problems.append(f"'space': optimizer '{experiment.optimizer}' refuses a value: {error}")
    return problems
