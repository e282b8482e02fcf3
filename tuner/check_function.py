"""Whether an experiment and its training function fit, as far as that can be known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import OWN
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.workloads.function.workload import OF_THE_TRIAL, TrainingFunction
from bcrit.tuner.workloads.protocol import Workload


def with_own_optimizer(data: Any, workload: Workload | TrainingFunction | None, name: str | None) -> Any:
    """The experiment's data; where a training function has no optimizer named, it makes the updates itself.

    Args:
        data: as read.
        workload: what is trained; None where it cannot be had.
        name: its name; None where that cannot be read.

    Returns:
        The data. What cannot be had and has an import path, or no name, is taken for a function: it may be one, and to
        ask for a momentum that it does not need would be a second problem where there is one.
    """
    function = workload is None and ":" in (name or ":")
    if (function or isinstance(workload, TrainingFunction)) and isinstance(data, Mapping) and "optimizer" not in data:
        return {**data, "optimizer": OWN}
    return data


def function_problems(function: TrainingFunction, experiment: Experiment) -> list[str]:
    """What cannot be meant.

    Args:
        function: what is trained.
        experiment: valid but for this.

    Returns:
        One sentence a problem.
    """
    problems, given = [], {hyperparameter(address) for address in experiment.space.addresses}
    if twice := sorted(given & set(function.options)):
        problems.append(
            f"'workload': {', '.join(twice)} stands among the options and in 'space'; keep one, which the function gets"
        )
    if taken := sorted(set(OF_THE_TRIAL) & set(function.options)):
        problems.append(f"'workload': the options {', '.join(taken)} are what a trial decides; name them otherwise")
    if taken := sorted(set(OF_THE_TRIAL) & given):
        problems.append(f"'space': {', '.join(taken)} is what a trial decides; name it otherwise")
    if experiment.target.metric in MEASUREMENTS.names:
        problems.append(f"'target': '{experiment.target.metric}' is a column of our own; name the metric otherwise")
    return problems
