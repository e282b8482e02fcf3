"""The workload of a finished run that is to be trained again."""

from __future__ import annotations

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.workloads.function.workload import TrainingFunction
from bcrit.tuner.workloads.protocol import Workload
from bcrit.tuner.workloads.registry import load_training


def workload_of_run(experiment: Experiment, where: str) -> Workload | TrainingFunction:
    """What a run trained.

    Raises:
        InputError: that was elsewhere, or it cannot be loaded here.
    """
    if experiment.imported is not None:
        raise InputError(where, ["an imported run describes trials of elsewhere, which cannot be trained again here"])
    try:
        return load_training(experiment.workload.name, experiment.workload.options)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise InputError(where, [str(error)]) from error


__all__ = ["workload_of_run"]
